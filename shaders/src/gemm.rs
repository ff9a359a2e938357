//! `out[b, m, n] = epilogue(sum over k of a[b, m, k] * b[b, k, n], …)`, in f32.
//!
//! A workgroup computes a tile of the output; `ways` lists how, and which is best on which
//! adapter.
//! Every variant adds in the order of k, each product and sum with one rounding, so that a row's
//! result does not depend on its batch. Source: `MatMul` (ONNX 13), `Gemm` (ONNX 13).
//!
//! - [`normed`]: products whose rows are normalised too. [`dot`]: those of bytes.

pub mod dot;
pub mod normed;

mod narrow;
mod packed;
mod shared;
mod ways;

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::expr::Expr;
use crate::kernel::{Caps, Dispatch, LOOP_TURNS_MAX, Scalar, Unsupported};
use crate::layout::Matrix;
use crate::operands;
pub(crate) use crate::operands::product;

pub use packed::{keeps_halves, pack_f32, pack_halves, pack_i8, unpack_f32};

use packed::weight;
use ways::Way;

const NAME: &str = "gemm";

/// What is done to each accumulator before it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Epilogue {
    /// Input 0 is the accumulator (`F32`), input `i + 1` is `inputs[i]`; the result is `F32`.
    pub expr: Expr,
    /// Where the further inputs (`F32`) lie, addressed by (batch, row, column) of the output.
    pub inputs: Vec<Matrix>,
}

impl Epilogue {
    /// The accumulator as it is.
    pub fn identity() -> Self {
        Self { expr: Expr::identity(Scalar::F32), inputs: Vec::new() }
    }
}

/// The right-hand matrix, `[k, n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// `f32` with any strides: rows are `k`, columns are `n`; batch strides may be 0.
    Strided(Matrix),
    /// One matrix for the whole batch, laid out by [`pack_f32`].
    PackedF32,
    /// As [`Weights::PackedF32`], of IEEE's 16-bit floats laid out by [`pack_halves`]. They are
    /// read as what they are in `f32`, so sums have the bits of those over [`Weights::PackedF32`].
    PackedF16,
    /// As [`Weights::PackedF16`], of the upper halves of `f32`.
    PackedBf16,
    /// One matrix for the whole batch, laid out by [`pack_i8`], with one `f32` scale per column
    /// in a buffer of its own.
    PackedI8,
    /// As [`Weights::PackedI8`], of unsigned bytes.
    PackedU8,
    /// One matrix for the whole batch, column by column: `[n, words]`, of which each column has
    /// its k in whole blocks, lowest bits first. A buffer of its own holds a scale and a zero
    /// point per block, `[n, blocks, 2]`; a weight is `(bits - zero point) * scale`.
    Blocks {
        /// Bits of a weight: 4 or 8.
        bits: u32,
        /// Weights of a block: a multiple of those in a word.
        block: u32,
    },
}

/// What to compute.
///
/// Bindings: `a`, `b`, the scales `[n]` (only with [`Weights::PackedI8`] and its like) or the
/// blocks (only with [`Weights::Blocks`]), the epilogue's further inputs, the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Two batch axes; `[1, 1]` where there is one matrix.
    pub batch: [u32; 2],
    /// Rows of `a` and of the output.
    pub m: u32,
    /// Columns of `b` and of the output.
    pub n: u32,
    /// The axis summed over.
    pub k: u32,
    /// The left-hand matrix `[m, k]`, `f32`.
    pub a: Matrix,
    /// The right-hand matrix `[k, n]`.
    pub b: Weights,
    /// Where the result `[m, n]` goes.
    pub output: Matrix,
    /// What is done to each accumulator.
    pub epilogue: Epilogue,
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where the epilogue has more inputs than the adapter binds or immediates hold.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    check(spec)?;
    let shape = Shape { batch: spec.batch, m: spec.m, n: spec.n, k: spec.k };
    let reading = |b: fn(&mut Composer, &Spec)| {
        variants_with(NAME, shape, false, caps, &|composer| {
            operands::a(composer, spec);
            b(composer, spec);
            let scaled = is_scaled(spec.b);
            operands::epilogue(composer, spec.n, &spec.output, &spec.epilogue, scaled)
        })
    };
    let mut found = reading(operands::b)?;
    if spec.b == Weights::PackedF16 && caps.f16 {
        // On llvmpipe slower than words that are unpacked, by a third or more.
        found.extend(reading(|composer, _| operands::packed::native(composer))?);
    }
    Ok(found)
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

