//! Caches of keys and values that are written in place of padding.

use gw_shaders::expr::Binary;
use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Shape};

use crate::error::OpError;
use crate::net::Operand;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::ops::{Call, axis, gather};

/// Inputs: the cache, the update, the first place of the update in each entry (ONNX 24).
pub(super) fn scatter(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (cache, update) = (call.input(0)?, call.input(1)?);
    let dims = cache.shape();
    let at = axis(call.int("axis", -2), dims.len())?;
    let mut fits = dims.clone();
    fits[at] = update.shape().get(at).copied().unwrap_or(0);
    let rest = match call.text("mode", "linear").as_str() {
        "linear" => Rest::Stays,
        "circular" => Rest::Around,
        other => return Err(OpError::Unsupported(format!("mode `{other}`"))),
    };
    if at == 0 || update.shape() != fits || fits[at] > dims[at] || update.dtype != cache.dtype {
        let given = format!("{} {}", update.dtype, Shape::from(update.shape()));
        let expected = format!("a part of {} {}", cache.dtype, Shape::from(dims));
        return Err(OpError::mismatch("input 1", expected, given));
    }
    let starts = match call.optional(2) {
        Some(starts) => starts,
        None => call.builder.ints(&[1], &[0])?,
    };
    Ok(vec![written(call.builder, &cache, &update, at, &starts, rest)?])
}

/// What becomes of the cache behind an update.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// It stays; the update goes on at the front where it reaches the end.
    Around,
    /// It stays.
    Stays,
    /// It becomes 0.
    Zero,
}

/// The cache with `update` at `starts [batch]` along `at`.
pub(super) fn written(
    builder: &mut Builder,
    cache: &Operand,
    update: &Operand,
    at: usize,
    starts: &Operand,
    rest: Rest,
) -> Result<Operand, OpError> {
    let dims = cache.shape();
    let (length, count) = (dims[at], update.shape()[at]);
    if update.layout.elements() == 0 {
        return Ok(cache.clone());
    }
    let (batch, groups) = (dims[0], dims[1..at].iter().product::<usize>());
    let inner: usize = dims[at + 1..].iter().product();
    if starts.scalar() != Scalar::I32 || !(starts.shape() == [batch] || starts.shape() == [1]) {
        let given = format!("{} {}", starts.dtype, Shape::from(starts.shape()));
        return Err(OpError::mismatch("the places", format!("{batch} integers"), given));
    }
    let starts = builder.reshape(starts, &[starts.layout.elements(), 1, 1])?;
    // Which row of the update each row of the cache takes, where it takes one.
    let place = gather::steps(builder, 3, 2, length, 1)?;
    let mut formula = Formula::new(&[Scalar::I32; 2]);
    let offset = formula.sub(0, 1);
    if rest == Rest::Around {
        let around = formula.int(narrow(length)?);
        formula.bin(Binary::Mod, offset, around);
    }
    let row = builder.pointwise(&formula.0, &[place, starts], DType::I64)?;
    let row = builder.expand(&row, &[batch, groups, length])?;
    let new = taken(builder, update, &row, count, inner)?;
    let flat = [batch, groups, length, inner];
    let old = builder.reshape(cache, &flat)?;
    let row = builder.reshape(&row, &[batch, groups, length, 1])?;
    let mut formula = Formula::new(&[Scalar::I32, cache.scalar(), cache.scalar()]);
    let (zero, count) = (formula.int(0), formula.int(narrow(count)?));
    let low = formula.bin(Binary::GreaterOrEqual, 0, zero);
    let high = formula.bin(Binary::Less, 0, count);
    let left = match rest {
        Rest::Around | Rest::Stays => 2,
        Rest::Zero => {
            let nothing = formula.0.constant(cache.scalar(), 0.0);
            formula.select(high, 2, nothing)
        }
    };
    let is_new = formula.bin(Binary::And, low, high);
    formula.select(is_new, 1, left);
    let result = builder.pointwise(&formula.0, &[row, new, old], cache.dtype)?;
    builder.reshape(&result, &dims)
}

/// The rows of `update` that `row [batch, groups, length]` names, `[batch, groups, length,
/// inner]`; those beyond its ends are its first and last.
fn taken(
    builder: &mut Builder,
    update: &Operand,
    row: &Operand,
    count: usize,
    inner: usize,
) -> Result<Operand, OpError> {
    let [batch, groups, length] = row.shape()[..] else {
        return Err(OpError::mismatch("rows", "3 axes", Shape::from(row.shape())));
    };
    let mut formula = Formula::new(&[Scalar::I32; 3]);
    let (zero, last) = (formula.int(0), formula.int(narrow(count)? - 1));
    let low = formula.bin(Binary::Max, 0, zero);
    let inside = formula.bin(Binary::Min, low, last);
    let first = formula.add(inside, 1);
    formula.add(first, 2);
    let entry = gather::steps(builder, 3, 0, batch, groups.saturating_mul(count))?;
    let group = gather::steps(builder, 3, 1, groups, count)?;
    let index = builder.pointwise(&formula.0, &[row.clone(), entry, group], DType::I64)?;
    let rows = builder.reshape(update, &[1, batch * groups * count, inner])?;
    let new = gather::take(builder, &rows, &index)?;
    builder.reshape(&new, &[batch, groups, length, inner])
}

fn narrow(size: usize) -> Result<i32, OpError> {
    i32::try_from(size).map_err(|_| OpError::mismatch("a size", "less than 2^31", size))
}
