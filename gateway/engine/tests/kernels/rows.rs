//! Norm, softmax, reduce: the families that fold rows.

use gw_shaders::data::Data;
use gw_shaders::kernel::Scalar;
use gw_shaders::{norm, reduce, softmax};

use crate::harness::{Random, Tolerance, agree};

#[test]
fn norms_agree() {
    // A division and an inverse square root of a sum of a few hundred squares.
    let tolerance = Tolerance::of(1e-5, 1e-5);
    let mut random = Random::new(1);
    for kind in [norm::Kind::Layer, norm::Kind::Rms] {
        for (rows, cols) in [(0, 4), (1, 1), (3, 7), (9, 64), (8, 65), (5, 384)] {
            for full in [false, true] {
                let bias = full && kind == norm::Kind::Layer;
                let form = norm::Form { kind, eps: 1e-5, scale: full, bias };
                let spec = norm::Spec { form, rows, cols };
                let mut inputs: Vec<Data> =
                    (0..form.operands()).map(|_| random.floats(cols as usize)).collect();
                inputs.push(random.floats((rows * cols) as usize));
                let expected = norm::reference(&spec, &inputs);
                agree(|caps| norm::variants(&spec, caps), &inputs, &[expected], tolerance);
            }
        }
    }
}

#[test]
fn a_row_far_from_zero_keeps_its_variance() {
    let form = norm::Form { kind: norm::Kind::Layer, eps: 0.0, scale: false, bias: false };
    let spec = norm::Spec { form, rows: 1, cols: 256 };
    // One part in 2^24 of 1000, against a spread of one.
    let tolerance = Tolerance::of(1e-3, 1e-3);
    let row: Vec<f32> = (0..256u16).map(|i| 1000.0 + f32::from(i) / 256.0).collect();
    let expected = norm::reference(&spec, &[Data::F32(row.clone())]);
    agree(|caps| norm::variants(&spec, caps), &[Data::F32(row)], &[expected], tolerance);
}

#[test]
fn softmaxes_agree() {
    // Exponentials of drivers are good to about 2^-18.
    let tolerance = Tolerance::of(1e-5, 5e-6);
    let mut random = Random::new(2);
    for (outer, len, inner) in
        [(0, 3, 1), (1, 1, 1), (2, 0, 3), (3, 5, 7), (9, 64, 1), (2, 65, 3), (1, 1000, 1)]
    {
        for log in [false, true] {
            let spec = softmax::Spec { outer, len, inner, log };
            let x: Vec<f32> = (0..outer * len * inner).map(|_| 30.0 * random.float()).collect();
            let inputs = [Data::F32(x)];
            let expected = softmax::reference(&spec, &inputs);
            agree(|caps| softmax::variants(&spec, caps), &inputs, &[expected], tolerance);
        }
    }
}

const SHAPES: [(u32, u32, u32); 6] =
    [(1, 1, 1), (3, 5, 7), (0, 4, 2), (4, 64, 1), (1, 1003, 1), (2, 33, 9)];

#[test]
fn folds_of_floats_agree() {
    use reduce::Op;
    // A thousand sums in parts of 32, a logarithm, a root.
    let tolerance = Tolerance::of(2e-5, 2e-5);
    let mut random = Random::new(3);
    let ops = [
        Op::Sum,
        Op::Mean,
        Op::Max,
        Op::Min,
        Op::Prod,
        Op::L1,
        Op::L2,
        Op::SumSquare,
        Op::LogSum,
        Op::LogSumExp,
        Op::ArgMax { last: false },
        Op::ArgMax { last: true },
        Op::ArgMin { last: false },
        Op::ArgMin { last: true },
    ];
    for op in ops {
        for (outer, reduced, inner) in SHAPES {
            let spec = reduce::Spec { op, scalar: Scalar::F32, outer, reduced, inner };
            let size = outer * reduced * inner;
            // Logarithms want positive sums; positions want equals.
            let x = (0..size).map(|_| 0.75 + 0.25 * (4.0 * random.float()).floor() / 4.0);
            let inputs = [Data::F32(x.collect())];
            let expected = reduce::reference(&spec, &inputs);
            agree(|caps| reduce::variants(&spec, caps), &inputs, &[expected], tolerance);
        }
    }
}

#[test]
fn folds_of_integers_agree() {
    use reduce::Op;
    let mut random = Random::new(4);
    for op in [Op::Sum, Op::Max, Op::Min, Op::L1, Op::SumSquare, Op::ArgMax { last: true }] {
        for (outer, reduced, inner) in SHAPES {
            let spec = reduce::Spec { op, scalar: Scalar::I32, outer, reduced, inner };
            let values = random.integers((outer * reduced * inner) as usize, 40);
            let inputs = [Data::I32(values.iter().map(|value| value - 20).collect())];
            let expected = reduce::reference(&spec, &inputs);
            let variants = |caps: &_| reduce::variants(&spec, caps);
            agree(variants, &inputs, &[expected], Tolerance::EXACT);
        }
    }
}

#[test]
fn folds_of_nothing_give_their_neutral_element() {
    use reduce::Op;
    for op in [Op::Sum, Op::Max, Op::Min, Op::Prod] {
        let spec = reduce::Spec { op, scalar: Scalar::F32, outer: 2, reduced: 0, inner: 3 };
        let inputs = [Data::F32(Vec::new())];
        let expected = reduce::reference(&spec, &inputs);
        agree(|caps| reduce::variants(&spec, caps), &inputs, &[expected], Tolerance::EXACT);
    }
}

#[test]
fn nan_is_the_extreme_of_a_row() {
    use reduce::Op;
    let inputs = [Data::F32(vec![1.0, f32::NAN, 3.0, f32::NAN])];
    for op in [Op::Max, Op::Min, Op::ArgMax { last: false }, Op::ArgMin { last: true }] {
        let spec = reduce::Spec { op, scalar: Scalar::F32, outer: 1, reduced: 4, inner: 1 };
        let expected = reduce::reference(&spec, &inputs);
        agree(|caps| reduce::variants(&spec, caps), &inputs, &[expected], Tolerance::EXACT);
    }
}
