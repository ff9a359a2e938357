use gw_shaders::data::Data;
use gw_shaders::resample::{Spec, reference, variants};

use crate::harness::{Random, Tolerance, agree};

#[test]
fn resampled_axes_agree() {
    // A few products of numbers below one are added in f32.
    let tolerance = Tolerance::of(1e-6, 1e-6);
    let mut random = Random::new(1);
    for (outer, axis, inner, count, taps) in [
        (1, 1, 1, 1, 1),
        (3, 5, 1, 9, 2),
        (2, 7, 4, 3, 6),
        (2, 7, 6, 16, 4),
        (1, 9, 8, 9, 2),
        (1, 3, 2, 0, 2),
        (0, 3, 2, 5, 2),
    ] {
        let spec = Spec { outer, axis, inner, count, taps };
        // From one before the first to one after the last.
        let places = random.integers((count * taps) as usize, axis + 2);
        let places = Data::I32(places.into_iter().map(|place| place - 1).collect());
        let x = random.floats((outer * axis * inner) as usize);
        let inputs = [x, places, random.floats((count * taps) as usize)];
        let expected = reference(&spec, &inputs);
        agree(|caps| variants(&spec, caps), &inputs, &[expected], tolerance);
    }
}
