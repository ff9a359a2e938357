//! `out[r, c, y, x] = mean or max over the samples of bin (y, x) of region r in in[b(r), c, …]`.
//!
//! Source: `RoiAlign` (ONNX 10, 16, 22), `MaxRoiPool` (ONNX 1, 22).

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::kernel::{Caps, Dispatch, Needs, Unsupported, check_turns};

const NAME: &str = "roi";

/// What a bin becomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `RoiAlign`: points between elements. Regions are (x1, y1, x2, y2).
    Align {
        /// The largest weighted neighbour instead of the mean of sums of neighbours.
        max: bool,
        /// Points along each axis of a bin; 0 for as many as a bin has elements.
        ratio: u32,
        /// Regions are shifted by half an element, and may be smaller than one.
        half_pixel: bool,
    },
    /// `MaxRoiPool`: whole elements. Regions are (batch entry, x1, y1, x2, y2).
    Pool,
}

/// What to compute.
///
/// Bindings: data `[batch, channels, h, w]`, rois `[rois, 4]` or, for [`Kind::Pool`], `[rois, 5]`,
/// the batch entry of each region `[rois]` (`I32`; not for [`Kind::Pool`]), the output
/// `[rois, channels, h, w]`. A region of a batch entry that does not exist gives zeros. Pairs are
/// (height, width).
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// What a bin becomes.
    pub kind: Kind,
    /// Batch entries of the data.
    pub batch: u32,
    /// Channels.
    pub channels: u32,
    /// The size of a plane.
    pub input: [u32; 2],
    /// The number of regions.
    pub rois: u32,
    /// Bins.
    pub output: [u32; 2],
    /// Elements for one unit of a region.
    pub scale: f32,
}

/// Points along an axis of a bin, at most.
const RATIO_MAX: u32 = 1 << 12;

/// Where a bin has as many points as elements, at most this many more than the plane has elements
/// along an axis lie near the plane: points are then hardly less than an element apart.
const NEAR: u32 = 8;

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let total = [spec.rois, spec.channels, spec.output[0], spec.output[1]];
    let total = total.iter().fold(1u64, |product, &size| product.saturating_mul(size.into()));
    let count = u32::try_from(total)
        .map_err(|_| Unsupported::new(NAME, format!("{total} elements are too many")))?;
    let (entry, variant) = match spec.kind {
        Kind::Align { max: false, .. } => ("roi_align", "mean of points"),
        Kind::Align { .. } => ("roi_align", "max of points"),
        Kind::Pool => ("roi_pool", "max of elements"),
    };
    let turns = spec.input.map(|size| match spec.kind {
        Kind::Align { ratio: 0, .. } => size.saturating_add(NEAR),
        Kind::Align { ratio, .. } => ratio,
        Kind::Pool => size,
    });
    check_turns(NAME, &turns, caps)?;
    let mut composer = Composer::new(NAME, variant);
    composer.source(include_str!("roi.wgsl")).constant("WIDTH", 64).constant("NEAR", NEAR);
    composer.u32("count", count).u32("batch", spec.batch).u32("channels", spec.channels);
    composer.u32("in_h", spec.input[0]).u32("in_w", spec.input[1]);
    composer.u32("out_h", spec.output[0]).u32("out_w", spec.output[1]).f32("scale", spec.scale);
    composer.read("data", "f32").read("rois", "f32");
    if let Kind::Align { max, ratio, half_pixel } = spec.kind {
        if ratio > RATIO_MAX {
            return Err(Unsupported::new(NAME, format!("{ratio} samples, {RATIO_MAX} at most")));
        }
        let (merge, finish) =
            if max { ("merge_max", "finish_max") } else { ("merge_sum", "finish_mean") };
        composer.hook("merge", merge).hook("finish", finish).u32("ratio", ratio);
        let (shift, least) = if half_pixel { (0.5, f32::MIN) } else { (0.0, 1.0) };
        composer.f32("shift", shift).f32("least", least);
        composer.read("batches", "i32");
    }
    composer.write("result", "f32");
    Ok(vec![composer.finish(entry, 64, total.div_ceil(64), Needs::default(), caps)?])
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

/// What the output holds.
///
/// # Panics
/// Where the inputs are not those of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let (data, rois) = (inputs[0].f32(), inputs[1].f32());
    let size = (spec.input[0] * spec.input[1]) as usize;
    let mut out = Vec::new();
    for roi in 0..spec.rois as usize {
        let (batch, corners) = match spec.kind {
            Kind::Align { .. } => (inputs[2].i32()[roi], &rois[roi * 4..roi * 4 + 4]),
            Kind::Pool => (rois[roi * 5] as i32, &rois[roi * 5 + 1..roi * 5 + 5]),
        };
        for channel in 0..spec.channels {
            let known = u32::try_from(batch).ok().filter(|&batch| batch < spec.batch);
            let plane = known.map(|batch| (batch * spec.channels + channel) as usize * size);
            for (y, x) in (0..spec.output[0]).flat_map(|y| (0..spec.output[1]).map(move |x| (y, x)))
            {
                let plane = plane.map(|at| &data[at..at + size]);
                out.push(plane.map_or(0.0, |plane| bin(spec, plane, corners, [y, x])));
            }
        }
    }
    Data::F32(out)
}

