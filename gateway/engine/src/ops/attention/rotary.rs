//! Rotary position embeddings (arXiv 2104.09864).

use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Shape};

use super::split_heads;
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::net::{Kind, Operand};
use crate::ops::{Call, expect_rank, gather, sizes};

/// Inputs: x, cosines, sines, positions (ONNX 23).
pub(super) fn onnx(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, cos, sin) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let positions = call.optional(3);
    rotary(call, &x, [&cos, &sin], positions)
}

/// Inputs: x, positions, cosines, sines (`com.microsoft` 1).
pub(super) fn microsoft(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, positions) = (call.input(0)?, call.input(1)?);
    let (cos, sin) = (call.input(2)?, call.input(3)?);
    if call.flag("is_packed_batching", false) {
        return Err(OpError::Unsupported("packed batching".to_owned()));
    }
    if call.float("scale", 1.0) != 1.0 {
        return Err(OpError::Unsupported("a scale of rotary embeddings".to_owned()));
    }
    // One number is the first position of every entry.
    let positions = if positions.layout.elements() == 1 {
        let shape = x.shape();
        let length = shape.get(shape.len().saturating_sub(2)).copied().unwrap_or(0);
        following(call.builder, &positions, length)?
    } else {
        positions
    };
    rotary(call, &x, [&cos, &sin], Some(positions))
}

/// `[entries, length]`: each of `first` and the positions after it.
pub(super) fn following(
    builder: &mut Builder,
    first: &Operand,
    length: usize,
) -> Result<Operand, OpError> {
    let entries = first.layout.elements();
    let first = builder.reshape(first, &[entries, 1])?;
    let place = gather::steps(builder, 2, 1, length, 1)?;
    let mut formula = Formula::new(&[Scalar::I32; 2]);
    formula.add(0, 1);
    builder.pointwise(&formula.0, &[first, place], DType::I64)
}

fn rotary(
    call: &mut Call<'_>,
    x: &Operand,
    tables: [&Operand; 2],
    positions: Option<Operand>,
) -> Result<Vec<Operand>, OpError> {
    let shape = x.shape();
    let dims = sizes(&[call.int("num_heads", 0), call.int("rotary_embedding_dim", 0)])?;
    let interleaved = call.flag("interleaved", false);
    let [cos, sin] = tables;
    if shape.len() == 4 {
        return Ok(vec![turned(call.builder, x, [cos, sin], positions, interleaved, dims[1])?]);
    }
    expect_rank("input 0", &shape, 3)?;
    let heads = match (dims[0], dims[1], cos.shape().last()) {
        (0, 0, Some(&half)) if half > 0 => shape[2] / (2 * half),
        (heads, _, _) => heads,
    };
    let apart = split_heads(call.builder, x, heads)?;
    let result = turned(call.builder, &apart, [cos, sin], positions, interleaved, dims[1])?;
    let beside = Builder::transpose(&result, &[0, 2, 1, 3]);
    Ok(vec![call.builder.reshape(&beside, &shape)?])
}

/// Turns the pairs in the first `width` elements of every row of `x [batch, heads, length, d]`;
/// 0 stands for all. The tables are `[rows, width / 2]` with positions `[batch or 1, length]`, or
/// `[batch or 1, length, width / 2]` without.
pub(super) fn turned(
    builder: &mut Builder,
    x: &Operand,
    tables: [&Operand; 2],
    positions: Option<Operand>,
    interleaved: bool,
    width: usize,
) -> Result<Operand, OpError> {
    let shape = x.shape();
    let [batch, heads, length, all] = shape[..] else {
        return Err(OpError::mismatch("input 0", "4 axes", Shape::from(shape)));
    };
    let width = if width == 0 { all } else { width };
    if width > all || width % 2 != 0 || x.scalar() != Scalar::F32 {
        let given = format!("{} {}", x.dtype, Shape::from(shape));
        return Err(OpError::mismatch("input 0", format!("floats in rows of {width}"), given));
    }
    let half = width / 2;
    let [cos, sin] = tables;
    let mut parts = Vec::with_capacity(4);
    for table in [cos, sin] {
        parts.push(by_place(builder, table, positions.as_ref(), [batch, length, half])?);
    }
    let result = builder.empty(&shape, x.dtype)?;
    if result.layout.elements() == 0 {
        return Ok(result);
    }
    // Two neighbours are a pair, or one of each half is.
    let (step, second) = if interleaved { (2, 1) } else { (1, half) };
    for start in [0, second] {
        parts.push(builder.slice(x, 3, start, step, half)?);
    }
    let pair = [batch, heads, length, half];
    for part in &mut parts {
        *part = builder.expand(part, &pair)?;
    }
    for (start, is_imaginary) in [(0, false), (second, true)] {
        let mut formula = Formula::floats(4);
        if is_imaginary {
            let (a, b) = (formula.mul(1, 2), formula.mul(0, 3));
            formula.add(a, b);
        } else {
            let (a, b) = (formula.mul(0, 2), formula.mul(1, 3));
            formula.sub(a, b);
        }
        let place = builder.slice(&result, 3, start, step, half)?;
        builder.push(Kind::Pointwise(formula.0), parts.clone(), place);
    }
    if width < all {
        let rest = builder.slice(x, 3, width, 1, all - width)?;
        let place = builder.slice(&result, 3, width, 1, all - width)?;
        let copy = Formula::floats(1);
        builder.push(Kind::Pointwise(copy.0), vec![rest], place);
    }
    Ok(result)
}

/// A table's rows for every place, `[batch or 1, 1, length, half]`.
fn by_place(
    builder: &mut Builder,
    table: &Operand,
    positions: Option<&Operand>,
    [batch, length, half]: [usize; 3],
) -> Result<Operand, OpError> {
    let shape = table.shape();
    let Some(positions) = positions else {
        let fits =
            matches!(shape[..], [b, l, h] if (b == batch || b == 1) && [l, h] == [length, half]);
        if !fits {
            let expected = format!("[{batch}, {length}, {half}]");
            return Err(OpError::mismatch("the table", expected, Shape::from(shape)));
        }
        return builder.reshape(table, &[shape[0], 1, length, half]);
    };
    let places = positions.shape();
    if shape.len() != 2 || shape[1] != half || table.scalar() != Scalar::F32 {
        let expected = format!("rows of {half}");
        return Err(OpError::mismatch("the table", expected, Shape::from(shape)));
    }
    let fits = matches!(places[..], [b, l] if (b == batch || b == 1) && l == length);
    if !fits || positions.scalar() != Scalar::I32 {
        let given = format!("{} {}", positions.dtype, Shape::from(places));
        return Err(OpError::mismatch("positions", format!("[{batch}, {length}]"), given));
    }
    let rows = builder.reshape(table, &[1, shape[0], half])?;
    let taken = gather::take(builder, &rows, positions)?;
    builder.reshape(&taken, &[places[0], 1, length, half])
}
