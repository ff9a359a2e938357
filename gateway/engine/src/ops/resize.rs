//! Interpolation to another size, axis by axis: tables of places and weights are made here.
//!
//! Coordinates are computed in `f32`, step by step as ONNX Runtime does, because a nearest
//! neighbour depends on the last bit of them.

use gw_shaders::expr::{Binary, Unary};
use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Shape};

use super::{Call, Table, axes, axis, sizes};
use crate::error::OpError;
use crate::net::builder::{Builder, check_size};
use crate::net::fold::Number;
use crate::net::formula::Formula;
use crate::net::{Kind, Operand};

mod table;

use table::{Coordinates, Interpolation, Nearest, Rule};

pub(super) const OPS: Table = &[("Resize", resize), ("Upsample", upsample)];

/// `Upsample` (ONNX 7, 9): scales of at least one, from the top left corner.
fn upsample(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let scales = match call.floats("scales") {
        Some(scales) => scales,
        None => floats(call, 1)?.ok_or_else(|| OpError::Missing("scales".to_owned()))?,
    };
    let mode = interpolation(call, Nearest::Floor)?;
    let rule = Rule { mode, coordinates: Coordinates::Asymmetric, exclude_outside: false };
    let all: Vec<usize> = (0..x.shape().len()).collect();
    let targets = scaled(&x.shape(), &all, &scales, &[])?;
    apply(call, &x, &rule, &targets)
}

/// `Resize` (ONNX 10, 11, 13, 18, 19).
fn resize(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let dims = x.shape();
    if call.opset < 11 {
        let scales = floats(call, 1)?.ok_or_else(|| OpError::Missing("scales".to_owned()))?;
        let mode = interpolation(call, Nearest::Simple)?;
        let rule = Rule { mode, coordinates: Coordinates::Asymmetric, exclude_outside: false };
        let all: Vec<usize> = (0..dims.len()).collect();
        return apply(call, &x, &rule, &scaled(&dims, &all, &scales, &[])?);
    }
    let coordinates = coordinates(call)?;
    let named = match call.ints("axes") {
        Some(numbers) => {
            axes(&numbers, dims.len())?;
            numbers.iter().map(|&number| axis(number, dims.len())).collect::<Result<_, _>>()?
        }
        None => (0..dims.len()).collect::<Vec<_>>(),
    };
    let mut roi = Vec::new();
    if coordinates == Coordinates::CropAndResize {
        roi = floats(call, 1)?.ok_or_else(|| OpError::Missing("roi".to_owned()))?;
        if roi.len() != 2 * named.len() {
            let expected = format!("{} numbers", 2 * named.len());
            return Err(OpError::mismatch("roi", expected, roi.len()));
        }
    }
    let scales = floats(call, 2)?.filter(|scales| !scales.is_empty());
    let given = match call.optional(3).filter(|sizes| sizes.layout.elements() > 0) {
        Some(_) => Some(sizes(&call.known_ints(3)?)?),
        None => None,
    };
    let targets = match (scales, given) {
        (Some(scales), None) => scaled(&dims, &named, &scales, &roi)?,
        (None, Some(given)) => sized(call, &dims, &named, &given, &roi)?,
        (None, None) => return Err(OpError::Missing("scales or sizes".to_owned())),
        (Some(_), Some(_)) => {
            return Err(OpError::mismatch("input 3", "scales or sizes", "both"));
        }
    };
    let nearest = nearest(call)?;
    let mode = interpolation(call, nearest)?;
    let exclude_outside = call.flag("exclude_outside", false);
    apply(call, &x, &Rule { mode, coordinates, exclude_outside }, &targets)
}

fn floats(call: &mut Call<'_>, index: usize) -> Result<Option<Vec<f32>>, OpError> {
    let Some(input) = call.optional(index) else { return Ok(None) };
    let numbers = call.builder.numbers(&input, &format!("input {index}"))?;
    #[expect(clippy::cast_possible_truncation, reason = "they are single in the model")]
    let narrow = |number: Number| number.float() as f32;
    Ok(Some(numbers.into_iter().map(narrow).collect()))
}

fn interpolation(call: &Call<'_>, nearest: Nearest) -> Result<Interpolation, OpError> {
    let antialias = call.flag("antialias", false);
    match call.text("mode", "nearest").as_str() {
        "nearest" if antialias => Err(OpError::Unsupported("antialias of `nearest`".to_owned())),
        "nearest" => Ok(Interpolation::Nearest(nearest)),
        "linear" | "bilinear" => Ok(Interpolation::Linear { antialias }),
        "cubic" => Ok(Interpolation::Cubic { a: call.float("cubic_coeff_a", -0.75), antialias }),
        other => Err(OpError::Unsupported(format!("mode `{other}`"))),
    }
}

