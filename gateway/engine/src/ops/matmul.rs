//! Products of matrices.

use gw_shaders::expr::{Binary, Expr};
use gw_shaders::kernel::Scalar;
use gw_shaders::reduce;
use gw_tensor::{DType, Shape};

use super::{Call, Table, convert, elementwise, expect_rank, reduce as reduction};
use crate::error::OpError;
use crate::net::builder::{Builder, broadcast};
use crate::net::formula::Formula;
use crate::net::{Gemm, Kind, Operand};

pub(super) const OPS: Table = &[
    ("Gemm", gemm),
    ("MatMul", matmul),
    ("com.microsoft.FusedMatMul", fused_matmul),
    ("com.microsoft.TransposeMatMul", fused_matmul),
];

fn matmul(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    Ok(vec![product(call.builder, &a, &b)?])
}

/// A product of matrices that may be stored with their first axis among the last two
/// (`transBatch…`), or with those exchanged (`trans…`).
pub(super) fn fused_matmul(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let turned = |x: Operand, batch_last: bool, exchanged: bool| {
        let rank = x.shape().len();
        if rank < 2 {
            return x;
        }
        let mut perm: Vec<usize> = (0..rank).collect();
        if batch_last {
            perm[..rank - 1].rotate_left(1);
        }
        if exchanged {
            perm.swap(rank - 1, rank - 2);
        }
        Builder::transpose(&x, &perm)
    };
    let flag = |name: &str| call.flag(name, false);
    let a = turned(call.input(0)?, flag("transBatchA"), flag("transA"));
    let b = turned(call.input(1)?, flag("transBatchB"), flag("transB"));
    let product = product(call.builder, &a, &b)?;
    Ok(vec![scale(call.builder, &product, call.float("alpha", 1.0))?])
}

/// `factor * x`.
pub(super) fn scale(builder: &mut Builder, x: &Operand, factor: f32) -> Result<Operand, OpError> {
    if factor == 1.0 {
        return Ok(x.clone());
    }
    let mut formula = Formula::floats(1);
    let factor = formula.c(factor);
    formula.mul(factor, 0);
    builder.pointwise(&formula.0, std::slice::from_ref(x), x.dtype)
}

/// `alpha * a * b + beta * c`.
pub(super) fn gemm(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let turned = |x: Operand, on: bool| {
        if on { Builder::transpose(&x, &[1, 0]) } else { x }
    };
    let (a, b) = (call.input(0)?, call.input(1)?);
    expect_rank("input 0", &a.shape(), 2)?;
    expect_rank("input 1", &b.shape(), 2)?;
    let a = turned(a, call.flag("transA", false));
    let b = turned(b, call.flag("transB", false));
    let product = product(call.builder, &a, &b)?;
    let mut result = scale(call.builder, &product, call.float("alpha", 1.0))?;
    if let Some(c) = call.optional(2) {
        let c = scale(call.builder, &c, call.float("beta", 1.0))?;
        let shape = result.shape();
        let c = call.builder.expand(&c, &shape)?;
        let mut formula = Formula::floats(2);
        formula.add(0, 1);
        result = call.builder.pointwise(&formula.0, &[result, c], product.dtype)?;
    }
    Ok(vec![result])
}

/// `a [.., m, k]` times `b [.., k, n]`, with the batch axes broadcast.
pub(super) fn product(builder: &mut Builder, a: &Operand, b: &Operand) -> Result<Operand, OpError> {
    for (what, x) in [("input 0", a), ("input 1", b)] {
        if x.scalar() == Scalar::U32 || x.scalar() != a.scalar() {
            return Err(OpError::Type { what: what.to_owned(), given: x.dtype });
        }
        if x.shape().is_empty() {
            return Err(OpError::mismatch(what, "at least one axis", "a scalar"));
        }
    }
    // A vector is a matrix of one row, or of one column, whose axis is dropped again.
    let (mut left, mut right) = (a.shape(), b.shape());
    let (is_row, is_column) = (left.len() == 1, right.len() == 1);
    if is_row {
        left.insert(0, 1);
    }
    if is_column {
        right.push(1);
    }
    let (m, k) = (left[left.len() - 2], left[left.len() - 1]);
    let (rows, n) = (right[right.len() - 2], right[right.len() - 1]);
    if k != rows {
        let expected = format!("{k} rows, as input 0 of shape {} has columns", Shape::from(left));
        return Err(OpError::mismatch("input 1", expected, Shape::from(right)));
    }
    let dtype = a.dtype;
    let batch = broadcast(&left[..left.len() - 2], &right[..right.len() - 2])?;
    let mut target = batch.clone();
    target.extend((!is_row).then_some(m));
    target.extend((!is_column).then_some(n));
    let a = builder.reshape(a, &left)?;
    let b = builder.reshape(b, &right)?;
    let count: usize = batch.iter().product();
    // One matrix for the whole batch: its rows join those of the left side.
    let one_b = right[..right.len() - 2].iter().all(|&size| size == 1);
    let (outer, inner, rows) = match batch.last() {
        _ if one_b => (1, 1, count * m),
        Some(&last) if last > 0 => (count / last, last, m),
        _ => (1, count, m),
    };
    let mut whole = batch.clone();
    whole.extend([m, k]);
    let a = builder.expand(&a, &whole)?;
    let a = builder.reshape(&a, &[outer, inner, rows, k])?;
    let b = if one_b {
        b
    } else {
        whole.truncate(batch.len());
        whole.extend([k, n]);
        builder.expand(&b, &whole)?
    };
    let b = builder.reshape(&b, &[outer, inner, k, n])?;
    let result = if a.scalar() == Scalar::F32 {
        let kind = Kind::Gemm(Gemm { quantised: false, epilogue: Expr::identity(Scalar::F32) });
        let sums = builder.emit(kind, vec![a, b], &[outer, inner, rows, n], DType::F32)?;
        Builder::retyped(&sums, dtype)
    } else {
        let a = builder.reshape(&a, &[outer * inner, rows, k])?;
        let b = builder.reshape(&b, &[outer * inner, k, n])?;
        sums_of_products(builder, &a, &b)?
    };
    builder.reshape(&result, &target)
}

/// `a [count, m, k]` times `b [count, k, n]`, product by product: whole numbers stay exact.
pub(super) fn sums_of_products(
    builder: &mut Builder,
    a: &Operand,
    b: &Operand,
) -> Result<Operand, OpError> {
    let ([count, m, k], n) = ([a.shape()[0], a.shape()[1], a.shape()[2]], b.shape()[2]);
    let a = builder.reshape(a, &[count, m, k, 1])?;
    let b = builder.reshape(b, &[count, 1, k, n])?;
    let pairs = elementwise::apply(builder, Binary::Mul, &a, &b)?;
    let dtype = a.dtype;
    let sums = reduction::over(builder, reduce::Op::Sum, &pairs, &[2], false, dtype)?;
    convert::wrapped(builder, &sums)
}
