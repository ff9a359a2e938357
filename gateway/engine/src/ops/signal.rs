//! Fourier transforms, as products with a matrix of waves, and the windows that go with them.

use std::f64::consts::TAU;

use gw_shaders::expr::Binary;
use gw_tensor::{DType, Tensor};

use super::gather::take;
use super::{Call, Table, axis, elementwise, matmul, sizes};
use crate::error::OpError;
use crate::net::Operand;
use crate::net::builder::Builder;
use crate::net::fold::{self, Number};

pub(super) const OPS: Table = &[
    ("BlackmanWindow", window),
    ("DFT", dft),
    ("HammingWindow", window),
    ("HannWindow", window),
    ("MelWeightMatrix", mel_weight_matrix),
    ("STFT", stft),
];

/// Elements of a matrix of waves: 64 MiB. A transform of 2048 complex numbers is within.
const WAVES_MAX: usize = 1 << 24;

/// Elements of a window, positions of frames.
const STEPS_MAX: usize = 1 << 22;

/// What a transform does with the `len` elements of an axis.
#[derive(Clone, Copy)]
struct Transform {
    /// The length of the period; a shorter signal is continued with zeros, a longer one cut.
    length: usize,
    inverse: bool,
    /// Of a real signal only the first half of the spectrum, and back.
    onesided: bool,
}

/// `DFT` (ONNX 17 and 20): x `[.., 1 or 2]`, real or complex.
fn dft(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let dims = x.shape();
    let number = if call.opset < 20 {
        call.int("axis", 1)
    } else {
        call.optional_ints(2)?.and_then(|given| given.first().copied()).unwrap_or(-2)
    };
    let at = axis(number, dims.len())?;
    if at + 1 == dims.len() {
        return Err(OpError::mismatch("axis", "not that of the real and imaginary parts", number));
    }
    let (inverse, onesided) = (call.flag("inverse", false), call.flag("onesided", false));
    let given = call.optional_ints(1)?;
    let length = match given.as_deref().and_then(<[i64]>::first) {
        Some(&length) => sizes(&[length])?[0],
        None if inverse && onesided => 2 * dims[at].saturating_sub(1),
        None => dims[at],
    };
    let [outer, inner] =
        [dims[..at].iter().product(), dims[at + 1..dims.len() - 1].iter().product()];
    let rows = call.builder.reshape(&x, &[outer, dims[at], inner, dims[dims.len() - 1]])?;
    let transform = Transform { length, inverse, onesided };
    let result = transformed(call.builder, &rows, transform)?;
    let mut target = dims.clone();
    target[at] = result.shape()[1];
    target[dims.len() - 1] = result.shape()[3];
    Ok(vec![call.builder.reshape(&result, &target)?])
}

/// x `[outer, len, inner, parts]` to `[outer, bins, inner, parts]`.
fn transformed(
    builder: &mut Builder,
    x: &Operand,
    transform: Transform,
) -> Result<Operand, OpError> {
    let dims = x.shape();
    if !x.dtype.is_float() {
        return Err(OpError::Type { what: "input 0".to_owned(), given: x.dtype });
    }
    if !matches!(dims[3], 1 | 2) || transform.length == 0 {
        let given = format!("{} parts, a length of {}", dims[3], transform.length);
        return Err(OpError::mismatch("input 0", "1 or 2 parts, a length above 0", given));
    }
    let half = transform.length / 2 + 1;
    let back = transform.inverse && transform.onesided;
    let used = dims[1].min(if back { half } else { transform.length });
    let bins = if transform.onesided && !back { half } else { transform.length };
    let parts = if back { 1 } else { 2 };
    let waves = waves(builder, transform, [used, dims[3]], [bins, parts])?;
    let x = builder.slice(x, 1, 0, 1, used)?;
    let x = Builder::transpose(&x, &[0, 2, 1, 3]);
    let x = builder.reshape(&x, &[dims[0] * dims[2], used * dims[3]])?;
    let result = matmul::product(builder, &x, &waves)?;
    let result = builder.reshape(&result, &[dims[0], dims[2], bins, parts])?;
    Ok(Builder::transpose(&result, &[0, 2, 1, 3]))
}

