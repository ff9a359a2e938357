//! Losses of classification.

use gw_shaders::expr::{Binary, Unary};
use gw_shaders::kernel::Scalar;
use gw_shaders::reduce::Op;
use gw_tensor::{DType, Shape};

use super::gather::{steps, take};
use super::reduce::over;
use super::{Call, Table, elementwise};
use crate::error::OpError;
use crate::graph::Attr;
use crate::net::formula::Formula;
use crate::net::{Kind, Operand};

pub(super) const OPS: Table =
    &[("NegativeLogLikelihoodLoss", likelihood), ("SoftmaxCrossEntropyLoss", cross_entropy)];

/// `-x[n, target[n, d], d] * weight[target[n, d]]` of log-probabilities (ONNX 12 to 22).
fn likelihood(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, shape) = classes(call)?;
    Ok(vec![loss(call, &x, &shape)?])
}

/// The same of the logarithm of the softmax over the classes, which is the second output
/// (ONNX 12, 13).
fn cross_entropy(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, shape) = classes(call)?;
    let kind = Kind::Softmax { log: true };
    let log = call.builder.emit(kind, vec![x.clone()], &x.shape(), x.dtype)?;
    let loss = loss(call, &log, &shape)?;
    Ok(vec![loss, call.builder.reshape(&log, &shape)?])
}

/// Input 0 as `[n, c, d]`, and its own shape.
fn classes(call: &mut Call<'_>) -> Result<(Operand, Vec<usize>), OpError> {
    let x = call.input(0)?;
    if !x.dtype.is_float() {
        return Err(OpError::Type { what: "input 0".to_owned(), given: x.dtype });
    }
    let shape = x.shape();
    let [n, c, inner @ ..] = shape.as_slice() else {
        return Err(OpError::mismatch("input 0", "at least 2 axes", Shape::from(shape)));
    };
    let x = call.builder.reshape(&x, &[*n, *c, inner.iter().product()])?;
    Ok((x, shape))
}

/// The loss of log-probabilities `[n, c, d]`, reduced as the node says. Targets below 0 count from
/// the last class, as indices of `GatherElements` do; one that is no class gives NaN.
fn loss(call: &mut Call<'_>, x: &Operand, shape: &[usize]) -> Result<Operand, OpError> {
    let target = call.input(1)?;
    let mut places = shape.to_vec();
    places.remove(1);
    if target.shape() != places || target.scalar() != Scalar::I32 {
        let given = format!("{} {}", target.dtype, Shape::from(target.shape()));
        let expected = format!("integers {}", Shape::from(places));
        return Err(OpError::mismatch("input 1", expected, given));
    }
    let [n, c, d] = x.shape()[..] else { return Err(OpError::Missing("classes".to_owned())) };
    let target = call.builder.reshape(&target, &[n, d])?;
    let class = from_front(call, &target, c)?;
    let ignored = match call.attr("ignore_index") {
        Some(Attr::Int(index)) => Some(*index),
        _ => None,
    };
    let picked = picked(call, x, &class)?;
    let mut weight = None;
    if let Some(given) = call.optional(2) {
        if given.shape() != [c] || !given.dtype.is_float() {
            let given = Shape::from(given.shape());
            return Err(OpError::mismatch("input 2", format!("{c} weights"), given));
        }
        let row = call.builder.reshape(&given, &[1, c, 1])?;
        let taken = take(call.builder, &row, &class)?;
        weight = Some(call.builder.reshape(&taken, &[n, d])?);
    }
    if let Some(ignored) = ignored {
        let given = match weight {
            Some(weight) => weight,
            None => call.builder.float(1.0),
        };
        weight = Some(unless(call, &target, ignored, &given)?);
    }
    let losses = match (&weight, ignored) {
        (Some(weight), ignored) => {
            let mut formula = Formula::floats(2);
            formula.mul(0, 1);
            let inputs = [picked, weight.clone()];
            let weighted = call.builder.pointwise(&formula.0, &inputs, x.dtype)?;
            match ignored {
                // Nothing of an ignored place is read, be it NaN.
                Some(ignored) => unless(call, &target, ignored, &weighted)?,
                None => weighted,
            }
        }
        (None, _) => picked,
    };
    let all = [0, 1];
    match call.text("reduction", "mean").as_str() {
        "none" => call.builder.reshape(&losses, &places),
        "sum" => over(call.builder, Op::Sum, &losses, &all, false, x.dtype),
        "mean" => match weight {
            None => over(call.builder, Op::Mean, &losses, &all, false, x.dtype),
            Some(weight) => {
                let sum = over(call.builder, Op::Sum, &losses, &all, false, x.dtype)?;
                let share = over(call.builder, Op::Sum, &weight, &all, false, x.dtype)?;
                elementwise::apply(call.builder, Binary::Div, &sum, &share)
            }
        },
        other => Err(OpError::Unsupported(format!("reduction `{other}`"))),
    }
}

