//! The same elements at other places: views where strides can say it, copies where not.

use gw_tensor::Shape;

use super::{Call, Table, axes, axis, expect_rank, sizes};
use crate::error::OpError;
use crate::net::Operand;
use crate::net::builder::{Builder, check_size};

pub(super) const OPS: Table = &[
    ("Concat", concat),
    ("DepthToSpace", depth_to_space),
    ("Slice", slice),
    ("SpaceToDepth", space_to_depth),
    ("Split", split),
    ("Tile", tile),
    ("Transpose", transpose),
];

fn transpose(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let rank = x.shape().len();
    let perm = match call.ints("perm") {
        Some(numbers) => {
            expect_rank("perm", &vec![0; numbers.len()], rank)?;
            axes(&numbers, rank)?;
            numbers.iter().map(|&number| axis(number, rank)).collect::<Result<Vec<_>, _>>()?
        }
        None => (0..rank).rev().collect(),
    };
    Ok(vec![Builder::transpose(&x, &perm)])
}

fn concat(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let parts = call.given();
    let first = call.input(0)?.shape();
    let at = axis(call.int("axis", 0), first.len())?;
    for part in &parts {
        let mut shape = part.shape();
        expect_rank("an input", &shape, first.len())?;
        shape[at] = first[at];
        if shape != first {
            let given = Shape::from(part.shape());
            return Err(OpError::mismatch("an input", Shape::from(first), given));
        }
    }
    Ok(vec![call.builder.concat(&parts, at)?])
}

/// The bounds of one axis, as start, step and count.
fn span(start: i64, end: i64, step: i64, size: usize) -> Result<(usize, isize, usize), OpError> {
    let wide = i128::try_from(size).unwrap_or(i128::MAX);
    let from_front = |value: i64| {
        let value = i128::from(value);
        if value < 0 { value + wide } else { value }
    };
    let step = i128::from(step);
    let (low, high) = if step > 0 { (0, wide) } else { (-1, wide - 1) };
    let start = from_front(start).clamp(low.max(0).min(high.max(0)), high.max(low));
    let end = from_front(end).clamp(low, high.max(low));
    let distance = if step > 0 { end - start } else { start - end };
    let count = match step {
        0 => return Err(OpError::mismatch("step", "not 0", 0)),
        _ if distance <= 0 => 0,
        _ => (distance + step.abs() - 1) / step.abs(),
    };
    let fits = |value: i128| usize::try_from(value).ok();
    // A step beyond the axis is taken at most once.
    let step = step.clamp(-wide.max(1), wide.max(1));
    match (fits(start), isize::try_from(step), fits(count)) {
        (Some(start), Ok(step), Some(count)) => Ok((start, step, count)),
        _ => Err(OpError::mismatch("slice", "positions inside the axis", start)),
    }
}

fn slice(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let mut x = call.input(0)?;
    let rank = x.shape().len();
    let missing = |name: &str| OpError::Missing(name.to_owned());
    let starts = call.ints_or_input("starts", 1)?.ok_or_else(|| missing("starts"))?;
    let ends = call.ints_or_input("ends", 2)?.ok_or_else(|| missing("ends"))?;
    let default_axes = || (0..i64::try_from(starts.len()).unwrap_or(0)).collect();
    let numbers = call.ints_or_input("axes", 3)?.unwrap_or_else(default_axes);
    let steps = call.optional_ints(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), numbers.len(), steps.len()] != [starts.len(); 3] {
        let given = format!("{} ends, {} axes, {} steps", ends.len(), numbers.len(), steps.len());
        return Err(OpError::mismatch("slice", format!("{} of each", starts.len()), given));
    }
    axes(&numbers, rank)?;
    for (index, &number) in numbers.iter().enumerate() {
        let at = axis(number, rank)?;
        let (start, step, count) = span(starts[index], ends[index], steps[index], x.shape()[at])?;
        x = call.builder.slice(&x, at, start, step, count)?;
    }
    Ok(vec![x])
}

