use gw_shaders::data::Data;
use gw_shaders::expr::{Binary, Expr, Instr, Unary};
use gw_shaders::gemm::{Epilogue, Spec, Weights, keeps_halves};
use gw_shaders::gemm::{pack_f32, pack_halves, pack_i8, reference, variants};
use gw_shaders::kernel::{Caps, Dispatch, Scalar};
use gw_shaders::layout::Matrix;
use gw_shaders::{dot, norm, normed};
use half::{bf16, f16};

use crate::harness::{Random, Tolerance, agree};

/// Up to 200 products of numbers below one in size, added in f32 in any order: about
/// sqrt(200) roundings of 2^-24 each, with room for drivers that do not fuse.
const SUMS: Tolerance = Tolerance::of(2e-5, 2e-5);

fn plain(batch: [u32; 2], m: u32, n: u32, k: u32) -> Spec {
    Spec {
        batch,
        m,
        n,
        k,
        a: Matrix::dense(batch, m, k),
        b: Weights::Strided(Matrix::dense(batch, k, n)),
        output: Matrix::dense(batch, m, n),
        epilogue: Epilogue::identity(),
    }
}

/// `relu(sum + per column) * per cell - per row`.
fn fused(batch: [u32; 2], m: u32, n: u32) -> Epilogue {
    let mut expr = Expr::new(vec![Scalar::F32; 4]);
    let biased = expr.push(Instr::Binary(Binary::Add, 0, 1));
    let positive = expr.push(Instr::Unary(Unary::Relu, biased));
    let scaled = expr.push(Instr::Binary(Binary::Mul, positive, 2));
    expr.push(Instr::Binary(Binary::Sub, scaled, 3));
    let rows = Matrix { row: 1, ..Matrix::scalar() };
    Epilogue { expr, inputs: vec![Matrix::per_column(), Matrix::dense(batch, m, n), rows] }
}

/// Numbers for every binding but the output.
fn operands(spec: &Spec, seed: u32) -> Vec<Data> {
    let mut random = Random::new(seed);
    let count = (spec.batch[0] * spec.batch[1]) as usize;
    let (m, n, k) = (spec.m as usize, spec.n as usize, spec.k as usize);
    // Room for offsets and for rows that lie apart.
    let mut inputs = vec![random.floats(count * (m + 2) * (k + 8) + 64)];
    match spec.b {
        Weights::Strided(_) => inputs.push(random.floats(count * (n + 8) * (k + 8) + 64)),
        Weights::PackedF32 => {
            let data = random.floats(n * k);
            inputs.push(Data::F32(pack_f32(data.f32(), spec.k, spec.n)));
        }
        Weights::PackedF16 | Weights::PackedBf16 => {
            let bits = halves(spec.b, random.floats(n * k).f32());
            inputs.push(Data::U32(pack_halves(&bits, spec.k, spec.n)));
        }
        Weights::PackedI8 | Weights::PackedU8 => {
            let bytes = random.bytes(n * k);
            inputs.push(Data::U32(pack_i8(&bytes, spec.k, spec.n)));
            let scales = (0..n).map(|_| (1.5 + random.float()) / 128.0).collect();
            inputs.push(Data::F32(scales));
        }
        Weights::Blocks { bits, block } => {
            let blocks = n * spec.k.div_ceil(block) as usize;
            let words = blocks * (block * bits / 32) as usize;
            let words = (0..words).map(|_| random.below(u32::MAX)).collect();
            inputs.push(Data::U32(words));
            let middle = (1u32 << (bits - 1)) as f32;
            let pair = |random: &mut Random| [random.float() / middle, middle + random.float()];
            let pairs = (0..blocks).flat_map(|_| pair(&mut random)).collect();
            inputs.push(Data::F32(pairs));
        }
    }
    for _ in &spec.epilogue.inputs {
        inputs.push(random.floats(count * m * n + m + n));
    }
    inputs
}

/// The bits of the nearest halves.
fn halves(kind: Weights, values: &[f32]) -> Vec<u16> {
    let bits = |&value: &f32| match kind {
        Weights::PackedF16 => f16::from_f32(value).to_bits(),
        _ => bf16::from_f32(value).to_bits(),
    };
    values.iter().map(bits).collect()
}

/// The packed forms that this adapter takes: where it expands halves, no product reads them.
fn packed_forms() -> Vec<Weights> {
    let mut forms = vec![Weights::PackedF32, Weights::PackedI8, Weights::PackedU8];
    if crate::device::shared().is_some_and(|device| keeps_halves(&device.caps())) {
        forms.extend([Weights::PackedF16, Weights::PackedBf16]);
    }
    forms
}

