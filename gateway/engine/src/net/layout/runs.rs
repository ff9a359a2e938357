//! Repeats that are left out, and neighbours that are joined.

use super::{Factor, Layout, axis_size, merge};

impl Layout {
    /// The view with `axis` cut to size one, where all along it is the same.
    pub(crate) fn once_along(&self, axis: usize) -> Option<Self> {
        let repeats = self.axes[axis].iter().all(|factor| factor.stride == 0);
        let mut once = self.clone();
        once.axes[axis].clear();
        (repeats && axis_size(&self.axes[axis]) > 0).then_some(once)
    }

    /// The layout without the repeats inside `axis`: each of its runs of equals once. `None` where
    /// there are none.
    pub(crate) fn one_of_each(&self, axis: usize) -> Option<Self> {
        let mut factors = merge(self.axes[axis].iter().copied());
        factors.pop_if(|factor| factor.stride == 0)?;
        let mut once = self.clone();
        once.axes[axis] = factors;
        Some(once)
    }

    /// Views of one tensor, one after another along `axis`, as one view; `None` where they do not
    /// lie so. Their shapes differ in that axis only.
    pub(crate) fn joined(parts: &[&Self], axis: usize) -> Option<Self> {
        let (first, second) = (parts.first()?, parts.get(1)?);
        let count = |part: &Self| axis_size(&part.axes[axis]);
        let run = match merge(first.axes[axis].iter().copied()).as_slice() {
            [] => second.offset.cast_signed().checked_sub(first.offset.cast_signed())?,
            [factor] => factor.stride,
            _ => return None,
        };
        let mut next = first.offset.cast_signed();
        for part in parts {
            let along = merge(part.axes[axis].iter().copied());
            let fits = part.axes.iter().zip(&first.axes).enumerate().all(|(at, (own, other))| {
                at == axis || merge(own.iter().copied()) == merge(other.iter().copied())
            });
            let in_line = match along.as_slice() {
                [] => true,
                [factor] => factor.stride == run,
                _ => false,
            };
            if !fits || !in_line || part.offset.cast_signed() != next {
                return None;
            }
            next = next.checked_add(run.checked_mul(count(part).cast_signed())?)?;
        }
        let size = parts.iter().map(|part| count(part)).sum();
        let mut joined = (*first).clone();
        joined.axes[axis] = vec![Factor { size, stride: run }];
        Some(joined)
    }
}
