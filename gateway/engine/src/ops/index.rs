//! What depends on where an element is: masks, diagonals, one-hot vectors, reversals.

use gw_shaders::expr::{Binary, Reg};
use gw_shaders::kernel::Scalar;
use gw_shaders::reduce;
use gw_tensor::{DType, Shape};

use super::gather::{flat, steps, take};
use super::{Call, Table, axis, elementwise, expect_rank, sizes};
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::net::{Kind, Operand, scalar};

pub(super) const OPS: Table = &[
    ("Det", det),
    ("EyeLike", eye_like),
    ("Hardmax", hardmax),
    ("OneHot", one_hot),
    ("ReverseSequence", reverse_sequence),
    ("Trilu", trilu),
];

/// Offsets of diagonals beyond this leave every matrix that a device holds.
const OFFSET_MAX: i64 = 1 << 30;

/// Rows and columns of the last two of `rank` axes, counted.
fn grid(builder: &mut Builder, dims: &[usize]) -> Result<[Operand; 2], OpError> {
    let rank = dims.len();
    if rank < 2 {
        return Err(OpError::mismatch("input 0", "at least 2 axes", Shape::from(dims)));
    }
    let row = steps(builder, rank, rank - 2, dims[rank - 2], 1)?;
    let column = steps(builder, rank, rank - 1, dims[rank - 1], 1)?;
    Ok([row, column])
}

/// Fails where kernels would read the bits of another type as integers.
fn expect_ints(what: &str, x: &Operand) -> Result<(), OpError> {
    match x.scalar() {
        Scalar::I32 => Ok(()),
        _ => Err(OpError::Type { what: what.to_owned(), given: x.dtype }),
    }
}

/// `Trilu` (ONNX 14): the upper or lower triangle, from the k-th diagonal on.
fn trilu(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let [row, column] = grid(call.builder, &x.shape())?;
    let k = match call.optional(1) {
        Some(k) if call.builder.net.is_constant(&k) => {
            let known = call.known_ints(1)?;
            let known = known.first().copied().unwrap_or(0).clamp(-OFFSET_MAX, OFFSET_MAX);
            call.builder.ints(&[], &[known])?
        }
        Some(k) => {
            expect_ints("k", &k)?;
            call.builder.reshape(&k, &[])?
        }
        None => call.builder.ints(&[], &[0])?,
    };
    let keeps = match call.flag("upper", true) {
        true => Binary::GreaterOrEqual,
        false => Binary::LessOrEqual,
    };
    let scalar = x.scalar();
    let mut formula = Formula::new(&[scalar, Scalar::I32, Scalar::I32, Scalar::I32]);
    let off = formula.sub(2, 1);
    let is_kept = formula.bin(keeps, off, 3);
    let zero = formula.0.constant(scalar, 0.0);
    formula.select(is_kept, 0, zero);
    let dtype = x.dtype;
    Ok(vec![call.builder.pointwise(&formula.0, &[x, row, column, k], dtype)?])
}

/// `Det` (ONNX 22) of the last two axes.
fn det(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let dims = x.shape();
    let [batch @ .., rows, columns] = dims.as_slice() else {
        return Err(OpError::mismatch("input 0", "square matrices", Shape::from(dims)));
    };
    if rows != columns || x.scalar() != Scalar::F32 {
        let given = format!("{} {}", x.dtype, Shape::from(dims.as_slice()));
        return Err(OpError::mismatch("input 0", "square matrices of floats", given));
    }
    let builder = &mut *call.builder;
    if *rows == 0 {
        let one = builder.float(1.0);
        let one = elementwise::convert(builder, &one, x.dtype)?;
        return Ok(vec![builder.expand(&one, batch)?]);
    }
    let count = batch.iter().product();
    let matrices = builder.reshape(&x, &[count, *rows, *rows])?;
    let result = builder.emit(Kind::Det, vec![matrices], &[count], x.dtype)?;
    Ok(vec![builder.reshape(&result, batch)?])
}

/// `EyeLike` (ONNX 9).
fn eye_like(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    expect_rank("input 0", &x.shape(), 2)?;
    let dtype = call.dtype("dtype")?.unwrap_or(x.dtype);
    let [row, column] = grid(call.builder, &x.shape())?;
    let offset = call.int("k", 0).clamp(-OFFSET_MAX, OFFSET_MAX);
    let offset = i32::try_from(offset).unwrap_or(i32::MAX);
    let mut formula = Formula::new(&[Scalar::I32, Scalar::I32]);
    let off = formula.sub(1, 0);
    let offset = formula.int(offset);
    let is_one = formula.bin(Binary::Equal, off, offset);
    if scalar(dtype) != Scalar::U32 {
        formula.cast(scalar(dtype), is_one);
    }
    Ok(vec![call.builder.pointwise(&formula.0, &[row, column], dtype)?])
}

/// `index` from the front, where it may count from the end of `size`.
fn from_front(formula: &mut Formula, index: Reg, size: i32) -> Reg {
    let zero = formula.int(0);
    let is_negative = formula.bin(Binary::Less, index, zero);
    let size = formula.int(size);
    let shifted = formula.add(index, size);
    formula.select(is_negative, shifted, index)
}

