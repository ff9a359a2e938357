//! Running sums and products.

use gw_shaders::expr::Binary;
use gw_shaders::kernel::Scalar;
use gw_shaders::reduce;
use gw_shaders::scan::Op;

use super::gather::small_data;
use super::{Call, Table, axis, convert, elementwise};
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::fold::{self, Number};
use crate::net::{Kind, Operand};

pub(super) const OPS: Table = &[("CumProd", cumulate), ("CumSum", cumulate)];

/// Rows up to this length have one invocation, or one workgroup.
const LONG: usize = 1 << 14;

/// The parts of longer rows.
const CHUNK: usize = 1 << 10;

/// `CumSum` (ONNX 14) and `CumProd` (ONNX 26).
fn cumulate(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let op = if call.node.op == "CumProd" { Op::Prod } else { Op::Sum };
    let x = call.input(0)?;
    if x.scalar() == Scalar::U32 {
        return Err(OpError::Type { what: "input 0".to_owned(), given: x.dtype });
    }
    let given = call.known_ints(1)?;
    let number = *given.first().ok_or_else(|| OpError::Missing("the axis".to_owned()))?;
    let at = axis(number, x.shape().len())?;
    let (exclusive, reverse) = (call.flag("exclusive", false), call.flag("reverse", false));
    Ok(vec![along(call.builder, op, &x, at, exclusive, reverse)?])
}

/// The running fold along the axis `at`.
pub(super) fn along(
    builder: &mut Builder,
    op: Op,
    x: &Operand,
    at: usize,
    exclusive: bool,
    reverse: bool,
) -> Result<Operand, OpError> {
    let dims = x.shape();
    let rows = [dims[..at].iter().product(), dims[at], dims[at + 1..].iter().product()];
    let flat = builder.reshape(x, &rows)?;
    if let Some(data) = small_data(builder, &flat)? {
        let values = folded(op, &fold::numbers(&data), rows, exclusive, reverse);
        if let Some(tensor) = fold::tensor(x.dtype, &dims, &values) {
            return Ok(builder.constant(tensor));
        }
    }
    let result = if rows[1] > LONG {
        in_chunks(builder, op, &flat, exclusive, reverse)?
    } else {
        let kind = Kind::Scan { op, exclusive, reverse };
        builder.emit(kind, vec![flat], &rows, x.dtype)?
    };
    let result = convert::wrapped(builder, &result)?;
    builder.reshape(&result, &dims)
}

/// Chunks of a long row by themselves, then what comes before each: so many invocations work on
/// one row, and none takes long.
fn in_chunks(
    builder: &mut Builder,
    op: Op,
    x: &Operand,
    exclusive: bool,
    reverse: bool,
) -> Result<Operand, OpError> {
    let [outer, len, inner] = x.shape()[..] else {
        return Err(OpError::mismatch("a scan", "three axes", x.shape().len()));
    };
    let chunks = len.div_ceil(CHUNK);
    let start = i64::from(op == Op::Prod);
    let start = fold::tensor(x.dtype, &[1, 1, 1], &[Number::Int(start)])
        .ok_or(OpError::Type { what: "input 0".to_owned(), given: x.dtype })?;
    let start = builder.constant(start);
    let rest = builder.expand(&start, &[outer, chunks * CHUNK - len, inner])?;
    let whole = builder.concat(&[x.clone(), rest], 1)?;
    let rows = builder.reshape(&whole, &[outer * chunks, CHUNK, inner])?;
    let kind = Kind::Scan { op, exclusive, reverse };
    let inside =
        builder.emit(kind, vec![rows.clone()], &[outer * chunks, CHUNK, inner], x.dtype)?;
    let (fold, join) = match op {
        Op::Sum => (reduce::Op::Sum, Binary::Add),
        Op::Prod => (reduce::Op::Prod, Binary::Mul),
    };
    let totals = super::reduce::over(builder, fold, &rows, &[1], false, x.dtype)?;
    let totals = builder.reshape(&totals, &[outer, chunks, inner])?;
    let before = along(builder, op, &totals, 1, true, reverse)?;
    let before = builder.reshape(&before, &[outer * chunks, 1, inner])?;
    let joined = elementwise::apply(builder, join, &before, &inside)?;
    let joined = builder.reshape(&joined, &[outer, chunks * CHUNK, inner])?;
    builder.slice(&joined, 1, 0, 1, len)
}

fn folded(
    op: Op,
    x: &[Number],
    [outer, len, inner]: [usize; 3],
    exclusive: bool,
    reverse: bool,
) -> Vec<Number> {
    let join = |a: Number, b: Number| match (op, a, b) {
        (Op::Sum, Number::Int(a), Number::Int(b)) => Number::Int(a.wrapping_add(b)),
        (Op::Prod, Number::Int(a), Number::Int(b)) => Number::Int(a.wrapping_mul(b)),
        (Op::Sum, a, b) => Number::Float(a.float() + b.float()),
        (Op::Prod, a, b) => Number::Float(a.float() * b.float()),
    };
    let mut out = x.to_vec();
    for row in 0..outer * inner {
        let first = row / inner * len * inner + row % inner;
        let start = i64::from(op == Op::Prod);
        let is_int = matches!(x.first(), Some(Number::Int(_)));
        let mut total = if is_int { Number::Int(start) } else { Number::Float(start as f64) };
        for step in 0..len {
            let at = first + inner * if reverse { len - 1 - step } else { step };
            let next = join(total, x[at]);
            out[at] = if exclusive { total } else { next };
            total = next;
        }
    }
    out
}
