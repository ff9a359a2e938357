//! The largest and the smallest, in order.

use std::cmp::Ordering;

use gw_tensor::DType;

use super::gather::{along, small_data};
use super::{Call, Table, axis};
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::fold::{self, Number};
use crate::net::{Kind, Operand};

pub(super) const OPS: Table = &[("TopK", top_k)];

/// `TopK` (ONNX 11): of equals the one at the lower index comes first. They are sorted whether or
/// not that is asked for. Before ONNX 10 `k` was an attribute.
fn top_k(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let dims = x.shape();
    let at = axis(call.int("axis", -1), dims.len())?;
    let wanted = match call.has("k") {
        true => call.int("k", 0),
        false => {
            let given = call.known_ints(1)?;
            *given.first().ok_or_else(|| OpError::Missing("k".to_owned()))?
        }
    };
    let keep = usize::try_from(wanted).ok().filter(|&keep| keep <= dims[at]);
    let keep =
        keep.ok_or_else(|| OpError::mismatch("k", format!("at most {}", dims[at]), wanted))?;
    let rows = [dims[..at].iter().product(), dims[at], dims[at + 1..].iter().product()];
    let mut target = dims.clone();
    target[at] = keep;
    let flat = call.builder.reshape(&x, &rows)?;
    let order = order(call.builder, &flat, keep, call.flag("largest", true))?;
    let values = along(call.builder, &flat, &order, 1)?;
    let values = call.builder.reshape(&values, &target)?;
    Ok(vec![values, call.builder.reshape(&order, &target)?])
}

/// The positions of the first `keep` of each row of `x [outer, len, inner]` in order, as
/// `[outer, keep, inner]`.
pub(super) fn order(
    builder: &mut Builder,
    x: &Operand,
    keep: usize,
    largest: bool,
) -> Result<Operand, OpError> {
    let dims = x.shape();
    let shape = [dims[0], keep, dims[2]];
    if let Some(data) = small_data(builder, x)? {
        let values = fold::numbers(&data);
        let mut out = vec![0i64; shape.iter().product()];
        for row in 0..dims[0] * dims[2] {
            let (outer, column) = (row / dims[2], row % dims[2]);
            let value = |place: usize| values[(outer * dims[1] + place) * dims[2] + column];
            let mut places: Vec<usize> = (0..dims[1]).collect();
            places.sort_by(|&a, &b| {
                let rising = rising(value(a), value(b));
                if largest { rising.reverse() } else { rising }
            });
            for (rank, place) in places.into_iter().enumerate().take(keep) {
                let place = i64::try_from(place).unwrap_or(i64::MAX);
                out[(outer * keep + rank) * dims[2] + column] = place;
            }
        }
        return builder.ints(&shape, &out);
    }
    builder.emit(Kind::Sort { largest }, vec![x.clone()], &shape, DType::I64)
}

/// As the kernel orders: NaN is the largest.
pub(super) fn rising(a: Number, b: Number) -> Ordering {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => a.cmp(&b),
        (a, b) => {
            let (a, b) = (a.float(), b.float());
            a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        }
    }
}
