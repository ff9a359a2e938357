use gw_shaders::data::Data;
use gw_shaders::expr::{Binary, Expr, Instr, Narrow, Unary};
use gw_shaders::kernel::Scalar;
use gw_shaders::layout::View;
use gw_shaders::pointwise::{Spec, reference, variants};

use crate::harness::{Random, Tolerance, agree};

fn copy(shape: &[u32], input: View, output: View) -> Spec {
    let expr = Expr::identity(Scalar::F32);
    Spec { shape: shape.to_vec(), inputs: vec![input], output, expr }
}

fn check(spec: &Spec, inputs: &[Data], tolerance: Tolerance) {
    let expected = reference(spec, inputs);
    agree(|caps| variants(spec, caps), inputs, &[expected], tolerance);
}

/// One expression over one dense axis.
fn over(expr: Expr, inputs: &[Data], tolerance: Tolerance) {
    let shape = vec![u32::try_from(inputs[0].len()).expect("a small case")];
    let dense = View::dense(&shape);
    let spec = Spec { inputs: vec![dense.clone(); inputs.len()], output: dense, shape, expr };
    check(&spec, inputs, tolerance);
}

const INF: f32 = f32::INFINITY;

/// What an operation is defined on, with its ends.
fn domain(op: Unary) -> Vec<f32> {
    let wide =
        vec![-INF, -1e4, -100.0, -88.0, -10.0, -2.5, -1.5, -0.5, -0.1, -1e-3, 0.0, 1e-3, 0.1]
            .into_iter()
            .chain([
                0.3,
                0.5,
                0.75,
                1.0,
                1.5,
                2.5,
                4.0,
                10.0,
                20.0,
                88.0,
                100.0,
                1e4,
                INF,
                f32::NAN,
            ]);
    let steps = |from: f32, to: f32| (0..=64).map(move |i| from + (to - from) * i as f32 / 64.0);
    match op {
        Unary::Exp | Unary::Sinh | Unary::Cosh => {
            steps(-80.0, 80.0).chain(steps(-1.0, 1.0)).collect()
        }
        Unary::Sqrt | Unary::Log => steps(0.0, 3.0).chain([1e-30, 1e30, 100.0]).collect(),
        Unary::Reciprocal => steps(0.1, 30.0).chain([-4.0]).collect(),
        Unary::Sin | Unary::Cos => steps(-6.0, 6.0).chain([100.0, -1000.5, 1e4]).collect(),
        Unary::Tan | Unary::Asin | Unary::Acos | Unary::Atanh => steps(-0.99, 0.99).collect(),
        Unary::Atan | Unary::Asinh => steps(-30.0, 30.0).chain([1e-3, 1e5]).collect(),
        Unary::Acosh => steps(1.0, 30.0).chain([1e5, 1e15]).collect(),
        Unary::Erf => wide.chain(steps(-4.5, 4.5)).collect(),
        Unary::Softplus => steps(-100.0, 100.0).collect(),
        Unary::Relu => steps(-3.0, 3.0).collect(),
        Unary::Neg | Unary::Abs | Unary::Not | Unary::IsNan | Unary::IsInf => wide.collect(),
        Unary::Tanh | Unary::Sigmoid => {
            wide.filter(|x| x.is_finite()).chain(steps(-12.0, 12.0)).collect()
        }
        Unary::Floor | Unary::Ceil | Unary::Round | Unary::Sign => {
            wide.filter(|x| x.is_finite()).collect()
        }
        Unary::Bits => wide.filter(|x| !x.is_nan()).collect(),
        // See `narrowing_is_exact`; integers are below.
        Unary::Narrow(_) | Unary::BitNot => Vec::new(),
    }
}