fn check(spec: &Spec, seed: u32) {
    let inputs = operands(spec, seed);
    let expected = reference(spec, &inputs);
    agree(|caps| variants(spec, caps), &inputs, &[expected], SUMS);
}

#[test]
fn row_major_weights_agree_at_edges_of_tiles() {
    let sizes = [
        (1, 1, 1),
        (1, 64, 8),
        (2, 5, 3),
        (4, 12, 4),
        (15, 63, 7),
        (16, 64, 16),
        (17, 65, 17),
        (33, 68, 36),
        (65, 128, 200),
    ];
    for (seed, (m, n, k)) in (0..).zip(sizes) {
        check(&plain([1, 1], m, n, k), seed);
    }
}

#[test]
fn the_tallest_tiles_of_large_products_agree() {
    let large = plain([1, 1], 515, 1028, 256);
    check(&large, 1);
    check(&Spec { b: Weights::PackedF32, epilogue: fused([1, 1], 515, 1028), ..large }, 2);
}

#[test]
fn empty_products_are_zero_or_nothing() {
    for (m, n, k) in [(0, 4, 4), (4, 0, 4), (4, 4, 0), (3, 5, 0)] {
        check(&plain([1, 1], m, n, k), 1);
    }
    check(&plain([0, 1], 4, 4, 4), 1);
}

#[test]
fn packed_weights_agree() {
    for (seed, (m, n, k)) in (0..).zip([(1, 3, 2), (3, 64, 8), (8, 100, 30), (40, 130, 33)]) {
        for b in packed_forms() {
            check(&Spec { b, ..plain([1, 1], m, n, k) }, seed);
        }
        for (bits, block) in [(4, 16), (4, 32), (8, 16), (8, 4)] {
            let b = Weights::Blocks { bits, block };
            check(&Spec { b, ..plain([1, 1], m, n, k) }, seed);
        }
    }
}

#[test]
fn transposed_weights_agree() {
    for (seed, (m, n, k)) in (0..).zip([(5, 9, 8), (17, 66, 12), (3, 7, 5)]) {
        let b = Weights::Strided(Matrix::dense([1, 1], n, k).transposed());
        check(&Spec { b, ..plain([1, 1], m, n, k) }, seed);
    }
}

#[test]
fn batches_broadcast_and_strides_are_followed() {
    let batched = plain([2, 3], 5, 8, 4);
    check(&batched, 1);
    let inner = Matrix { batch: [0, 32], ..Matrix::dense([2, 3], 4, 8) };
    check(&Spec { b: Weights::Strided(inner), ..batched.clone() }, 2);
    // Heads that lie side by side in one row, behind an offset.
    let heads = Matrix { offset: 8, batch: [60, 4], row: 12, col: 1 };
    let keys = Matrix { offset: 4, batch: [96, 4], row: 12, col: 1 }.transposed();
    let out = Matrix { offset: 0, batch: [120, 8], row: 24, col: 1 };
    let spec = Spec { a: heads, b: Weights::Strided(keys), output: out, ..batched.clone() };
    check(&spec, 3);
    let columns = Matrix { offset: 3, batch: [60, 20], row: 1, col: 5 };
    check(&Spec { a: columns, output: columns.with_rows_apart(), ..batched }, 4);
}

trait Apart {
    fn with_rows_apart(self) -> Self;
}

impl Apart for Matrix {
    /// Five rows of eight, stored by columns.
    fn with_rows_apart(self) -> Self {
        Self { offset: 3, batch: [120, 40], row: 1, col: 5 }
    }
}

#[test]
fn epilogues_agree() {
    for (seed, (m, n, k)) in (0..).zip([(3, 12, 5), (17, 64, 8), (9, 10, 3)]) {
        let spec = Spec { epilogue: fused([1, 1], m, n), ..plain([1, 1], m, n, k) };
        check(&spec, seed);
        check(&Spec { b: Weights::PackedI8, ..spec }, seed);
    }
    check(&Spec { epilogue: fused([2, 2], 3, 4), ..plain([2, 2], 3, 4, 4) }, 9);
}

/// Whether products normalise their rows on this adapter. Where they do not, a compiler may take
/// minutes for what they would be.
fn normalises() -> bool {
    let Some(device) = crate::device::shared() else { return false };
    let norm = norm::Form { kind: norm::Kind::Rms, eps: 0.0, scale: false, bias: false };
    let spec = normed::Spec { product: plain([1, 1], 16, 64, 4), norm };
    let found = normed::variants(&spec, &device.caps()).is_ok();
    if !found {
        eprintln!("skipped: no product normalises rows on this adapter");
    }
    found
}

