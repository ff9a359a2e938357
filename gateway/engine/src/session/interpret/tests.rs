use gw_shaders::attention::{Counts, Mask, MaskView, Rows, Window};
use gw_shaders::data::Data;
use gw_shaders::expr::{Binary, Expr, Instr, Unary};
use gw_shaders::gemm::{Epilogue, Weights, pack_f32, pack_halves, pack_i8};
use gw_shaders::kernel::Scalar;
use gw_shaders::layout::{Matrix, View};
use gw_shaders::{attention as attention_family, conv, gemm, pointwise as pointwise_family};

use super::product::Product;
use super::{attention, convolution, pointwise};

/// Numbers from -1 to 1 that follow no pattern.
fn floats(count: usize, seed: usize) -> Data {
    let value = |index: usize| ((index + 31 * seed) as f32 * 0.618_034).fract() * 2.0 - 1.0;
    Data::F32((0..count).map(value).collect())
}

/// Sums of up to a few hundred products of numbers below one, in another order and width.
fn assert_close(given: &Data, due: &Data, what: &str) {
    let (given, due) = (given.f32(), due.f32());
    assert!(given.len() >= due.len(), "{what}");
    for (index, (given, due)) in given.iter().zip(due).enumerate() {
        assert!((given - due).abs() <= 2e-5, "{what}: {given} at {index}, not {due}");
    }
}

fn refs(inputs: &[Data]) -> Vec<&Data> {
    inputs.iter().collect()
}

/// `relu(sum + per column) - per cell`.
fn fused(batch: [u32; 2], m: u32, n: u32) -> Epilogue {
    let mut expr = Expr::new(vec![Scalar::F32; 3]);
    let biased = expr.push(Instr::Binary(Binary::Add, 0, 1));
    let positive = expr.push(Instr::Unary(Unary::Relu, biased));
    expr.push(Instr::Binary(Binary::Sub, positive, 2));
    Epilogue { expr, inputs: vec![Matrix::per_column(), Matrix::dense(batch, m, n)] }
}

#[test]
fn products_are_those_of_the_reference() {
    for (seed, (m, n, k)) in
        (0..).zip([(1, 1, 1), (1, 40, 9), (5, 70, 33), (3, 4, 0), (9, 5000, 3)])
    {
        for batch in [[1, 1], [2, 3]] {
            let [a, b] = [Matrix::dense(batch, m, k), Matrix::dense(batch, k, n)];
            let dense = gemm::Spec {
                batch,
                m,
                n,
                k,
                a,
                b: Weights::Strided(b),
                output: Matrix::dense(batch, m, n),
                epilogue: fused(batch, m, n),
            };
            let turned = Matrix::dense(batch, n, k).transposed();
            let shared = Matrix { batch: [0, 0], ..b };
            let apart = Matrix { offset: 3, row: (n + 2).cast_signed(), ..dense.output };
            let apart = Matrix { batch: [apart.batch[0] * 2, apart.batch[1] * 2 + 8], ..apart };
            let a_rows = Matrix::dense(batch, k, m).transposed();
            let specs = [
                dense.clone(),
                gemm::Spec { b: Weights::Strided(turned), ..dense.clone() },
                gemm::Spec { b: Weights::Strided(shared), a: a_rows, ..dense.clone() },
                gemm::Spec { a: Matrix { row: 0, ..a }, ..dense.clone() },
                gemm::Spec { output: apart, epilogue: Epilogue::identity(), ..dense },
            ];
            let entries = (batch[0] * batch[1]) as usize;
            let [m, n, k] = [m, n, k].map(|size| size as usize);
            for spec in specs {
                let inputs = [
                    floats(entries * m * k + 8, seed),
                    floats(entries * n * k + 8, seed + 1),
                    floats(n, seed + 2),
                    floats(entries * m * n, seed + 3),
                ];
                let inputs = &inputs[..2 + spec.epilogue.inputs.len()];
                let due = gemm::reference(&spec, inputs);
                let mut out = Data::F32(vec![0.0; due.len() + 8]);
                let inputs = refs(inputs);
                Product::new(&spec, None).run(inputs[0], Some(inputs[1]), &inputs[2..], &mut out);
                assert_close(&out, &due, &format!("{spec:?}"));
                // The same with the right-hand side as a weight.
                let held = [bytes::Bytes::copy_from_slice(inputs[1].bytes())];
                let mut out = Data::F32(vec![0.0; due.len() + 8]);
                Product::new(&spec, Some(&held)).run(inputs[0], None, &inputs[2..], &mut out);
                assert_close(&out, &due, &format!("with weights, {spec:?}"));
            }
        }
    }
}