/// The matrix `[used * parts, bins * parts]` of a transform.
#[expect(clippy::cast_possible_truncation, reason = "the angle is a remainder of the length")]
fn waves(
    builder: &mut Builder,
    transform: Transform,
    [used, parts_in]: [usize; 2],
    [bins, parts]: [usize; 2],
) -> Result<Operand, OpError> {
    let shape = [used * parts_in, bins.saturating_mul(parts)];
    if shape[0].saturating_mul(shape[1]) > WAVES_MAX || transform.length > WAVES_MAX {
        let what = "the waves of a transform".to_owned();
        return Err(OpError::TooLarge { what, shape: shape.as_slice().into(), limit: WAVES_MAX });
    }
    let length = transform.length;
    let back = transform.inverse && transform.onesided;
    let turn = |step: usize| TAU * step as f64 / length as f64;
    let table: Vec<(f64, f64)> =
        (0..length).map(|step| (turn(step).cos(), turn(step).sin())).collect();
    let sign = if transform.inverse { -1.0 } else { 1.0 };
    let scale = if transform.inverse { 1.0 / length as f64 } else { 1.0 };
    let mut values = Vec::with_capacity(shape[0] * shape[1]);
    for (step, part) in (0..used).flat_map(|step| (0..parts_in).map(move |part| (step, part))) {
        // The half of the spectrum that is left out mirrors the one that is there.
        let is_alone = step == 0 || 2 * step == length;
        let weight = scale * if back && !is_alone { 2.0 } else { 1.0 };
        for bin in 0..bins {
            let angle = (step as u128 * bin as u128 % length as u128) as usize;
            let (cos, sin) = (weight * table[angle].0, weight * sign * table[angle].1);
            let pair = if part == 0 { [cos, -sin] } else { [sin, cos] };
            values.extend(pair[..parts].iter().map(|&value| value as f32));
        }
    }
    // Whatever the type of the signal: a device computes in single precision.
    let tensor = Tensor::from_slice(shape.as_slice(), &values)?;
    Ok(builder.constant(tensor))
}

/// `STFT` (ONNX 17): x `[batch, len, 1 or 2]` to `[batch, frames, bins, 2]`.
fn stft(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let mut dims = x.shape();
    if dims.len() == 2 {
        dims.push(1);
    }
    super::expect_rank("input 0", &dims, 3)?;
    let step = call.known_ints(1)?;
    let step = sizes(step.get(..1).unwrap_or(&[]))?.first().copied().filter(|&step| step > 0);
    let step = step.ok_or_else(|| OpError::mismatch("frame_step", "at least 1", "less"))?;
    let window = call.optional(2);
    let given = call.optional_ints(3)?.and_then(|given| given.first().copied());
    let length = match (given, &window) {
        (Some(given), _) => sizes(&[given])?[0],
        (None, Some(window)) => window.layout.elements(),
        (None, None) => dims[1],
    };
    if length == 0 || length > dims[1] {
        let expected = format!("at most the {} of the signal", dims[1]);
        return Err(OpError::mismatch("frame_length", expected, length));
    }
    let frames = 1 + (dims[1] - length) / step;
    if frames.saturating_mul(length) > STEPS_MAX {
        let shape = [frames, length].as_slice().into();
        return Err(OpError::TooLarge { what: "the frames".to_owned(), shape, limit: STEPS_MAX });
    }
    let place = |index: usize| index / length * step + index % length;
    let places: Vec<i64> =
        (0..frames * length).map(|index| i64::try_from(place(index)).unwrap_or(0)).collect();
    let builder = &mut *call.builder;
    let places = builder.ints(&[places.len()], &places)?;
    let x = builder.reshape(&x, &dims)?;
    let framed = take(builder, &x, &places)?;
    let mut framed = builder.reshape(&framed, &[dims[0] * frames, length, 1, dims[2]])?;
    if let Some(window) = window {
        let window = builder.reshape(&window, &[1, length, 1, 1])?;
        framed = elementwise::apply(builder, Binary::Mul, &framed, &window)?;
    }
    let onesided = call.flag("onesided", true);
    let transform = Transform { length, inverse: false, onesided };
    let result = transformed(call.builder, &framed, transform)?;
    let bins = result.shape()[1];
    Ok(vec![call.builder.reshape(&result, &[dims[0], frames, bins, 2])?])
}