fn nearest(call: &Call<'_>) -> Result<Nearest, OpError> {
    match call.text("nearest_mode", "round_prefer_floor").as_str() {
        "round_prefer_floor" => Ok(Nearest::RoundPreferFloor),
        "round_prefer_ceil" => Ok(Nearest::RoundPreferCeil),
        "floor" => Ok(Nearest::Floor),
        "ceil" => Ok(Nearest::Ceil),
        other => Err(OpError::Unsupported(format!("nearest_mode `{other}`"))),
    }
}

fn coordinates(call: &Call<'_>) -> Result<Coordinates, OpError> {
    let given = call.text("coordinate_transformation_mode", "half_pixel");
    Ok(match given.as_str() {
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "tf_half_pixel_for_nn" => Coordinates::TfHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        "tf_crop_and_resize" => Coordinates::CropAndResize,
        other => {
            let what = format!("coordinate_transformation_mode `{other}`");
            return Err(OpError::Unsupported(what));
        }
    })
}

/// What one axis becomes.
#[derive(Clone, Copy, Debug)]
struct Target {
    axis: usize,
    resized: table::Axis,
}

fn target(
    dims: &[usize],
    named: &[usize],
    index: usize,
    roi: &[f32],
    resized: (usize, f32, f32),
) -> Target {
    let axis = named[index];
    let (output, scale, length) = resized;
    let roi = match roi.get(named.len() + index) {
        Some(&end) => [roi[index], end],
        None => [0.0, 1.0],
    };
    Target { axis, resized: table::Axis { input: dims[axis], output, scale, length, roi } }
}

/// Sizes from scales, as shape inference of ONNX rounds them.
fn scaled(
    dims: &[usize],
    named: &[usize],
    scales: &[f32],
    roi: &[f32],
) -> Result<Vec<Target>, OpError> {
    if scales.len() != named.len() {
        return Err(OpError::mismatch("scales", format!("{} numbers", named.len()), scales.len()));
    }
    let mut targets = Vec::with_capacity(named.len());
    for (index, &scale) in scales.iter().enumerate() {
        // Not more than a tensor can hold, so that what follows is exact.
        if !(scale > 0.0 && scale <= 1e9) {
            return Err(OpError::mismatch("scales", "numbers above 0", scale));
        }
        let length = scale * dims[named[index]] as f32;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is positive, and rounds down"
        )]
        let output = length as usize;
        targets.push(target(dims, named, index, roi, (output, scale, length)));
    }
    Ok(targets)
}

/// Scales from sizes; `keep_aspect_ratio_policy` may change the sizes.
fn sized(
    call: &Call<'_>,
    dims: &[usize],
    named: &[usize],
    sizes: &[usize],
    roi: &[f32],
) -> Result<Vec<Target>, OpError> {
    if sizes.len() != named.len() {
        return Err(OpError::mismatch("sizes", format!("{} numbers", named.len()), sizes.len()));
    }
    let ratio = |index: usize| sizes[index] as f32 / dims[named[index]].max(1) as f32;
    let ratios = (0..sizes.len()).map(ratio);
    let one = match call.text("keep_aspect_ratio_policy", "stretch").as_str() {
        "stretch" => None,
        "not_larger" => ratios.reduce(f32::min),
        "not_smaller" => ratios.reduce(f32::max),
        other => {
            let what = format!("keep_aspect_ratio_policy `{other}`");
            return Err(OpError::Unsupported(what));
        }
    };
    let resized = |index: usize| match one {
        None => (sizes[index], ratio(index), sizes[index] as f32),
        Some(scale) => {
            let length = scale * dims[named[index]] as f32;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "halves round up, and a cast saturates"
            )]
            let output = (length + 0.5) as usize;
            (output, scale, length)
        }
    };
    Ok((0..sizes.len()).map(|index| target(dims, named, index, roi, resized(index))).collect())
}

fn apply(
    call: &mut Call<'_>,
    x: &Operand,
    rule: &Rule,
    targets: &[Target],
) -> Result<Vec<Operand>, OpError> {
    let dtype = x.dtype;
    let mut shape = x.shape();
    for target in targets {
        shape[target.axis] = target.resized.output;
    }
    if check_size(&shape)? == 0 {
        return Ok(vec![call.builder.empty(&shape, dtype)?]);
    }
    if x.layout.elements() == 0 {
        let given = Shape::from(x.shape());
        return Err(OpError::mismatch("input 0", "elements to interpolate", given));
    }
    let is_nearest = matches!(rule.mode, Interpolation::Nearest(_));
    let mut result = if is_nearest { x.clone() } else { call.builder.as_float(x)? };
    // Axes that shrink come first: what is left to do is less.
    let mut ordered: Vec<&Target> =
        targets.iter().filter(|target| !rule.keeps(&target.resized)).collect();
    ordered.sort_by(|a, b| a.resized.scale.total_cmp(&b.resized.scale));
    for target in &ordered {
        result = along(call.builder, &result, rule, target)?;
    }
    if !is_nearest {
        result = back(call.builder, &result, dtype)?;
    }
    if rule.coordinates == Coordinates::CropAndResize {
        let value = call.float("extrapolation_value", 0.0);
        for target in &ordered {
            result = extrapolated(call.builder, &result, target, value)?;
        }
    }
    Ok(vec![result])
}

