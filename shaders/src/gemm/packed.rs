//! Right-hand matrices in tiles of 64 columns, so that what a tile of the product reads lies
//! together.

use half::{bf16, f16};

use super::Weights;
use crate::data::Data;
use crate::kernel::Caps;

/// Columns of one packed tile.
const PACK: usize = 64;

/// Whether 16-bit floats stay what they are on this adapter. They take half the memory, and half
/// the traffic where memory is what bounds a product. On `SwiftShader` unpacking them takes
/// twice the time of products of `f32`; llvmpipe cannot without `f16`.
pub const fn keeps_halves(caps: &Caps) -> bool {
    !caps.software || caps.f16
}

/// Lays a row-major `[k, n]` matrix out for [`Weights::PackedF32`]: tiles of 64 columns one after
/// another, each `[k][64]`, the last padded with zeros.
///
/// # Panics
/// Where `weights` has not `k * n` elements.
pub fn pack_f32(weights: &[f32], k: u32, n: u32) -> Vec<f32> {
    let (k, n) = (k as usize, n as usize);
    assert_eq!(weights.len(), k * n, "a matrix has k * n elements");
    let mut packed = vec![0.0; n.div_ceil(PACK) * PACK * k];
    for (row, values) in weights.chunks_exact(n.max(1)).enumerate() {
        for (tile, values) in values.chunks(PACK).enumerate() {
            let at = (tile * k + row) * PACK;
            packed[at..at + values.len()].copy_from_slice(values);
        }
    }
    packed
}

/// What [`pack_f32`] laid out, row-major.
///
/// # Panics
/// Where `packed` is not a matrix of this size.
pub fn unpack_f32(packed: &[f32], k: u32, n: u32) -> Vec<f32> {
    let (k, n) = (k as usize, n as usize);
    let mut weights = Vec::with_capacity(k * n);
    for row in 0..k {
        for (tile, first) in (0..n).step_by(PACK).enumerate() {
            let at = (tile * k + row) * PACK;
            weights.extend_from_slice(&packed[at..at + PACK.min(n - first)]);
        }
    }
    weights
}

/// Lays a row-major `[k, n]` matrix of bytes out for [`Weights::PackedI8`]: tiles of 64 columns,
/// each `[k / 4][16][4]` words; a word holds four neighbouring columns of one `k`, lowest byte
/// first. Both axes are padded with zeros.
///
/// # Panics
/// Where `weights` has not `k * n` elements.
pub fn pack_i8(weights: &[i8], k: u32, n: u32) -> Vec<u32> {
    let (k, n) = (k as usize, n as usize);
    assert_eq!(weights.len(), k * n, "a matrix has k * n elements");
    let steps = k.div_ceil(4);
    let mut packed = vec![0; n.div_ceil(PACK) * PACK * steps];
    for (row, values) in weights.chunks_exact(n.max(1)).enumerate() {
        for (col, &value) in values.iter().enumerate() {
            let (tile, quad, byte) = (col / PACK, col % PACK / 4, col % 4);
            let word = ((tile * steps + row / 4) * (PACK / 4) + quad) * 4 + row % 4;
            packed[word] |= u32::from(value.cast_unsigned()) << (8 * byte);
        }
    }
    packed
}

/// Lays the bits of a row-major `[k, n]` matrix out for [`Weights::PackedF16`] and its like: tiles
/// of 64 columns, each `[k / 4][2][16][2][2]` words: two times two of k side by side for each four
/// columns, of which the first is the lower half of a word. Both axes are padded with zeros.
///
/// # Panics
/// Where `weights` has not `k * n` elements.
pub fn pack_halves(weights: &[u16], k: u32, n: u32) -> Vec<u32> {
    let (k, n) = (k as usize, n as usize);
    assert_eq!(weights.len(), k * n, "a matrix has k * n elements");
    let steps = k.div_ceil(4);
    let mut packed = vec![0; n.div_ceil(PACK) * PACK / 2 * 4 * steps];
    for (row, values) in weights.chunks_exact(n.max(1)).enumerate() {
        for (col, &value) in values.iter().enumerate() {
            packed[half_at(steps, row, col)] |= u32::from(value) << (16 * (col % 2));
        }
    }
    packed
}

/// The word of a half, where there are so many steps of four k.
const fn half_at(steps: usize, row: usize, col: usize) -> usize {
    let pair = ((col / PACK * steps + row / 4) * 2 + row % 4 / 2) * (PACK / 4) + col % PACK / 4;
    pair * 4 + row % 2 * 2 + col % 4 / 2
}

/// The weight at a row and column of `k` rows, before the scales of whole columns; `inputs` begin
/// with the right-hand side.
pub(super) fn weight(
    weights: Weights,
    k: u32,
    inputs: &[&Data],
    z: [u32; 2],
    [row, col]: [u32; 2],
) -> f32 {
    let b = inputs[0];
    let steps = k.div_ceil(4) as usize;
    let (depth, column) = (row as usize, col as usize);
    let (tile, inside) = (column / PACK, column % PACK);
    let byte = || {
        let word = ((tile * steps + depth / 4) * (PACK / 4) + inside / 4) * 4 + depth % 4;
        b.u32()[word].to_le_bytes()[inside % 4]
    };
    let half = || {
        let word = b.u32()[half_at(steps, depth, column)];
        (word >> (16 * (col % 2))) as u16
    };
    match weights {
        Weights::Strided(matrix) => b.f32()[matrix.at(z, row, col)],
        Weights::PackedF32 => b.f32()[(tile * k as usize + depth) * PACK + inside],
        Weights::PackedF16 => f16::from_bits(half()).to_f32(),
        Weights::PackedBf16 => bf16::from_bits(half()).to_f32(),
        Weights::PackedI8 => f32::from(byte().cast_signed()),
        Weights::PackedU8 => f32::from(byte()),
        Weights::Blocks { bits, block } => {
            let count = k.div_ceil(block);
            let at = (col * count * block + row) * bits;
            let value = b.u32()[(at / 32) as usize] >> (at % 32) & ((1 << bits) - 1);
            let of = 2 * (col * count + row / block) as usize;
            (value as f32 - inputs[1].f32()[of + 1]) * inputs[1].f32()[of]
        }
    }
}