fn as_i32(size: usize) -> Result<i32, OpError> {
    i32::try_from(size).map_err(|_| OpError::mismatch("a size", "less than 2^31", size))
}

/// `index`, or `index + count` where that is below 0.
fn from_front(call: &mut Call<'_>, index: &Operand, count: usize) -> Result<Operand, OpError> {
    let mut formula = Formula::new(&[Scalar::I32]);
    let zero = formula.int(0);
    let is_behind = formula.bin(Binary::Less, 0, zero);
    let count = formula.int(as_i32(count)?);
    let moved = formula.add(0, count);
    formula.select(is_behind, moved, 0);
    call.builder.pointwise(&formula.0, std::slice::from_ref(index), DType::I64)
}

/// `-x[n, class[n, d], d]` as `[n, d]`.
fn picked(call: &mut Call<'_>, x: &Operand, class: &Operand) -> Result<Operand, OpError> {
    let [n, c, d] = x.shape()[..] else { return Err(OpError::Missing("classes".to_owned())) };
    let first = steps(call.builder, 2, 0, n, c.saturating_mul(d))?;
    let column = steps(call.builder, 2, 1, d, 1)?;
    let mut formula = Formula::new(&[Scalar::I32; 3]);
    let zero = formula.int(0);
    let last = formula.int(as_i32(c)?.saturating_sub(1));
    let low = formula.bin(Binary::Max, 0, zero);
    let inside = formula.bin(Binary::Min, low, last);
    let stride = formula.int(as_i32(d)?);
    let row = formula.mul(inside, stride);
    let row = formula.add(row, 1);
    formula.add(row, 2);
    let index = call.builder.pointwise(&formula.0, &[class.clone(), first, column], DType::I64)?;
    let flat = call.builder.reshape(x, &[1, n * c * d, 1])?;
    let taken = take(call.builder, &flat, &index)?;
    let taken = call.builder.reshape(&taken, &[n, d])?;
    let mut formula = Formula::new(&[Scalar::F32, Scalar::I32]);
    let zero = formula.int(0);
    let count = formula.int(as_i32(c)?);
    let low = formula.bin(Binary::GreaterOrEqual, 1, zero);
    let high = formula.bin(Binary::Less, 1, count);
    let is_class = formula.bin(Binary::And, low, high);
    let negative = formula.un(Unary::Neg, 0);
    let none = formula.c(f32::NAN);
    formula.select(is_class, negative, none);
    call.builder.pointwise(&formula.0, &[taken, class.clone()], x.dtype)
}

/// `x` where the target is not `ignored`, else 0.
fn unless(
    call: &mut Call<'_>,
    target: &Operand,
    ignored: i64,
    x: &Operand,
) -> Result<Operand, OpError> {
    // An index that no device holds names no target.
    let Ok(ignored) = i32::try_from(ignored) else {
        let shape = target.shape();
        return call.builder.expand(x, &shape);
    };
    let mut formula = Formula::new(&[Scalar::I32, Scalar::F32]);
    let ignored = formula.int(ignored);
    let is_ignored = formula.bin(Binary::Equal, 0, ignored);
    let zero = formula.c(0.0);
    formula.select(is_ignored, zero, 1);
    call.builder.pointwise(&formula.0, &[target.clone(), x.clone()], x.dtype)
}
