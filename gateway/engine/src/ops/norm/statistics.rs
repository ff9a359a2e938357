//! Normalisations by statistics that are tensors of their own.

use gw_shaders::expr::{Binary, Unary};
use gw_shaders::kernel::Scalar;
use gw_shaders::reduce::Op;
use gw_tensor::{DType, Shape};

use super::{EPSILON, only_outputs, per_channel};
use crate::error::OpError;
use crate::net::Operand;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::ops::reduce::over;
use crate::ops::{Call, axes, axis, elementwise, gather};

fn float_input(call: &Call<'_>) -> Result<Operand, OpError> {
    let x = call.input(0)?;
    match x.scalar() {
        Scalar::F32 => Ok(x),
        _ => Err(OpError::Type { what: "input 0".to_owned(), given: x.dtype }),
    }
}

/// The mean and the variance over `reduced`, whose axes are kept with size 1.
fn moments(
    builder: &mut Builder,
    x: &Operand,
    reduced: &[usize],
) -> Result<(Operand, Operand), OpError> {
    let mean = over(builder, Op::Mean, x, reduced, true, DType::F32)?;
    let mut formula = Formula::floats(2);
    let off = formula.sub(0, 1);
    formula.mul(off, off);
    let squares = builder.pointwise(&formula.0, &[x.clone(), mean.clone()], DType::F32)?;
    let variance = over(builder, Op::Mean, &squares, reduced, true, DType::F32)?;
    Ok((mean, variance))
}

/// `1 / sqrt(variance + epsilon)`.
fn inverse_deviation(
    builder: &mut Builder,
    variance: &Operand,
    epsilon: f32,
) -> Result<Operand, OpError> {
    let mut formula = Formula::floats(1);
    let epsilon = formula.c(epsilon);
    let sum = formula.add(0, epsilon);
    let root = formula.un(Unary::Sqrt, sum);
    formula.un(Unary::Reciprocal, root);
    builder.pointwise(&formula.0, std::slice::from_ref(variance), DType::F32)
}

/// The mean and the inverse standard deviation that a layer normalisation has as outputs.
pub(super) fn of_layer(
    call: &mut Call<'_>,
    x: &Operand,
    from: usize,
) -> Result<[Operand; 2], OpError> {
    let reduced: Vec<usize> = (from..x.shape().len()).collect();
    let epsilon = call.float("epsilon", EPSILON);
    let dtype = call.dtype("stash_type")?.unwrap_or(DType::F32);
    let (mean, variance) = moments(call.builder, x, &reduced)?;
    let inverse = inverse_deviation(call.builder, &variance, epsilon)?;
    if !dtype.is_float() {
        return Err(OpError::Type { what: "stash_type".to_owned(), given: dtype });
    }
    Ok([mean, inverse].map(|x| Builder::retyped(&x, dtype)))
}

/// As [`of_layer`] of an RMS normalisation, which takes no mean off.
pub(super) fn of_rms(call: &mut Call<'_>, x: &Operand, from: usize) -> Result<Operand, OpError> {
    let reduced: Vec<usize> = (from..x.shape().len()).collect();
    let mut formula = Formula::floats(1);
    formula.mul(0, 0);
    let squares = call.builder.pointwise(&formula.0, std::slice::from_ref(x), DType::F32)?;
    let mean = over(call.builder, Op::Mean, &squares, &reduced, true, DType::F32)?;
    inverse_deviation(call.builder, &mean, call.float("epsilon", EPSILON))
}

