use gw_shaders::expr::{Binary, Expr, Instr, Unary};
use gw_shaders::gemm::{Epilogue, Spec, Weights, pack_f32, pack_i8, reference, variants};
use gw_shaders::kernel::Scalar;
use gw_shaders::layout::Matrix;

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

fn check(spec: &Spec, seed: u32) {
    let mut random = Random::new(seed);
    let count = (spec.batch[0] * spec.batch[1]) as usize;
    let (m, n, k) = (spec.m as usize, spec.n as usize, spec.k as usize);
    // Room for offsets and for rows that lie apart.
    let mut inputs = vec![random.floats(count * (m + 2) * (k + 8) + 64)];
    match spec.b {
        Weights::Strided(_) => inputs.push(random.floats(count * (n + 8) * (k + 8) + 64)),
        Weights::PackedF32 => {
            let data = random.floats(n * k);
            inputs.push(gw_shaders::data::Data::F32(pack_f32(data.f32(), spec.k, spec.n)));
        }
        Weights::PackedI8 | Weights::PackedU8 => {
            let bytes = random.bytes(n * k);
            inputs.push(gw_shaders::data::Data::U32(pack_i8(&bytes, spec.k, spec.n)));
            let scales = (0..n).map(|_| (1.5 + random.float()) / 128.0).collect();
            inputs.push(gw_shaders::data::Data::F32(scales));
        }
        Weights::Blocks { bits, block } => {
            let blocks = n * spec.k.div_ceil(block) as usize;
            let words = blocks * (block * bits / 32) as usize;
            let words = (0..words).map(|_| random.below(u32::MAX)).collect();
            inputs.push(gw_shaders::data::Data::U32(words));
            let middle = (1u32 << (bits - 1)) as f32;
            let pair = |random: &mut Random| [random.float() / middle, middle + random.float()];
            let pairs = (0..blocks).flat_map(|_| pair(&mut random)).collect();
            inputs.push(gw_shaders::data::Data::F32(pairs));
        }
    }
    for _ in &spec.epilogue.inputs {
        inputs.push(random.floats(count * m * n + m + n));
    }
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
fn empty_products_are_zero_or_nothing() {
    for (m, n, k) in [(0, 4, 4), (4, 0, 4), (4, 4, 0), (3, 5, 0)] {
        check(&plain([1, 1], m, n, k), 1);
    }
    check(&plain([0, 1], 4, 4, 4), 1);
}

#[test]
fn packed_weights_agree() {
    for (seed, (m, n, k)) in (0..).zip([(1, 3, 2), (3, 64, 8), (8, 100, 30), (40, 130, 33)]) {
        for b in [Weights::PackedF32, Weights::PackedI8, Weights::PackedU8] {
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
