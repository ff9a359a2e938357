//! [`Rect`]: where something is in a picture; [`suppress`]: one rectangle for each thing.

use serde::{Deserialize, Serialize};

use super::{Image, PIXELS_MAX};
use crate::Error;

/// An upright rectangle in pixels, from the top left corner of a picture.
///
/// ```
/// use gw_sdk::image::Rect;
///
/// let (a, b) = (Rect::new(0.0, 0.0, 4.0, 2.0), Rect::new(2.0, 0.0, 4.0, 2.0));
/// assert_eq!(a.shared(&b), 4.0);
/// assert_eq!(a.over_union(&b), 4.0 / 12.0);
/// assert_eq!(a.over_smaller(&b), 0.5);
/// assert_eq!(a.scaled(0.5), Rect::new(0.0, 0.0, 2.0, 1.0));
/// assert_eq!(a.squared(), Rect::new(0.0, -1.0, 4.0, 4.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rect {
    /// The left edge.
    pub x: f32,
    /// The top edge.
    pub y: f32,
    /// To the right edge.
    pub width: f32,
    /// To the bottom edge.
    pub height: f32,
}

impl Rect {
    /// From `x`, `y` on, which is its top left corner.
    pub fn new(x: f32, y: f32, width: f32, height: f32) -> Self {
        Self { x, y, width, height }
    }

    /// The same place in a picture whose sides are `factor` times as long.
    #[must_use]
    pub fn scaled(&self, factor: f32) -> Self {
        let Self { x, y, width, height } = *self;
        Self { x: x * factor, y: y * factor, width: width * factor, height: height * factor }
    }

    /// The square of its longer side around the same middle.
    #[must_use]
    pub fn squared(&self) -> Self {
        let side = self.width.max(self.height);
        let (x, y) = (self.x + (self.width - side) / 2.0, self.y + (self.height - side) / 2.0);
        Self { x, y, width: side, height: side }
    }

    /// How many pixels it has.
    pub fn area(&self) -> f32 {
        self.width.max(0.0) * self.height.max(0.0)
    }

    /// The pixels that both have.
    pub fn shared(&self, other: &Self) -> f32 {
        let (x, y) = (self.x.max(other.x), self.y.max(other.y));
        let width = (self.x + self.width).min(other.x + other.width) - x;
        let height = (self.y + self.height).min(other.y + other.height) - y;
        Self { x, y, width, height }.area()
    }

    /// The part that both have of what they cover together, from 0 to 1.
    pub fn over_union(&self, other: &Self) -> f32 {
        let shared = self.shared(other);
        part(shared, self.area() + other.area() - shared)
    }

    /// The part that both have of the smaller one, from 0 to 1.
    pub fn over_smaller(&self, other: &Self) -> f32 {
        part(self.shared(other), self.area().min(other.area()))
    }
}

/// Rectangles without a pixel have no part in anything.
fn part(shared: f32, whole: f32) -> f32 {
    if whole > 0.0 { shared / whole } else { 0.0 }
}

impl Image {
    /// What is in a rectangle, rounded to whole pixels but at least one; black where it leaves the
    /// picture.
    ///
    /// # Errors
    /// 422 `wrong_size` where that would be more than [`PIXELS_MAX`].
    pub fn cut(&self, rect: &Rect) -> Result<Self, Error> {
        let (x, y) = (whole(rect.x), whole(rect.y));
        let (width, height) = (whole(rect.width).max(1), whole(rect.height).max(1));
        let side = |length: i64| u32::try_from(length).ok();
        let size = side(width).zip(side(height));
        let fits = |size: &(u32, u32)| u64::from(size.0) * u64::from(size.1) <= PIXELS_MAX;
        let Some((columns, rows)) = size.filter(fits) else {
            let message = format!("a part of {width} × {height} pixels is more than {PIXELS_MAX}");
            return Err(Error::new(422, "wrong_size", message));
        };
        let mut pixels = vec![0; columns as usize * rows as usize * 3];
        for (y, line) in (y..).zip(pixels.chunks_exact_mut(columns as usize * 3)) {
            let Some(source) = nth(&self.pixels, self.width as usize * 3, y) else { continue };
            for (x, pixel) in (x..).zip(line.chunks_exact_mut(3)) {
                if let Some(source) = nth(source, 3, x) {
                    pixel.copy_from_slice(source);
                }
            }
        }
        Self::new(columns, rows, pixels)
    }
}

/// The nearest whole number. What is far outside of every picture stays there.
#[expect(clippy::cast_possible_truncation, reason = "it is within a billion")]
fn whole(length: f32) -> i64 {
    (length + 0.5).floor().clamp(-1e9, 1e9) as i64
}

