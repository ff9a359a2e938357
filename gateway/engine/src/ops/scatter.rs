//! Elements and rows that are written where indices say.
//!
//! Every form becomes one: rows, a position per update, and the order of the updates by position,
//! which [`Kind::Sort`] finds. So the answer does not depend on which invocation comes first.

use gw_shaders::kernel::Scalar;
use gw_shaders::scatter::Op;
use gw_tensor::Shape;

use super::gather::{FOLD_MAX, element_positions, tuple_positions};
use super::{Call, Table, axis, convert, sort};
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::fold::{self, Number};
use crate::net::{Kind, Operand};

pub(super) const OPS: Table =
    &[("Scatter", elements), ("ScatterElements", elements), ("ScatterND", rows)];

fn reduction(call: &Call<'_>, data: &Operand, updates: &Operand) -> Result<Op, OpError> {
    if data.dtype != updates.dtype {
        return Err(OpError::mismatch("the type of updates", data.dtype, updates.dtype));
    }
    let op = match call.text("reduction", "none").as_str() {
        "none" => Op::Replace,
        "add" => Op::Add,
        "mul" => Op::Mul,
        "max" => Op::Max,
        "min" => Op::Min,
        other => return Err(OpError::Unsupported(format!("reduction `{other}`"))),
    };
    match (op, data.scalar()) {
        // Of booleans a sum is `or` and a product `and`.
        (Op::Add, Scalar::U32) => Ok(Op::Max),
        (Op::Mul, Scalar::U32) => Ok(Op::Min),
        (op, _) => Ok(op),
    }
}

/// `ScatterElements` (ONNX 18) and `Scatter` (ONNX 9).
fn elements(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (data, indices, updates) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let op = reduction(call, &data, &updates)?;
    let dims = data.shape();
    let at = axis(call.int("axis", 0), dims.len())?;
    if updates.shape() != indices.shape() {
        let expected = Shape::from(indices.shape());
        return Err(OpError::mismatch("updates", expected, Shape::from(updates.shape())));
    }
    let positions = element_positions(call.builder, &dims, &indices, at)?;
    let cells = call.builder.reshape(&data, &[data.layout.elements(), 1])?;
    let result = into_rows(call.builder, op, &cells, &positions, &updates)?;
    Ok(vec![call.builder.reshape(&result, &dims)?])
}

/// `ScatterND` (ONNX 18).
fn rows(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (data, indices, updates) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let op = reduction(call, &data, &updates)?;
    let (dims, tuples) = (data.shape(), indices.shape());
    let positions = tuple_positions(call.builder, &dims, &indices, 0)?;
    let width = tuples[tuples.len() - 1];
    let mut expected = tuples[..tuples.len() - 1].to_vec();
    expected.extend(&dims[width..]);
    if updates.shape() != expected {
        let given = Shape::from(updates.shape());
        return Err(OpError::mismatch("updates", Shape::from(expected), given));
    }
    let shape = [dims[..width].iter().product(), dims[width..].iter().product()];
    let flat = call.builder.reshape(&data, &shape)?;
    let result = into_rows(call.builder, op, &flat, &positions, &updates)?;
    Ok(vec![call.builder.reshape(&result, &dims)?])
}

/// `data [rows, inner]` with the rows of `updates`, which hold `[count, inner]`, at `positions`;
/// those outside change nothing.
pub(super) fn into_rows(
    builder: &mut Builder,
    op: Op,
    data: &Operand,
    positions: &Operand,
    updates: &Operand,
) -> Result<Operand, OpError> {
    let count = positions.layout.elements();
    let shape = data.shape();
    if count == 0 || data.layout.elements() == 0 {
        return Ok(data.clone());
    }
    let positions = builder.reshape(positions, &[count])?;
    let updates = builder.reshape(updates, &[count, shape[1]])?;
    if let Some(folded) = fold_small(builder, op, data, &positions, &updates)? {
        return Ok(folded);
    }
    let row = builder.reshape(&positions, &[1, count, 1])?;
    let order = sort::order(builder, &row, count, false)?;
    let order = builder.reshape(&order, &[count])?;
    let inputs = vec![data.clone(), positions, order, updates];
    let result = builder.emit(Kind::Scatter(op), inputs, &shape, data.dtype)?;
    convert::wrapped(builder, &result)
}

fn fold_small(
    builder: &mut Builder,
    op: Op,
    data: &Operand,
    positions: &Operand,
    updates: &Operand,
) -> Result<Option<Operand>, OpError> {
    let known = [data, positions, updates]
        .iter()
        .all(|operand| builder.net.is_constant(operand) && operand.layout.elements() <= FOLD_MAX);
    if !known {
        return Ok(None);
    }
    let mut values = builder.numbers(data, "data")?;
    let positions = builder.int_data(positions, "indices")?;
    let updates = builder.numbers(updates, "updates")?;
    let inner = data.shape()[1];
    for (update, position) in positions.into_iter().enumerate() {
        let row = usize::try_from(position).ok().filter(|&row| row < data.shape()[0]);
        let Some(row) = row else { continue };
        for column in 0..inner {
            let cell = &mut values[row * inner + column];
            *cell = joined(op, *cell, updates[update * inner + column]);
        }
    }
    let folded = fold::tensor(data.dtype, &data.shape(), &values);
    Ok(folded.map(|tensor| builder.constant(tensor)))
}

fn joined(op: Op, a: Number, b: Number) -> Number {
    match (op, a, b) {
        (Op::Replace, _, b) => b,
        (Op::Add, Number::Int(a), Number::Int(b)) => Number::Int(a.wrapping_add(b)),
        (Op::Mul, Number::Int(a), Number::Int(b)) => Number::Int(a.wrapping_mul(b)),
        (Op::Max, Number::Int(a), Number::Int(b)) => Number::Int(a.max(b)),
        (Op::Min, Number::Int(a), Number::Int(b)) => Number::Int(a.min(b)),
        (Op::Add, a, b) => Number::Float(a.float() + b.float()),
        (Op::Mul, a, b) => Number::Float(a.float() * b.float()),
        (_, a, b) if a.float().is_nan() || b.float().is_nan() => Number::Float(f64::NAN),
        (Op::Max, a, b) => Number::Float(a.float().max(b.float())),
        (Op::Min, a, b) => Number::Float(a.float().min(b.float())),
    }
}
