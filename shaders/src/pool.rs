//! `out[p, z, y, x, i] = max, its place, mean or norm over the window of in[p, …, i]`.
//!
//! Source: `MaxPool`, `AveragePool`, `LpPool` (ONNX 22).

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::expr::Value;
use crate::kernel::{Caps, Dispatch, Needs, Scalar, Unsupported, check_turns};

const NAME: &str = "pool";

/// Which pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `MaxPool` (ONNX 22); a window without elements gives `lowest`.
    Max {
        /// The type of x and the output: `F32` or `I32`.
        scalar: Scalar,
        /// The bits of the result of a window that lies in the padding.
        lowest: u32,
    },
    /// The second output of `MaxPool` (ONNX 22): where in x the first largest element lies, as
    /// `I32`, counted through all planes; -1 for a window without elements.
    MaxPlace {
        /// The type of x: `F32` or `I32`.
        scalar: Scalar,
        /// Whether places in one plane are counted with the first axis fastest (`storage_order`).
        column_major: bool,
    },
    /// `AveragePool` (ONNX 22).
    Average {
        /// Whether padding counts in the divisor.
        count_include_pad: bool,
    },
    /// `LpPool` (ONNX 22): the p-th root of the sum of p-th powers.
    Lp {
        /// At least 1.
        p: u32,
    },
}

impl Kind {
    /// The largest of floats.
    pub const MAX_F32: Self = Self::Max { scalar: Scalar::F32, lowest: 0xff80_0000 };

    const fn input(self) -> Scalar {
        match self {
            Self::Max { scalar, .. } | Self::MaxPlace { scalar, .. } => scalar,
            Self::Average { .. } | Self::Lp { .. } => Scalar::F32,
        }
    }

    const fn output(self) -> Scalar {
        match self {
            Self::MaxPlace { .. } => Scalar::I32,
            _ => self.input(),
        }
    }

    /// What plan listings say, and the functions that start, merge and finish.
    const fn hooks(self) -> (&'static str, [&'static str; 3]) {
        match self {
            Self::Max { scalar: Scalar::F32, .. } => {
                ("max", ["start_lowest_f32", "merge_max_f32", "finish_as_it_is"])
            }
            Self::Max { .. } => {
                ("max of i32", ["start_lowest_i32", "merge_max_i32", "finish_as_it_is"])
            }
            Self::MaxPlace { scalar: Scalar::F32, .. } => {
                ("place of max", ["start_best", "merge_best", "finish_place"])
            }
            Self::MaxPlace { .. } => {
                ("place of max of i32", ["start_best", "merge_best", "finish_place"])
            }
            Self::Average { count_include_pad: false } => {
                ("average", ["start_sum", "merge_sum", "finish_inside"])
            }
            Self::Average { count_include_pad: true } => {
                ("average with padding", ["start_sum", "merge_sum", "finish_padded"])
            }
            Self::Lp { p: 1 } => ("l1", ["start_sum", "merge_abs", "finish_as_it_is"]),
            Self::Lp { p: 2 } => ("l2", ["start_sum", "merge_square", "finish_root"]),
            Self::Lp { .. } => ("lp", ["start_sum", "merge_power", "finish_power"]),
        }
    }
}

/// What to compute over planes `[planes, d, h, w, inner]`; a missing axis has size 1.
///
/// Bindings: x `[planes, d, h, w, inner]`, the output. Triples are (depth, height, width).
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Which pooling.
    pub kind: Kind,
    /// Batch entries, times channels where they come before the window's axes.
    pub planes: u32,
    /// Channels, where they come after; no place is found there.
    pub inner: u32,
    /// The size of x.
    pub input: [u32; 3],
    /// The size of the output; `ceil_mode` shows only here.
    pub output: [u32; 3],
    /// The size of the window.
    pub kernel: [u32; 3],
    /// Steps of the window.
    pub strides: [u32; 3],
    /// Padding before x.
    pub pads_begin: [u32; 3],
    /// Padding after x: what a window covers beyond it is never counted.
    pub pads_end: [u32; 3],
    /// Steps inside the window.
    pub dilations: [u32; 3],
}

