//! Products with weights of a few bits.

use gw_shaders::expr::{Binary, Expr};
use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Shape};

use super::convert::convert;
use super::{Call, Table, delegate};
use crate::error::OpError;
use crate::net::builder::{Builder, check_size};
use crate::net::formula::Formula;
use crate::net::{Blocks, Kind, Operand};

pub(super) const OPS: Table = &[("com.microsoft.MatMulNBits", matmul_nbits)];

/// The attributes of the node.
#[derive(Clone, Copy)]
struct Form {
    n: usize,
    k: usize,
    bits: usize,
    block: usize,
    /// Blocks of one row of k.
    count: usize,
}

/// `com.microsoft.MatMulNBits`: `a [.., k]` times weights `[n, blocks, bytes]`, whose blocks of
/// `block` elements along k have a scale and a zero point each.
fn matmul_nbits(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (a, weights, scales) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let zeros = call.optional(3);
    if call.optional(4).is_some() {
        return Err(OpError::Unsupported("an order of groups".to_owned()));
    }
    let form = form(call)?;
    let Form { n, k, bits, block, count } = form;
    if a.shape().last() != Some(&k) || a.scalar() != Scalar::F32 || scales.scalar() != Scalar::F32 {
        return Err(OpError::mismatch("input 0", format!("{k} columns"), Shape::from(a.shape())));
    }
    if weights.dtype != DType::U8 {
        return Err(OpError::Type { what: "input 1".to_owned(), given: weights.dtype });
    }
    let weights = call
        .builder
        .reshape(&weights, &[n, count.saturating_mul(block).saturating_mul(bits) / 8])?;
    let scales = call.builder.reshape(&scales, &[n, count])?;
    let scales = convert(call.builder, &scales, DType::F32)?;
    let zeros = match zeros {
        Some(zeros) => {
            let zeros = if zeros.scalar() == Scalar::F32 {
                zeros
            } else {
                let bytes = call.builder.reshape(&zeros, &[n, (count * bits).div_ceil(8)])?;
                let each = unpacked(call.builder, &bytes, bits)?;
                call.builder.slice(&each, 1, 0, 1, count)?
            };
            let zeros = call.builder.reshape(&zeros, &[n, count])?;
            convert(call.builder, &zeros, DType::F32)?
        }
        None => {
            let middle = call.builder.float((1u32 << (bits - 1)) as f32);
            call.builder.expand(&middle, &[n, count])?
        }
    };
    let stays_packed = call.builder.net.is_constant(&weights) && (block * bits / 8) % 4 == 0;
    let mut result = if stays_packed && matches!(bits, 4 | 8) {
        packed(call.builder, form, &a, [weights, scales, zeros])?
    } else {
        expanded(call, form, &a, [weights, scales, zeros])?
    };
    if let Some(bias) = call.optional(5) {
        let sum = Expr::binary(Binary::Add, Scalar::F32);
        result = call.builder.pointwise(&sum, &[result, bias], a.dtype)?;
    }
    Ok(vec![Builder::retyped(&result, a.dtype)])
}

fn form(call: &Call<'_>) -> Result<Form, OpError> {
    let size = |name: &str, default: i64| {
        let given = call.int(name, default);
        usize::try_from(given).map_err(|_| OpError::mismatch(name, "at least 0", given))
    };
    let (n, k) = (size("N", 0)?, size("K", 0)?);
    let (bits, block) = (size("bits", 4)?, size("block_size", 0)?);
    if !matches!(bits, 2 | 4 | 8) {
        return Err(OpError::Unsupported(format!("weights of {bits} bits")));
    }
    if block < 16 || !block.is_power_of_two() || k == 0 {
        return Err(OpError::mismatch("block_size", "a power of two, at least 16", block));
    }
    let count = k.div_ceil(block);
    check_size(&[n, count, block])?;
    Ok(Form { n, k, bits, block, count })
}

/// The elements of bytes `[rows, bytes]`, lowest bits first.
fn unpacked(builder: &mut Builder, bytes: &Operand, bits: usize) -> Result<Operand, OpError> {
    let shape = bytes.shape();
    let per_byte = 8 / bits;
    let mut places: Vec<i64> = Vec::with_capacity(per_byte);
    for place in 0..per_byte {
        places.push(i64::from(super::narrow(place * bits)?));
    }
    let places = builder.ints(&[per_byte], &places)?;
    let each = builder.reshape(bytes, &[shape[0], shape[1], 1])?;
    let mut formula = Formula::new(&[Scalar::I32; 2]);
    let low = formula.bin(Binary::ShiftRight, 0, 1);
    let mask = formula.int((1 << bits) - 1);
    formula.bin(Binary::BitAnd, low, mask);
    let each = builder.pointwise(&formula.0, &[each, places], DType::U8)?;
    builder.reshape(&each, &[shape[0], shape[1] * per_byte])
}

/// The product with weights that a step of its own expands.
fn expanded(
    call: &mut Call<'_>,
    form: Form,
    a: &Operand,
    [weights, scales, zeros]: [Operand; 3],
) -> Result<Operand, OpError> {
    let Form { n, k, bits, block, count } = form;
    let builder = &mut *call.builder;
    let each = unpacked(builder, &weights, bits)?;
    let each = builder.reshape(&each, &[n, count, block])?;
    let each = convert(builder, &each, DType::F32)?;
    let scales = builder.reshape(&scales, &[n, count, 1])?;
    let zeros = builder.reshape(&zeros, &[n, count, 1])?;
    let mut formula = Formula::floats(3);
    let centred = formula.sub(0, 2);
    formula.mul(centred, 1);
    let values = builder.pointwise(&formula.0, &[each, scales, zeros], DType::F32)?;
    let values = builder.reshape(&values, &[n, count * block])?;
    let values = builder.slice(&values, 1, 0, 1, k)?;
    let b = Builder::transpose(&values, &[1, 0]);
    Ok(delegate(call, "MatMul", vec![Some(a.clone()), Some(b)])?.swap_remove(0))
}

/// The product with weights that stay packed.
fn packed(
    builder: &mut Builder,
    form: Form,
    a: &Operand,
    [weights, scales, zeros]: [Operand; 3],
) -> Result<Operand, OpError> {
    let Form { n, k, bits, block, count } = form;
    let mut target = a.shape();
    target.pop();
    let rows: usize = target.iter().product();
    target.push(n);
    let a = builder.reshape(a, &[1, 1, rows, k])?;
    // One matrix of what belongs to a block, so that a kernel has buffers left.
    let scales = builder.reshape(&scales, &[n, count, 1])?;
    let zeros = builder.reshape(&zeros, &[n, count, 1])?;
    let both = builder.concat(&[scales, zeros], 2)?;
    let (bits, block) = (super::narrow(bits)?, super::narrow(block)?);
    let kind = Kind::Blocks(Blocks { bits, block });
    let inputs = vec![a, weights, both];
    let result = builder.emit(kind, inputs, &[1, 1, rows, n], DType::F32)?;
    builder.reshape(&result, &target)
}
