//! `out[p, i] = sum over neighbours t of weight(t) * in[p, place(points[set of p, i], t)]`.
//!
//! Planes read at points that data name. Source: `GridSample` (ONNX 16, 20, 22); with a matrix
//! product after it, `DeformConv` (ONNX 19, 22).

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::kernel::{Caps, Dispatch, Needs, Unsupported};
use crate::pool::cells;

const NAME: &str = "sample";

/// Which neighbours of a point count, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The nearest one; halves go to the even one.
    Nearest,
    /// Two along each axis.
    Linear,
    /// Four along each axis, by Keys' cubic convolution with a = -0.75. A point outside keeps its
    /// place among them, as in `PyTorch` and ONNX Runtime; only the neighbours are moved.
    Cubic,
}

/// What lies outside of a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// Zeros.
    Zeros,
    /// The element at the border.
    Border,
    /// The plane reflected, as often as it takes.
    Reflection,
}

/// What the coordinates of a point count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Units {
    /// -1 and 1 are the centres of the first and the last element (`align_corners`).
    Corners,
    /// -1 and 1 are the outer edges of the first and the last element.
    Halves,
    /// Elements.
    Elements,
}

/// What to compute.
///
/// Bindings: data `[planes, d, h, w]` (a missing axis has size 1), points
/// `[planes / shared, points, axes]` (the innermost axis first), the output `[planes, points]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Which neighbours count.
    pub mode: Mode,
    /// What lies outside.
    pub padding: Padding,
    /// What coordinates count.
    pub units: Units,
    /// Coordinates of a point: 1, 2 or 3, for the innermost axes.
    pub axes: u32,
    /// Batch entries times channels.
    pub planes: u32,
    /// Planes after one another that are read at the same points.
    pub shared: u32,
    /// The number of points of a plane.
    pub points: u32,
    /// The size of a plane: (depth, height, width).
    pub input: [u32; 3],
}

impl Spec {
    /// Neighbours along each axis.
    fn taps(&self) -> [u32; 3] {
        let taps = match self.mode {
            Mode::Nearest => 1,
            Mode::Linear => 2,
            Mode::Cubic => 4,
        };
        [2, 1, 0].map(|axis| if axis < self.axes { taps } else { 1 })
    }

    /// Where the reflected plane begins.
    const fn low(&self) -> f32 {
        if matches!(self.units, Units::Corners) { 0.0 } else { -0.5 }
    }
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    if !(1..=3).contains(&spec.axes) {
        return Err(Unsupported::new(NAME, format!("{} axes", spec.axes)));
    }
    let (mode, moved, place, weight) = match spec.mode {
        Mode::Nearest => ("nearest", "moved_nearest", "place_nearest", "weight_nearest"),
        Mode::Linear => ("linear", "moved_linear", "place_linear", "weight_linear"),
        Mode::Cubic => ("cubic", "moved_cubic", "place_cubic", "weight_cubic"),
    };
    let (outside, padded) = match spec.padding {
        Padding::Zeros => ("zeros", "padded_zeros"),
        Padding::Border => ("border", "padded_border"),
        Padding::Reflection => ("reflection", "padded_reflection"),
    };
    let pixel = match spec.units {
        Units::Corners => "pixel_of_corners",
        Units::Halves => "pixel_of_halves",
        Units::Elements => "pixel_as_it_is",
    };
    let mut composer = Composer::new(NAME, format!("{mode}, {outside}, {}d", spec.axes));
    composer.source(include_str!("sample.wgsl")).hook("pixel", pixel).hook("moved", moved);
    composer.hook("padded", padded).hook("tap_place", place).hook("weight", weight);
    composer.constant("WIDTH", 64).constant("AXES", spec.axes);
    for (name, taps) in ["TAPS_D", "TAPS_H", "TAPS_W"].into_iter().zip(spec.taps()) {
        composer.constant(name, taps);
    }
    let total = u64::from(spec.planes) * u64::from(spec.points);
    let count = u32::try_from(total)
        .map_err(|_| Unsupported::new(NAME, format!("{total} elements are too many")))?;
    composer.u32("count", count).u32("points", spec.points).u32("planes", spec.shared.max(1));
    for (axis, size) in ["in_d", "in_h", "in_w"].into_iter().zip(spec.input) {
        composer.u32(axis, size);
    }
    composer.f32("low", spec.low());
    composer.read("data", "f32").read("points", "f32").write("result", "f32");
    let groups = total.div_ceil(64);
    Ok(vec![composer.finish("sample_point", 64, groups, Needs::default(), caps)?])
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
    let (data, points) = (inputs[0].f32(), inputs[1].f32());
    let size: u32 = spec.input.iter().product();
    let mut out = Vec::new();
    for plane in 0..spec.planes {
        for point in 0..spec.points {
            let base = (plane / spec.shared.max(1) * spec.points + point) * spec.axes;
            let at =
                [2, 1, 0].map(
                    |axis: u32| {
                        if axis < spec.axes { points[(base + axis) as usize] } else { 0.0 }
                    },
                );
            let places = [0, 1, 2].map(|axis| {
                neighbours(spec, at[axis], spec.input[axis], 2 - axis as u32 >= spec.axes)
            });
            let mut sum = 0.0;
            for [z, y, x] in cells(spec.taps()) {
                let taps = [places[0][z as usize], places[1][y as usize], places[2][x as usize]];
                if let [(Some(z), a), (Some(y), b), (Some(x), c)] = taps {
                    let row =
                        (plane * size + z * spec.input[1] * spec.input[2]) + y * spec.input[2];
                    sum += a * b * c * f64::from(data[(row + x) as usize]);
                }
            }
            out.push(sum as f32);
        }
    }
    Data::F32(out)
}