impl Spec {
    /// How far places are apart along each axis of a plane.
    fn places(&self, column_major: bool) -> [u32; 3] {
        let [d, h, w] = self.input;
        if column_major { [1, d, d.wrapping_mul(h)] } else { [h.wrapping_mul(w), w, 1] }
    }
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter, or x has a type that it does not compare.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let (input, output) = (spec.kind.input(), spec.kind.output());
    if input == Scalar::U32 {
        return Err(Unsupported::new(NAME, "the largest of u32"));
    }
    if spec.inner != 1 && matches!(spec.kind, Kind::MaxPlace { .. }) {
        return Err(Unsupported::new(NAME, "places where channels come last"));
    }
    check_turns(NAME, &spec.kernel, caps)?;
    let (variant, hooks) = spec.kind.hooks();
    let is_flat = [spec.input, spec.output, spec.kernel].iter().all(|sizes| sizes[0] == 1);
    let axes = if is_flat { "2d" } else { "3d" };
    let last = if spec.inner == 1 { "" } else { ", channels last" };
    let mut composer = Composer::new(NAME, format!("{variant}, {axes}{last}"));
    composer.constant("FLAT", is_flat.into()).constant("LAST", (spec.inner != 1).into());
    composer.source(include_str!("pool.wgsl")).source(crate::expr::LIBRARY);
    composer.text(&format!("alias Elem = {};\n", input.wgsl()));
    for (name, with) in ["start", "merge", "finish"].into_iter().zip(hooks) {
        composer.hook(name, with);
    }
    let total = spec.output.iter().map(|&size| u64::from(size));
    let total = total.fold(u64::from(spec.planes), u64::saturating_mul);
    let total = total.saturating_mul(u64::from(spec.inner));
    let count = u32::try_from(total)
        .map_err(|_| Unsupported::new(NAME, format!("{total} elements are too many")))?;
    composer.u32("count", count).u32("inner", spec.inner.max(1));
    let triples = [
        ("in", spec.input),
        ("out", spec.output),
        ("kernel", spec.kernel),
        ("stride", spec.strides),
        ("pad", spec.pads_begin),
        ("end", spec.pads_end),
        ("dilation", spec.dilations),
    ];
    let mut triple = |name: &str, sizes: [u32; 3]| {
        for (axis, size) in ["d", "h", "w"].into_iter().zip(sizes) {
            composer.u32(format!("{name}_{axis}"), size);
        }
    };
    for (name, sizes) in triples {
        triple(name, sizes);
    }
    match spec.kind {
        Kind::Max { lowest, .. } => {
            composer.u32("lowest", lowest);
        }
        Kind::MaxPlace { column_major, .. } => triple("place", spec.places(column_major)),
        Kind::Lp { p } => {
            composer.f32("p", p as f32);
        }
        Kind::Average { .. } => {}
    }
    composer.read("x", input.wgsl()).write("result", output.wgsl()).constant("WIDTH", 64);
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

/// Every combination of three numbers below `sizes`, the last fastest.
pub(crate) fn cells(sizes: [u32; 3]) -> impl Iterator<Item = [u32; 3]> {
    (0..sizes[0])
        .flat_map(move |z| (0..sizes[1]).flat_map(move |y| (0..sizes[2]).map(move |x| [z, y, x])))
}

/// What the output holds.
///
/// # Panics
/// Where the input is not that of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let x = inputs[0];
    let size: u32 = spec.input.iter().product();
    let mut out = Vec::new();
    for plane in 0..spec.planes {
        let cells_of = |corner| (0..spec.inner).map(move |channel| (corner, channel));
        for (corner, channel) in cells(spec.output).flat_map(cells_of) {
            let (mut found, mut padded) = (Vec::new(), 0usize);
            for tap in cells(spec.kernel) {
                let at: Vec<i64> = (0..3)
                    .map(|axis| {
                        i64::from(corner[axis]) * i64::from(spec.strides[axis])
                            - i64::from(spec.pads_begin[axis])
                            + i64::from(tap[axis]) * i64::from(spec.dilations[axis])
                    })
                    .collect();
                let below = |end: [u32; 3]| {
                    (0..3).all(|axis| at[axis] < i64::from(spec.input[axis] + end[axis]))
                };
                if at.iter().all(|&at| at >= 0) && below([0; 3]) {
                    let place = (at[0] * i64::from(spec.input[1]) + at[1])
                        * i64::from(spec.input[2])
                        + at[2];
                    let cell = plane as usize * size as usize + place as usize;
                    let value = x.at(cell * spec.inner as usize + channel as usize);
                    found.push((value, [0, 1, 2].map(|axis| at[axis] as u32)));
                }
                padded += usize::from(below(spec.pads_end));
            }
            out.push(pooled(spec, plane * size, &found, padded));
        }
    }
    Data::collect(spec.kind.output(), out.into_iter())
}