#[test]
fn packed_weights_are_those_of_the_reference() {
    let (m, n, k) = (3, 70, 13);
    let spec = |b| gemm::Spec {
        batch: [1, 1],
        m,
        n,
        k,
        a: Matrix::dense([1, 1], m, k),
        b,
        output: Matrix::dense([1, 1], m, n),
        epilogue: fused([1, 1], m, n),
    };
    let weights = floats((n * k) as usize, 4);
    let small: Vec<i8> = weights.f32().iter().map(|value| (value * 100.0) as i8).collect();
    let scales = Data::F32((0..n).map(|column| 0.001 * (column % 7) as f32).collect());
    let words = Data::U32((0..n * 4).map(|word| word.wrapping_mul(2_654_435_761)).collect());
    let halves = |bits: fn(f32) -> u16| {
        let bits: Vec<u16> = weights.f32().iter().map(|&value| bits(value)).collect();
        Data::U32(pack_halves(&bits, k, n))
    };
    let f16s = halves(|value| half::f16::from_f32(value).to_bits());
    let bf16s = halves(|value| half::bf16::from_f32(value).to_bits());
    let pairs = (0..n).flat_map(|column| [0.01 * (column % 5) as f32, 8.0]).collect();
    let cases = [
        (Weights::PackedF32, vec![Data::F32(pack_f32(weights.f32(), k, n))]),
        (Weights::PackedF16, vec![f16s]),
        (Weights::PackedBf16, vec![bf16s]),
        (Weights::PackedI8, vec![Data::U32(pack_i8(&small, k, n)), scales.clone()]),
        (Weights::PackedU8, vec![Data::U32(pack_i8(&small, k, n)), scales]),
        (Weights::Blocks { bits: 4, block: 32 }, vec![words, Data::F32(pairs)]),
    ];
    for (b, right) in cases {
        let spec = spec(b);
        let a = floats((m * k) as usize, 1);
        let further = [floats(n as usize, 2), floats((m * n) as usize, 3)];
        let all: Vec<Data> =
            std::iter::once(a.clone()).chain(right.clone()).chain(further.clone()).collect();
        let due = gemm::reference(&spec, &all);
        let held: Vec<_> =
            right.iter().map(|data| bytes::Bytes::copy_from_slice(data.bytes())).collect();
        let mut out = Data::F32(vec![0.0; due.len()]);
        Product::new(&spec, Some(&held)).run(&a, None, &refs(&further), &mut out);
        assert_close(&out, &due, &format!("{b:?}"));
    }
}

#[test]
fn convolutions_are_those_of_the_reference() {
    let windows = conv::Windows {
        input: [7, 6],
        output: [7, 6],
        kernel: [3, 3],
        strides: [1, 1],
        pads: [1, 1],
        dilations: [1, 1],
    };
    let plain = conv::Spec {
        batch: 2,
        groups: 1,
        channels_in: 3,
        channels_out: 5,
        windows,
        epilogue: Epilogue::identity(),
    };
    let one = conv::Windows { kernel: [1, 1], pads: [0, 0], ..windows };
    let apart = conv::Windows { output: [3, 4], strides: [3, 2], pads: [2, 1], ..windows };
    let wide = conv::Windows { output: [5, 4], dilations: [2, 2], ..windows };
    let low = conv::Windows { kernel: [3, 2], output: [7, 7], ..windows };
    let with = |windows| conv::Spec { windows, ..plain.clone() };
    let specs = [
        plain.clone(),
        with(one),
        with(apart),
        with(wide),
        conv::Spec { groups: 3, channels_out: 6, ..plain.clone() },
        conv::Spec { groups: 3, channels_out: 3, ..with(low) },
    ];
    for mut spec in specs {
        let mut expr = Expr::binary(Binary::Add, Scalar::F32);
        expr = expr.then(&Expr::binary(Binary::Mul, Scalar::F32), 0);
        spec.epilogue = Epilogue { expr, inputs: vec![spec.per_channel(), spec.like_output()] };
        let [kh, kw] = spec.windows.kernel;
        let weights = spec.channels_out * spec.channels_in / spec.groups * kh * kw;
        let out = spec.batch * spec.channels_out * spec.windows.output[0] * spec.windows.output[1];
        let x = spec.batch * spec.channels_in * spec.windows.input[0] * spec.windows.input[1];
        let inputs = [x, weights, spec.channels_out, out];
        let inputs: Vec<Data> =
            inputs.into_iter().zip(1..).map(|(len, seed)| floats(len as usize, seed)).collect();
        let due = conv::reference(&spec, &inputs);
        let mut given = Data::F32(vec![0.0; due.len()]);
        convolution::run(&spec, &refs(&inputs), &mut given);
        assert_close(&given, &due, &format!("{spec:?}"));
    }
}

