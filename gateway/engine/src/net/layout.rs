//! Where the elements of an operand lie in its tensor, so that views cost nothing.
//!
//! - [`runs`]: repeats that are left out, and neighbours that are joined.
//! - [`rows`]: where a view goes through the rows of a batch.

pub(crate) mod rows;
mod runs;

use std::fmt;

/// A run of `size` elements, `stride` elements apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Factor {
    pub(crate) size: usize,
    pub(crate) stride: isize,
}

/// A strided view of a row-major tensor.
///
/// An axis is a list of factors, outermost first, and its size is their product: so a reshape
/// that merges axes is a view even where their strides do not merge, and a later reshape can take
/// them apart again. Factors of size one are left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Layout {
    offset: usize,
    axes: Vec<Vec<Factor>>,
}

impl Layout {
    /// All of a row-major tensor.
    pub(crate) fn dense(shape: &[usize]) -> Self {
        let mut axes = vec![Vec::new(); shape.len()];
        let mut stride = 1;
        for (axis, &size) in axes.iter_mut().zip(shape).rev() {
            if size != 1 {
                axis.push(Factor { size, stride });
            }
            // Only an empty tensor can saturate, and of it no element is read.
            stride = isize::saturating_mul(stride, size.max(1).cast_signed());
        }
        Self { offset: 0, axes }
    }

    /// One element, with no axis.
    pub(crate) fn at(offset: usize) -> Self {
        Self { offset, axes: Vec::new() }
    }

    pub(crate) fn shape(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis_size(axis)).collect()
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn elements(&self) -> usize {
        self.factors().map(|factor| factor.size).product()
    }

    fn factors(&self) -> impl Iterator<Item = Factor> {
        self.axes.iter().flatten().copied()
    }

    /// Whether the elements lie one after another from the first element of the tensor on.
    pub(crate) fn is_dense(&self) -> bool {
        self.offset == 0 && (self.elements() == 0 || self.run().is_some())
    }

    /// Where the elements begin, if they are some and lie one after another.
    pub(crate) fn run(&self) -> Option<usize> {
        match merge(self.factors()).as_slice() {
            [] => Some(self.offset),
            [Factor { stride: 1, size: 1.. }] => Some(self.offset),
            _ => None,
        }
    }

    /// Whether all elements are one, repeated.
    pub(crate) fn is_splat(&self) -> bool {
        self.factors().all(|factor| factor.stride == 0)
    }

    /// The sizes of the runs that an axis is made of, outermost first.
    pub(crate) fn factor_sizes(&self, axis: usize) -> Vec<usize> {
        merge(self.axes[axis].iter().copied()).iter().map(|factor| factor.size).collect()
    }

    /// The last two axes of `[b0, b1, m, n]`, where every batch entry is the same.
    pub(crate) fn one_matrix(&self) -> Option<Self> {
        let [outer, inner, rows, cols] = self.axes.as_slice() else { return None };
        let repeats = outer.iter().chain(inner).all(|factor| factor.stride == 0);
        repeats.then(|| Self { offset: self.offset, axes: vec![rows.clone(), cols.clone()] })
    }

    /// One axis alone, where the elements are the same along every other.
    pub(crate) fn varying_along(&self, axis: usize) -> Option<Self> {
        let mut others = self.axes.iter().enumerate().filter(|(other, _)| *other != axis);
        let repeats = others.all(|(_, factors)| factors.iter().all(|factor| factor.stride == 0));
        repeats.then(|| Self { offset: self.offset, axes: vec![self.axes[axis].clone()] })
    }

    /// One stride per axis, where every axis has one; axes of size one have 0.
    pub(crate) fn strides(&self) -> Option<Vec<isize>> {
        let stride = |axis: &Vec<Factor>| match merge(axis.iter().copied()).as_slice() {
            [] => Some(0),
            [factor] => Some(factor.stride),
            _ => None,
        };
        self.axes.iter().map(stride).collect()
    }

    /// The largest step along each axis; `None` where an axis repeats or is of size one.
    pub(crate) fn steps(&self) -> Vec<Option<isize>> {
        let step = |axis: &Vec<Factor>| {
            let steps = axis.iter().filter(|factor| factor.size != 1 && factor.stride != 0);
            steps.map(|factor| factor.stride).max()
        };
        self.axes.iter().map(step).collect()
    }

    pub(crate) fn transposed(&self, perm: &[usize]) -> Self {
        Self {
            offset: self.offset,
            axes: perm.iter().map(|&axis| self.axes[axis].clone()).collect(),
        }
    }

