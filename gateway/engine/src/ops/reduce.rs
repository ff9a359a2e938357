//! Axes folded away, and softmax.

use gw_shaders::expr::{Binary, Unary};
use gw_shaders::kernel::Scalar;
use gw_shaders::reduce::Op;
use gw_tensor::DType;

use super::{Call, Table, axes, axis, convert};
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::fold::{self, Number};
use crate::net::formula::Formula;
use crate::net::{Kind, Operand, scalar};

pub(super) const OPS: Table = &[
    ("ArgMax", arg),
    ("ArgMin", arg),
    ("GlobalAveragePool", global),
    ("GlobalMaxPool", global),
    ("LogSoftmax", softmax),
    ("ReduceL1", reduce),
    ("ReduceL2", reduce),
    ("ReduceLogSum", reduce),
    ("ReduceLogSumExp", reduce),
    ("ReduceMax", reduce),
    ("ReduceMean", reduce),
    ("ReduceMin", reduce),
    ("ReduceProd", reduce),
    ("ReduceSum", reduce),
    ("ReduceSumSquare", reduce),
    ("Softmax", softmax),
];

/// Sizes and positions computed by a model are far below.
const FOLD_MAX: usize = 1 << 12;

fn reduce(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let op = match call.node.op.as_str() {
        "ReduceL1" => Op::L1,
        "ReduceL2" => Op::L2,
        "ReduceLogSum" => Op::LogSum,
        "ReduceLogSumExp" => Op::LogSumExp,
        "ReduceMax" => Op::Max,
        "ReduceMean" => Op::Mean,
        "ReduceMin" => Op::Min,
        "ReduceProd" => Op::Prod,
        "ReduceSum" => Op::Sum,
        _ => Op::SumSquare,
    };
    let x = call.input(0)?;
    let rank = x.shape().len();
    let reduced = match call.ints_or_input("axes", 1)? {
        Some(numbers) if !numbers.is_empty() => axes(&numbers, rank)?,
        // Folding no axis still squares, or takes logarithms.
        _ if call.flag("noop_with_empty_axes", false) => Vec::new(),
        _ => (0..rank).collect(),
    };
    let keep = call.flag("keepdims", true);
    let dtype = x.dtype;
    let is_root = matches!(op, Op::L2 | Op::LogSum | Op::LogSumExp);
    if is_root && x.scalar() == Scalar::I32 {
        let x = call.builder.as_float(&x)?;
        let result = over(call.builder, op, &x, &reduced, keep, DType::F32)?;
        return Ok(vec![convert::convert(call.builder, &result, dtype)?]);
    }
    if reduced.is_empty() && matches!(op, Op::Sum | Op::Mean | Op::Max | Op::Min | Op::Prod) {
        return Ok(vec![x]);
    }
    Ok(vec![over(call.builder, op, &x, &reduced, keep, dtype)?])
}

fn arg(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let last = call.flag("select_last_index", false);
    let op = match call.node.op.as_str() {
        "ArgMax" => Op::ArgMax { last },
        _ => Op::ArgMin { last },
    };
    let x = call.input(0)?;
    let at = axis(call.int("axis", 0), x.shape().len())?;
    let keep = call.flag("keepdims", true);
    Ok(vec![over(call.builder, op, &x, &[at], keep, DType::I64)?])
}

fn global(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let op = if call.node.op == "GlobalMaxPool" { Op::Max } else { Op::Mean };
    let x = call.input(0)?;
    let reduced: Vec<usize> = (2..x.shape().len()).collect();
    let dtype = x.dtype;
    Ok(vec![over(call.builder, op, &x, &reduced, true, dtype)?])
}

/// Folds `reduced`, which is in ascending order.
pub(super) fn over(
    builder: &mut Builder,
    op: Op,
    x: &Operand,
    reduced: &[usize],
    keep: bool,
    dtype: DType,
) -> Result<Operand, OpError> {
    let dims = x.shape();
    let kept: Vec<usize> = (0..dims.len()).filter(|axis| !reduced.contains(axis)).collect();
    let count: usize = reduced.iter().map(|&axis| dims[axis]).product();
    let target: Vec<usize> = (0..dims.len())
        .filter(|axis| keep || !reduced.contains(axis))
        .map(|axis| if reduced.contains(&axis) { 1 } else { dims[axis] })
        .collect();
    // Neighbouring axes need no transpose: the kernel takes axes before and after.
    let together = reduced.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    let (x, outer, inner) = match reduced.first() {
        Some(&first) if together => {
            let after = first + reduced.len();
            (x.clone(), dims[..first].iter().product(), dims[after..].iter().product())
        }
        _ => {
            let perm: Vec<usize> = kept.iter().chain(reduced).copied().collect();
            let outer = kept.iter().map(|&axis| dims[axis]).product();
            (Builder::transpose(x, &perm), outer, 1)
        }
    };
    let elements = x.layout.elements();
    if count == 0 {
        return of_nothing(builder, op, &target, dtype);
    }
    // What is the same along an axis is folded once.
    let repeats = |&axis: &usize| dims[axis] > 1 && x.layout.once_along(axis).is_some();
    if let Some(once) = kept.iter().copied().find(repeats) {
        let cut = x.layout.once_along(once).map(|layout| x.with_layout(layout));
        let cut = cut.ok_or_else(|| OpError::Missing("an axis".to_owned()))?;
        let folded = over(builder, op, &cut, reduced, true, dtype)?;
        let mut shape = folded.shape();
        shape[once] = dims[once];
        let folded = builder.expand(&folded, &shape)?;
        return builder.reshape(&folded, &target);
    }
    if count == 1 && matches!(op, Op::Sum | Op::Mean | Op::Max | Op::Min | Op::Prod) {
        return builder.reshape(&x, &target);
    }
    let x = builder.reshape(&x, &[outer, count, inner])?;
    let result = match fold_small(builder, op, &x, dtype, elements)? {
        Some(folded) => folded,
        None if count > LONG => over_long(builder, op, &x, dtype)?,
        None => builder.emit(Kind::Reduce(op), vec![x], &[outer, inner], dtype)?,
    };
    builder.reshape(&result, &target)
}