/// One axis.
fn along(
    builder: &mut Builder,
    x: &Operand,
    rule: &Rule,
    target: &Target,
) -> Result<Operand, OpError> {
    let mut shape = x.shape();
    let at = target.axis;
    let flat = [
        shape[..at].iter().product::<usize>(),
        shape[at],
        shape[at + 1..].iter().product::<usize>(),
    ];
    shape[at] = target.resized.output;
    if target.resized.output > table::PLACES_MAX {
        let (given, most) = (target.resized.output, table::PLACES_MAX);
        return Err(OpError::mismatch("a resized axis", format!("at most {most}"), given));
    }
    let rows = builder.reshape(x, &flat)?;
    let result = if let Interpolation::Nearest(mode) = rule.mode {
        picked(builder, &rows, &table::nearest(&target.resized, rule.coordinates, mode))?
    } else {
        let table = table::weighted(&target.resized, rule)?;
        let count = target.resized.output;
        let places = builder.ints(&[count, table.taps], &table.places)?;
        let weights = gw_tensor::Tensor::from_slice([count, table.taps], &table.weights)?;
        let weights = builder.constant(weights);
        let inputs = vec![rows, places, weights];
        builder.emit(Kind::Resample, inputs, &[flat[0], count, flat[2]], x.dtype)?
    };
    builder.reshape(&result, &shape)
}

/// `x [outer, axis, inner]` at `places`; where each place is repeated equally often it is a view.
fn picked(builder: &mut Builder, x: &Operand, places: &[i64]) -> Result<Operand, OpError> {
    let run = places.iter().take_while(|place| **place == places[0]).count();
    let is_even = places.len().is_multiple_of(run)
        && places.chunks(run).all(|chunk| chunk.iter().all(|place| *place == chunk[0]));
    let (kept, run) = if is_even {
        (places.iter().step_by(run).copied().collect(), run)
    } else {
        (places.to_vec(), 1)
    };
    let indices = builder.ints(&[kept.len()], &kept)?;
    let taken = super::gather::take(builder, x, &indices)?;
    let [outer, count, inner] = [x.shape()[0], kept.len(), x.shape()[2]];
    let apart = builder.reshape(&taken, &[outer, count, 1, inner])?;
    let repeated = builder.expand(&apart, &[outer, count, run, inner])?;
    builder.reshape(&repeated, &[outer, count * run, inner])
}

/// Floats as `dtype`: integers are rounded to the nearest and saturate.
fn back(builder: &mut Builder, x: &Operand, dtype: DType) -> Result<Operand, OpError> {
    let (low, high) = match dtype {
        DType::F32 | DType::F16 | DType::Bf16 | DType::F64 => {
            return Ok(Builder::retyped(x, dtype));
        }
        DType::I8 => (-128.0, 127.0),
        DType::U8 => (0.0, 255.0),
        DType::I32 | DType::I64 => (f32::MIN, f32::MAX),
        other => return Err(OpError::Type { what: "input 0".to_owned(), given: other }),
    };
    let mut formula = Formula::floats(1);
    let low = formula.c(low);
    let high = formula.c(high);
    let above = formula.bin(Binary::Max, 0, low);
    let within = formula.bin(Binary::Min, above, high);
    let rounded = formula.un(Unary::Round, within);
    formula.cast(Scalar::I32, rounded);
    builder.pointwise(&formula.0, std::slice::from_ref(x), dtype)
}

/// `value` where the axis was read outside of x.
fn extrapolated(
    builder: &mut Builder,
    x: &Operand,
    target: &Target,
    value: f32,
) -> Result<Operand, OpError> {
    let inside = table::inside(&target.resized);
    if inside.iter().all(|&inside| inside) {
        return Ok(x.clone());
    }
    let mut shape = vec![1; x.shape().len()];
    shape[target.axis] = inside.len();
    let inside: Vec<i64> = inside.into_iter().map(i64::from).collect();
    let inside = builder.ints(&shape, &inside)?;
    let mut formula = Formula::new(&[x.scalar(), Scalar::I32]);
    let zero = formula.int(0);
    let is_inside = formula.bin(Binary::Greater, 1, zero);
    let value = formula.0.constant(x.scalar(), value.into());
    formula.select(is_inside, 0, value);
    builder.pointwise(&formula.0, &[x.clone(), inside], x.dtype)
}
