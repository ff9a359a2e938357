//! Elements that indices name. Indices that are known and evenly spaced make a view.

use gw_shaders::expr::Binary;
use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Shape, Tensor};

use super::{Call, Table, axis, sizes};
use crate::error::OpError;
use crate::net::builder::{Builder, check_size};
use crate::net::formula::Formula;
use crate::net::{Kind, Operand};

pub(super) const OPS: Table =
    &[("Gather", gather), ("GatherElements", gather_elements), ("GatherND", gather_nd)];

/// Constants up to this size are gathered before the run.
pub(super) const FOLD_MAX: usize = 1 << 16;

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
pub(super) fn small_data(builder: &mut Builder, data: &Operand) -> Result<Option<Tensor>, OpError> {
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

/// Marks a tuple with an index outside its axis: no row has this position, counted from either
/// end.
const OUTSIDE: i32 = i32::MIN;

/// The row-major positions of index tuples over axes of known sizes, one operand per axis, all
/// broadcast; negative indices count from the end.
pub(super) fn flat(builder: &mut Builder, parts: &[(Operand, usize)]) -> Result<Operand, OpError> {
    let mut flat = builder.ints(&[], &[0])?;
    for (index, size) in parts {
        if index.scalar() != Scalar::I32 {
            return Err(OpError::Type { what: "indices".to_owned(), given: index.dtype });
        }
        let size = i32::try_from(*size)
            .map_err(|_| OpError::mismatch("an axis", "less than 2^31", size))?;
        let mut formula = Formula::new(&[Scalar::I32, Scalar::I32]);
        let (zero, size) = (formula.int(0), formula.int(size));
        let is_negative = formula.bin(Binary::Less, 1, zero);
        let shifted = formula.add(1, size);
        let index_from_front = formula.select(is_negative, shifted, 1);
        let before = formula.bin(Binary::Less, index_from_front, zero);
        let after = formula.bin(Binary::GreaterOrEqual, index_from_front, size);
        let lost = formula.bin(Binary::Less, 0, zero);
        let outside = formula.bin(Binary::Or, before, after);
        let outside = formula.bin(Binary::Or, outside, lost);
        let rows = formula.mul(0, size);
        let place = formula.add(rows, index_from_front);
        let none = formula.int(OUTSIDE);
        formula.select(outside, none, place);
        flat = builder.pointwise(&formula.0, &[flat, index.clone()], DType::I64)?;
    }
    Ok(flat)
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

/// Rows named by index tuples: the tuple becomes one index over the axes that it names.
fn gather_nd(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (data, indices) = (call.input(0)?, call.input(1)?);
    let (dims, tuples) = (data.shape(), indices.shape());
    let batch = sizes(&[call.int("batch_dims", 0)])?[0];
    let flat = tuple_positions(call.builder, &dims, &indices, batch)?;
    let named = batch + tuples[tuples.len() - 1];
    let lead = &tuples[..tuples.len() - 1];
    let rows = [1, dims[..named].iter().product(), dims[named..].iter().product()];
    let rows = call.builder.reshape(&data, &rows)?;
    let gathered = take(call.builder, &rows, &flat)?;
    let mut target = lead.to_vec();
    target.extend(&dims[named..]);
    Ok(vec![call.builder.reshape(&gathered, &target)?])
}

/// The positions that the tuples along the last axis of `indices` name, over the first axes of
/// `dims`; the first `batch` axes of both are one. The shape is that of the tuples.
pub(super) fn tuple_positions(
    builder: &mut Builder,
    dims: &[usize],
    indices: &Operand,
    batch: usize,
) -> Result<Operand, OpError> {
    let tuples = indices.shape();
    let width = *tuples.last().ok_or_else(|| OpError::Missing("axes of indices".to_owned()))?;
    let named = batch.saturating_add(width);
    if named > dims.len() || batch >= tuples.len() || dims[..batch] != tuples[..batch] {
        let expected = format!("tuples for {}", Shape::from(dims));
        return Err(OpError::mismatch("indices", expected, Shape::from(tuples)));
    }
    let lead = &tuples[..tuples.len() - 1];
    let mut parts = Vec::with_capacity(named);
    for at in 0..batch {
        parts.push((steps(builder, lead.len(), at, dims[at], 1)?, dims[at]));
    }
    for at in 0..width {
        let column = builder.slice(indices, tuples.len() - 1, at, 1, 1)?;
        parts.push((builder.reshape(&column, lead)?, dims[batch + at]));
    }
    let flat = flat(builder, &parts)?;
    builder.expand(&flat, lead)
}

fn gather_elements(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (data, indices) = (call.input(0)?, call.input(1)?);
    let at = axis(call.int("axis", 0), data.shape().len())?;
    Ok(vec![along(call.builder, &data, &indices, at)?])
}

/// The elements of `data` at `indices` along the axis `at`; on other axes an element is where its
/// index is.
pub(super) fn along(
    builder: &mut Builder,
    data: &Operand,
    indices: &Operand,
    at: usize,
) -> Result<Operand, OpError> {
    let target = indices.shape();
    let flat = element_positions(builder, &data.shape(), indices, at)?;
    let rows = builder.reshape(data, &[1, data.layout.elements(), 1])?;
    let gathered = take(builder, &rows, &flat)?;
    builder.reshape(&gathered, &target)
}

/// The positions in a tensor of shape `dims` that `indices` name along the axis `at`.
pub(super) fn element_positions(
    builder: &mut Builder,
    dims: &[usize],
    indices: &Operand,
    at: usize,
) -> Result<Operand, OpError> {
    let target = indices.shape();
    super::expect_rank("indices", &target, dims.len())?;
    let fits = |axis: usize| axis == at || target[axis] <= dims[axis];
    if !(0..dims.len()).all(fits) {
        let expected = format!("at most {}", Shape::from(dims));
        return Err(OpError::mismatch("indices", expected, Shape::from(target)));
    }
    let mut parts = Vec::with_capacity(dims.len());
    for (axis, &size) in dims.iter().enumerate() {
        let part = if axis == at {
            indices.clone()
        } else {
            steps(builder, dims.len(), axis, target[axis], 1)?
        };
        parts.push((part, size));
    }
    flat(builder, &parts)
}