/// The part of this index, if there is one.
fn nth(values: &[u8], size: usize, index: i64) -> Option<&[u8]> {
    values.chunks_exact(size).nth(usize::try_from(index).ok()?)
}

/// The best of `found`, the best first, without those that overlap a better one by more than
/// `overlap_max`; at most `kept_max`, which bounds the work. Also known as non-maximum suppression.
///
/// ```
/// use gw_sdk::image::{Rect, suppress};
///
/// let at = |x| Rect::new(x, 0.0, 10.0, 10.0);
/// let found = vec![(at(0.0), 0.8), (at(1.0), 0.9), (at(50.0), 0.7)];
/// let overlap = |a: &(Rect, f32), b: &(Rect, f32)| a.0.over_union(&b.0);
/// let kept = suppress(found, |found| found.1, overlap, 0.5, 100);
/// assert_eq!(kept, [(at(1.0), 0.9), (at(50.0), 0.7)]);
/// ```
pub fn suppress<T>(
    mut found: Vec<T>,
    score: impl Fn(&T) -> f32,
    overlap: impl Fn(&T, &T) -> f32,
    overlap_max: f32,
    kept_max: usize,
) -> Vec<T> {
    found.sort_by(|a, b| score(b).total_cmp(&score(a)));
    let mut kept = Vec::<T>::new();
    for next in found {
        if kept.len() == kept_max {
            break;
        }
        if kept.iter().all(|better| overlap(better, &next) <= overlap_max) {
            kept.push(next);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nine pixels that count from 1, in three rows.
    fn counted() -> Image {
        Image::new(3, 3, (1..=9).flat_map(|value| [value; 3]).collect()).unwrap()
    }

    #[test]
    fn what_leaves_the_picture_is_black() {
        let cases = [
            (Rect::new(1.0, 1.0, 2.0, 2.0), &[5, 6, 8, 9][..]),
            (Rect::new(0.6, 1.4, 1.6, 1.0), &[5, 6]),
            (Rect::new(-1.0, -1.0, 2.0, 2.0), &[0, 0, 0, 1]),
            (Rect::new(2.0, 2.0, 2.0, 2.0), &[9, 0, 0, 0]),
            (Rect::new(-1.0, 1.0, 5.0, 1.0), &[0, 4, 5, 6, 0]),
            (Rect::new(7.0, 0.0, 1.0, 2.0), &[0, 0]),
            (Rect::new(0.0, -9.0, 1.0, 1.0), &[0]),
            (Rect::new(1.0, 1.0, 0.2, -3.0), &[5]),
        ];
        for (rect, expected) in cases {
            let cut = counted().cut(&rect).unwrap();
            let values: Vec<u8> = cut.pixels().iter().step_by(3).copied().collect();
            assert_eq!(values, expected, "{rect:?}");
            assert_eq!((cut.width() * cut.height()) as usize, values.len());
        }
    }

    #[test]
    fn too_many_pixels_are_refused_and_strange_places_are_black() {
        for side in [1e5, 1e30, f32::INFINITY] {
            let rect = Rect::new(0.0, 0.0, side, side);
            assert_eq!(counted().cut(&rect).unwrap_err().code, "wrong_size", "{side}");
        }
        let nowhere =
            [f32::INFINITY, f32::NEG_INFINITY, -1e30].map(|x| Rect::new(x, 0.0, 1.0, 1.0));
        for rect in nowhere {
            assert_eq!(counted().cut(&rect).unwrap().pixels(), [0; 3], "{rect:?}");
        }
    }

    #[test]
    fn overlaps_are_parts_from_0_to_1() {
        let (a, apart) = (Rect::new(0.0, 0.0, 4.0, 4.0), Rect::new(4.0, 0.0, 4.0, 4.0));
        let inside = Rect::new(1.0, 1.0, 2.0, 1.0);
        assert_eq!((a.over_union(&a), a.over_smaller(&a)), (1.0, 1.0));
        assert_eq!((a.over_union(&apart), a.over_smaller(&apart)), (0.0, 0.0));
        assert_eq!((a.over_union(&inside), a.over_smaller(&inside)), (2.0 / 16.0, 1.0));
        let empty = Rect::new(1.0, 1.0, 0.0, 3.0);
        assert_eq!((a.over_union(&empty), a.over_smaller(&empty)), (0.0, 0.0));
    }

    #[test]
    fn no_more_are_kept_than_wanted_and_equals_keep_their_order() {
        let found = vec![('a', 0.5), ('b', 0.9), ('c', 0.5), ('d', 0.1)];
        let kept = suppress(found, |found| found.1, |_, _| 0.0, 0.5, 3);
        assert_eq!(kept, [('b', 0.9), ('a', 0.5), ('c', 0.5)]);
    }
}
