//! Elements that indices name. Indices that are known and evenly spaced make a view.

use gw_shaders::expr::Binary;
use gw_tensor::{DType, Shape, Tensor};

use super::{Call, Table, axis, sizes};
use crate::error::OpError;
use crate::net::builder::{Builder, check_size};
use crate::net::formula::Formula;
use crate::net::{Kind, Operand};

pub(super) const OPS: Table =
    &[("Gather", gather), ("GatherElements", gather_elements), ("GatherND", gather_nd)];

/// Constants up to this size are gathered before the run.
const FOLD_MAX: usize = 1 << 16;

/// Positions that are written out along one axis.
const STEPS_MAX: usize = 1 << 22;

fn gather(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (data, indices) = (call.input(0)?, call.input(1)?);
    let dims = data.shape();
    let at = axis(call.int("axis", 0), dims.len())?;
    let mut target = dims[..at].to_vec();
    target.extend(indices.shape());
    target.extend(&dims[at + 1..]);
    let outer = dims[..at].iter().product();
    let inner = dims[at + 1..].iter().product();
    let rows = call.builder.reshape(&data, &[outer, dims[at], inner])?;
    let gathered = take(call.builder, &rows, &indices)?;
    Ok(vec![call.builder.reshape(&gathered, &target)?])
}

/// `data [outer, axis, inner]` at `indices` of any shape, as `[outer, count, inner]`.
pub(super) fn take(
    builder: &mut Builder,
    data: &Operand,
    indices: &Operand,
) -> Result<Operand, OpError> {
    let dims = data.shape();
    let count = indices.layout.elements();
    let target = [dims[0], count, dims[2]];
    let elements = check_size(&target)?;
    if builder.net.is_constant(indices) {
        let known = positions(&builder.int_data(indices, "indices")?, dims[1])?;
        if let Some((start, step)) = spacing(&known) {
            return builder.slice(data, 1, start, step, known.len());
        }
        if elements <= FOLD_MAX
            && let Some(tensor) = small_data(builder, data)?
        {
            let size = tensor.dtype().size() * dims[2];
            let mut bytes = Vec::with_capacity(elements * tensor.dtype().size());
            for outer in 0..dims[0] {
                for &position in &known {
                    let at = (outer * dims[1] + position) * size;
                    bytes.extend_from_slice(&tensor.bytes()[at..at + size]);
                }
            }
            return Ok(builder.constant(Tensor::new(tensor.dtype(), target, bytes)?));
        }
    }
    if elements > 0 && dims[1] == 0 {
        return Err(OpError::mismatch("input 0", "an axis with elements", "an empty one"));
    }
    let indices = builder.reshape(indices, &[count])?;
    let inputs = vec![data.clone(), indices];
    builder.emit(Kind::Gather { quantised: false }, inputs, &target, data.dtype)
}

/// The data of a constant that is no larger than what may be folded at once.
fn small_data(builder: &mut Builder, data: &Operand) -> Result<Option<Tensor>, OpError> {
    match data.layout.elements() <= FOLD_MAX {
        true => builder.data(data),
        false => Ok(None),
    }
}

/// Indices as positions from the front.
fn positions(indices: &[i64], size: usize) -> Result<Vec<usize>, OpError> {
    let position = |&index: &i64| {
        let wide = i64::try_from(size).unwrap_or(i64::MAX);
        let from_front = if index < 0 { index.saturating_add(wide) } else { index };
        let position = usize::try_from(from_front).ok().filter(|&position| position < size);
        position.ok_or_else(|| OpError::mismatch("an index", format!("one of {size}"), index))
    };
    indices.iter().map(position).collect()
}

/// The first position and the distance to the next, where it is always the same and not 0.
fn spacing(positions: &[usize]) -> Option<(usize, isize)> {
    let signed = |position: usize| position.cast_signed();
    let first = *positions.first()?;
    let step = positions.get(1).map_or(1, |&next| signed(next) - signed(first));
    let even = positions.windows(2).all(|pair| signed(pair[1]) - signed(pair[0]) == step);
    (even && step != 0).then_some((first, step))
}

