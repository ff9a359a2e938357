//! `out[m, n] = epilogue(sum over k of (a[m, k] - shift) * b[k, n], …)`, of bytes, in `i32`.
//!
//! A word holds four of k, so that one instruction of hardware adds four products (`dot4I8Packed`),
//! a fourth of the values are shared and broadcast, and no sum is ever rounded. What is not a
//! signed byte becomes one: 128 is taken off an unsigned `a` here, off an unsigned `b` where it is
//! packed; zero points are the epilogue's business. Source: `MatMulInteger` (ONNX 10).

use std::borrow::Borrow;

use super::{Epilogue, Shape, Way, ways};
use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::expr::Value;
use crate::kernel::{Caps, Dispatch, LOOP_TURNS_MAX, Scalar, Unsupported};
use crate::layout::Matrix;
use crate::operands;

const NAME: &str = "gemm";

/// The longest sum that `i32` holds whatever is added: 2^31 over 128 * 128.
pub const K_MAX: u32 = (1 << 17) - 1;

/// What to compute.
///
/// Bindings: `a` (`I32`), `b` in the form of [`pack`], the epilogue's further inputs, the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Rows of `a` and of the output.
    pub m: u32,
    /// Columns of `b` and of the output.
    pub n: u32,
    /// The axis summed over, at most [`K_MAX`].
    pub k: u32,
    /// The left-hand matrix `[m, k]`.
    pub a: Matrix,
    /// Whether elements of `a` are in -128..128; else they are in 0..256, and 128 is taken off.
    pub signed: bool,
    /// Where the result `[m, n]` goes.
    pub output: Matrix,
    /// What is done to each accumulator, which is `I32`; what else it reads and its result are
    /// `F32` or `I32`.
    pub epilogue: Epilogue,
}

/// Lays a row-major `[k, n]` matrix of bytes out: tiles of 64 columns, each `[k / 4][64]` words; a
/// word holds four neighbouring k of one column, lowest byte first. Both axes are padded with
/// zeros.
///
/// # Panics
/// Where `weights` has not `k * n` elements.
pub fn pack(weights: &[i8], k: u32, n: u32) -> Vec<u32> {
    let (k, n) = (k as usize, n as usize);
    assert_eq!(weights.len(), k * n, "a matrix has k * n elements");
    let mut packed = vec![0; n.div_ceil(64) * 64 * k.div_ceil(4)];
    for (row, values) in weights.chunks_exact(n.max(1)).enumerate() {
        for (col, &value) in values.iter().enumerate() {
            packed[word_at(k, row, col)] |= u32::from(value.cast_unsigned()) << (8 * (row % 4));
        }
    }
    packed
}

const fn word_at(k: usize, row: usize, col: usize) -> usize {
    (col / 64 * k.div_ceil(4) + row / 4) * 64 + col % 64
}

