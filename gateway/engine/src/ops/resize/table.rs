//! Where the elements of a resized axis come from, and how much of each.

use crate::error::OpError;

/// What one axis becomes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) scale: f32,
    /// The length that the scale asks for, before it is rounded down.
    pub(super) length: f32,
    /// Start and end of what is read, as parts of the axis.
    pub(super) roi: [f32; 2],
}

/// How a place in the output names a place in the input (`coordinate_transformation_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    TfHalfPixel,
    AlignCorners,
    Asymmetric,
    CropAndResize,
}

/// How a place between two elements becomes one of them (`nearest_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nearest {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
    /// Up where the axis shrinks, else down: what ONNX Runtime does for operator set 10.
    Simple,
}

/// `mode`, with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Interpolation {
    Nearest(Nearest),
    Linear { antialias: bool },
    Cubic { a: f32, antialias: bool },
}

/// What is the same for every axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) mode: Interpolation,
    pub(super) coordinates: Coordinates,
    pub(super) exclude_outside: bool,
}

impl Rule {
    /// Whether the axis stays as it is.
    pub(super) fn keeps(&self, axis: &Axis) -> bool {
        #[expect(clippy::float_cmp, reason = "what is nearly one is not one")]
        let (is_one, is_whole) = (axis.scale == 1.0, axis.roi == [0.0, 1.0]);
        let is_read_whole = self.coordinates != Coordinates::CropAndResize || is_whole;
        let shifts = self.coordinates == Coordinates::TfHalfPixel;
        is_one && axis.input == axis.output && is_read_whole && !shifts
    }
}

/// The place in the input of place `at` in the output, in elements.
#[expect(clippy::float_cmp, reason = "a length of one is a case of its own in the operator")]
fn source(axis: &Axis, coordinates: Coordinates, at: usize) -> f32 {
    let (at, last) = (at as f32, axis.input as f32 - 1.0);
    let half = || (at + 0.5) / axis.scale - 0.5;
    match coordinates {
        Coordinates::HalfPixel => half(),
        Coordinates::HalfPixelSymmetric => {
            let adjustment = axis.output as f32 / axis.length;
            axis.input as f32 / 2.0 * (1.0 - adjustment) + half()
        }
        Coordinates::PytorchHalfPixel if axis.output > 1 => half(),
        Coordinates::PytorchHalfPixel => 0.0,
        Coordinates::TfHalfPixel => (at + 0.5) / axis.scale,
        Coordinates::AlignCorners if axis.length == 1.0 => 0.0,
        Coordinates::AlignCorners => at * last / (axis.length - 1.0),
        Coordinates::Asymmetric => at / axis.scale,
        Coordinates::CropAndResize => {
            let [start, end] = axis.roi;
            if axis.output > 1 {
                start * last + at * (end - start) * last / (axis.output as f32 - 1.0)
            } else {
                0.5 * (start + end) * last
            }
        }
    }
}

/// Which places of the output are read from inside of the input.
pub(super) fn inside(axis: &Axis) -> Vec<bool> {
    let last = axis.input as f32 - 1.0;
    let place = |at| source(axis, Coordinates::CropAndResize, at);
    (0..axis.output).map(|at| (0.0..=last).contains(&place(at))).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "casts saturate, and the place is clamped")]
fn clamped(place: f32, axis: &Axis) -> i64 {
    let last = i64::try_from(axis.input).unwrap_or(i64::MAX) - 1;
    (place as i64).clamp(0, last)
}

/// The element of the input for each of the output.
pub(super) fn nearest(axis: &Axis, coordinates: Coordinates, mode: Nearest) -> Vec<i64> {
    let pick = |at| {
        let place = source(axis, coordinates, at);
        let picked = match mode {
            Nearest::RoundPreferFloor => (place - 0.5).ceil(),
            Nearest::RoundPreferCeil => (place + 0.5).floor(),
            Nearest::Floor => place.floor(),
            Nearest::Ceil => place.ceil(),
            Nearest::Simple if axis.scale < 1.0 => place.ceil(),
            Nearest::Simple => place.floor(),
        };
        clamped(picked, axis)
    };
    (0..axis.output).map(pick).collect()
}

/// `taps` places and weights for each element of the output.
#[derive(Debug)]
pub(super) struct Weighted {
    pub(super) taps: usize,
    pub(super) places: Vec<i64>,
    pub(super) weights: Vec<f32>,
}

/// Elements of one axis, at most, whose places are written out.
pub(super) const PLACES_MAX: usize = 1 << 24;

/// Weights in one table, at most: more than any picture asks for.
const TABLE_MAX: usize = 1 << 24;

