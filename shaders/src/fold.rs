//! `out[p, y] = sum over windows i and taps t of in[p, t, i] where i * stride + t * dilation -
//! pad = y`.
//!
//! The opposite of taking windows: what they hold is added where they lie. Source: `Col2Im`
//! (ONNX 18); with a matrix product before it, `ConvTranspose` (ONNX 22).

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::kernel::{Caps, Dispatch, Needs, Unsupported, check_turns};
use crate::pool::cells;

const NAME: &str = "fold";

/// What to compute; a missing axis has size 1.
///
/// Bindings: x `[planes, taps of the window, windows]`, where taps and windows are three axes
/// each, the output `[planes, d, h, w]`. Triples are (depth, height, width).
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Batch entries times channels.
    pub planes: u32,
    /// The number of windows.
    pub windows: [u32; 3],
    /// The size of the output.
    pub output: [u32; 3],
    /// The size of the window.
    pub kernel: [u32; 3],
    /// Steps of the window.
    pub strides: [u32; 3],
    /// What windows cover before the output.
    pub pads: [u32; 3],
    /// Steps inside the window.
    pub dilations: [u32; 3],
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter, or a stride is 0.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    if spec.strides.contains(&0) {
        return Err(Unsupported::new(NAME, "a stride of 0"));
    }
    check_turns(NAME, &spec.kernel, caps)?;
    let product = |factors: &[u32]| {
        let factors = factors.iter().map(|&size| u64::from(size));
        factors.fold(u64::from(spec.planes), u64::saturating_mul)
    };
    let read = product(&[spec.windows, spec.kernel].concat());
    let total = product(&spec.output);
    let too_many = |count: u64| Unsupported::new(NAME, format!("{count} elements are too many"));
    u32::try_from(read).map_err(|_| too_many(read))?;
    let count = u32::try_from(total).map_err(|_| too_many(total))?;
    let mut composer = Composer::new(NAME, "direct");
    composer.source(include_str!("fold.wgsl")).u32("count", count);
    let triples = [
        ("in", spec.windows),
        ("out", spec.output),
        ("kernel", spec.kernel),
        ("stride", spec.strides),
        ("pad", spec.pads),
        ("dilation", spec.dilations),
    ];
    for (name, sizes) in triples {
        for (axis, size) in ["d", "h", "w"].into_iter().zip(sizes) {
            composer.u32(format!("{name}_{axis}"), size);
        }
    }
    composer.read("x", "f32").write("result", "f32").constant("WIDTH", 64);
    let groups = total.div_ceil(64);
    Ok(vec![composer.finish("fold_element", 64, groups, Needs::default(), caps)?])
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
/// Where the input is not that of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let mut values = inputs[0].f32().iter();
    let size: u32 = spec.output.iter().product();
    let mut out = vec![0.0; (spec.planes * size) as usize];
    for plane in 0..spec.planes {
        for tap in cells(spec.kernel) {
            for window in cells(spec.windows) {
                let value = values.next().expect("the spec says how many there are");
                let place = |axis: usize| {
                    let at = window[axis] * spec.strides[axis] + tap[axis] * spec.dilations[axis];
                    at.checked_sub(spec.pads[axis]).filter(|&at| at < spec.output[axis])
                };
                if let (Some(z), Some(y), Some(x)) = (place(0), place(1), place(2)) {
                    let row = (plane * spec.output[0] + z) * spec.output[1] + y;
                    out[(row * spec.output[2] + x) as usize] += f64::from(*value);
                }
            }
        }
    }
    Data::F32(out.into_iter().map(|sum| sum as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    fn spec() -> Spec {
        Spec {
            planes: 1,
            windows: [1, 1, 3],
            output: [1, 1, 4],
            kernel: [1, 1, 2],
            strides: [1; 3],
            pads: [0; 3],
            dilations: [1; 3],
        }
    }

    #[test]
    fn reference_matches_a_table() {
        let x = [Data::F32(vec![1.0, 2.0, 3.0, 10.0, 20.0, 30.0])];
        assert_eq!(reference(&spec(), &x).f32(), [1.0, 12.0, 23.0, 30.0]);
        let apart = Spec { strides: [1, 1, 2], output: [1, 1, 6], ..spec() };
        assert_eq!(reference(&apart, &x).f32(), [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
        let wide = Spec { dilations: [1, 1, 2], pads: [0, 0, 1], output: [1, 1, 3], ..spec() };
        assert_eq!(reference(&wide, &x).f32(), [2.0, 13.0, 20.0]);
    }

    #[test]
    fn every_variant_is_valid() {
        check::variants(|caps| variants(&spec(), caps));
        let still = Spec { strides: [1, 0, 1], ..spec() };
        assert!(dispatch(&still, &Caps::minimal()).is_err());
    }
}
