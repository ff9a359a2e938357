//! Where a view goes through the rows of a batch.

use super::{Factor, Layout, merge, take};

/// The rows of a tensor: element `i` belongs to row `i / stride % count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) count: usize,
    pub(crate) stride: usize,
}

/// Index `i` of this axis of a view belongs to row `i / each % count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) axis: usize,
    pub(crate) each: usize,
}

/// What a part of a factor goes through.
enum Through {
    /// Elements of one row, as far as this.
    Inside(isize),
    /// Every row, in order.
    Rows,
    /// The same row of several batches.
    Batches,
}

impl Layout {
    /// The one place where the view goes through `rows`, in order and from the first to the last.
    /// `None` where it does anything else.
    pub(crate) fn place_of(&self, rows: Rows) -> Option<Place> {
        let mut place = None;
        let begin = (self.offset % rows.stride).cast_signed();
        let (mut least, mut most) = (begin, begin);
        for (axis, factors) in self.axes.iter().enumerate() {
            let mut each = 1;
            for &factor in merge(factors.iter().copied()).iter().rev() {
                for (size, through) in cut(factor, rows)? {
                    match through {
                        Through::Inside(reach) => {
                            least += reach.min(0);
                            most += reach.max(0);
                        }
                        Through::Rows if place.is_some() => return None,
                        Through::Rows => place = Some(Place { axis, each }),
                        Through::Batches => {}
                    }
                    each *= size;
                }
            }
        }
        let stays = least >= 0 && most < rows.stride.cast_signed();
        let is_first = (self.offset / rows.stride).is_multiple_of(rows.count);
        place.filter(|_| stays && is_first)
    }

    /// The distance in the tensor from row to row of `count`, which the view goes through there;
    /// zero where all are one.
    pub(crate) fn step_at(&self, place: Place, count: usize) -> Option<usize> {
        let mut rest = merge(self.axes[place.axis].iter().copied());
        let size: usize = rest.iter().map(|factor| factor.size).product();
        let outer = size.checked_div(place.each * count)?;
        if outer * place.each * count != size {
            return None;
        }
        rest.reverse();
        take(&mut rest, outer)?;
        let along = take(&mut rest, count)?;
        match merge(along.into_iter()).as_slice() {
            [one] => usize::try_from(one.stride).ok(),
            _ => None,
        }
    }
}

/// The parts of a factor, the innermost first; `None` where it goes through some rows only, or
/// through several at a time.
fn cut(factor: Factor, rows: Rows) -> Option<Vec<(usize, Through)>> {
    let inside = |size: usize, stride: isize| {
        let reach = stride.checked_mul(size.cast_signed() - 1)?;
        Some((size, Through::Inside(reach)))
    };
    let Factor { mut size, stride } = factor;
    let Some(mut step) = usize::try_from(stride).ok().filter(|&step| step > 0) else {
        return Some(vec![inside(size, stride)?]);
    };
    let mut parts = Vec::new();
    if step < rows.stride {
        let row = rows.stride / step;
        if size <= row {
            return Some(vec![inside(size, stride)?]);
        }
        if row * step != rows.stride || !size.is_multiple_of(row) {
            return None;
        }
        parts.push(inside(row, stride)?);
        (size, step) = (size / row, rows.stride);
    }
    if step == rows.stride {
        if !size.is_multiple_of(rows.count) {
            return None;
        }
        parts.push((rows.count, Through::Rows));
        (size, step) = (size / rows.count, rows.stride.checked_mul(rows.count)?);
    }
    if size > 1 {
        let batch = rows.stride.checked_mul(rows.count)?;
        parts.push((size, Through::Batches));
        return step.is_multiple_of(batch).then_some(parts);
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two batches of three rows of `[2, 5]`.
    const ROWS: Rows = Rows { count: 3, stride: 10 };

    fn all() -> Layout {
        Layout::dense(&[2, 3, 2, 5])
    }

    fn place(layout: &Layout) -> Option<(usize, usize)> {
        layout.place_of(ROWS).map(|Place { axis, each }| (axis, each))
    }

    #[test]
    fn views_that_go_through_all_rows_say_where() {
        assert_eq!(place(&all()), Some((1, 1)));
        assert_eq!(place(&all().transposed(&[3, 2, 1, 0])), Some((2, 1)));
        assert_eq!(place(&all().reshaped(&[6, 10]).unwrap()), Some((0, 1)));
        assert_eq!(place(&all().reshaped(&[2, 6, 5]).unwrap()), Some((1, 2)));
        assert_eq!(place(&all().reshaped(&[60]).unwrap()), Some((0, 10)));
        assert_eq!(place(&all().sliced(3, 4, -2, 3).unwrap()), Some((1, 1)), "backwards in a row");
        assert_eq!(place(&all().sliced(0, 1, 1, 1).unwrap()), Some((1, 1)), "the second batch");
        let turned = all().transposed(&[1, 2, 0, 3]).reshaped(&[6, 2, 5]).unwrap();
        assert_eq!(place(&turned), Some((0, 2)));
    }

    #[test]
    fn views_that_mix_or_leave_out_rows_have_no_place() {
        assert_eq!(place(&all().sliced(1, 0, 1, 1).unwrap()), None, "one row");
        assert_eq!(place(&all().sliced(1, 1, 1, 2).unwrap()), None, "not the first");
        assert_eq!(place(&all().sliced(1, 2, -1, 3).unwrap()), None, "backwards");
        assert_eq!(place(&all().reshaped(&[60]).unwrap().sliced(0, 5, 1, 30).unwrap()), None);
        assert_eq!(place(&Layout::dense(&[60]).sliced(0, 0, 4, 15).unwrap()), None);
        let twice = Layout { offset: 0, axes: vec![vec![Factor { size: 3, stride: 10 }]; 2] };
        assert_eq!(place(&twice), None, "the diagonal and all else");
    }

    #[test]
    fn the_step_from_row_to_row_is_where_the_place_says() {
        let at = |layout: &Layout, axis, each| layout.step_at(Place { axis, each }, 3);
        assert_eq!(at(&all(), 1, 1), Some(10));
        assert_eq!(at(&all().reshaped(&[2, 6, 5]).unwrap(), 1, 2), Some(10));
        assert_eq!(at(&all().reshaped(&[60]).unwrap(), 0, 10), Some(10));
        assert_eq!(at(&Layout::dense(&[5]).expanded(&[3, 5]), 0, 1), Some(0));
        assert_eq!(at(&all(), 0, 1), None, "there are two");
    }
}