#[test]
fn normalised_rows_agree() {
    if !normalises() {
        return;
    }
    // Sums of products over a deviation of about one or more. The last is large enough for the
    // tallest tile.
    let tolerance = Tolerance::of(1e-4, 1e-4);
    let sizes = [(1, 4, 3), (9, 64, 16), (33, 132, 8), (65, 384, 200), (517, 68, 3820)];
    for (seed, (m, n, k)) in (0..).zip(sizes) {
        for b in [Weights::Strided(Matrix::dense([1, 1], k, n)), Weights::PackedI8] {
            for kind in [norm::Kind::Layer, norm::Kind::Rms] {
                let bias = kind == norm::Kind::Layer;
                let norm = norm::Form { kind, eps: 1e-2, scale: true, bias };
                let product = Spec { b, epilogue: fused([1, 1], m, n), ..plain([1, 1], m, n, k) };
                let spec = normed::Spec { product, norm };
                let mut random = Random::new(seed + 100);
                let mut inputs: Vec<Data> =
                    (0..norm.operands()).map(|_| random.floats(n as usize)).collect();
                inputs.extend(operands(&spec.product, seed));
                let expected = normed::reference(&spec, &inputs);
                agree(|caps| normed::variants(&spec, caps), &inputs, &[expected], tolerance);
            }
        }
    }
    let norm = norm::Form { kind: norm::Kind::Rms, eps: 1e-2, scale: false, bias: false };
    let spec = normed::Spec { product: plain([2, 2], 5, 12, 8), norm };
    let inputs = operands(&spec.product, 9);
    let expected = normed::reference(&spec, &inputs);
    agree(|caps| normed::variants(&spec, caps), &inputs, &[expected], tolerance);
}

/// What `dispatch` leaves in its output of `m` rows of `n`.
fn left(dispatch: &Dispatch, inputs: &[Data], size: usize) -> Option<Vec<u32>> {
    let device = crate::device::shared()?;
    let mut buffers: Vec<Vec<u8>> = inputs.iter().map(|data| data.bytes().to_vec()).collect();
    buffers.push(vec![0; 4 * size]);
    let left = device.run_dispatch(dispatch, &buffers).expect("the kernel runs");
    Some(Data::from_bytes(Scalar::U32, &left[inputs.len()]).u32().to_vec())
}

#[test]
fn every_way_and_any_number_of_rows_give_the_same_bits() {
    let Some(device) = crate::device::shared() else { return };
    let here = device.caps();
    // Where subgroups have several sizes there are clusters, which any adapter here has.
    let several = here.subgroup.map(|(smallest, largest)| (smallest, 2 * largest));
    let kinds = [
        here,
        Caps { software: !here.software, ..here },
        Caps { subgroup: several, software: false, ..here },
    ];
    // Each form of weights at one size: what differs is how a value of b is read.
    let sizes = [(64, 96), (33, 70), (130, 200)].into_iter().cycle();
    for (b, (n, k)) in packed_forms().into_iter().zip(sizes) {
        let most = Spec { b, ..plain([1, 1], 40, n, k) };
        let inputs = operands(&most, 3);
        let mut due: Option<Vec<u32>> = None;
        for m in [40, 33, 17, 16, 9, 8, 5, 4, 3, 2, 1] {
            let spec = Spec { m, output: Matrix::dense([1, 1], m, n), ..most.clone() };
            for dispatch in kinds.iter().flat_map(|caps| variants(&spec, caps).unwrap()) {
                let size = (m * n) as usize;
                let given = left(&dispatch, &inputs, size).unwrap();
                let due = due.get_or_insert_with(|| given.clone());
                let name = &dispatch.kernel.variant;
                assert!(given == due[..size], "{m} rows of {n} by {name} differ");
            }
        }
    }
}

