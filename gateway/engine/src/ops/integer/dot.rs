//! Products of bytes where the adapter adds up bytes: exact without parts.
//!
//! With `s` what makes a byte signed (128 for unsigned ones, else 0), the product of `a - x` and
//! `b - y` is that of `a - s` and `b - s`, less `x - s` times the sums of columns of `b - s`, less
//! `y - s` times the sums of rows of `a - x`. All of it is whole numbers that wrap, as the result
//! does.

use gw_shaders::dot::K_MAX;
use gw_shaders::expr::Expr;
use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Tensor};

use super::super::quant::is_zero;
use super::{less_zeros, same_shape};
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::net::{Kind, Operand};

/// Weights up to this are bound at once by any adapter.
const ELEMENTS_MAX: usize = 1 << 26;

/// The `i32` product of `a - a_zero [.., k]` and `b - b_zero [k, n]`; `None` where it has to be
/// computed otherwise.
pub(super) fn product(
    builder: &mut Builder,
    a: &Operand,
    a_zero: Option<&Operand>,
    b: &Operand,
    b_zero: Option<&Operand>,
) -> Result<Option<Operand>, OpError> {
    let (mut shape, weights) = (a.shape(), b.shape());
    let &[k, n] = weights.as_slice() else { return Ok(None) };
    let is_matrix = shape.len() > 1 && shape.last() == Some(&k);
    let fits = (1..=K_MAX as usize).contains(&k) && (1..=ELEMENTS_MAX).contains(&(k * n));
    let are_bytes = [a, b].iter().all(|x| matches!(x.dtype, DType::I8 | DType::U8));
    if !(builder.dots && builder.net.is_constant(b) && is_matrix && fits && are_bytes) {
        return Ok(None);
    }
    let Some(known) = builder.data(b)? else { return Ok(None) };
    let less = same_shape(builder, a, a_zero)?;
    let rows = a.layout.elements() / k;
    let left = builder.reshape(a, &[1, 1, rows, k])?;
    let right = builder.reshape(b, &[1, 1, k, n])?;
    let kind = Kind::Dot(Expr::identity(Scalar::I32));
    let sums = builder.emit(kind, vec![left, right], &[1, 1, rows, n], DType::I32)?;
    *shape.last_mut().expect("there are two axes") = n;
    let mut total = builder.reshape(&sums, &shape)?;
    if let Some(zero) = moved(builder, a_zero, a.dtype)? {
        let columns = builder.constant(Tensor::from_slice([n], &sums_of_columns(&known, n))?);
        let mut formula = Formula::new(&[Scalar::I32; 3]);
        let excess = formula.mul(1, 2);
        formula.sub(0, excess);
        total = builder.pointwise(&formula.0, &[total, columns, zero], DType::I32)?;
    }
    match moved(builder, b_zero, b.dtype)? {
        Some(zero) => less_zeros(builder, &total, &less, &zero).map(Some),
        None => Ok(Some(total)),
    }
}

/// What makes a byte signed.
const fn shift(dtype: DType) -> i32 {
    if matches!(dtype, DType::U8) { 128 } else { 0 }
}

/// A zero point less what its bytes are moved by; `None` where that is known to be nothing.
fn moved(
    builder: &mut Builder,
    zero: Option<&Operand>,
    dtype: DType,
) -> Result<Option<Operand>, OpError> {
    let by = shift(dtype);
    let zero = match zero {
        None if by == 0 => return Ok(None),
        None => {
            let scalar: &[usize] = &[];
            builder.constant(Tensor::from_slice(scalar, &[-by])?)
        }
        Some(zero) if by == 0 => zero.clone(),
        Some(zero) => {
            let mut formula = Formula::new(&[zero.scalar()]);
            let by = formula.int(by);
            formula.sub(0, by);
            builder.pointwise(&formula.0, std::slice::from_ref(zero), DType::I32)?
        }
    };
    Ok(if is_zero(builder, &zero)? { None } else { Some(zero) })
}

/// The sums of columns of `[k, n]`, of bytes that are signed or were made so.
fn sums_of_columns(bytes: &Tensor, n: usize) -> Vec<i32> {
    let flip = if bytes.dtype() == DType::U8 { 0x80 } else { 0 };
    let mut sums = vec![0; n];
    for row in bytes.bytes().chunks_exact(n) {
        for (byte, sum) in row.iter().zip(&mut sums) {
            *sum += i32::from((byte ^ flip).cast_signed());
        }
    }
    sums
}