fn check(spec: &Spec) -> Result<(), Unsupported> {
    match spec.b {
        Weights::Blocks { bits, block }
            if !matches!(bits, 4 | 8) || block == 0 || !block.is_multiple_of(32 / bits) =>
        {
            Err(Unsupported::new(NAME, format!("blocks of {block} weights of {bits} bits")))
        }
        _ => Ok(()),
    }
}

/// Whether each column has a scale.
pub(crate) const fn is_scaled(weights: Weights) -> bool {
    matches!(weights, Weights::PackedI8 | Weights::PackedU8)
}

/// The sizes of a product, whatever its operands are.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) batch: [u32; 2],
    pub(crate) m: u32,
    pub(crate) n: u32,
    pub(crate) k: u32,
}

/// The variants of any product whose operands `operands` declares; `gathers` where each value of
/// b costs a load of its own.
pub(crate) fn variants_with(
    name: &'static str,
    shape: Shape,
    gathers: bool,
    caps: &Caps,
    operands: &dyn Fn(&mut Composer) -> Result<(), Unsupported>,
) -> Result<Vec<Dispatch>, Unsupported> {
    let mut ways = ways::open(shape, gathers, caps);
    ways.retain(|way| !caps.software || way.turns(shape.k) <= LOOP_TURNS_MAX);
    if ways.is_empty() {
        let (k, most) = (shape.k, k_at_once(caps));
        let reason = format!("sums over {k}, where a software adapter takes {most} at once");
        return Err(Unsupported::new(name, reason));
    }
    let [mut found, others] = narrow::variants(name, shape, caps, operands)?;
    for way in ways {
        let mut composer = Composer::new(name, way.name());
        composer.source(include_str!("gemm.wgsl")).source(include_str!("gemm/shared.wgsl"));
        composer.u32("m", shape.m).u32("n", shape.n).u32("k", shape.k);
        composer.u32("inner_batch", shape.batch[1].max(1));
        operands(&mut composer)?;
        found.push(way.finish(composer, shape, caps)?);
    }
    found.extend(others);
    Ok(found)
}

/// The longest sum of one dispatch; longer ones are added up in parts. Four of k in a turn are the
/// least that a variant takes of those that are open to any product.
pub fn k_at_once(caps: &Caps) -> u32 {
    if caps.software { 4 * LOOP_TURNS_MAX as u32 } else { u32::MAX }
}

/// What the output buffer holds afterwards, zero where nothing is stored.
///
/// # Panics
/// Where the inputs are not those of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let a = inputs[0].f32();
    let scaled = is_scaled(spec.b);
    let blocks = matches!(spec.b, Weights::Blocks { .. });
    let further = &inputs[if scaled || blocks { 3 } else { 2 }..];
    product(spec.batch, [spec.m, spec.n], &spec.output, &spec.epilogue, further, |z, row, col| {
        let sum: f64 = (0..spec.k)
            .map(|k| {
                let weight = weight(spec.b, spec.k, &inputs[1..], z, [k, col]);
                f64::from(a[spec.a.at(z, row, k)]) * f64::from(weight)
            })
            .sum();
        if scaled { sum * f64::from(inputs[2].f32()[col as usize]) } else { sum }
    })
}

/// The right-hand matrix `[k, n]` of packed weights, before the scales of whole columns; `inputs`
/// begin with it.
///
/// # Panics
/// Where the inputs are not those of the spec.
pub fn dense_weights(spec: &Spec, inputs: &[&Data]) -> Vec<f32> {
    dense(spec.b, [spec.k, spec.n], inputs)
}

/// As [`dense_weights`], of a matrix `[k, n]`.
pub(crate) fn dense(weights: Weights, [k, n]: [u32; 2], inputs: &[&Data]) -> Vec<f32> {
    let columns = |row| (0..n).map(move |col| weight(weights, k, inputs, [0, 0], [row, col]));
    (0..k).flat_map(columns).collect()
}

#[cfg(test)]
mod tests;