fn pooled(spec: &Spec, plane: u32, found: &[(Value, [u32; 3])], padded: usize) -> Value {
    let float = |value: &(Value, [u32; 3])| match value.0 {
        Value::F32(value) => f64::from(value),
        Value::I32(value) => f64::from(value),
        Value::U32(value) => f64::from(value),
    };
    let sum = |term: &dyn Fn(f64) -> f64| found.iter().map(|value| term(float(value))).sum::<f64>();
    let mean = |count: usize| Value::F32((sum(&|value| value) / count.max(1) as f64) as f32);
    let mut largest: Option<&(Value, [u32; 3])> = None;
    for value in found {
        if largest.is_none_or(|best| float(value) > float(best)) {
            largest = Some(value);
        }
    }
    match spec.kind {
        Kind::Max { scalar: Scalar::F32, lowest } => {
            Value::F32(largest.map_or(f32::from_bits(lowest), |best| float(best) as f32))
        }
        Kind::Max { lowest, .. } => {
            Value::I32(largest.map_or(lowest.cast_signed(), |best| float(best) as i32))
        }
        Kind::MaxPlace { column_major, .. } => Value::I32(largest.map_or(-1, |(_, at)| {
            let steps = spec.places(column_major);
            (plane + (0..3).map(|axis| at[axis] * steps[axis]).sum::<u32>()).cast_signed()
        })),
        Kind::Average { count_include_pad: true } => mean(padded),
        Kind::Average { .. } => mean(found.len()),
        Kind::Lp { p } => {
            let p = f64::from(p);
            Value::F32(sum(&|value| value.abs().powf(p)).powf(1.0 / p) as f32)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    fn spec(kind: Kind) -> Spec {
        Spec {
            kind,
            planes: 1,
            inner: 1,
            input: [1, 2, 3],
            output: [1, 2, 2],
            kernel: [1, 2, 2],
            strides: [1, 1, 2],
            pads_begin: [0; 3],
            pads_end: [0, 1, 1],
            dilations: [1; 3],
        }
    }

    #[test]
    fn reference_matches_a_table() {
        let x = [Data::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])];
        let given = |kind| reference(&spec(kind), &x);
        assert_eq!(given(Kind::MAX_F32).f32(), [5.0, 6.0, 5.0, 6.0]);
        let inside = Kind::Average { count_include_pad: false };
        assert_eq!(given(inside).f32(), [3.0, 4.5, 4.5, 6.0]);
        let padded = Kind::Average { count_include_pad: true };
        assert_eq!(given(padded).f32(), [3.0, 2.25, 2.25, 1.5]);
        assert_eq!(given(Kind::Lp { p: 1 }).f32(), [12.0, 9.0, 9.0, 6.0]);
        assert_eq!(given(Kind::Lp { p: 2 }).f32()[3], 6.0);
        let place = |column_major| Kind::MaxPlace { scalar: Scalar::F32, column_major };
        assert_eq!(given(place(false)).i32(), [4, 5, 4, 5]);
        assert_eq!(given(place(true)).i32(), [3, 5, 3, 5]);
    }

    #[test]
    fn channels_may_come_last() {
        let spec = Spec { inner: 2, kernel: [1, 1, 2], ..spec(Kind::MAX_F32) };
        let x = [Data::F32(vec![1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0, 5.0, 5.0, 6.0, 4.0])];
        let due = [2.0, 9.0, 3.0, 7.0, 5.0, 6.0, 6.0, 4.0];
        assert_eq!(reference(&spec, &x).f32(), due);
        let place = Kind::MaxPlace { scalar: Scalar::F32, column_major: false };
        assert!(dispatch(&Spec { kind: place, ..spec }, &Caps::minimal()).is_err());
    }

    #[test]
    fn depth_is_an_axis_like_the_others() {
        let deep = Spec {
            input: [2, 1, 2],
            output: [1, 1, 1],
            kernel: [2, 1, 2],
            pads_end: [0; 3],
            planes: 2,
            ..spec(Kind::Max { scalar: Scalar::I32, lowest: 0 })
        };
        let x = [Data::I32(vec![-1, -5, -2, -9, 7, 0, 8, 1])];
        assert_eq!(reference(&deep, &x).i32(), [-1, 8]);
    }

    #[test]
    fn software_adapters_take_no_more_turns_than_they_count() {
        let wide = Spec { kernel: [1, 300, 300], ..spec(Kind::MAX_F32) };
        assert!(dispatch(&wide, &Caps::minimal()).is_ok());
        let software = Caps { software: true, ..Caps::minimal() };
        let error = dispatch(&wide, &software).unwrap_err().to_string();
        assert!(error.contains("90905 steps"), "{error}");
    }

    #[test]
    fn every_variant_is_valid() {
        for kind in [
            Kind::MAX_F32,
            Kind::Max { scalar: Scalar::I32, lowest: 0 },
            Kind::MaxPlace { scalar: Scalar::F32, column_major: false },
            Kind::MaxPlace { scalar: Scalar::I32, column_major: true },
            Kind::Average { count_include_pad: false },
            Kind::Average { count_include_pad: true },
            Kind::Lp { p: 1 },
            Kind::Lp { p: 2 },
            Kind::Lp { p: 3 },
        ] {
            check::variants(|caps| variants(&spec(kind), caps));
            let deep = Spec { input: [2, 2, 3], ..spec(kind) };
            check::variants(|caps| variants(&deep, caps));
        }
    }
}
