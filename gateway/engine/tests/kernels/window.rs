//! Pooling and local response normalisation.

use gw_shaders::{lrn, pool};

use crate::harness::{Random, Tolerance, agree};

#[test]
fn pools_agree() {
    // Nine numbers are added in f32 and divided.
    let tolerance = Tolerance::of(1e-6, 1e-6);
    let mut random = Random::new(1);
    let base = pool::Spec {
        kind: pool::Kind::Max,
        planes: 3,
        input: [7, 9],
        output: [7, 9],
        kernel: [3, 3],
        strides: [1, 1],
        pads_begin: [1, 1],
        pads_end: [1, 1],
        dilations: [1, 1],
    };
    let cases = [
        base.clone(),
        pool::Spec { output: [3, 5], strides: [3, 2], ..base.clone() },
        // The last window of `ceil_mode` reaches past the padding.
        pool::Spec { output: [4, 5], strides: [2, 2], kernel: [2, 2], ..base.clone() },
        pool::Spec { output: [5, 7], dilations: [2, 2], ..base.clone() },
        pool::Spec {
            output: [1, 1],
            kernel: [7, 9],
            pads_begin: [0, 0],
            pads_end: [0, 0],
            ..base.clone()
        },
        pool::Spec { planes: 0, ..base },
    ];
    for case in cases {
        for kind in [
            pool::Kind::Max,
            pool::Kind::Average { count_include_pad: false },
            pool::Kind::Average { count_include_pad: true },
        ] {
            let spec = pool::Spec { kind, ..case.clone() };
            let size = spec.planes * spec.input[0] * spec.input[1];
            let inputs = [random.floats(size as usize)];
            let expected = pool::reference(&spec, &inputs);
            agree(|caps| pool::variants(&spec, caps), &inputs, &[expected], tolerance);
        }
    }
}

#[test]
fn response_norms_agree() {
    // One power, which drivers make of a logarithm and an exponential.
    let tolerance = Tolerance::of(1e-5, 1e-6);
    let mut random = Random::new(2);
    for (batch, channels, inner, size) in [(1, 1, 1, 1), (2, 5, 3, 3), (1, 4, 9, 2), (1, 3, 4, 9)] {
        let spec = lrn::Spec { batch, channels, inner, size, alpha: 0.5, beta: 0.75, bias: 1.0 };
        let inputs = [random.floats((batch * channels * inner) as usize)];
        let expected = lrn::reference(&spec, &inputs);
        agree(|caps| lrn::variants(&spec, caps), &inputs, &[expected], tolerance);
    }
}
