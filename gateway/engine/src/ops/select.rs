//! Results whose size depends on the data: what they need is read, the rest stays on the device.

use std::cmp::Ordering;

use gw_tensor::Shape;

use super::gather::take;
use super::sort::rising;
use super::{Call, Table, axis};
use crate::error::OpError;
use crate::graph::Attr;
use crate::net::Operand;
use crate::net::builder::Builder;
use crate::net::fold::Number;

pub(super) const OPS: Table = &[("Compress", compress), ("NonZero", non_zero), ("Unique", unique)];

/// Positions as the model counts them.
fn signed(position: usize) -> i64 {
    // Positions are below the number of elements of a tensor, which is bounded.
    i64::try_from(position).unwrap_or(i64::MAX)
}

/// `NonZero` (ONNX 13): the coordinates of what is not zero, `[rank, count]`.
fn non_zero(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let dims = x.shape();
    let values = call.builder.numbers(&x, "input 0")?;
    let places: Vec<usize> = (0..values.len()).filter(|&place| values[place].is_true()).collect();
    let mut coordinates = Vec::with_capacity(dims.len() * places.len());
    for (size, stride) in dims.iter().zip(Shape::from(dims.as_slice()).strides()) {
        let coordinate = |place: &usize| signed(place / stride.max(1) % size.max(&1));
        coordinates.extend(places.iter().map(coordinate));
    }
    Ok(vec![call.builder.ints(&[dims.len(), places.len()], &coordinates)?])
}

/// The one axis of all elements, or a given one with those before and after.
fn lines(
    builder: &mut Builder,
    x: &Operand,
    at: Option<usize>,
) -> Result<(Operand, Vec<usize>, usize), OpError> {
    let (dims, at) = match at {
        Some(at) => (x.shape(), at),
        None => (vec![x.layout.elements()], 0),
    };
    let shape = [dims[..at].iter().product(), dims[at], dims[at + 1..].iter().product()];
    Ok((builder.reshape(x, &shape)?, dims, at))
}

fn given_axis(call: &Call<'_>, rank: usize) -> Result<Option<usize>, OpError> {
    match call.attr("axis") {
        Some(Attr::Int(number)) => axis(*number, rank).map(Some),
        _ => Ok(None),
    }
}

/// The elements at `places` along the axis `at` of a tensor of shape `dims`.
fn picked(
    builder: &mut Builder,
    lines: &Operand,
    mut dims: Vec<usize>,
    at: usize,
    places: &[usize],
) -> Result<Operand, OpError> {
    let positions: Vec<i64> = places.iter().copied().map(signed).collect();
    let positions = builder.ints(&[positions.len()], &positions)?;
    dims[at] = places.len();
    if places.is_empty() {
        return builder.empty(&dims, lines.dtype);
    }
    let taken = take(builder, lines, &positions)?;
    builder.reshape(&taken, &dims)
}

/// `Compress` (ONNX 11): what the condition keeps, along an axis or of all elements.
fn compress(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, condition) = (call.input(0)?, call.input(1)?);
    let at = given_axis(call, x.shape().len())?;
    let (lines, dims, at) = lines(call.builder, &x, at)?;
    let condition = call.builder.numbers(&condition, "the condition")?;
    let places: Vec<usize> =
        (0..dims[at].min(condition.len())).filter(|&place| condition[place].is_true()).collect();
    Ok(vec![picked(call.builder, &lines, dims, at, &places)?])
}

/// `Unique` (ONNX 11): the elements, or slices of an axis, each once; where each is first, which
/// of them every one is, and how often.
fn unique(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let at = given_axis(call, x.shape().len())?;
    let sorted = call.flag("sorted", true);
    let (lines, dims, at) = lines(call.builder, &x, at)?;
    let values = call.builder.numbers(&lines, "input 0")?;
    let (outer, len, inner) = (lines.shape()[0], dims[at], lines.shape()[2]);
    let compare = |a: usize, b: usize| {
        let value = |place: usize, row: usize, column: usize| -> Number {
            values[(row * len + place) * inner + column]
        };
        (0..outer)
            .flat_map(|row| (0..inner).map(move |column| (row, column)))
            .map(|(row, column)| rising(value(a, row, column), value(b, row, column)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    };
    let mut order: Vec<usize> = (0..len).collect();
    order.sort_by(|&a, &b| compare(a, b));
    // Equals lie side by side, the first of them in front.
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for place in order {
        match groups.last_mut() {
            Some(group) if compare(group[0], place).is_eq() => group.push(place),
            _ => groups.push(vec![place]),
        }
    }
    if !sorted {
        groups.sort_by_key(|group| group[0]);
    }
    let mut inverse = vec![0; len];
    for (index, group) in groups.iter().enumerate() {
        for &place in group {
            inverse[place] = signed(index);
        }
    }
    let firsts: Vec<usize> = groups.iter().map(|group| group[0]).collect();
    let counts: Vec<i64> = groups.iter().map(|group| signed(group.len())).collect();
    let places: Vec<i64> = firsts.iter().copied().map(signed).collect();
    let builder = &mut *call.builder;
    Ok(vec![
        picked(builder, &lines, dims, at, &firsts)?,
        builder.ints(&[places.len()], &places)?,
        builder.ints(&[inverse.len()], &inverse)?,
        builder.ints(&[counts.len()], &counts)?,
    ])
}
