//! Depthwise convolutions with channels side by side: every load brings four channels, and what
//! one tap reads serves those beside it.

use super::NAME;
use super::last::{Spec, window};
use crate::compose::Composer;
use crate::gemm::Shape;
use crate::kernel::{Caps, Dispatch, Needs, Scalar, Unsupported, check_turns};

/// Pixels of one invocation in a row.
const PIXELS: u32 = 4;

/// Four channels of a pixel of x that one invocation holds, at most. On llvmpipe registers spill
/// to where a load costs a tenth of one from a buffer; hardware hides loads behind other work.
const REACH_MAX: [u32; 2] = [84, 40];

/// Lays a row-major `[taps, channels]` matrix out in rows of whole vec4, padded with zeros.
///
/// # Panics
/// Where `weights` has not `taps * channels` elements.
pub fn pack(weights: &[f32], taps: u32, channels: u32) -> Vec<f32> {
    let (taps, channels) = (taps as usize, channels as usize);
    assert_eq!(weights.len(), taps * channels, "a matrix has taps * channels elements");
    let width = channels.next_multiple_of(4);
    let mut packed = vec![0.0; taps * width];
    for (row, values) in packed.chunks_exact_mut(width.max(1)).zip(weights.chunks(channels.max(1)))
    {
        row[..values.len()].copy_from_slice(values);
    }
    packed
}

/// What was packed.
pub(super) fn unpacked(packed: &[f32], taps: u32, channels: u32) -> Vec<f32> {
    let (taps, channels) = (taps as usize, channels as usize);
    let width = channels.next_multiple_of(4);
    (0..taps).flat_map(|row| &packed[row * width..row * width + channels]).copied().collect()
}

pub(super) fn variants(
    spec: &Spec,
    shape: Shape,
    caps: &Caps,
) -> Result<Vec<Dispatch>, Unsupported> {
    if spec.channels_in != spec.channels_out {
        let (channels_in, channels_out) = (spec.channels_in, spec.channels_out);
        let reason = format!("{channels_in} channels to {channels_out}, one for each");
        return Err(Unsupported::new(NAME, reason));
    }
    let mut found = Vec::with_capacity(2);
    if let Some(rows) = rows(spec, caps) {
        found.push(compose(spec, shape, Some(rows), caps)?);
    }
    match check_turns(NAME, &spec.windows.kernel, caps) {
        Err(error) if found.is_empty() => return Err(error),
        Err(_) => {}
        Ok(()) => found.push(compose(spec, shape, None, caps)?),
    }
    Ok(found)
}

/// The pixels of x that `rows` rows of output reach over: down and along.
fn reach(spec: &Spec, rows: u32) -> [u32; 2] {
    let along = |count: u32, axis: usize| {
        (count - 1)
            .saturating_mul(spec.windows.strides[axis])
            .saturating_add(spec.windows.kernel[axis])
    };
    [along(rows, 0), along(PIXELS, 1)]
}

/// The rows of one invocation, where registers hold all that it reads.
fn rows(spec: &Spec, caps: &Caps) -> Option<u32> {
    let most = REACH_MAX[usize::from(!caps.software)];
    let fits = |rows: u32| {
        let [tall, wide] = reach(spec, rows);
        spec.windows.dilations == [1, 1] && tall.saturating_mul(wide) <= most
    };
    // A tile that is taller than the image would do for nobody.
    [4, 2, 1].into_iter().find(|&rows| fits(rows) && (rows == 1 || rows <= spec.windows.output[0]))
}

/// With all that `rows` rows of output read in registers, or tap by tap.
fn compose(
    spec: &Spec,
    shape: Shape,
    in_registers: Option<u32>,
    caps: &Caps,
) -> Result<Dispatch, Unsupported> {
    let lanes = if caps.software { 8 } else { 64 };
    let rows = in_registers.unwrap_or(1);
    let bands = u64::from(spec.batch) * u64::from(spec.windows.output[0].div_ceil(rows));
    let strips = bands * u64::from(spec.windows.output[1].div_ceil(PIXELS));
    let total = strips.saturating_mul(u64::from(shape.n.div_ceil(4)));
    let ([lines, columns], [down, along]) = (spec.windows.kernel, spec.windows.strides);
    let (entry, variant) = if in_registers.is_some() {
        let window = format!("{lines}x{columns} by {down}x{along}");
        ("depthwise_in_registers", format!("depthwise{lanes} {window}, {rows}x{PIXELS}"))
    } else {
        ("depthwise_by_taps", format!("depthwise{lanes} any"))
    };
    let mut composer = Composer::new(NAME, variant);
    composer.source(include_str!("depthwise.wgsl"));
    composer.constant("PIXELS", PIXELS).constant("LANES", lanes).constant("ROWS", rows);
    if in_registers.is_some() {
        let [tall, wide] = reach(spec, rows);
        composer.constant("TALL", tall).constant("WIDE", wide);
        composer.constant("LINES", lines).constant("COLUMNS", columns);
        composer.constant("DOWN", down).constant("ALONG", along);
    }
    composer.u32("m", shape.m).u32("n", shape.n);
    composer.u32("kernel_h", lines).u32("out_h", spec.windows.output[0]).u32("images", spec.batch);
    // What lies behind the last strip is divided too, and every pixel.
    let pixels = u64::from(shape.batch[0]) * u64::from(shape.m);
    let largest = total.max(pixels.saturating_mul(2)) + u64::from(lanes);
    let largest = u32::try_from(largest).unwrap_or(u32::MAX);
    window(&mut composer, spec, largest);
    composer.read_fours("b", Scalar::F32);
    crate::operands::epilogue(&mut composer, shape.n, &spec.result, &spec.epilogue, false)?;
    composer.finish(entry, lanes, total.div_ceil(u64::from(lanes)), Needs::default(), caps)
}
