//! `NonMaxSuppression` (ONNX 11): how many boxes stay depends on their values, so it is computed
//! from what is read back, as ONNX Runtime computes it, in single precision.

use super::{Call, Table, expect_rank};
use crate::error::OpError;
use crate::net::Operand;

pub(super) const OPS: Table = &[("NonMaxSuppression", non_max_suppression)];

/// Pairs of boxes that one node may compare: seconds of work.
const PAIRS_MAX: usize = 1 << 30;

/// A box by its corners, and its area.
#[derive(Clone, Copy)]
struct Corners {
    low: [f32; 2],
    high: [f32; 2],
}

impl Corners {
    /// From two opposite corners `[y1, x1, y2, x2]`, in either order, or from
    /// `[x, y, width, height]` around a centre.
    fn of(numbers: [f32; 4], around_center: bool) -> Self {
        let [a, b, c, d] = numbers;
        if around_center {
            let (width, height) = (c / 2.0, d / 2.0);
            return Self { low: [b - height, a - width], high: [b + height, a + width] };
        }
        Self { low: [a.min(c), b.min(d)], high: [a.max(c), b.max(d)] }
    }

    fn area(&self) -> f32 {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    /// Whether the two share more than `threshold` of what they cover.
    fn overlaps(&self, other: &Self, threshold: f32) -> bool {
        let side = |at: usize| self.high[at].min(other.high[at]) - self.low[at].max(other.low[at]);
        let (height, width) = (side(0), side(1));
        if height <= 0.0 || width <= 0.0 {
            return false;
        }
        let shared = height * width;
        let union = self.area() + other.area() - shared;
        let is_proper = self.area() > 0.0 && other.area() > 0.0 && union > 0.0;
        is_proper && shared / union > threshold
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the numbers are those of `f32` tensors")]
fn floats(call: &mut Call<'_>, index: usize) -> Result<Option<Vec<f32>>, OpError> {
    let Some(input) = call.optional(index) else { return Ok(None) };
    let numbers = call.builder.numbers(&input, &format!("input {index}"))?;
    Ok(Some(numbers.into_iter().map(|number| number.float() as f32).collect()))
}

fn non_max_suppression(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (boxes, scores) = (call.input(0)?.shape(), call.input(1)?.shape());
    expect_rank("boxes", &boxes, 3)?;
    expect_rank("scores", &scores, 3)?;
    if boxes[2] != 4 || boxes[0] != scores[0] || boxes[1] != scores[2] {
        let expected = format!("[{}, {}, 4]", scores[0], scores[2]);
        return Err(OpError::mismatch("boxes", expected, format!("{boxes:?}")));
    }
    let (batch, count, classes) = (boxes[0], boxes[1], scores[1]);
    let around_center = call.flag("center_point_box", false);
    let missing = |index: usize| OpError::Missing(format!("input {index}"));
    let corners = floats(call, 0)?.ok_or_else(|| missing(0))?;
    let corners: Vec<Corners> = corners
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&numbers| Corners::of(numbers, around_center))
        .collect();
    let scores = floats(call, 1)?.ok_or_else(|| missing(1))?;
    let most = call.optional_ints(2)?.and_then(|given| given.first().copied()).unwrap_or(0);
    let most = usize::try_from(most.max(0)).unwrap_or(usize::MAX);
    let first = |given: Option<Vec<f32>>| given.and_then(|given| given.first().copied());
    let threshold = first(floats(call, 3)?).unwrap_or(0.0);
    let least = first(floats(call, 4)?);
    let mut budget = PAIRS_MAX;
    let mut selected = Vec::new();
    for (image, class) in (0..batch).flat_map(|image| (0..classes).map(move |class| (image, class)))
    {
        let start = (image * classes + class) * count;
        let kept = suppress(
            &corners[image * count..(image + 1) * count],
            &scores[start..start + count],
            Limits { most, threshold, least },
            &mut budget,
        )?;
        for place in kept {
            let indices = [image, class, place];
            selected.extend(indices.map(|index| i64::try_from(index).unwrap_or(i64::MAX)));
        }
    }
    Ok(vec![call.builder.ints(&[selected.len() / 3, 3], &selected)?])
}

struct Limits {
    most: usize,
    threshold: f32,
    least: Option<f32>,
}

/// The boxes of one class that stay, from the highest score down; of equals the first.
fn suppress(
    boxes: &[Corners],
    scores: &[f32],
    limits: Limits,
    budget: &mut usize,
) -> Result<Vec<usize>, OpError> {
    let mut candidates: Vec<usize> = (0..boxes.len())
        .filter(|&place| limits.least.is_none_or(|least| scores[place] > least))
        .collect();
    candidates.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut kept: Vec<usize> = Vec::new();
    for place in candidates {
        if kept.len() >= limits.most {
            break;
        }
        *budget = budget.checked_sub(kept.len()).ok_or_else(|| {
            OpError::Unsupported(format!("comparing more than {PAIRS_MAX} pairs of boxes"))
        })?;
        let hides = |other: &usize| boxes[place].overlaps(&boxes[*other], limits.threshold);
        if !kept.iter().any(hides) {
            kept.push(place);
        }
    }
    Ok(kept)
}