    /// `None` where the view would need a copy. The number of elements is the same.
    pub(crate) fn reshaped(&self, shape: &[usize]) -> Option<Self> {
        if self.elements() == 0 {
            return Some(Self::dense(shape));
        }
        let mut rest = merge(self.factors());
        rest.reverse();
        let mut axes = Vec::with_capacity(shape.len());
        for &size in shape {
            axes.push(take(&mut rest, size)?);
        }
        Some(Self { offset: self.offset, axes })
    }

    /// `count` elements of `axis` from `start` on, `step` apart; `None` where it needs a copy.
    pub(crate) fn sliced(
        &self,
        axis: usize,
        start: usize,
        step: isize,
        count: usize,
    ) -> Option<Self> {
        let mut sliced = self.clone();
        let merged = merge(self.axes[axis].iter().copied());
        let from = |stride: isize| {
            self.offset.checked_add_signed(stride.checked_mul(start.cast_signed())?)
        };
        sliced.axes[axis] = match (count, merged.as_slice()) {
            (0, _) => vec![Factor { size: 0, stride: 0 }],
            (1, []) => Vec::new(),
            (1, [factor]) => {
                sliced.offset = from(factor.stride)?;
                Vec::new()
            }
            (_, [factor]) => {
                sliced.offset = from(factor.stride)?;
                vec![Factor { size: count, stride: factor.stride.checked_mul(step)? }]
            }
            _ if start == 0 && step == 1 && count == axis_size(&self.axes[axis]) => merged,
            _ => return None,
        };
        Some(sliced)
    }

    /// `axis` as two: `count` windows `step` apart, each of `kernel` elements `dilation` apart;
    /// the caller has checked that they exist. `None` where it needs a copy.
    pub(crate) fn windows(
        &self,
        axis: usize,
        [count, step]: [usize; 2],
        [kernel, dilation]: [usize; 2],
    ) -> Option<Self> {
        let stride = match merge(self.axes[axis].iter().copied()).as_slice() {
            [] => 0,
            [factor] => factor.stride,
            _ => return None,
        };
        let run = |size: usize, step: usize| -> Option<Vec<Factor>> {
            let stride = stride.checked_mul(step.cast_signed())?;
            Some(if size == 1 { Vec::new() } else { vec![Factor { size, stride }] })
        };
        let mut windows = self.clone();
        windows.axes[axis] = run(count, step)?;
        windows.axes.insert(axis + 1, run(kernel, dilation)?);
        Some(windows)
    }

    /// The view repeated to `shape` by the rules of ONNX; the caller has checked that it fits.
    pub(crate) fn expanded(&self, shape: &[usize]) -> Self {
        let missing = shape.len().saturating_sub(self.axes.len());
        let axes = shape.iter().enumerate().map(|(axis, &size)| {
            match axis.checked_sub(missing).map(|own| &self.axes[own]) {
                Some(own) if axis_size(own) == size => own.clone(),
                _ if size == 1 => Vec::new(),
                _ => vec![Factor { size, stride: 0 }],
            }
        });
        Self { offset: self.offset, axes: axes.collect() }
    }

    /// The view of `inner`'s tensor that this view of `inner`'s elements, in row-major order,
    /// is: what remains when a copy in between is left out. `None` where no view is.
    pub(crate) fn over(&self, inner: &Layout) -> Option<Self> {
        if self.elements() == 0 {
            return Some(self.clone());
        }
        let mut places = Vec::new();
        let mut step = 1;
        for factor in merge(inner.factors()).into_iter().rev() {
            places.push(Place { factor, step, used: 0 });
            step *= factor.size;
        }
        let mut offset = inner.offset.cast_signed();
        for place in &mut places {
            place.used = self.offset / place.step % place.factor.size;
            offset += place.used.cast_signed() * place.factor.stride;
        }
        let mut axes = Vec::with_capacity(self.axes.len());
        for axis in &self.axes {
            let mut mapped = Vec::new();
            for &factor in axis {
                map_factor(factor, &mut places, &mut mapped)?;
            }
            axes.push(mapped);
        }
        Some(Self { offset: usize::try_from(offset).ok()?, axes })
    }

    /// The position in the tensor of every element, in row-major order.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> {
        let factors = merge(self.factors());
        let mut index = vec![0; factors.len()];
        let mut position = self.offset;
        (0..self.elements()).map(move |_| {
            let here = position;
            for (digit, factor) in index.iter_mut().zip(&factors).rev() {
                *digit += 1;
                position = position.wrapping_add_signed(factor.stride);
                if *digit < factor.size {
                    break;
                }
                position =
                    position.wrapping_add_signed(-(factor.stride * factor.size.cast_signed()));
                *digit = 0;
            }
            here
        })
    }
}

