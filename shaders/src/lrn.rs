//! `out = x / (bias + alpha / size * sum over near channels of x²) ^ beta`.
use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::kernel::{Caps, Dispatch, Needs, Unsupported};

const NAME: &str = "lrn";

/// Far above any model, and far below what would overflow an index.
const SIZE_MAX: u32 = 1 << 20;

/// What to compute: `LRN` (ONNX 13) over `[batch, channels, inner]`.
///
/// Bindings: x, the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Batch entries.
    pub batch: u32,
    /// Channels.
    pub channels: u32,
    /// Pixels of one channel.
    pub inner: u32,
    /// The number of channels in the window.
    pub size: u32,
    /// The weight of the sum.
    pub alpha: f32,
    /// The exponent.
    pub beta: f32,
    /// The constant.
    pub bias: f32,
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    if spec.size == 0 || spec.size > SIZE_MAX {
        return Err(Unsupported::new(NAME, format!("a window of {} channels", spec.size)));
    }
    let mut composer = Composer::new(NAME, "f32");
    composer.source(include_str!("lrn.wgsl")).constant("WIDTH", 64);
    let total = u64::from(spec.batch) * u64::from(spec.channels) * u64::from(spec.inner);
    let count = u32::try_from(total)
        .map_err(|_| Unsupported::new(NAME, format!("{total} elements are too many")))?;
    composer.u32("count", count).u32("channels", spec.channels).u32("inner", spec.inner.max(1));
    composer.u32("size", spec.size);
    composer.f32("alpha", spec.alpha).f32("beta", spec.beta).f32("bias", spec.bias);
    composer.read("x", "f32").write("result", "f32");
    let groups = total.div_ceil(64);
    composer.turns(spec.size.into());
    Ok(vec![composer.finish("lrn_element", 64, groups, Needs::default(), caps)?])
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
    let x = inputs[0].f32();
    let (channels, inner, size) = (spec.channels as usize, spec.inner as usize, spec.size as usize);
    let value = |index: usize| {
        let channel = index / inner % channels;
        let base = index - channel * inner;
        let first = channel.saturating_sub((size - 1) / 2);
        let last = (channel + size / 2).min(channels - 1);
        let squares: f64 = (first..=last).map(|c| f64::from(x[base + c * inner]).powi(2)).sum();
        let scale = f64::from(spec.bias) + f64::from(spec.alpha) / size as f64 * squares;
        (f64::from(x[index]) / scale.powf(f64::from(spec.beta))) as f32
    };
    Data::F32((0..x.len()).map(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    const SPEC: Spec =
        Spec { batch: 1, channels: 3, inner: 1, size: 2, alpha: 2.0, beta: 0.5, bias: 0.0 };

    #[test]
    fn reference_matches_a_table() {
        let given = reference(&SPEC, &[Data::F32(vec![3.0, 4.0, 0.0])]);
        // Windows reach one channel ahead: 9 + 16, 16 + 0, 0.
        check::close(&given.f32()[..2], &[0.6, 1.0], 1e-6);
    }

    #[test]
    fn every_variant_is_valid() {
        check::variants(|caps| variants(&SPEC, caps));
    }
}
