//! Elements added at the ends of axes, or cut off them.

use gw_shaders::expr::Expr;
use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Shape};

use super::{Call, Table, axes, axis, sizes};
use crate::error::OpError;
use crate::net::builder::{Builder, check_size};
use crate::net::fold::{self, Number};
use crate::net::formula::Formula;
use crate::net::{Kind, Operand, scalar};

pub(super) const OPS: Table = &[("CenterCropPad", center), ("Pad", pad)];

/// Constants up to this size are padded before the run.
const FOLD_MAX: usize = 1 << 12;

/// Places along one axis that are written out for the modes that repeat elements.
const PLACES_MAX: usize = 1 << 24;

/// What new elements hold.
pub(super) enum Fill {
    Number(f64),
    /// One element of the type of x, known only during the run.
    Value(Operand),
}

/// `Pad` (ONNX 2, 11, 13, 18, 19, 21, 23, 24).
fn pad(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let mut x = call.input(0)?;
    let rank = x.shape().len();
    let pads = call.ints_or_input("pads", 1)?.ok_or_else(|| OpError::Missing("pads".to_owned()))?;
    let given = match call.optional_ints(3)? {
        Some(numbers) => {
            axes(&numbers, rank)?;
            numbers.iter().map(|&number| axis(number, rank)).collect::<Result<Vec<_>, _>>()?
        }
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * given.len() {
        return Err(OpError::mismatch("pads", format!("{} numbers", 2 * given.len()), pads.len()));
    }
    let mode = call.text("mode", "constant");
    let (begins, ends) = pads.split_at(given.len());
    // Negative pads cut; what remains to be done is then at least 0.
    let mut add = vec![[0usize; 2]; rank];
    for ((&at, &begin), &end) in given.iter().zip(begins).zip(ends) {
        let size = x.shape()[at];
        let cut = |pad: i64| usize::try_from(pad.min(0).unsigned_abs()).unwrap_or(usize::MAX);
        let count = size.checked_sub(cut(begin)).and_then(|left| left.checked_sub(cut(end)));
        let count = count.ok_or_else(|| OpError::mismatch("pads", "within the axis", begin))?;
        x = call.builder.slice(&x, at, cut(begin), 1, count)?;
        let grow = |pad: i64| usize::try_from(pad.max(0)).unwrap_or(usize::MAX);
        add[at] = [grow(begin), grow(end)];
    }
    if mode == "constant" {
        let fill = fill(call, &x)?;
        return Ok(vec![constant(call.builder, &x, &add, &fill)?]);
    }
    for (at, &ends) in add.iter().enumerate() {
        x = repeating(call.builder, &x, at, ends, &mode)?;
    }
    Ok(vec![x])
}

fn fill(call: &mut Call<'_>, x: &Operand) -> Result<Fill, OpError> {
    let Some(value) = call.optional(2).filter(|value| value.layout.elements() > 0) else {
        return Ok(Fill::Number(call.float("value", 0.0).into()));
    };
    if value.dtype != x.dtype {
        return Err(OpError::Type { what: "the padding value".to_owned(), given: value.dtype });
    }
    if call.builder.net.is_constant(&value) {
        let numbers = call.builder.numbers(&value, "the padding value")?;
        // Wider integers than a device holds fit no other place either.
        return match numbers.first() {
            Some(Number::Int(wide))
                if i32::try_from(*wide).is_err() && x.scalar() != Scalar::F32 =>
            {
                Err(OpError::mismatch("the padding value", "an integer of 32 bits", wide))
            }
            first => Ok(Fill::Number(first.map_or(0.0, |number| number.float()))),
        };
    }
    Ok(Fill::Value(call.builder.reshape(&value, &[])?))
}

/// `x` with `add` elements before and after each axis.
pub(super) fn constant(
    builder: &mut Builder,
    x: &Operand,
    add: &[[usize; 2]],
    fill: &Fill,
) -> Result<Operand, OpError> {
    if add.iter().all(|pads| *pads == [0, 0]) {
        return Ok(x.clone());
    }
    let grown =
        |(size, pads): (usize, &[usize; 2])| size.saturating_add(pads[0]).saturating_add(pads[1]);
    let shape: Vec<usize> = x.shape().into_iter().zip(add).map(grown).collect();
    let elements = check_size(&shape)?;
    if let Fill::Number(value) = fill
        && elements <= FOLD_MAX
        && builder.net.is_constant(x)
    {
        return constant_parts(builder, x, add, *value);
    }
    let whole = filled(builder, &shape, x.dtype, fill)?;
    if elements == 0 {
        return Ok(whole);
    }
    let mut middle = whole.clone();
    for (at, (&[begin, _], size)) in add.iter().zip(x.shape()).enumerate() {
        middle = builder.slice(&middle, at, begin, 1, size)?;
    }
    if x.layout.elements() > 0 {
        let copy = Expr::identity(x.scalar());
        builder.push(Kind::Pointwise(copy), vec![x.clone()], middle);
    }
    Ok(whole)
}

/// A tensor that holds one value everywhere, until other nodes write to it.
pub(super) fn filled(
    builder: &mut Builder,
    shape: &[usize],
    dtype: DType,
    fill: &Fill,
) -> Result<Operand, OpError> {
    let whole = builder.empty(shape, dtype)?;
    if whole.layout.elements() > 0 {
        write(builder, &whole, fill)?;
    }
    Ok(whole)
}

fn write(builder: &mut Builder, whole: &Operand, fill: &Fill) -> Result<(), OpError> {
    let (expr, inputs) = match fill {
        Fill::Number(value) => {
            let mut formula = Formula::new(&[]);
            formula.0.constant(scalar(whole.dtype), *value);
            (formula.0, Vec::new())
        }
        Fill::Value(value) => {
            (Expr::identity(value.scalar()), vec![builder.expand(value, &whole.shape())?])
        }
    };
    builder.push(Kind::Pointwise(expr), inputs, whole.clone());
    Ok(())
}

/// The same of a constant: its parts are constants, and joining them makes one.
fn constant_parts(
    builder: &mut Builder,
    x: &Operand,
    add: &[[usize; 2]],
    value: f64,
) -> Result<Operand, OpError> {
    let number = match x.scalar() {
        Scalar::F32 => Number::Float(value),
        #[expect(clippy::cast_possible_truncation, reason = "it was made of an integer")]
        Scalar::I32 | Scalar::U32 => Number::Int(value as i64),
    };
    let one = fold::tensor(x.dtype, &[], &[number]);
    let one = one.ok_or(OpError::Type { what: "input 0".to_owned(), given: x.dtype })?;
    let one = builder.constant(one);
    let mut x = x.clone();
    for (at, &[begin, end]) in add.iter().enumerate() {
        let mut shape = x.shape();
        let mut part = |builder: &mut Builder, count: usize| {
            shape[at] = count;
            builder.expand(&one, &shape)
        };
        let parts = [part(builder, begin)?, x.clone(), part(builder, end)?];
        x = builder.concat(&parts, at)?;
    }
    Ok(x)
}

/// One axis that goes on with its own elements, as `mode` says.
fn repeating(
    builder: &mut Builder,
    x: &Operand,
    at: usize,
    [begin, end]: [usize; 2],
    mode: &str,
) -> Result<Operand, OpError> {
    let mut shape = x.shape();
    let size = shape[at];
    let place: fn(i64, i64) -> i64 = match mode {
        "edge" => |place, size| place.clamp(0, size - 1),
        "wrap" => i64::rem_euclid,
        // There and back again without the ends twice; one element is repeated.
        "reflect" => |place, size| {
            let period = (2 * (size - 1)).max(1);
            let place = place.rem_euclid(period);
            place.min(period - place).min(size - 1)
        },
        other => return Err(OpError::Unsupported(format!("mode `{other}`"))),
    };
    if begin == 0 && end == 0 {
        return Ok(x.clone());
    }
    shape[at] = size.saturating_add(begin).saturating_add(end);
    if check_size(&shape)? == 0 {
        return builder.empty(&shape, x.dtype);
    }
    if size == 0 {
        return Err(OpError::mismatch("input 0", "elements to repeat", Shape::from(x.shape())));
    }
    if shape[at] > PLACES_MAX {
        let given = format!("{} elements", shape[at]);
        return Err(OpError::mismatch("pads", format!("at most {PLACES_MAX} in all"), given));
    }
    let wide = |value: usize| i64::try_from(value).expect("the axis was checked to be short");
    let places = (0..wide(shape[at])).map(|index| place(index - wide(begin), wide(size)));
    let places: Vec<i64> = places.collect();
    let indices = builder.ints(&[places.len()], &places)?;
    let outer = shape[..at].iter().product();
    let inner = shape[at + 1..].iter().product();
    let rows = builder.reshape(x, &[outer, size, inner])?;
    let taken = super::gather::take(builder, &rows, &indices)?;
    builder.reshape(&taken, &shape)
}

/// `CenterCropPad` (ONNX 18): the middle of each axis, or zeros around it.
fn center(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let mut x = call.input(0)?;
    let rank = x.shape().len();
    let wanted = sizes(&call.known_ints(1)?)?;
    let given = match call.ints("axes") {
        Some(numbers) => {
            axes(&numbers, rank)?;
            numbers.iter().map(|&number| axis(number, rank)).collect::<Result<Vec<_>, _>>()?
        }
        None => (0..rank).collect(),
    };
    if wanted.len() != given.len() {
        return Err(OpError::mismatch("shape", format!("{} sizes", given.len()), wanted.len()));
    }
    let mut add = vec![[0; 2]; rank];
    for (&at, &wanted) in given.iter().zip(&wanted) {
        let size = x.shape()[at];
        if wanted < size {
            x = call.builder.slice(&x, at, (size - wanted) / 2, 1, wanted)?;
        } else {
            let more = wanted - size;
            add[at] = [more / 2, more - more / 2];
        }
    }
    Ok(vec![constant(call.builder, &x, &add, &Fill::Number(0.0))?])
}