/// `OneHot` (ONNX 11): an index outside the depth is off everywhere.
fn one_hot(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (indices, values) = (call.input(0)?, call.input(2)?);
    if values.shape() != [2] {
        let given = Shape::from(values.shape());
        return Err(OpError::mismatch("values", Shape::new([2]), given));
    }
    let depth = call.known_ints(1)?;
    let depth = sizes(depth.get(..1).unwrap_or(&[]))?;
    let &[depth] = depth.as_slice() else { return Err(OpError::Missing("depth".to_owned())) };
    let mut shape = indices.shape();
    let at = axis(call.int("axis", -1), shape.len() + 1)?;
    shape.insert(at, 1);
    let builder = &mut *call.builder;
    let indices = elementwise::convert(builder, &indices, DType::I64)?;
    let indices = builder.reshape(&indices, &shape)?;
    let along = steps(builder, shape.len(), at, depth, 1)?;
    let off = builder.slice(&values, 0, 0, 1, 1)?;
    let on = builder.slice(&values, 0, 1, 1, 1)?;
    let [off, on] = [builder.reshape(&off, &[])?, builder.reshape(&on, &[])?];
    let scalar = values.scalar();
    let mut formula = Formula::new(&[Scalar::I32, Scalar::I32, scalar, scalar]);
    let depth = i32::try_from(depth).map_err(|_| OpError::mismatch("depth", "an i32", depth))?;
    let index = from_front(&mut formula, 0, depth);
    let is_on = formula.bin(Binary::Equal, index, 1);
    formula.select(is_on, 3, 2);
    let inputs = [indices, along, off, on];
    Ok(vec![builder.pointwise(&formula.0, &inputs, values.dtype)?])
}

/// `Hardmax` (ONNX 13): one at the first largest of each row, else zero. Before operator set 13
/// all axes from `axis` on were one.
fn hardmax(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    if x.scalar() != Scalar::F32 {
        return Err(OpError::Type { what: "input 0".to_owned(), given: x.dtype });
    }
    let dims = x.shape();
    let rows = if call.opset < 13 {
        let at = axis(call.int("axis", 1), dims.len())?;
        [dims[..at].iter().product(), dims[at..].iter().product(), 1]
    } else {
        let at = axis(call.int("axis", -1), dims.len())?;
        [dims[..at].iter().product(), dims[at], dims[at + 1..].iter().product()]
    };
    if x.layout.elements() == 0 {
        return Ok(vec![x]);
    }
    let flat = call.builder.reshape(&x, &rows)?;
    let first = reduce::Op::ArgMax { last: false };
    let largest = super::reduce::over(call.builder, first, &flat, &[1], true, DType::I64)?;
    let along = steps(call.builder, 3, 1, rows[1], 1)?;
    let mut formula = Formula::new(&[Scalar::I32, Scalar::I32]);
    let is_largest = formula.bin(Binary::Equal, 0, 1);
    formula.cast(Scalar::F32, is_largest);
    let result = call.builder.pointwise(&formula.0, &[largest, along], x.dtype)?;
    Ok(vec![call.builder.reshape(&result, &dims)?])
}

/// `ReverseSequence` (ONNX 10): the first elements of each sequence of a batch, backwards.
fn reverse_sequence(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, lengths) = (call.input(0)?, call.input(1)?);
    let dims = x.shape();
    let batch = axis(call.int("batch_axis", 1), dims.len())?;
    let time = axis(call.int("time_axis", 0), dims.len())?;
    if batch == time || lengths.shape() != [dims[batch]] {
        let expected = format!("{} lengths, and axes that differ", dims[batch]);
        let given = format!("{}, axes {batch} and {time}", Shape::from(lengths.shape()));
        return Err(OpError::mismatch("sequence_lens", expected, given));
    }
    expect_ints("sequence_lens", &lengths)?;
    let mut perm = vec![batch, time];
    perm.extend((0..dims.len()).filter(|&at| at != batch && at != time));
    let moved = Builder::transpose(&x, &perm);
    let shape = moved.shape();
    let (count, len) = (dims[batch], dims[time]);
    let builder = &mut *call.builder;
    let lengths = builder.reshape(&lengths, &[count, 1])?;
    let step = steps(builder, 2, 1, len, 1)?;
    let mut formula = Formula::new(&[Scalar::I32, Scalar::I32]);
    let most = formula.int(i32::try_from(len).unwrap_or(i32::MAX));
    let length = formula.bin(Binary::Min, 0, most);
    let is_inside = formula.bin(Binary::Less, 1, length);
    let one = formula.int(1);
    let last = formula.sub(length, one);
    let mirrored = formula.sub(last, 1);
    formula.select(is_inside, mirrored, 1);
    let source = builder.pointwise(&formula.0, &[lengths, step], DType::I64)?;
    let row = steps(builder, 2, 0, count, 1)?;
    let positions = flat(builder, &[(row, count), (source, len)])?;
    let rows = builder.reshape(&moved, &[1, count * len, shape[2..].iter().product()])?;
    let taken = take(builder, &rows, &positions)?;
    let taken = builder.reshape(&taken, &shape)?;
    let mut back = vec![0; perm.len()];
    for (place, &at) in perm.iter().enumerate() {
        back[at] = place;
    }
    Ok(vec![Builder::transpose(&taken, &back)])
}