#[test]
fn views_are_followed_like_the_reference_does() {
    let views = |strides: [&[i32]; 3], offsets: [u32; 3]| {
        let mut views = strides
            .iter()
            .zip(offsets)
            .map(|(strides, offset)| View { offset, strides: strides.to_vec() });
        [0; 3].map(|_| views.next().unwrap())
    };
    let cases: [(&[u32], [View; 3]); 4] = [
        (&[], views([&[], &[], &[]], [2, 1, 0])),
        (&[9000], views([&[1], &[-1], &[1]], [0, 8999, 3])),
        (&[40, 3, 50], views([&[150, 50, 1], &[0, 1, 3], &[1, 2000, 40]], [0, 0, 0])),
        (&[5, 0], views([&[1, 1], &[0, 0], &[1, 1]], [0, 0, 0])),
    ];
    for (shape, [a, b, output]) in cases {
        let spec = pointwise_family::Spec {
            shape: shape.to_vec(),
            inputs: vec![a, b],
            output,
            expr: Expr::binary(Binary::Sub, Scalar::F32),
        };
        let inputs = [floats(9100, 1), floats(9100, 2)];
        let due = pointwise_family::reference(&spec, &inputs);
        let mut given = Data::F32(vec![0.0; due.len()]);
        pointwise::run(&spec, &refs(&inputs), &mut given);
        assert_eq!(given, due, "{spec:?}");
    }
}

#[test]
fn attention_is_that_of_the_reference() {
    let (batch, heads, kv_heads, queries, keys, dim) = (2u32, 4u32, 2u32, 5u32, 7u32, 11u32);
    let rows = |heads: u32, rows: u32| Rows {
        offset: 0,
        batch: (heads * rows * dim).cast_signed(),
        head: (rows * dim).cast_signed(),
        row: dim.cast_signed(),
    };
    let view = MaskView { offset: 0, batch: 0, head: 0, query: keys.cast_signed(), key: 1 };
    let some = Data::F32((0..queries * keys).map(|at| -((at % 3) as f32)).collect());
    let hidden =
        Data::U32((0..queries * keys).map(|at| u32::from(at % 4 != 0 && at > 7)).collect());
    // Kernels declare the mask as words.
    let as_words = Data::from_bytes(Scalar::U32, some.bytes());
    let mut low = Expr::new(vec![Scalar::U32]);
    let float = low.push(Instr::Cast(Scalar::F32, 0));
    low.push(Instr::Unary(Unary::Neg, float));
    let cases = [
        (Mask::None, None, Window::ALL, None),
        (Mask::None, None, Window::causal(1), None),
        (Mask::None, None, Window { first: Some(-1), last: Some(2) }, None),
        (Mask::Additive(view), Some((some, as_words)), Window::ALL, None),
        (Mask::Additive(view), Some((hidden.clone(), hidden.clone())), Window::ALL, Some(low)),
        (Mask::Boolean(view), Some((hidden.clone(), hidden)), Window::causal(-2), None),
    ];
    for (mask, masks, window, mask_expr) in cases {
        let ways = [None, Some(Counts::Start), Some(Counts::End)];
        for (nan_to_zero, counts) in ways.into_iter().flat_map(|way| [(true, way), (false, way)]) {
            let spec = attention_family::Spec {
                batch,
                heads,
                kv_heads,
                queries,
                keys,
                head_dim: dim,
                value_dim: dim,
                scale: 0.3,
                q: rows(heads, queries),
                k: rows(kv_heads, keys),
                v: rows(kv_heads, keys),
                output: rows(heads, queries),
                mask,
                mask_expr: mask_expr.clone(),
                window,
                counts,
                nan_to_zero,
            };
            let count = |heads: u32, rows: u32| (batch * heads * rows * dim) as usize;
            let mut inputs = vec![
                floats(count(heads, queries), 1),
                floats(count(kv_heads, keys), 2),
                floats(count(kv_heads, keys), 3),
            ];
            let (mut due_inputs, mut given) =
                (inputs.clone(), Data::F32(vec![0.0; count(heads, queries)]));
            if let Some((typed, words)) = &masks {
                due_inputs.push(typed.clone());
                inputs.push(words.clone());
            }
            if counts.is_some() {
                let counts = Data::I32(vec![4, 7]);
                due_inputs.push(counts.clone());
                inputs.push(counts);
            }
            let due = attention_family::reference(&spec, &due_inputs);
            attention::run(&spec, &refs(&inputs), &mut given);
            for (index, (given, due)) in given.f32().iter().zip(due.f32()).enumerate() {
                let same = given.is_nan() && due.is_nan() || (given - due).abs() <= 1e-6;
                assert!(same, "{given} at {index}, not {due}: {spec:?}");
            }
        }
    }
}