fn split(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let dims = x.shape();
    let at = axis(call.int("axis", 0), dims.len())?;
    let parts = match call.ints_or_input("split", 1)? {
        Some(given) => sizes(&given)?,
        None => {
            let count = call.node.outputs.len().max(1);
            let size = dims[at].div_ceil(count);
            let part = |index: usize| dims[at].saturating_sub(index * size).min(size);
            (0..count).map(part).collect()
        }
    };
    if parts.iter().try_fold(0usize, |sum, &part| sum.checked_add(part)) != Some(dims[at]) {
        let expected = format!("parts of {} in all", dims[at]);
        return Err(OpError::mismatch("split", expected, format!("{parts:?}")));
    }
    let mut start = 0;
    let mut outputs = Vec::with_capacity(parts.len());
    for part in parts {
        outputs.push(call.builder.slice(&x, at, start, 1, part)?);
        start += part;
    }
    Ok(outputs)
}

/// Repeats whole axes: a new axis beside each, merged again.
fn tile(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let dims = x.shape();
    let repeats = sizes(&call.known_ints(1)?)?;
    expect_rank("repeats", &repeats, dims.len())?;
    let mut apart = Vec::with_capacity(dims.len() * 2);
    let mut repeated = Vec::with_capacity(dims.len() * 2);
    let mut merged = Vec::with_capacity(dims.len());
    for (&size, &count) in dims.iter().zip(&repeats) {
        apart.extend([1, size]);
        repeated.extend([count, size]);
        merged.push(count.saturating_mul(size));
    }
    check_size(&merged)?;
    let x = call.builder.reshape(&x, &apart)?;
    let x = call.builder.expand(&x, &repeated)?;
    Ok(vec![call.builder.reshape(&x, &merged)?])
}

/// The block size, and the rest of an axis that it divides.
fn block(
    call: &Call<'_>,
    sizes: &[usize],
    unit: impl Fn(usize) -> usize,
) -> Result<usize, OpError> {
    let size = usize::try_from(call.int("blocksize", 0)).ok().filter(|&size| size > 0);
    let size = size.ok_or_else(|| OpError::Missing("blocksize".to_owned()))?;
    let divisor = unit(size);
    match sizes.iter().all(|axis| divisor > 0 && axis % divisor == 0) {
        true => Ok(size),
        false => {
            let expected = format!("axes divisible by {divisor}");
            Err(OpError::mismatch("blocksize", expected, format!("{sizes:?}")))
        }
    }
}

fn depth_to_space(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let dims = x.shape();
    expect_rank("input 0", &dims, 4)?;
    let b = block(call, &dims[1..2], |size| size.saturating_mul(size))?;
    let (n, c, h, w) = (dims[0], dims[1] / (b * b), dims[2], dims[3]);
    let (apart, perm) = match call.text("mode", "DCR").as_str() {
        "CRD" => ([n, c, b, b, h, w], [0, 1, 4, 2, 5, 3]),
        "DCR" => ([n, b, b, c, h, w], [0, 3, 4, 1, 5, 2]),
        other => return Err(OpError::Unsupported(format!("mode `{other}`"))),
    };
    let x = call.builder.reshape(&x, &apart)?;
    let x = Builder::transpose(&x, &perm);
    Ok(vec![call.builder.reshape(&x, &[n, c, h * b, w * b])?])
}

fn space_to_depth(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let dims = x.shape();
    expect_rank("input 0", &dims, 4)?;
    let b = block(call, &dims[2..], |size| size)?;
    let (n, c, h, w) = (dims[0], dims[1], dims[2] / b, dims[3] / b);
    let x = call.builder.reshape(&x, &[n, c, h, b, w, b])?;
    let perm = match call.text("mode", "DCR").as_str() {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        other => return Err(OpError::Unsupported(format!("mode `{other}`"))),
    };
    let x = Builder::transpose(&x, &perm);
    Ok(vec![call.builder.reshape(&x, &[n, c * b * b, h, w])?])
}