/// Axes up to this length have one invocation, or one workgroup.
const LONG: usize = 1 << 15;

/// The parts of longer axes.
const CHUNK: usize = 1 << 12;

/// A long axis in two steps: so many invocations work on one row, and none takes long.
fn over_long(builder: &mut Builder, op: Op, x: &Operand, dtype: DType) -> Result<Operand, OpError> {
    let count = x.shape()[1];
    let (first, second) = match op {
        Op::ArgMax { last } | Op::ArgMin { last } => return arg_long(builder, op, x, last),
        Op::Sum | Op::Mean | Op::LogSum => (Op::Sum, Op::Sum),
        Op::L1 => (Op::L1, Op::Sum),
        Op::L2 | Op::SumSquare => (Op::SumSquare, Op::Sum),
        other => (other, other),
    };
    let total = in_chunks(builder, [first, second], x, dtype)?;
    let mut finish = Formula::new(&[total.scalar()]);
    match op {
        Op::Mean if total.scalar() == Scalar::F32 => {
            let count = finish.c(count as f32);
            finish.bin(Binary::Div, 0, count);
        }
        Op::Mean => {
            let count = finish.int(i32::try_from(count).unwrap_or(i32::MAX));
            finish.bin(Binary::Div, 0, count);
        }
        Op::L2 => {
            finish.un(Unary::Sqrt, 0);
        }
        Op::LogSum => {
            finish.un(Unary::Log, 0);
        }
        _ => return Ok(total),
    }
    builder.pointwise(&finish.0, &[total], dtype)
}

/// The chunks of `x [outer, count, inner]` folded by the first, then their results by the second.
fn in_chunks(
    builder: &mut Builder,
    [first, second]: [Op; 2],
    x: &Operand,
    dtype: DType,
) -> Result<Operand, OpError> {
    let dims = x.shape();
    let (outer, chunks, inner) = (dims[0], dims[1] / CHUNK, dims[2]);
    let mut part = |start: usize, count: usize, rows: usize| -> Result<Operand, OpError> {
        let part = builder.slice(x, 1, start, 1, count * rows)?;
        let part = builder.reshape(&part, &[outer * rows, count, inner])?;
        let shape = [outer * rows, inner];
        let folded = builder.emit(Kind::Reduce(first), vec![part], &shape, dtype)?;
        builder.reshape(&folded, &[outer, rows, inner])
    };
    let mut parts = vec![part(0, CHUNK, chunks)?];
    if !dims[1].is_multiple_of(CHUNK) {
        parts.push(part(chunks * CHUNK, dims[1] % CHUNK, 1)?);
    }
    let folded = builder.concat(&parts, 1)?;
    match folded.shape()[1] > LONG {
        true => in_chunks(builder, [second, second], &folded, dtype),
        false => builder.emit(Kind::Reduce(second), vec![folded], &[outer, inner], dtype),
    }
}

/// The first of the sorted positions. As the kernel has it, NaN is the largest and the smallest:
/// it stays the largest where the smallest is found as the largest of the negatives.
fn arg_long(builder: &mut Builder, op: Op, x: &Operand, last: bool) -> Result<Operand, OpError> {
    let dims = x.shape();
    let mut x = x.clone();
    let mut largest = matches!(op, Op::ArgMax { .. });
    if !largest && x.scalar() == Scalar::F32 {
        let mut negative = Formula::floats(1);
        negative.un(Unary::Neg, 0);
        x = builder.pointwise(&negative.0, &[x.clone()], x.dtype)?;
        largest = true;
    }
    if last {
        x = builder.slice(&x, 1, dims[1] - 1, -1, dims[1])?;
    }
    let place = super::sort::order(builder, &x, 1, largest)?;
    let place = builder.reshape(&place, &[dims[0], dims[2]])?;
    if !last {
        return Ok(place);
    }
    let mut turned = Formula::new(&[Scalar::I32]);
    let end = turned.int(i32::try_from(dims[1] - 1).unwrap_or(i32::MAX));
    turned.sub(end, 0);
    builder.pointwise(&turned.0, &[place], DType::I64)
}

