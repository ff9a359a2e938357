//! The same elements under another shape, and shapes as data.

use gw_tensor::{DType, Shape, Tensor};

use super::{Call, Table, axes, axis, sizes};
use crate::error::OpError;
use crate::net::Operand;
use crate::net::builder::broadcast;

pub(super) const OPS: Table = &[
    ("Dropout", dropout),
    ("Expand", expand),
    ("Flatten", flatten),
    ("Identity", identity),
    ("Reshape", reshape),
    ("Shape", shape),
    ("Size", size),
    ("Squeeze", squeeze),
    ("Unsqueeze", unsqueeze),
];

fn identity(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    Ok(vec![call.input(0)?])
}

/// At inference nothing is dropped, nor in training at a ratio of 0; the mask, where it is asked
/// for, is all true (before ONNX 10 all one).
fn dropout(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let training = call.optional_ints(2)?;
    if training.is_some_and(|training| training.first().is_some_and(|&on| on != 0)) {
        let ratio = match call.optional(1) {
            Some(ratio) => call.builder.numbers(&ratio, "the ratio")?,
            None => Vec::new(),
        };
        // Without an input the ratio is a half.
        if ratio.first().is_none_or(|ratio| ratio.float() != 0.0) {
            return Err(OpError::Unsupported("dropping at random, in training,".to_owned()));
        }
    }
    let x = call.input(0)?;
    let one = Tensor::new(DType::Bool, Shape::default(), vec![1u8])?;
    let mut one = call.builder.constant(one);
    if call.opset < 10 {
        one = super::elementwise::convert(call.builder, &one, x.dtype)?;
    }
    let mask = call.builder.expand(&one, &x.shape())?;
    Ok(vec![x, mask])
}

fn signed(sizes: &[usize]) -> Vec<i64> {
    // Sizes are far below 2^63: `check_size` bounds every tensor.
    sizes.iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX)).collect()
}

fn shape(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let dims = signed(&call.input(0)?.shape());
    let rank = i64::try_from(dims.len()).unwrap_or(i64::MAX);
    let bound = |given: i64| {
        let from_front = if given < 0 { given.saturating_add(rank) } else { given };
        usize::try_from(from_front.clamp(0, rank)).unwrap_or(0)
    };
    let (start, end) = (bound(call.int("start", 0)), bound(call.int("end", rank)));
    let part = dims.get(start..end).unwrap_or(&[]);
    Ok(vec![call.builder.ints(&[part.len()], part)?])
}

fn size(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let elements = signed(&[call.input(0)?.layout.elements()]);
    Ok(vec![call.builder.ints(&[], &elements)?])
}

fn reshape(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let wanted = call.known_ints(1)?;
    let dims = x.shape();
    let zero_is_zero = call.flag("allowzero", false);
    let mut target = Vec::with_capacity(wanted.len());
    let mut free = None;
    for (index, &size) in wanted.iter().enumerate() {
        target.push(match size {
            -1 if free.replace(index).is_none() => 1,
            0 if !zero_is_zero => *dims.get(index).ok_or_else(|| {
                OpError::mismatch("shape", format!("at most {} axes", dims.len()), index + 1)
            })?,
            size => usize::try_from(size).map_err(|_| {
                OpError::mismatch("shape", "one -1 and sizes", format!("{wanted:?}"))
            })?,
        });
    }
    if let Some(free) = free {
        let elements = x.layout.elements();
        let known = Shape::from(target.as_slice()).len_checked()?;
        if known == 0 || elements % known != 0 {
            let expected = format!("a shape of {elements} elements");
            return Err(OpError::mismatch("shape", expected, format!("{wanted:?}")));
        }
        target[free] = elements / known;
    }
    Ok(vec![call.builder.reshape(&x, &target)?])
}

fn flatten(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let dims = x.shape();
    // The axis after the last is allowed, and is no negative one.
    let at = match call.int("axis", 1) {
        number if number < 0 => axis(number, dims.len())?,
        number => axis(number, dims.len() + 1)?,
    };
    let target = [dims[..at].iter().product(), dims[at..].iter().product()];
    Ok(vec![call.builder.reshape(&x, &target)?])
}

fn squeeze(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let dims = x.shape();
    let dropped = match call.ints_or_input("axes", 1)? {
        Some(numbers) => axes(&numbers, dims.len())?,
        None => (0..dims.len()).filter(|&axis| dims[axis] == 1).collect(),
    };
    if let Some(&wide) = dropped.iter().find(|&&axis| dims[axis] != 1) {
        let given = format!("axis {wide} of {}", Shape::from(dims.as_slice()));
        return Err(OpError::mismatch("axes", "axes of size 1", given));
    }
    let kept = (0..dims.len()).filter(|axis| !dropped.contains(axis));
    let target: Vec<usize> = kept.map(|axis| dims[axis]).collect();
    Ok(vec![call.builder.reshape(&x, &target)?])
}

fn unsqueeze(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let numbers = call.ints_or_input("axes", 1)?;
    let numbers = numbers.ok_or_else(|| OpError::Missing("axes".to_owned()))?;
    let dims = x.shape();
    let added = axes(&numbers, dims.len().saturating_add(numbers.len()))?;
    let mut rest = dims.into_iter();
    let rank = rest.len() + added.len();
    let size = |axis: usize| if added.contains(&axis) { 1 } else { rest.next().unwrap_or(1) };
    let target: Vec<usize> = (0..rank).map(size).collect();
    Ok(vec![call.builder.reshape(&x, &target)?])
}

fn expand(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let wanted = sizes(&call.known_ints(1)?)?;
    let target = broadcast(&x.shape(), &wanted)?;
    Ok(vec![call.builder.expand(&x, &target)?])
}
