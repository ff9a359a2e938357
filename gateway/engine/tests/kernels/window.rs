//! Pooling, its opposite, and local response normalisation.

use gw_shaders::data::Data;
use gw_shaders::kernel::Scalar;
use gw_shaders::{fold, lrn, pool};

use crate::harness::{Random, Tolerance, agree};

#[test]
fn pools_agree() {
    // Some numbers are added in f32, or powers of them, and divided.
    let tolerance = Tolerance::of(1e-5, 1e-6);
    let mut random = Random::new(1);
    let base = pool::Spec {
        kind: pool::Kind::MAX_F32,
        planes: 3,
        inner: 1,
        input: [1, 7, 9],
        output: [1, 7, 9],
        kernel: [1, 3, 3],
        strides: [1; 3],
        pads_begin: [0, 1, 1],
        pads_end: [0, 1, 1],
        dilations: [1; 3],
    };
    let cases = [
        base.clone(),
        pool::Spec { output: [1, 3, 5], strides: [1, 3, 2], ..base.clone() },
        // The last window of `ceil_mode` reaches past the padding.
        pool::Spec { output: [1, 4, 5], strides: [1, 2, 2], kernel: [1, 2, 2], ..base.clone() },
        pool::Spec { output: [1, 5, 7], dilations: [1, 2, 2], ..base.clone() },
        pool::Spec {
            output: [1; 3],
            kernel: [1, 7, 9],
            pads_begin: [0; 3],
            pads_end: [0; 3],
            ..base.clone()
        },
        pool::Spec {
            input: [4, 3, 5],
            output: [3, 2, 5],
            kernel: [2, 2, 3],
            pads_begin: [0, 0, 1],
            pads_end: [0, 0, 1],
            ..base.clone()
        },
        // Windows that lie in the padding.
        pool::Spec { output: [1, 9, 9], pads_begin: [0, 3, 1], ..base.clone() },
        pool::Spec { planes: 0, ..base.clone() },
        pool::Spec { planes: 2, inner: 6, ..base },
    ];
    for case in cases {
        let elements = case.planes * case.inner * case.input.iter().product::<u32>();
        let size = elements as usize;
        let floats = random.floats(size);
        // Few values, so that the largest is there more than once.
        let few = Data::I32(random.integers(size, 5).iter().map(|value| value - 4).collect());
        let kinds = [
            pool::Kind::MAX_F32,
            pool::Kind::Average { count_include_pad: false },
            pool::Kind::Average { count_include_pad: true },
            pool::Kind::Lp { p: 1 },
            pool::Kind::Lp { p: 2 },
            pool::Kind::Lp { p: 3 },
            pool::Kind::MaxPlace { scalar: Scalar::F32, column_major: false },
            pool::Kind::MaxPlace { scalar: Scalar::I32, column_major: true },
            pool::Kind::Max { scalar: Scalar::I32, lowest: (-128i32).cast_unsigned() },
        ];
        for (index, kind) in kinds.into_iter().enumerate() {
            if case.inner != 1 && matches!(kind, pool::Kind::MaxPlace { .. }) {
                continue;
            }
            let spec = pool::Spec { kind, ..case.clone() };
            let inputs = [if index < 7 { floats.clone() } else { few.clone() }];
            let expected = pool::reference(&spec, &inputs);
            agree(|caps| pool::variants(&spec, caps), &inputs, &[expected], tolerance);
        }
    }
}

#[test]
fn folds_agree() {
    // At most a dozen numbers below one are added in f32.
    let tolerance = Tolerance::of(1e-6, 1e-6);
    let mut random = Random::new(3);
    let base = fold::Spec {
        planes: 3,
        windows: [1, 4, 5],
        output: [1, 6, 7],
        kernel: [1, 3, 3],
        strides: [1; 3],
        pads: [0; 3],
        dilations: [1; 3],
    };
    let cases = [
        base.clone(),
        fold::Spec { output: [1, 9, 12], strides: [1, 2, 2], pads: [0, 0, 1], ..base.clone() },
        fold::Spec { output: [1, 8, 9], dilations: [1, 2, 2], ..base.clone() },
        fold::Spec { output: [1, 10, 13], strides: [1, 3, 3], kernel: [1, 2, 1], ..base.clone() },
        fold::Spec {
            windows: [2, 3, 2],
            output: [4, 5, 4],
            kernel: [2, 2, 3],
            strides: [2, 2, 1],
            pads: [0, 1, 0],
            ..base.clone()
        },
        fold::Spec { planes: 0, ..base.clone() },
        fold::Spec { windows: [1, 0, 5], ..base },
    ];
    for spec in cases {
        let sizes = [spec.windows, spec.kernel].concat();
        let inputs = [random.floats((spec.planes * sizes.iter().product::<u32>()) as usize)];
        let expected = fold::reference(&spec, &inputs);
        agree(|caps| fold::variants(&spec, caps), &inputs, &[expected], tolerance);
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
