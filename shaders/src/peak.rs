//! `out[i] = 4 (f^n(x[i]) + f^n(x[i] + 1) + f^n(x[i] + 2))` with `f(y) = factor y + term`: the most
//! arithmetic that an adapter does, the roof that steps are measured by.
//!
//! No model computes this. Each invocation walks twelve chains, and nothing but arithmetic
//! bounds it.

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::kernel::{Caps, Dispatch, Needs, Unsupported};

/// Invocations of a workgroup.
const WIDTH: u32 = 64;

/// Links of a chain that one round of the loop adds.
const UNROLLED: u32 = 16;

/// What to compute.
///
/// Bindings: x `[groups * 64]`, the output, both `F32`.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Workgroups.
    pub groups: u32,
    /// Rounds of sixteen links.
    pub rounds: u32,
    /// Of a link.
    pub factor: f32,
    /// Of a link.
    pub term: f32,
}

impl Spec {
    /// The elements of x and of the output.
    pub const fn elements(&self) -> u64 {
        self.groups as u64 * WIDTH as u64
    }

    /// Operations, two per multiply-add.
    pub const fn flops(&self) -> u64 {
        self.elements() * self.rounds as u64 * UNROLLED as u64 * 12 * 2
    }
}

/// Its one variant.
///
/// # Errors
/// Where the adapter lacks what it needs.
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    let mut composer = Composer::new("peak", "multiply-adds");
    composer
        .source(include_str!("peak.wgsl"))
        .constant("WIDTH", WIDTH)
        .constant("UNROLLED", UNROLLED);
    composer.u32("rounds", spec.rounds).f32("factor", spec.factor).f32("term", spec.term);
    composer.read("x", "f32").write("result", "f32").turns(u64::from(spec.rounds) + 2);
    composer.finish("peak_chains", WIDTH, spec.groups.into(), Needs::default(), caps)
}

/// What the output holds.
///
/// # Panics
/// Where the input is not that of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let chain = |start: f32| {
        (0..spec.rounds * UNROLLED)
            .fold(f64::from(start), |y, _| y * f64::from(spec.factor) + f64::from(spec.term))
    };
    let sum = |&x: &f32| (4.0 * (chain(x) + chain(x + 1.0) + chain(x + 2.0))) as f32;
    Data::F32(borrowed(inputs)[0].f32().iter().map(sum).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn reference_matches_a_table() {
        let spec = Spec { groups: 1, rounds: 1, factor: 1.0, term: 0.5 };
        // Each of sixteen links adds a half.
        assert_eq!(reference(&spec, &[Data::F32(vec![1.0])]).f32(), [4.0 * (9.0 + 10.0 + 11.0)]);
        assert_eq!(spec.flops(), 64 * 16 * 24);
    }

    #[test]
    fn every_variant_is_valid() {
        let spec = Spec { groups: 2, rounds: 3, factor: 0.5, term: 1.0 };
        check::variants(|caps| dispatch(&spec, caps).map(|made| vec![made]));
    }
}
