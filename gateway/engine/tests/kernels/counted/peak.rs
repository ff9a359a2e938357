//! The kernel that measures what an adapter can do.

use gw_shaders::peak;

use crate::harness::{Random, Tolerance, agree};

#[test]
fn the_peak_computes_what_it_counts() {
    // Chains of 48 roundings that shrink by half each.
    let tolerance = Tolerance::of(1e-6, 1e-6);
    let spec = peak::Spec { groups: 3, rounds: 3, factor: 0.5, term: 1.0 };
    let x = Random::new(1).floats(usize::try_from(spec.elements()).unwrap());
    let expected = peak::reference(&spec, std::slice::from_ref(&x));
    let variants = |caps: &_| peak::dispatch(&spec, caps).map(|dispatch| vec![dispatch]);
    agree(variants, &[x], &[expected], tolerance);
}
