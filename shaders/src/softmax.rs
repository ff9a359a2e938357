//! `out = exp(x - max) / sum(exp(x - max))` along one axis, or its logarithm.
//!
//! Source: `Softmax`, `LogSoftmax` (ONNX 13).

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::kernel::{Caps, Dispatch, Unsupported};
use crate::lanes::Lanes;

const NAME: &str = "softmax";

/// What to compute over the middle axis of `[outer, len, inner]`.
///
/// Bindings: x, the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The axes before.
    pub outer: u32,
    /// The axis.
    pub len: u32,
    /// The axes after.
    pub inner: u32,
    /// The logarithm of the softmax.
    pub log: bool,
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    // The largest value, the sum, the shares.
    let ways = Lanes::ways_of_floats(NAME, 3 * u64::from(spec.len), caps)?;
    ways.into_iter().map(|lanes| compose(spec, lanes, caps)).collect()
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

fn compose(spec: &Spec, lanes: Lanes, caps: &Caps) -> Result<Dispatch, Unsupported> {
    let form = if spec.log { "log, " } else { "" };
    let mut composer = Composer::new(NAME, format!("{form}{}", lanes.name()));
    composer.source(include_str!("softmax.wgsl"));
    lanes.declare(&mut composer);
    composer.u32("len", spec.len).u32("inner", spec.inner);
    composer.read("x", "f32").write("result", "f32");
    composer.hook("share_of", if spec.log { "share_log" } else { "share_plain" });
    let rows = if spec.len == 0 { 0 } else { u64::from(spec.outer) * u64::from(spec.inner) };
    lanes.finish(composer, "softmax_row", rows, caps)
}

/// What the output holds.
///
/// # Panics
/// Where the input is not that of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let x = inputs[0].f32();
    let (len, inner) = (spec.len as usize, spec.inner as usize);
    let mut out = vec![0.0; x.len()];
    for row in 0..spec.outer as usize * inner {
        let at = |i: usize| row / inner * len * inner + row % inner + i * inner;
        let top = (0..len).map(|i| f64::from(x[at(i)])).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = (0..len).map(|i| (f64::from(x[at(i)]) - top).exp()).sum();
        for i in 0..len {
            let off = f64::from(x[at(i)]) - top;
            out[at(i)] = (if spec.log { off - sum.ln() } else { off.exp() / sum }) as f32;
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
        let spec = Spec { outer: 1, len: 2, inner: 2, log: false };
        let ln3 = 3.0f32.ln();
        let out = reference(&spec, &[Data::F32(vec![0.0, 100.0, ln3, 100.0])]);
        check::close(out.f32(), &[0.25, 0.5, 0.75, 0.5], 1e-6);
        let out = reference(&Spec { log: true, ..spec }, &[Data::F32(vec![0.0, 1.0, ln3, 1.0])]);
        check::close(out.f32(), &[0.25f32.ln(), 0.5f32.ln(), 0.75f32.ln(), 0.5f32.ln()], 1e-6);
    }

    #[test]
    fn every_variant_is_valid() {
        for log in [false, true] {
            check::variants(|caps| variants(&Spec { outer: 3, len: 5, inner: 7, log }, caps));
        }
    }
}