/// Whether products of bytes are rather done this way than as floats: hardware adds four products
/// at once (ONNX Runtime's DP4A kernels, llama.cpp's on NVIDIA, AMD and Intel), software adapters
/// take each byte out of its word: on llvmpipe 3.4 ms at 128x384x1536, where bytes that become
/// floats take 2.7.
pub const fn pays(caps: &Caps) -> bool {
    !caps.software
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where the sum is too long, and where the epilogue has more inputs than the adapter binds or
/// immediates hold.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let shape = Shape { batch: [1, 1], m: spec.m, n: spec.n, k: spec.k };
    let mut ways = ways::open(shape, false, caps);
    ways.retain(|way| {
        let fits = !caps.software || way.turns(spec.k) <= LOOP_TURNS_MAX;
        fits && is_written(*way)
    });
    if ways.is_empty() || spec.k > K_MAX {
        return Err(Unsupported::new(NAME, format!("sums over {} bytes", spec.k)));
    }
    ways.into_iter().map(|way| compose(way, spec, shape, caps)).collect()
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

/// Whether there is a kernel of bytes that goes this way.
const fn is_written(way: Way) -> bool {
    match way {
        Way::Subgroup { .. } | Way::Plain { .. } => true,
        Way::Shared { down, across } => down == 2 && across == 2,
        Way::Cluster { .. } | Way::Staged { .. } => false,
    }
}

fn compose(way: Way, spec: &Spec, shape: Shape, caps: &Caps) -> Result<Dispatch, Unsupported> {
    let mut composer = Composer::new(NAME, format!("bytes, {}", way.name()));
    // What is declared twice is taken from the first: words are heard, not vec4.
    composer.source(include_str!("dot.wgsl")).source(include_str!("../gemm.wgsl"));
    composer.hook("rows_in_registers", "dots_in_registers");
    composer.hook("shared_tile", "dots_of_shared_tile");
    composer.u32("m", spec.m).u32("n", spec.n).u32("k", spec.k).u32("inner_batch", 1);
    composer.constant("A_SHIFT", if spec.signed { 0 } else { 128 });
    if operands::rows(&mut composer, &spec.a, spec.k) {
        composer.read_fours("a", Scalar::I32).hook("load_word", "word_wide");
    } else {
        composer.read("a", "i32").hook("load_word", "word_scattered");
    }
    operands::packed::words(&mut composer);
    operands::stores(&mut composer, spec.n, &spec.output, &spec.epilogue, false)?;
    way.finish(composer, shape, caps)
}

/// What the output holds afterwards, zero where nothing is stored.
///
/// # Panics
/// Where the inputs are not those of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let (a, b) = (inputs[0].i32(), inputs[1].u32());
    let shift = if spec.signed { 0 } else { 128 };
    let (k, n) = (spec.k as usize, spec.n as usize);
    let weight = |row: usize, col: usize| {
        i32::from(b[word_at(k, row, col)].to_le_bytes()[row % 4].cast_signed())
    };
    let weights: Vec<i32> = (0..k * n).map(|at| weight(at / n, at % n)).collect();
    let mut sums = vec![0; spec.m as usize * n];
    for (row, sums) in (0..spec.m).zip(sums.chunks_exact_mut(n.max(1))) {
        for (k, weights) in (0..spec.k).zip(weights.chunks_exact(n.max(1))) {
            let factor = a[spec.a.at([0, 0], row, k)] - shift;
            sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += factor * weight);
        }
    }
    let sum = |_, row: u32, col: u32| Value::I32(sums[row as usize * n + col as usize]);
    let size = [spec.m, spec.n];
    operands::stored([1, 1], size, &spec.output, &spec.epilogue, &inputs[2..], sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;
    use crate::expr::{Binary, Expr, Instr};

    fn plain(m: u32, n: u32, k: u32) -> Spec {
        Spec {
            m,
            n,
            k,
            a: Matrix::dense([1, 1], m, k),
            signed: true,
            output: Matrix::dense([1, 1], m, n),
            epilogue: Epilogue { expr: Expr::identity(Scalar::I32), inputs: Vec::new() },
        }
    }

    /// `f32(sum - per column * one) * per cell`.
    fn scaled(m: u32, n: u32) -> Epilogue {
        let mut expr = Expr::new(vec![Scalar::I32, Scalar::I32, Scalar::I32, Scalar::F32]);
        let excess = expr.push(Instr::Binary(Binary::Mul, 1, 2));
        let whole = expr.push(Instr::Binary(Binary::Sub, 0, excess));
        let float = expr.push(Instr::Cast(Scalar::F32, whole));
        expr.push(Instr::Binary(Binary::Mul, float, 3));
        let inputs = vec![Matrix::per_column(), Matrix::scalar(), Matrix::dense([1, 1], m, n)];
        Epilogue { expr, inputs }
    }

    #[test]
    fn reference_matches_a_table() {
        let a = Data::I32(vec![1, 2, 3, 4, 5, -6, 7, -128, 9, 127]);
        let words = Data::U32(pack(&[1, -1, 2, 0, 3, 1, -4, 0, 127, -128], 5, 2));
        let spec = plain(2, 2, 5);
        let given = reference(&spec, &[a.clone(), words.clone()]);
        // 1 + 4 + 9 - 16 + 635, -1 + 3 - 640; and so on.
        assert_eq!(given.i32(), [633, -638, 15_717, -16_378]);
        let epilogue = scaled(2, 2);
        let further = [Data::I32(vec![3, -8]), Data::I32(vec![10]), Data::F32(vec![0.5; 4])];
        let inputs = [&[a, words.clone()], &further[..]].concat();
        let given = reference(&Spec { epilogue, ..spec }, &inputs);
        assert_eq!(given.f32(), [301.5, -279.0, 7843.5, -8149.0]);
        let unsigned = Spec { signed: false, ..plain(1, 2, 5) };
        let a = Data::I32(vec![129, 128, 128, 255, 0]);
        // 1 - 508 - 16256, -1 + 16384.
        assert_eq!(reference(&unsigned, &[a, words]).i32(), [-16_763, 16_383]);
    }

    #[test]
    fn every_variant_is_valid() {
        for (m, n, k) in [(1, 1, 1), (3, 8, 4), (17, 70, 5), (64, 384, 384)] {
            for signed in [true, false] {
                let spec = Spec { signed, ..plain(m, n, k) };
                check::variants(|caps| variants(&spec, caps));
                let spec = Spec { epilogue: scaled(m, n), ..spec };
                check::variants(|caps| variants(&spec, caps));
            }
        }
        assert!(dispatch(&plain(1, 1, K_MAX + 1), &Caps::minimal()).is_err());
    }
}