#[test]
fn halves_give_the_bits_of_the_same_floats() {
    let Some(device) = crate::device::shared() else { return };
    let caps = device.caps();
    let (m, n, k) = (5, 70, 39);
    let mut random = Random::new(11);
    // Of all sizes, the smallest halves below their normal numbers.
    let values: Vec<f32> =
        (0..n * k).map(|at| random.float() * (at as f32 % 40.0 - 26.0).exp2()).collect();
    for b in packed_forms() {
        let bits = halves(b, &values);
        let floats: Vec<f32> = match b {
            Weights::PackedF16 => bits.iter().map(|&bits| f16::from_bits(bits).to_f32()).collect(),
            Weights::PackedBf16 => bits.iter().map(|&b| bf16::from_bits(b).to_f32()).collect(),
            _ => continue,
        };
        let given = Spec { b, ..plain([1, 1], m, n, k) };
        let due = Spec { b: Weights::PackedF32, ..given.clone() };
        let a = random.floats((m * k) as usize);
        let inputs = [a.clone(), Data::F32(pack_f32(&floats, k, n))];
        let size = (m * n) as usize;
        let due = left(&variants(&due, &caps).unwrap()[0], &inputs, size);
        let inputs = [a, Data::U32(pack_halves(&bits, k, n))];
        for dispatch in variants(&given, &caps).unwrap() {
            let given = left(&dispatch, &inputs, size);
            assert!(given == due, "{b:?} by {} differ", dispatch.kernel.variant);
        }
    }
}

#[test]
fn rows_are_normalised_alike_by_one_dispatch_and_by_two() {
    if !normalises() {
        return;
    }
    let Some(device) = crate::device::shared() else { return };
    let here = device.caps();
    let norm = norm::Form { kind: norm::Kind::Layer, eps: 1e-5, scale: true, bias: true };
    for caps in [here, Caps { software: !here.software, ..here }] {
        for (n, k) in [(64, 96), (36, 70), (384, 50)] {
            let product = Spec { b: Weights::PackedF32, ..plain([1, 1], 67, n, k) };
            let mut random = Random::new(5);
            let weights = [random.floats(n as usize), random.floats(n as usize)];
            let operands = operands(&product, 8);
            let size = (67 * n) as usize;
            let rows = left(&variants(&product, &caps).unwrap()[0], &operands, size).unwrap();
            let rows = Data::F32(rows.into_iter().map(f32::from_bits).collect());
            let second = norm::Spec { form: norm, rows: 67, cols: n };
            let second = norm::dispatch(&second, &caps).unwrap();
            let due = left(&second, &[&weights[..], &[rows]].concat(), size).unwrap();
            let one = normed::Spec { product, norm };
            for dispatch in normed::variants(&one, &caps).into_iter().flatten() {
                let inputs = [&weights[..], &operands].concat();
                let given = left(&dispatch, &inputs, size).unwrap();
                assert!(given == due, "{} of {n} differ", dispatch.kernel.variant);
            }
        }
    }
}

#[test]
fn products_of_bytes_are_exact() {
    let sizes = [(1, 3, 2), (3, 64, 8), (9, 100, 30), (40, 130, 132), (0, 4, 4), (4, 4, 0)];
    for (seed, (m, n, k)) in (0..).zip(sizes) {
        let mut random = Random::new(seed);
        let bytes = random.bytes((n * k) as usize);
        let b = Data::U32(dot::pack(&bytes, k, n));
        let signed = seed % 2 == 0;
        let shift = if signed { 128 } else { 0 };
        let a = random.integers(((m + 2) * (k + 8)) as usize, 256);
        let a = Data::I32(a.iter().map(|value| value - shift).collect());
        let apart = Matrix { offset: 3, batch: [0, 0], row: 1, col: m.cast_signed() };
        let a_at = if seed == 2 { apart } else { Matrix::dense([1, 1], m, k) };
        // `f32(sum - per column) * per cell`, and the sum.
        let mut expr = Expr::new(vec![Scalar::I32, Scalar::I32, Scalar::F32]);
        let less = expr.push(Instr::Binary(Binary::Sub, 0, 1));
        let float = expr.push(Instr::Cast(Scalar::F32, less));
        expr.push(Instr::Binary(Binary::Mul, float, 2));
        let cells = Matrix::dense([1, 1], m, n);
        let scaled = Epilogue { expr, inputs: vec![Matrix::per_column(), cells] };
        let sum = Epilogue { expr: Expr::identity(Scalar::I32), inputs: Vec::new() };
        for epilogue in [sum, scaled] {
            let mut inputs = vec![a.clone(), b.clone()];
            if !epilogue.inputs.is_empty() {
                inputs.push(Data::I32(random.integers(n as usize, 1000)));
                inputs.push(random.floats((m * n) as usize));
            }
            let spec = dot::Spec { m, n, k, a: a_at, signed, output: cells, epilogue };
            let expected = dot::reference(&spec, &inputs);
            agree(|caps| dot::variants(&spec, caps), &inputs, &[expected], Tolerance::EXACT);
        }
    }
}