/// Drivers approximate these; the Vulkan specification allows some a good deal more.
fn tolerance(op: Unary) -> Tolerance {
    match op {
        Unary::Abs
        | Unary::Neg
        | Unary::Floor
        | Unary::Ceil
        | Unary::Round
        | Unary::Sign
        | Unary::Relu
        | Unary::Not
        | Unary::IsNan
        | Unary::IsInf
        | Unary::Bits
        | Unary::Narrow(_)
        | Unary::BitNot => Tolerance::EXACT,
        // Two minimax polynomials and one exponential.
        Unary::Erf | Unary::Tanh | Unary::Sigmoid => Tolerance::of(1e-6, 3e-7),
        Unary::Sqrt | Unary::Reciprocal => Tolerance::of(1e-6, 0.0),
        // Mesa's exponential is exact to 2^-18 or so of a large argument.
        Unary::Exp | Unary::Sinh | Unary::Cosh => Tolerance::of(2e-5, 1e-37),
        _ => Tolerance::of(1e-5, 2e-6),
    }
}

#[test]
fn unary_operations_agree() {
    for op in Unary::ALL {
        let domain = domain(op);
        if !domain.is_empty() {
            over(Expr::unary(op, Scalar::F32), &[Data::F32(domain)], tolerance(op));
        }
    }
    let whole = Data::I32(vec![0, 1, -1, 7, -7, i32::MAX, i32::MIN]);
    for op in Unary::ALL.into_iter().filter(|op| op.result(Scalar::I32).is_some()) {
        over(Expr::unary(op, Scalar::I32), std::slice::from_ref(&whole), Tolerance::EXACT);
    }
}

#[test]
fn narrowing_is_exact() {
    for narrow in Narrow::ALL {
        // Around each exponent: halves, a little more, and what every format lacks.
        let mut values = vec![0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX];
        for exponent in -30..=20 {
            for factor in [1.0, 1.031_25, 1.0625, 1.25, 1.3125, 1.5, 1.75, 1.937_5, -1.000_488_3] {
                values.push(factor * 2f32.powi(exponent));
            }
        }
        let expr = Expr::unary(Unary::Narrow(narrow), Scalar::F32);
        over(expr, &[Data::F32(values)], Tolerance::EXACT);
    }
}

/// Every pair of `values`.
fn pairs<T: Copy>(values: &[T]) -> (Vec<T>, Vec<T>) {
    values.iter().flat_map(|&a| values.iter().map(move |&b| (a, b))).unzip()
}

#[test]
fn binary_operations_agree() {
    let (a, b) = pairs(&[-8.5f32, -3.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 3.0, 7.25]);
    for op in Binary::ALL.into_iter().filter(|op| op.result(Scalar::F32).is_some()) {
        let tolerance = match op {
            // A logarithm times an exponent: the error grows with the result.
            Binary::Pow => Tolerance::of(2e-5, 1e-6),
            Binary::Div | Binary::Mod | Binary::Fmod => Tolerance::of(1e-6, 2e-6),
            _ => Tolerance::EXACT,
        };
        let inputs = [Data::F32(a.clone()), Data::F32(b.clone())];
        over(Expr::binary(op, Scalar::F32), &inputs, tolerance);
    }
    let (a, b) = pairs(&[i32::MIN, -9, -3, -1, 0, 1, 2, 5, 31, 32, i32::MAX]);
    let (ua, ub) = pairs(&[0u32, 1, 2, 5, 31, 32, 40, u32::MAX]);
    for op in Binary::ALL {
        let inputs = [Data::I32(a.clone()), Data::I32(b.clone())];
        over(Expr::binary(op, Scalar::I32), &inputs, Tolerance::EXACT);
        let inputs = [Data::U32(ua.clone()), Data::U32(ub.clone())];
        over(Expr::binary(op, Scalar::U32), &inputs, Tolerance::EXACT);
    }
}

#[test]
fn nan_wins_in_minimum_and_maximum() {
    let a = Data::F32(vec![f32::NAN, 1.0, f32::NAN, 2.0]);
    let b = Data::F32(vec![1.0, f32::NAN, f32::NAN, 1.0]);
    for op in [Binary::Min, Binary::Max] {
        over(Expr::binary(op, Scalar::F32), &[a.clone(), b.clone()], Tolerance::EXACT);
    }
}