/// By the statistics of this batch; outputs 1 and 2 are the running ones (ONNX 14, 15).
pub(super) fn batch_training(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    only_outputs(call, 3)?;
    let x = float_input(call)?;
    let rank = x.shape().len();
    let reduced: Vec<usize> = (0..rank).filter(|&axis| axis != 1).collect();
    if rank < 2 || x.layout.elements() == 0 {
        let given = Shape::from(x.shape());
        return Err(OpError::mismatch("input 0", "a batch with channels", given));
    }
    let (mean, variance) = moments(call.builder, &x, &reduced)?;
    let inverse = inverse_deviation(call.builder, &variance, call.float("epsilon", EPSILON))?;
    let (scale, bias) = (call.input(1)?, call.input(2)?);
    let scale = per_channel(call.builder, &scale, rank)?;
    let bias = per_channel(call.builder, &bias, rank)?;
    let mut formula = Formula::floats(5);
    let off = formula.sub(0, 1);
    let normed = formula.mul(off, 2);
    let scaled = formula.mul(normed, 3);
    formula.add(scaled, 4);
    let inputs = [x.clone(), mean.clone(), inverse, scale, bias];
    let mut outputs = vec![call.builder.pointwise(&formula.0, &inputs, x.dtype)?];
    let momentum = call.float("momentum", 0.9);
    for (index, now) in [(3, mean), (4, variance)] {
        let before = call.input(index)?;
        let now = call.builder.reshape(&now, &before.shape())?;
        let mut formula = Formula::floats(2);
        let keep = formula.c(momentum);
        let kept = formula.mul(keep, 0);
        let take = formula.c(1.0 - momentum);
        let taken = formula.mul(take, 1);
        formula.add(kept, taken);
        let dtype = before.dtype;
        outputs.push(call.builder.pointwise(&formula.0, &[before, now], dtype)?);
    }
    Ok(outputs)
}

/// `(x - mean) / (deviation + 1e-9)` over some axes (ONNX 9, 13).
pub(super) fn mean_variance(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = float_input(call)?;
    let numbers = call.ints("axes").unwrap_or_else(|| vec![0, 2, 3]);
    let reduced = axes(&numbers, x.shape().len())?;
    let (mean, variance) = moments(call.builder, &x, &reduced)?;
    let mut formula = Formula::floats(3);
    let off = formula.sub(0, 1);
    let deviation = formula.un(Unary::Sqrt, 2);
    let least = formula.c(1e-9);
    let divisor = formula.add(deviation, least);
    formula.bin(Binary::Div, off, divisor);
    let dtype = x.dtype;
    Ok(vec![call.builder.pointwise(&formula.0, &[x, mean, variance], dtype)?])
}

/// `x` over its L1 or L2 norm along one axis; 0 where that is 0 (ONNX 1, 22).
pub(super) fn by_length(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = float_input(call)?;
    let op = match call.int("p", 2) {
        1 => Op::L1,
        2 => Op::L2,
        other => return Err(OpError::mismatch("p", "1 or 2", other)),
    };
    let at = axis(call.int("axis", -1), x.shape().len())?;
    let dtype = x.dtype;
    let length = over(call.builder, op, &x, &[at], true, dtype)?;
    let mut formula = Formula::floats(2);
    let zero = formula.c(0.0);
    let is_none = formula.bin(Binary::Equal, 1, zero);
    let share = formula.bin(Binary::Div, 0, 1);
    formula.select(is_none, zero, share);
    Ok(vec![call.builder.pointwise(&formula.0, &[x, length], dtype)?])
}

/// 1 at the first largest element along the axis, else 0. Before operator set 13 all axes from
/// `axis` on were one (ONNX 1, 11, 13).
pub(super) fn hardmax(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = float_input(call)?;
    let (dims, dtype) = (x.shape(), x.dtype);
    let joined = call.opset < 13;
    let rows = if dims.is_empty() {
        [1, 1, 1]
    } else {
        let at = axis(call.int("axis", if joined { 1 } else { -1 }), dims.len())?;
        let after = if joined { dims.len() } else { at + 1 };
        let size = |part: &[usize]| part.iter().product::<usize>();
        [size(&dims[..at]), size(&dims[at..after]), size(&dims[after..])]
    };
    if x.layout.elements() == 0 {
        return Ok(vec![x]);
    }
    let x = call.builder.reshape(&x, &rows)?;
    let first = over(call.builder, Op::ArgMax { last: false }, &x, &[1], true, DType::I64)?;
    let places = gather::steps(call.builder, 3, 1, rows[1], 1)?;
    let is_first = elementwise::apply(call.builder, Binary::Equal, &first, &places)?;
    let result = elementwise::convert(call.builder, &is_first, dtype)?;
    Ok(vec![call.builder.reshape(&result, &dims)?])
}
