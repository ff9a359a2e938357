//! Running sums and products.

use gw_shaders::kernel::Scalar;
use gw_shaders::scan::Op;

use super::gather::small_data;
use super::{Call, Table, axis, convert};
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::fold::{self, Number};
use crate::net::{Kind, Operand};

pub(super) const OPS: Table = &[("CumProd", cumulate), ("CumSum", cumulate)];

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
    let kind = Kind::Scan { op, exclusive, reverse };
    let result = builder.emit(kind, vec![flat], &rows, x.dtype)?;
    let result = convert::wrapped(builder, &result)?;
    builder.reshape(&result, &dims)
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