/// Places and weights along one axis.
fn neighbours(spec: &Spec, at: f32, size: u32, is_absent: bool) -> Vec<(Option<u32>, f64)> {
    if is_absent {
        return vec![(Some(0), 1.0)];
    }
    let length = size as f32;
    let at = match spec.units {
        Units::Corners => f32::midpoint(at, 1.0) * (length - 1.0),
        Units::Halves => ((at + 1.0) * length - 1.0) / 2.0,
        Units::Elements => at,
    };
    let at = if spec.mode == Mode::Nearest { at.round_ties_even() } else { at };
    let at = f64::from(at);
    let at = if spec.mode == Mode::Cubic { at } else { padded(spec, at, size) };
    let (first, part) = (at.floor(), at - at.floor());
    let weights = match spec.mode {
        Mode::Nearest => vec![(at, 1.0)],
        Mode::Linear => vec![(first, 1.0 - part), (first + 1.0, part)],
        Mode::Cubic => (-1..=2).map(|tap| (first + f64::from(tap), cubic(part, tap))).collect(),
    };
    weights
        .into_iter()
        .map(|(place, weight)| {
            let place = padded(spec, place, size);
            let inside = place >= 0.0 && place < f64::from(size);
            (inside.then_some(place as u32), weight)
        })
        .collect()
}

fn padded(spec: &Spec, at: f64, size: u32) -> f64 {
    let last = f64::from(size) - 1.0;
    match spec.padding {
        Padding::Zeros => at,
        Padding::Border => at.clamp(0.0, last.max(0.0)),
        Padding::Reflection => {
            let low = f64::from(spec.low());
            let high = last - low;
            if high <= low {
                return 0.0;
            }
            let period = 2.0 * (high - low);
            let inside = (at - low).rem_euclid(period);
            low + inside.min(period - inside)
        }
    }
}

fn cubic(part: f64, tap: i32) -> f64 {
    let (a, x) = (-0.75, (part - f64::from(tap)).abs());
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    fn spec(mode: Mode, padding: Padding) -> Spec {
        Spec {
            mode,
            padding,
            units: Units::Elements,
            axes: 1,
            planes: 1,
            shared: 1,
            points: 4,
            input: [1, 1, 3],
        }
    }

    #[test]
    fn reference_matches_a_table() {
        let inputs = [Data::F32(vec![10.0, 20.0, 40.0]), Data::F32(vec![0.5, -0.5, 1.5, 3.5])];
        let given = |mode, padding| reference(&spec(mode, padding), &inputs);
        assert_eq!(given(Mode::Linear, Padding::Zeros).f32(), [15.0, 5.0, 30.0, 0.0]);
        assert_eq!(given(Mode::Linear, Padding::Border).f32(), [15.0, 10.0, 30.0, 40.0]);
        // Edges are reflected at -0.5 and 2.5: 3.5 is 1.5.
        assert_eq!(given(Mode::Linear, Padding::Reflection).f32(), [15.0, 10.0, 30.0, 30.0]);
        // Halves go to the even place; 4 is reflected to 1.
        assert_eq!(given(Mode::Nearest, Padding::Zeros).f32(), [10.0, 10.0, 40.0, 0.0]);
        assert_eq!(given(Mode::Nearest, Padding::Reflection).f32(), [10.0, 10.0, 40.0, 20.0]);
        // The weights of a half are -3/32, 19/32, 19/32, -3/32.
        assert_eq!(given(Mode::Cubic, Padding::Border).f32()[0], 13.125);
    }

    #[test]
    fn every_variant_is_valid() {
        for mode in [Mode::Nearest, Mode::Linear, Mode::Cubic] {
            for padding in [Padding::Zeros, Padding::Border, Padding::Reflection] {
                for units in [Units::Corners, Units::Halves, Units::Elements] {
                    for axes in 1..=3 {
                        let spec = Spec { units, axes, ..spec(mode, padding) };
                        check::variants(|caps| variants(&spec, caps));
                    }
                }
            }
        }
    }
}