/// `HannWindow`, `HammingWindow`, `BlackmanWindow` (ONNX 17): sums of cosines.
fn window(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let given = call.known_ints(0)?;
    let size = sizes(given.get(..1).unwrap_or(&[]))?.first().copied();
    let size = size.ok_or_else(|| OpError::Missing("the size".to_owned()))?;
    if size > STEPS_MAX {
        return Err(OpError::mismatch("size", format!("at most {STEPS_MAX}"), size));
    }
    let period = if call.flag("periodic", true) { size } else { size.saturating_sub(1) };
    let [a, b, c] = match call.node.op.as_str() {
        "HannWindow" => [0.5, 0.5, 0.0],
        "HammingWindow" => [25.0 / 46.0, 21.0 / 46.0, 0.0],
        _ => [0.42, 0.5, 0.08],
    };
    let value = |step: usize| {
        let angle = TAU * step as f64 / period as f64;
        // A symmetric window of one element is its own middle.
        let value = a - b * angle.cos() + c * (2.0 * angle).cos();
        Number::Float(if period == 0 { 1.0 } else { value })
    };
    let values: Vec<Number> = (0..size).map(value).collect();
    made(call, &[size], &values)
}

fn made(call: &mut Call<'_>, shape: &[usize], values: &[Number]) -> Result<Vec<Operand>, OpError> {
    let dtype = call.dtype("output_datatype")?.unwrap_or(DType::F32);
    let tensor: Option<Tensor> = fold::tensor(dtype, shape, values);
    let tensor = tensor.ok_or(OpError::Type { what: "output 0".to_owned(), given: dtype })?;
    Ok(vec![call.builder.constant(tensor)])
}

/// `MelWeightMatrix` (ONNX 17): triangles that are evenly spaced on the mel scale, as
/// `[spectrogram bins, mel bins]`.
#[expect(clippy::cast_possible_truncation, reason = "bins beyond the spectrum are refused")]
fn mel_weight_matrix(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let mut given = [0.0; 5];
    for (index, value) in given.iter_mut().enumerate() {
        let input = call.input(index)?;
        let numbers = call.builder.numbers(&input, &format!("input {index}"))?;
        let first = numbers.first().ok_or_else(|| OpError::Missing(format!("input {index}")))?;
        *value = first.float();
    }
    let [bands, length, rate, low, high] = given;
    let counts = sizes(&[bands as i64, length as i64])?;
    let (bands, bins) = (counts[0], counts[1] / 2 + 1);
    if bands.saturating_mul(bins) > STEPS_MAX || bands > STEPS_MAX {
        let shape = [bins, bands].as_slice().into();
        return Err(OpError::TooLarge { what: "the matrix".to_owned(), shape, limit: STEPS_MAX });
    }
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let step = (mel(high) - mel(low)) / (bands + 2) as f64;
    let bin = |place: usize| {
        let hertz = 700.0 * (10f64.powf((place as f64 * step + mel(low)) / 2595.0) - 1.0);
        let bin = ((length + 1.0) * hertz / rate).floor();
        let inside = bin >= 0.0 && bin < bins as f64;
        let wrong = || OpError::mismatch("an edge", format!("within {bins} bins"), bin);
        if inside { sizes(&[bin as i64]).map(|bins| bins[0]) } else { Err(wrong()) }
    };
    let mut values = vec![Number::Float(0.0); bins * bands];
    for band in 0..bands {
        let (first, middle, last) = (bin(band)?, bin(band + 1)?, bin(band + 2)?);
        if first > middle || middle > last {
            return Err(OpError::mismatch("the edges", "in ascending order", high));
        }
        for row in first..=middle {
            let rise = (row - first) as f64 / (middle - first).max(1) as f64;
            let rise = if first == middle { 1.0 } else { rise };
            values[row * bands + band] = Number::Float(rise);
        }
        for row in middle..last {
            let fall = (last - row) as f64 / (last - middle) as f64;
            values[row * bands + band] = Number::Float(fall);
        }
    }
    made(call, &[bins, bands], &values)
}
