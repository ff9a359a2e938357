//! `out[o, j, i] = sum over t of weights[j, t] * x[o, places[j, t], i]`.
//!
//! One axis of a separable interpolation. What lies in the tables decides the mode: linear, cubic,
//! antialiased, cropped. Source: `Resize` (ONNX 19), `Upsample` (ONNX 9).

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::kernel::{Caps, Dispatch, Needs, Unsupported, check_turns};

const NAME: &str = "resample";

/// What to compute.
///
/// Bindings: x `[outer, axis, inner]` (`F32`), places `[count, taps]` (`I32`; one outside the axis
/// adds nothing), weights `[count, taps]` (`F32`), the output `[outer, count, inner]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The axes before.
    pub outer: u32,
    /// The axis that is read at `places`.
    pub axis: u32,
    /// The axes after.
    pub inner: u32,
    /// The size of the axis in the output.
    pub count: u32,
    /// Elements that one element of the output is made of.
    pub taps: u32,
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    check_turns(NAME, &[spec.taps], caps)?;
    let wide = spec.inner.is_multiple_of(4);
    let part = if wide { "vec4<f32>" } else { "f32" };
    let mut composer = Composer::new(NAME, part);
    composer.source(include_str!("resample.wgsl")).text(&format!("alias Part = {part};\n"));
    let parts = if wide { spec.inner / 4 } else { spec.inner };
    let total = u64::from(spec.outer) * u64::from(spec.count) * u64::from(parts);
    let count = u32::try_from(total)
        .map_err(|_| Unsupported::new(NAME, format!("{total} elements are too many")))?;
    composer.u32("count", count).u32("parts", parts).u32("rows", spec.count);
    composer.u32("axis", spec.axis).u32("taps", spec.taps);
    composer.read("x", part).read("places", "i32").read("weights", "f32").write("result", part);
    composer.constant("WIDTH", 64);
    Ok(vec![composer.finish("resample_part", 64, total.div_ceil(64), Needs::default(), caps)?])
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
    let (x, places, weights) = (inputs[0].f32(), inputs[1].i32(), inputs[2].f32());
    let [outer, axis, inner] = [spec.outer, spec.axis, spec.inner].map(|size| size as usize);
    let [count, taps] = [spec.count, spec.taps].map(|size| size as usize);
    let mut out = Vec::with_capacity(outer * count * inner);
    for (before, row) in (0..outer).flat_map(|before| (0..count).map(move |row| (before, row))) {
        for after in 0..inner {
            let mut sum = 0.0;
            for tap in row * taps..(row + 1) * taps {
                if let Some(place) = usize::try_from(places[tap]).ok().filter(|&at| at < axis) {
                    let value = x[(before * axis + place) * inner + after];
                    sum += f64::from(weights[tap]) * f64::from(value);
                }
            }
            out.push(sum as f32);
        }
    }
    Data::F32(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn reference_matches_a_table() {
        let spec = Spec { outer: 2, axis: 2, inner: 1, count: 3, taps: 2 };
        let x = Data::F32(vec![1.0, 3.0, 10.0, 30.0]);
        let places = Data::I32(vec![0, 0, 0, 1, 1, -1]);
        let weights = Data::F32(vec![0.25, 0.75, 0.5, 0.5, 2.0, 9.0]);
        let given = reference(&spec, &[x, places, weights]);
        assert_eq!(given.f32(), [1.0, 2.0, 6.0, 10.0, 20.0, 60.0]);
    }

    #[test]
    fn every_variant_is_valid() {
        for inner in [1, 4, 6] {
            let spec = Spec { outer: 2, axis: 5, inner, count: 3, taps: 2 };
            check::variants(|caps| variants(&spec, caps));
        }
    }
}
