//! `out[p, y, x] = max or mean over the window of in[p, …]`.
//!
//! Source: `MaxPool`, `AveragePool` (ONNX 22), and their global forms.

use crate::compose::Composer;
use crate::data::Data;
use crate::kernel::{Caps, Dispatch, Needs, Unsupported};

const NAME: &str = "pool";

/// Which pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `MaxPool` (ONNX 22), values only.
    Max,
    /// `AveragePool` (ONNX 22).
    Average {
        /// Whether padding counts in the divisor.
        count_include_pad: bool,
    },
}

/// What to compute over planes `[planes, h, w]`; one axis is height 1.
///
/// Bindings: x `[planes, h, w]`, the output. Pairs are (height, width).
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Which pooling.
    pub kind: Kind,
    /// Batch entries times channels.
    pub planes: u32,
    /// The size of x.
    pub input: [u32; 2],
    /// The size of the output; `ceil_mode` shows only here.
    pub output: [u32; 2],
    /// The size of the window.
    pub kernel: [u32; 2],
    /// Steps of the window.
    pub strides: [u32; 2],
    /// Padding before x.
    pub pads_begin: [u32; 2],
    /// Padding after x: what a window covers beyond it is never counted.
    pub pads_end: [u32; 2],
    /// Steps inside the window.
    pub dilations: [u32; 2],
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let (variant, hooks) = match spec.kind {
        Kind::Max => ("max", ["start_max", "max_f32", "finish_max"]),
        Kind::Average { count_include_pad: false } => {
            ("average", ["start_sum", "merge_sum", "finish_inside"])
        }
        Kind::Average { count_include_pad: true } => {
            ("average with padding", ["start_sum", "merge_sum", "finish_padded"])
        }
    };
    let mut composer = Composer::new(NAME, variant);
    composer.source(include_str!("pool.wgsl")).source(crate::expr::LIBRARY);
    for (name, with) in ["start", "merge", "finish"].into_iter().zip(hooks) {
        composer.hook(name, with);
    }
    let total = u64::from(spec.planes) * u64::from(spec.output[0]) * u64::from(spec.output[1]);
    let count = u32::try_from(total)
        .map_err(|_| Unsupported::new(NAME, format!("{total} elements are too many")))?;
    composer.u32("count", count);
    let pairs = [
        ("in", spec.input),
        ("out", spec.output),
        ("kernel", spec.kernel),
        ("stride", spec.strides),
        ("pad", spec.pads_begin),
        ("end", spec.pads_end),
        ("dilation", spec.dilations),
    ];
    for (name, [h, w]) in pairs {
        composer.u32(format!("{name}_h"), h).u32(format!("{name}_w"), w);
    }
    composer.read("x", "f32").write("result", "f32").constant("WIDTH", 64);
    let groups = total.div_ceil(64);
    Ok(vec![composer.finish("pool_element", 64, groups, Needs::default(), caps)?])
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
pub fn reference(spec: &Spec, inputs: &[Data]) -> Data {
    let x = inputs[0].f32();
    let [height, width] = spec.input.map(i64::from);
    let mut out = Vec::new();
    for plane in 0..i64::from(spec.planes) {
        for (row, col) in
            (0..spec.output[0]).flat_map(|row| (0..spec.output[1]).map(move |col| (row, col)))
        {
            let (mut values, mut padded) = (Vec::new(), 0usize);
            for (i, j) in (0..spec.kernel[0]).flat_map(|i| (0..spec.kernel[1]).map(move |j| (i, j)))
            {
                let at = |axis: usize, out: u32, step: u32| {
                    i64::from(out) * i64::from(spec.strides[axis])
                        - i64::from(spec.pads_begin[axis])
                        + i64::from(step) * i64::from(spec.dilations[axis])
                };
                let (y, z) = (at(0, row, i), at(1, col, j));
                if (0..height).contains(&y) && (0..width).contains(&z) {
                    let place = (plane * height + y) * width + z;
                    values.push(x[usize::try_from(place).expect("inside the plane")]);
                }
                let end = spec.pads_end.map(i64::from);
                padded += usize::from(y < height + end[0] && z < width + end[1]);
            }
            let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
            let count = |count: usize| count.max(1) as f64;
            out.push(match spec.kind {
                Kind::Max => values.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                Kind::Average { count_include_pad: true } => (sum / count(padded)) as f32,
                Kind::Average { .. } => (sum / count(values.len())) as f32,
            });
        }
    }
    Data::F32(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    fn spec(kind: Kind) -> Spec {
        Spec {
            kind,
            planes: 1,
            input: [2, 3],
            output: [2, 2],
            kernel: [2, 2],
            strides: [1, 2],
            pads_begin: [0, 0],
            pads_end: [1, 1],
            dilations: [1, 1],
        }
    }

    #[test]
    fn reference_matches_a_table() {
        let x = [Data::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])];
        let given = |kind| reference(&spec(kind), &x);
        assert_eq!(given(Kind::Max).f32(), [5.0, 6.0, 5.0, 6.0]);
        let inside = Kind::Average { count_include_pad: false };
        assert_eq!(given(inside).f32(), [3.0, 4.5, 4.5, 6.0]);
        let padded = Kind::Average { count_include_pad: true };
        assert_eq!(given(padded).f32(), [3.0, 2.25, 2.25, 1.5]);
    }

    #[test]
    fn every_variant_is_valid() {
        for kind in [
            Kind::Max,
            Kind::Average { count_include_pad: false },
            Kind::Average { count_include_pad: true },
        ] {
            check::variants(|caps| variants(&spec(kind), caps));
        }
    }
}
