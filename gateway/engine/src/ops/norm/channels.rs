//! Group normalisations of `com.microsoft`, whose channels may come last.

use gw_shaders::expr::{Binary, Unary};
use gw_shaders::norm;
use gw_tensor::Shape;

use super::{EPSILON, line, rows};
use crate::error::OpError;
use crate::net::Operand;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::ops::{Call, elementwise};

/// Inputs: x, scale, bias.
pub(super) fn group(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    Ok(vec![normalised(call, &x)?])
}

/// Inputs: x, scale, bias, a second summand, a third per channel; outputs: the result, the sum.
pub(super) fn skip_group(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, mut other) = (call.input(0)?, call.input(3)?);
    let shape = x.shape();
    let at = channel_axis(call, &shape)?;
    let mut one = vec![1; shape.len()];
    one[at] = shape[at];
    if let [n, c] = other.shape()[..] {
        let mut each = one.clone();
        each[0] = n;
        each[at] = c;
        other = call.builder.reshape(&other, &each)?;
    }
    let other = call.builder.expand(&other, &shape)?;
    let mut sum = elementwise::apply(call.builder, Binary::Add, &x, &other)?;
    if let Some(bias) = call.optional(4) {
        let bias = call.builder.reshape(&bias, &one)?;
        sum = elementwise::apply(call.builder, Binary::Add, &sum, &bias)?;
    }
    Ok(vec![normalised(call, &sum)?, sum])
}

/// The axis of channels: the last of all, or the second.
fn channel_axis(call: &Call<'_>, shape: &[usize]) -> Result<usize, OpError> {
    if shape.len() < 3 {
        return Err(OpError::mismatch("input 0", "at least 3 axes", Shape::from(shape)));
    }
    Ok(if call.flag("channels_last", true) { shape.len() - 1 } else { 1 })
}

fn normalised(call: &mut Call<'_>, x: &Operand) -> Result<Operand, OpError> {
    let shape = x.shape();
    let rank = shape.len();
    let at = channel_axis(call, &shape)?;
    let groups = usize::try_from(call.int("groups", 0)).unwrap_or(0);
    if groups == 0 || !shape[at].is_multiple_of(groups) || !x.dtype.is_float() {
        let expected = format!("floats whose channels {groups} divides");
        return Err(OpError::mismatch("input 0", expected, Shape::from(shape)));
    }
    let mut perm: Vec<usize> = (0..rank).collect();
    perm[1..=at].rotate_right(1);
    let first = Builder::transpose(x, &perm);
    let cols = x.layout.elements() / (shape[0] * groups).max(1);
    let epsilon = call.float("epsilon", EPSILON);
    let kind = norm::Kind::Layer;
    let normed = rows(call.builder, kind, &first, cols, epsilon, [None, None])?;
    let mut back: Vec<usize> = (0..rank).collect();
    back[1..=at].rotate_left(1);
    let normed = Builder::transpose(&normed, &back);
    let mut one = vec![1; rank];
    one[at] = shape[at];
    let (scale, bias) = (call.input(1)?, call.input(2)?);
    let scale = call.builder.reshape(&scale, &one)?;
    let bias = call.builder.reshape(&bias, &one)?;
    let result = line(call.builder, &normed, &scale, &bias)?;
    match call.int("activation", 0) {
        0 => Ok(result),
        1 => {
            let mut formula = Formula::floats(1);
            let gate = formula.un(Unary::Sigmoid, 0);
            formula.mul(0, gate);
            call.builder.pointwise(&formula.0, &[result], x.dtype)
        }
        other => Err(OpError::mismatch("activation", "0 or 1", other)),
    }
}