/// `index` from the front, where it may count from the end; scaled by `stride`.
fn scaled(
    builder: &mut Builder,
    index: &Operand,
    size: usize,
    stride: usize,
) -> Result<Operand, OpError> {
    let as_i32 = |value: usize| {
        i32::try_from(value).map_err(|_| OpError::mismatch("an axis", "less than 2^31", value))
    };
    let mut formula = Formula::new(&[index.scalar()]);
    let zero = formula.int(0);
    let is_negative = formula.bin(Binary::Less, 0, zero);
    let size = formula.int(as_i32(size)?);
    let shifted = formula.add(0, size);
    let position = formula.select(is_negative, shifted, 0);
    let stride = formula.int(as_i32(stride)?);
    formula.mul(position, stride);
    builder.pointwise(&formula.0, std::slice::from_ref(index), DType::I64)
}

/// `0, stride, 2 * stride, …` along one axis of a shape of `rank` axes.
pub(super) fn steps(
    builder: &mut Builder,
    rank: usize,
    at: usize,
    size: usize,
    stride: usize,
) -> Result<Operand, OpError> {
    let mut shape = vec![1; rank];
    shape[at] = size;
    if size > STEPS_MAX {
        return Err(OpError::mismatch("an axis", format!("at most {STEPS_MAX}"), size));
    }
    let value = |index: usize| i64::try_from(index.saturating_mul(stride)).unwrap_or(i64::MAX);
    let values: Vec<i64> = (0..size).map(value).collect();
    builder.ints(&shape, &values)
}

fn sum(builder: &mut Builder, parts: &[Operand]) -> Result<Operand, OpError> {
    let mut total = builder.ints(&[], &[0])?;
    for part in parts {
        total = super::elementwise::apply(builder, Binary::Add, &total, part)?;
    }
    Ok(total)
}

/// Rows named by index tuples: the tuple becomes one index over the axes that it names.
fn gather_nd(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (data, indices) = (call.input(0)?, call.input(1)?);
    let (dims, tuples) = (data.shape(), indices.shape());
    let batch = sizes(&[call.int("batch_dims", 0)])?[0];
    let width = *tuples.last().ok_or_else(|| OpError::Missing("axes of indices".to_owned()))?;
    let named = batch + width;
    if named > dims.len() || batch >= tuples.len() || dims[..batch] != tuples[..batch] {
        let given = Shape::from(tuples.as_slice());
        let expected = format!("tuples for {}", Shape::from(dims.as_slice()));
        return Err(OpError::mismatch("indices", expected, given));
    }
    let lead = &tuples[..tuples.len() - 1];
    let stride = |at: usize| dims[at + 1..named].iter().product();
    let mut parts = Vec::with_capacity(named);
    for at in 0..batch {
        parts.push(steps(call.builder, lead.len(), at, dims[at], stride(at))?);
    }
    for at in 0..width {
        let column = call.builder.slice(&indices, tuples.len() - 1, at, 1, 1)?;
        let column = call.builder.reshape(&column, lead)?;
        let (size, stride) = (dims[batch + at], stride(batch + at));
        parts.push(scaled(call.builder, &column, size, stride)?);
    }
    let flat = sum(call.builder, &parts)?;
    let rows = [1, dims[..named].iter().product(), dims[named..].iter().product()];
    let rows = call.builder.reshape(&data, &rows)?;
    let gathered = take(call.builder, &rows, &flat)?;
    let mut target = lead.to_vec();
    target.extend(&dims[named..]);
    Ok(vec![call.builder.reshape(&gathered, &target)?])
}

fn gather_elements(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (data, indices) = (call.input(0)?, call.input(1)?);
    let (dims, target) = (data.shape(), indices.shape());
    let at = axis(call.int("axis", 0), dims.len())?;
    super::expect_rank("indices", &target, dims.len())?;
    let strides = Shape::from(dims.as_slice()).strides();
    let mut parts = Vec::with_capacity(dims.len());
    for (index, &stride) in strides.iter().enumerate() {
        parts.push(if index == at {
            scaled(call.builder, &indices, dims[at], stride)?
        } else {
            steps(call.builder, dims.len(), index, target[index], stride)?
        });
    }
    let flat = sum(call.builder, &parts)?;
    let rows = call.builder.reshape(&data, &[1, data.layout.elements(), 1])?;
    let gathered = take(call.builder, &rows, &flat)?;
    Ok(vec![call.builder.reshape(&gathered, &target)?])
}
