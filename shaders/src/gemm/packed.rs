//! Right-hand matrices in tiles of 64 columns, so that what a tile of the product reads lies
//! together.

/// Columns of one packed tile.
pub(super) const PACK: usize = 64;

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
