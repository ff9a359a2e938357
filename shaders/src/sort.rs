//! `out[o, j, i] = the position of the j-th of x[o, .., i] in order`: a stable merge sort.
//!
//! Source: `TopK` (ONNX 11): of equals the one at the lower position comes first, NaN counts as
//! the largest. Zeros of both signs are equal.
//!
//! It takes [`passes`] dispatches: the first sorts blocks of [`BLOCK`] by counting who comes
//! before whom, each further one merges neighbouring runs, where every element finds its place in
//! the other run by bisection. Of each run only the first `keep` are looked at.

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::kernel::{Caps, Dispatch, Needs, Scalar, Unsupported};

const NAME: &str = "sort";

/// Elements that the first pass sorts at once: what one invocation reads.
pub const BLOCK: u32 = 32;

/// One pass over the middle axis of `[outer, len, inner]`.
///
/// Bindings: x (`scalar`), the order that the pass before left (`I32`, `[outer, len, inner]`;
/// none for the first pass), the result (`I32`): `[outer, keep, inner]` after the last pass, else
/// `[outer, len, inner]`, where what lies beyond the first `keep` of a run is not written.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The element type of x.
    pub scalar: Scalar,
    /// From the largest to the smallest.
    pub largest: bool,
    /// The axes before.
    pub outer: u32,
    /// The axis that is sorted.
    pub len: u32,
    /// The axes after.
    pub inner: u32,
    /// How many of a row are wanted; at most `len`.
    pub keep: u32,
    /// The length of the sorted runs that this pass finds; 0 for the first pass.
    pub run: u32,
}

impl Spec {
    /// The length of the runs that this pass leaves.
    pub const fn leaves(&self) -> u32 {
        if self.run == 0 { BLOCK } else { self.run.saturating_mul(2) }
    }

    /// Whether the rows are sorted after this pass.
    pub const fn is_last(&self) -> bool {
        self.leaves() >= self.len
    }
}

/// The passes that sort, in order: `spec` with each length of runs.
pub fn passes(spec: &Spec) -> Vec<Spec> {
    let mut passes = vec![Spec { run: 0, ..spec.clone() }];
    while let Some(last) = passes.last().filter(|pass| !pass.is_last()) {
        passes.push(Spec { run: last.leaves(), ..last.clone() });
    }
    passes
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let scalar = spec.scalar.wgsl();
    let what = if spec.run == 0 { "blocks" } else { "merge" };
    let mut composer = Composer::new(NAME, format!("{what} of {scalar}"));
    composer.source(include_str!("sort.wgsl"));
    composer.hook(
        "key_of",
        match spec.scalar {
            Scalar::F32 => "key_f32",
            Scalar::I32 => "key_i32",
            Scalar::U32 => "key_u32",
        },
    );
    let total = u64::from(spec.outer) * u64::from(spec.len) * u64::from(spec.inner);
    let count = u32::try_from(total)
        .map_err(|_| Unsupported::new(NAME, format!("{total} elements are too many")))?;
    composer.u32("count", count).u32("len", spec.len).u32("inner", spec.inner);
    composer.u32("keep", spec.keep).u32("run", spec.run);
    composer.u32("out_len", if spec.is_last() { spec.keep } else { spec.len });
    composer.u32("flip", if spec.largest { u32::MAX } else { 0 });
    composer.constant("WIDTH", 64).constant("BLOCK", BLOCK);
    composer.read("x", scalar);
    if spec.run > 0 {
        composer.read("order", "i32");
    }
    composer.write("result", "i32");
    let entry = if spec.run == 0 { "sort_block" } else { "sort_merge" };
    Ok(vec![composer.finish(entry, 64, total.div_ceil(64), Needs::default(), caps)?])
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

/// What the output holds after this pass, whatever the passes before did; 0 where nothing is
/// written.
///
/// # Panics
/// Where the input is not that of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let (len, inner, keep) = (spec.len as usize, spec.inner as usize, spec.keep as usize);
    let out_len = if spec.is_last() { keep } else { len };
    let mut out = vec![0; spec.outer as usize * out_len * inner];
    let key = |at: usize| match inputs[0] {
        Data::F32(x) if x[at].is_nan() => f64::NAN,
        Data::F32(x) => f64::from(x[at]),
        Data::I32(x) => f64::from(x[at]),
        Data::U32(x) => f64::from(x[at]),
    };
    for row in 0..spec.outer as usize * inner {
        let (o, i) = (row / inner, row % inner);
        for start in (0..len).step_by(spec.leaves() as usize) {
            let end = len.min(start + spec.leaves() as usize);
            let mut run: Vec<usize> = (start..end).collect();
            run.sort_by(|&a, &b| {
                let (a, b) = (key((o * len + a) * inner + i), key((o * len + b) * inner + i));
                let rising = a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
                if spec.largest { rising.reverse() } else { rising }
            });
            for (place, position) in run.into_iter().enumerate().take(keep) {
                out[(o * out_len + start + place) * inner + i] = position as i32;
            }
        }
    }
    Data::I32(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn reference_matches_a_table() {
        let spec = Spec {
            scalar: Scalar::F32,
            largest: true,
            outer: 1,
            len: 5,
            inner: 1,
            keep: 4,
            run: 0,
        };
        let x = [Data::F32(vec![1.0, 3.0, f32::NAN, -0.0, 3.0])];
        assert_eq!(reference(&spec, &x).i32(), [2, 1, 4, 0]);
        let smallest = Spec { largest: false, ..spec };
        assert_eq!(reference(&smallest, &x).i32(), [3, 0, 1, 4]);
        let pairs = Spec { outer: 2, len: 2, inner: 2, keep: 1, ..smallest };
        let x = [Data::I32(vec![5, 1, 4, 2, 7, 7, 7, 6])];
        let pairs = Spec { scalar: Scalar::I32, ..pairs };
        assert_eq!(reference(&pairs, &x).i32(), [1, 0, 0, 1]);
    }

    #[test]
    fn runs_double_until_the_row_is_one() {
        let spec = Spec {
            scalar: Scalar::F32,
            largest: true,
            outer: 1,
            len: 4 * BLOCK + 1,
            inner: 1,
            keep: 1,
            run: 0,
        };
        let runs: Vec<u32> = passes(&spec).iter().map(|pass| pass.run).collect();
        assert_eq!(runs, [0, BLOCK, 2 * BLOCK, 4 * BLOCK]);
        assert_eq!(passes(&Spec { len: BLOCK, ..spec }).len(), 1);
    }

    #[test]
    fn every_variant_is_valid() {
        for scalar in [Scalar::F32, Scalar::I32, Scalar::U32] {
            for run in [0, BLOCK] {
                let (outer, len, inner, keep) = (2, 100, 3, 7);
                let spec = Spec { scalar, largest: true, outer, len, inner, keep, run };
                check::variants(|caps| variants(&spec, caps));
            }
        }
    }
}