/// What a fold of nothing is, as `numpy` has it; a mean is NaN, and no position exists.
fn of_nothing(
    builder: &mut Builder,
    op: Op,
    shape: &[usize],
    dtype: DType,
) -> Result<Operand, OpError> {
    // Integers as extreme as those of a device, and booleans: false is the least.
    let (least, most) = match scalar(dtype) {
        Scalar::F32 => (Number::Float(f64::NEG_INFINITY), Number::Float(f64::INFINITY)),
        Scalar::I32 => match dtype {
            DType::I8 => (Number::Int(i8::MIN.into()), Number::Int(i8::MAX.into())),
            DType::I16 => (Number::Int(i16::MIN.into()), Number::Int(i16::MAX.into())),
            DType::U8 => (Number::Int(0), Number::Int(u8::MAX.into())),
            DType::U16 => (Number::Int(0), Number::Int(u16::MAX.into())),
            DType::U32 | DType::U64 => (Number::Int(0), Number::Int(i32::MAX.into())),
            _ => (Number::Int(i32::MIN.into()), Number::Int(i32::MAX.into())),
        },
        Scalar::U32 => (Number::Int(0), Number::Int(1)),
    };
    let value = match op {
        Op::Sum | Op::L1 | Op::L2 | Op::SumSquare => Number::Int(0),
        Op::Prod => Number::Int(1),
        Op::Max => least,
        Op::Min => most,
        Op::LogSum | Op::LogSumExp => Number::Float(f64::NEG_INFINITY),
        Op::Mean if dtype.is_float() => Number::Float(f64::NAN),
        _ => return Err(OpError::mismatch("input 0", "elements to reduce", "an empty axis")),
    };
    let one = fold::tensor(dtype, &[], &[value]);
    let one = one.ok_or(OpError::Type { what: "input 0".to_owned(), given: dtype })?;
    let one = builder.constant(one);
    builder.expand(&one, shape)
}

/// Sums, products and extremes of small constants.
fn fold_small(
    builder: &mut Builder,
    op: Op,
    x: &Operand,
    dtype: DType,
    elements: usize,
) -> Result<Option<Operand>, OpError> {
    if elements > FOLD_MAX || !matches!(op, Op::Sum | Op::Prod | Op::Max | Op::Min) {
        return Ok(None);
    }
    let Some(data) = builder.data(x)? else { return Ok(None) };
    let [outer, count, inner] = x.shape()[..] else { return Ok(None) };
    let values = fold::numbers(&data);
    let mut results = Vec::with_capacity(outer * inner);
    for place in 0..outer * inner {
        let (row, column) = (place / inner, place % inner);
        let line = (0..count).map(|index| values[(row * count + index) * inner + column]);
        let folded = line.reduce(|a, b| match op {
            Op::Sum => join(a, b, i64::wrapping_add, |a, b| a + b),
            Op::Prod => join(a, b, i64::wrapping_mul, |a, b| a * b),
            Op::Max => join(a, b, i64::max, f64::max),
            _ => join(a, b, i64::min, f64::min),
        });
        let Some(folded) = folded else { return Ok(None) };
        results.push(folded);
    }
    let folded = fold::tensor(dtype, &[outer, inner], &results);
    Ok(folded.map(|tensor| builder.constant(tensor)))
}

fn join(
    a: Number,
    b: Number,
    ints: impl Fn(i64, i64) -> i64,
    floats: impl Fn(f64, f64) -> f64,
) -> Number {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => Number::Int(ints(a, b)),
        (a, b) => Number::Float(floats(a.float(), b.float())),
    }
}

/// Before operator set 13 all axes from `axis` on were one.
fn softmax(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    if x.scalar() != Scalar::F32 {
        return Err(OpError::Type { what: "input 0".to_owned(), given: x.dtype });
    }
    let log = call.node.op == "LogSoftmax";
    let dims = x.shape();
    if dims.is_empty() {
        let rows = call.builder.reshape(&x, &[1, 1, 1])?;
        let kind = Kind::Softmax { log };
        let result = call.builder.emit(kind, vec![rows], &[1, 1, 1], x.dtype)?;
        return Ok(vec![call.builder.reshape(&result, &[])?]);
    }
    let rows = if call.opset < 13 {
        let at = axis(call.int("axis", 1), dims.len())?;
        [dims[..at].iter().product(), dims[at..].iter().product(), 1]
    } else {
        let at = axis(call.int("axis", -1), dims.len())?;
        [dims[..at].iter().product(), dims[at], dims[at + 1..].iter().product()]
    };
    let flat = call.builder.reshape(&x, &rows)?;
    let result = call.builder.emit(Kind::Softmax { log }, vec![flat], &rows, x.dtype)?;
    Ok(vec![call.builder.reshape(&result, &dims)?])
}