#[test]
fn casts_and_selections_agree() {
    let floats = vec![-3e9, -2.7, -0.5, 0.0, 0.5, 2.7, 1e6, 3e9, f32::NAN];
    for to in [Scalar::I32, Scalar::U32, Scalar::F32] {
        let mut expr = Expr::new(vec![Scalar::F32]);
        expr.push(Instr::Cast(to, 0));
        over(expr, &[Data::F32(floats.clone())], Tolerance::EXACT);
    }
    let mut expr = Expr::new(vec![Scalar::U32, Scalar::I32, Scalar::I32]);
    expr.push(Instr::Select(0, 1, 2));
    let inputs = [Data::U32(vec![0, 1, 7]), Data::I32(vec![1, 2, 3]), Data::I32(vec![-1, -2, -3])];
    over(expr, &inputs, Tolerance::EXACT);
    let mut odd = Expr::new(vec![Scalar::F32]);
    let infinite = odd.constant(Scalar::F32, f64::INFINITY);
    odd.push(Instr::Binary(Binary::Add, 0, infinite));
    over(odd, &[Data::F32(vec![1.0, -1.0])], Tolerance::EXACT);
}

#[test]
fn copies_follow_any_strides() {
    let mut random = Random::new(5);
    let data = [random.floats(5000)];
    let dense = |shape: &[u32]| View::dense(shape);
    let view = |offset, strides: &[i32]| View { offset, strides: strides.to_vec() };
    let cases = [
        copy(&[], dense(&[]), dense(&[])),
        copy(&[0], dense(&[0]), dense(&[0])),
        copy(&[3, 0], dense(&[3, 0]), dense(&[3, 0])),
        copy(&[257], dense(&[257]), dense(&[257])),
        copy(&[1024], dense(&[1024]), dense(&[1024])),
        copy(&[7, 5], view(0, &[1, 7]), dense(&[7, 5])),
        copy(&[6, 8], view(4, &[16, 1]), dense(&[6, 8])),
        copy(&[6, 8], view(3, &[16, 1]), dense(&[6, 8])),
        copy(&[6, 8], view(47, &[-8, -1]), dense(&[6, 8])),
        copy(&[6, 8], dense(&[6, 8]), view(12, &[20, 1])),
        copy(&[4, 3, 8], view(0, &[0, 1, 0]), dense(&[4, 3, 8])),
        copy(&[2, 3, 4, 5], view(0, &[60, 5, 15, 1]), dense(&[2, 3, 4, 5])),
        copy(&[2, 2, 2, 2, 2, 3], view(7, &[1, 2, 4, 8, 16, 32]), dense(&[2, 2, 2, 2, 2, 3])),
    ];
    for spec in cases {
        check(&spec, &data, Tolerance::EXACT);
    }
}

#[test]
fn broadcasts_agree() {
    let mut random = Random::new(6);
    let shapes: [(&[u32], &[u32], &[u32]); 5] = [
        (&[4, 8], &[8], &[4, 8]),
        (&[4, 1], &[1, 8], &[4, 8]),
        (&[], &[3, 5], &[3, 5]),
        (&[2, 1, 3, 4], &[2, 5, 1, 1], &[2, 5, 3, 4]),
        (&[2, 1, 3, 7], &[2, 5, 1, 7], &[2, 5, 3, 7]),
    ];
    for (a, b, out) in shapes {
        let spec = Spec {
            shape: out.to_vec(),
            inputs: vec![View::broadcast(a, out), View::broadcast(b, out)],
            output: View::dense(out),
            expr: Expr::binary(Binary::Mul, Scalar::F32),
        };
        let size = |shape: &[u32]| shape.iter().product::<u32>() as usize;
        check(&spec, &[random.floats(size(a)), random.floats(size(b))], Tolerance::EXACT);
    }
}

#[test]
fn grids_of_two_dimensions_cover_everything() {
    // More than 65535 workgroups of 64, with a byte of payload each.
    let count = 65_535 * 64 + 129;
    let expr = Expr::unary(Unary::Neg, Scalar::F32);
    let shape = vec![count];
    let every = View { offset: 0, strides: vec![0] };
    let spec = Spec { inputs: vec![every], output: View::dense(&shape), shape, expr };
    check(&spec, &[Data::F32(vec![3.0])], Tolerance::EXACT);
}