/// Prints as `+6 2:18 (3:2 2:1)`: the offset, then size and stride of every factor.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}", self.offset)?;
        for axis in &self.axes {
            let factors: Vec<String> =
                axis.iter().map(|factor| format!("{}:{}", factor.size, factor.stride)).collect();
            match factors.as_slice() {
                [one] => write!(f, " {one}")?,
                more => write!(f, " ({})", more.join(" "))?,
            }
        }
        Ok(())
    }
}

/// A factor of the inner layout of [`Layout::over`].
struct Place {
    factor: Factor,
    /// Elements of the row-major order from one index to the next.
    step: usize,
    /// The largest index that the view reaches so far.
    used: usize,
}

/// Maps one factor over row-major order to factors of the inner tensor.
fn map_factor(factor: Factor, places: &mut [Place], out: &mut Vec<Factor>) -> Option<()> {
    if factor.size == 1 || factor.stride == 0 {
        if factor.size != 1 {
            out.push(factor);
        }
        return Some(());
    }
    let stride = usize::try_from(factor.stride).ok()?;
    let at = (0..places.len()).rev().find(|&at| {
        stride % places[at].step == 0 && stride / places[at].step < places[at].factor.size
    })?;
    let jump = stride / places[at].step;
    let room = places[at].factor.size;
    let inner_stride = places[at].factor.stride * jump.cast_signed();
    if places[at].used + (factor.size - 1) * jump < room {
        places[at].used += (factor.size - 1) * jump;
        out.push(Factor { size: factor.size, stride: inner_stride });
        return Some(());
    }
    // The run goes on in the next factor out: it must fill this one exactly each time.
    if !room.is_multiple_of(jump) || places[at].used != 0 {
        return None;
    }
    let inside = room / jump;
    if !factor.size.is_multiple_of(inside) {
        return None;
    }
    let outer =
        Factor { size: factor.size / inside, stride: (places[at].step * room).cast_signed() };
    map_factor(outer, places, out)?;
    places[at].used = (inside - 1) * jump;
    if inside > 1 {
        out.push(Factor { size: inside, stride: inner_stride });
    }
    Some(())
}

fn axis_size(axis: &[Factor]) -> usize {
    axis.iter().map(|factor| factor.size).product()
}

/// Joins neighbours that one factor can say, and leaves out those of size one.
fn merge(factors: impl Iterator<Item = Factor>) -> Vec<Factor> {
    let mut merged: Vec<Factor> = Vec::new();
    for factor in factors.filter(|factor| factor.size != 1) {
        match merged.last_mut() {
            Some(outer) if outer.stride == factor.stride * factor.size.cast_signed() => {
                *outer = Factor { size: outer.size * factor.size, stride: factor.stride };
            }
            _ => merged.push(factor),
        }
    }
    merged
}

/// Takes factors of product `size` off the end of `rest`, which is reversed.
fn take(rest: &mut Vec<Factor>, size: usize) -> Option<Vec<Factor>> {
    let mut axis = Vec::new();
    let mut missing = size;
    while missing > 1 {
        let factor = rest.pop()?;
        if missing.is_multiple_of(factor.size) {
            missing /= factor.size;
            axis.push(factor);
        } else if factor.size % missing == 0 {
            let inside = factor.size / missing;
            let outer = factor.stride * inside.cast_signed();
            rest.push(Factor { size: inside, stride: factor.stride });
            axis.push(Factor { size: missing, stride: outer });
            missing = 1;
        } else {
            return None;
        }
    }
    Some(axis)
}

/// The same index space for several views of one shape: its sizes, and one stride per size and
/// view. `None` where the views cut an axis at different places.
pub(crate) fn common(layouts: &[&Layout]) -> Option<(Vec<usize>, Vec<Vec<isize>>)> {
    let rank = layouts.first().map_or(0, |layout| layout.axes.len());
    let mut sizes = Vec::new();
    let mut strides = vec![Vec::new(); layouts.len()];
    for axis in 0..rank {
        let mut rests: Vec<Vec<Factor>> = layouts
            .iter()
            .map(|layout| {
                let mut factors = merge(layout.axes[axis].iter().copied());
                factors.reverse();
                factors
            })
            .collect();
        while let Some(size) = rests.iter().filter_map(|rest| Some(rest.last()?.size)).min() {
            for (rest, strides) in rests.iter_mut().zip(&mut strides) {
                // Cutting from the outside: the outermost factors must agree on a divisor.
                let cut = take(rest, size)?;
                match cut.as_slice() {
                    [factor] => strides.push(factor.stride),
                    _ => return None,
                }
            }
            sizes.push(size);
        }
    }
    Some((sizes, strides))
}

#[cfg(test)]
mod tests;