fn bin(spec: &Spec, plane: &[f32], corners: &[f32], at: [u32; 2]) -> f32 {
    let along = |axis: usize| (corners[1 - axis], corners[3 - axis]);
    let Kind::Align { max, ratio, half_pixel } = spec.kind else {
        let covered = |axis: usize| {
            let (low, high) = along(axis);
            let start = (low * spec.scale).round();
            let extent = ((high * spec.scale).round() - start + 1.0).max(1.0);
            let size = extent / spec.output[axis] as f32;
            let end = spec.input[axis] as f32;
            let first = ((at[axis] as f32 * size).floor() + start).clamp(0.0, end);
            let last = (((at[axis] + 1) as f32 * size).ceil() + start).clamp(0.0, end);
            first as u32..last as u32
        };
        let elements = covered(0).flat_map(|y| covered(1).map(move |x| y * spec.input[1] + x));
        return elements.map(|place| plane[place as usize]).reduce(f32::max).unwrap_or(0.0);
    };
    let points = |axis: usize| -> Vec<f32> {
        let (low, high) = along(axis);
        let shift = if half_pixel { 0.5 } else { 0.0 };
        let start = low * spec.scale - shift;
        let extent = high * spec.scale - shift - start;
        let extent = if half_pixel { extent } else { extent.max(1.0) };
        let size = extent / spec.output[axis] as f32;
        let count = if ratio > 0 { ratio as f32 } else { size.ceil() };
        let step = size / count;
        let first = start + at[axis] as f32 * size;
        (0..count.max(0.0) as u32).map(|point| first + (point as f32 + 0.5) * step).collect()
    };
    let (rows, columns) = (points(0), points(1));
    let mut terms = Vec::new();
    for &y in &rows {
        for &x in &columns {
            terms.push(neighbours(spec, plane, y, x));
        }
    }
    if max {
        let largest = |four: &[f32; 4]| four.iter().copied().fold(f32::MIN, f32::max);
        terms.iter().map(largest).reduce(f32::max).unwrap_or(0.0)
    } else {
        let sum: f64 = terms.iter().flatten().map(|&value| f64::from(value)).sum();
        (sum / terms.len().max(1) as f64) as f32
    }
}

/// The four weighted neighbours of a point.
fn neighbours(spec: &Spec, plane: &[f32], y: f32, x: f32) -> [f32; 4] {
    let [height, width] = spec.input;
    if !(-1.0..=height as f32).contains(&y) || !(-1.0..=width as f32).contains(&x) {
        return [0.0; 4];
    }
    let pair = |at: f32, size: u32| {
        let at = at.clamp(0.0, size as f32 - 1.0);
        let low = at as u32;
        (low, (low + 1).min(size - 1), at - low as f32)
    };
    let (top, bottom, down) = pair(y, height);
    let (left, right, across) = pair(x, width);
    let value = |y: u32, x: u32| plane[(y * width + x) as usize];
    [
        (1.0 - down) * (1.0 - across) * value(top, left),
        (1.0 - down) * across * value(top, right),
        down * (1.0 - across) * value(bottom, left),
        down * across * value(bottom, right),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    fn spec(kind: Kind) -> Spec {
        let (input, output) = ([2, 4], [1, 2]);
        Spec { kind, batch: 1, channels: 1, input, rois: 1, output, scale: 0.5 }
    }

    #[test]
    fn reference_matches_a_table() {
        let data = Data::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let align = Kind::Align { max: false, ratio: 1, half_pixel: false };
        // Four columns and two rows of elements, in two bins: points at (1, 1) and (1, 3).
        let rois = Data::F32(vec![0.0, 0.0, 8.0, 4.0]);
        let given = |kind, batch: i32| {
            let batches = Data::I32(vec![batch]);
            reference(&spec(kind), &[data.clone(), rois.clone(), batches])
        };
        assert_eq!(given(align, 0).f32(), [6.0, 8.0]);
        assert_eq!(given(align, 1).f32(), [0.0, 0.0]);
        let most = Kind::Align { max: true, ratio: 1, half_pixel: true };
        // Points at (0.5, 0.5) and (0.5, 2.5): a quarter of the largest neighbour.
        assert_eq!(given(most, 0).f32(), [1.5, 2.0]);
        // Elements 0 to 3 of the rows, of the columns 0 to 1 and 2 to 3.
        let rois = Data::F32(vec![0.0, 0.0, 0.0, 6.0, 0.0]);
        assert_eq!(reference(&spec(Kind::Pool), &[data, rois]).f32(), [2.0, 4.0]);
    }

    #[test]
    fn every_variant_is_valid() {
        let align = |max| Kind::Align { max, ratio: 0, half_pixel: true };
        for kind in [align(false), align(true), Kind::Pool] {
            check::variants(|caps| variants(&spec(kind), caps));
        }
    }
}