/// The tables of a linear or cubic interpolation.
pub(super) fn weighted(axis: &Axis, rule: &Rule) -> Result<Weighted, OpError> {
    let (reach, antialias) = match rule.mode {
        Interpolation::Nearest(_) => (0.5, false),
        Interpolation::Linear { antialias } => (1.0, antialias),
        Interpolation::Cubic { antialias, .. } => (2.0, antialias),
    };
    // Where an axis shrinks, antialiasing widens the window by as much.
    let scale = if antialias { f64::from(axis.scale).min(1.0) } else { 1.0 };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, and the limit is checked below"
    )]
    let side = (reach / scale).ceil() as usize;
    let taps = side.saturating_mul(2);
    if taps.saturating_mul(axis.output) > TABLE_MAX {
        let given = format!("{taps} for each of {} elements", axis.output);
        return Err(OpError::mismatch("weights", format!("at most {TABLE_MAX}"), given));
    }
    let mut table = Weighted { taps, places: Vec::new(), weights: Vec::new() };
    for at in 0..axis.output {
        let place = source(axis, rule.coordinates, at);
        // Coordinates beyond any axis would leave no element to read.
        let place =
            f64::from(place.clamp(-(axis.input as f32) - 4.0, 2.0 * axis.input as f32 + 4.0));
        let first = place.floor() - (side as f64 - 1.0);
        let mut weights = Vec::with_capacity(taps);
        for tap in 0..taps {
            let from = first + tap as f64;
            let outside = rule.exclude_outside && (from < 0.0 || from > axis.input as f64 - 1.0);
            let weight = kernel(rule.mode, (from - place) * scale);
            weights.push(if outside { 0.0 } else { weight });
            #[expect(clippy::cast_possible_truncation, reason = "places are small")]
            table.places.push(clamped(from as f32, axis));
        }
        // Without either they add up to one by themselves.
        let sum: f64 = weights.iter().sum();
        let divisor = if antialias || rule.exclude_outside { sum } else { 1.0 };
        let divisor = if divisor == 0.0 { 1.0 } else { divisor };
        #[expect(clippy::cast_possible_truncation, reason = "devices hold single precision")]
        table.weights.extend(weights.iter().map(|weight| (weight / divisor) as f32));
    }
    Ok(table)
}

/// The weight of an element `distance` away.
fn kernel(mode: Interpolation, distance: f64) -> f64 {
    let x = distance.abs();
    match mode {
        Interpolation::Nearest(_) | Interpolation::Linear { .. } => (1.0 - x).max(0.0),
        Interpolation::Cubic { a, .. } => {
            let a = f64::from(a);
            if x <= 1.0 {
                ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
            } else if x < 2.0 {
                ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
            } else {
                0.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(input: usize, output: usize, scale: f32) -> Axis {
        Axis { input, output, scale, length: input as f32 * scale, roi: [0.0, 1.0] }
    }

    #[test]
    fn a_third_is_read_at_whole_places() {
        let axis = axis(10, 3, 1.0 / 3.0);
        assert_eq!(nearest(&axis, Coordinates::Asymmetric, Nearest::Floor), [0, 3, 6]);
    }

    #[test]
    fn halves_go_where_the_mode_says() {
        let axis = axis(2, 4, 2.0);
        let picked = |mode| nearest(&axis, Coordinates::Asymmetric, mode);
        assert_eq!(picked(Nearest::RoundPreferFloor), [0, 0, 1, 1]);
        assert_eq!(picked(Nearest::RoundPreferCeil), [0, 1, 1, 1]);
        assert_eq!(picked(Nearest::Ceil), [0, 1, 1, 1]);
        assert_eq!(picked(Nearest::Simple), [0, 0, 1, 1]);
    }

    #[test]
    fn a_shrinking_axis_is_read_widely_only_with_antialias() {
        let rule = |antialias| Rule {
            mode: Interpolation::Linear { antialias },
            coordinates: Coordinates::HalfPixel,
            exclude_outside: false,
        };
        let narrow = weighted(&axis(4, 2, 0.5), &rule(false)).unwrap();
        assert_eq!((narrow.taps, narrow.places), (2, vec![0, 1, 2, 3]));
        assert_eq!(narrow.weights, [0.5; 4]);
        let wide = weighted(&axis(4, 2, 0.5), &rule(true)).unwrap();
        assert_eq!((wide.taps, wide.places), (4, vec![0, 0, 1, 2, 1, 2, 3, 3]));
        assert_eq!(wide.weights, [0.125, 0.375, 0.375, 0.125, 0.125, 0.375, 0.375, 0.125]);
    }
}
