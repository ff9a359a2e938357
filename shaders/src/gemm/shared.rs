//! Tiles in workgroup memory: 64 invocations load what all of them read.

use crate::compose::Composer;

/// Invocations of a workgroup.
pub(super) const LANES: u32 = 64;

/// Bytes of 16 values of k of both sides, for `down` quads of rows and `across` quads of columns of
/// each of 8 x 8 invocations.
pub(super) const fn tile_bytes(down: u32, across: u32) -> u32 {
    16 * 4 * 32 * (down + across)
}

/// Bytes of 64 values of k by 32 columns.
pub(super) const STAGED_BYTES: u32 = 64 * 4 * 32;

/// Declares the sizes of a tile: its entry function, invocations, rows and vec4 columns.
pub(super) fn tile(
    composer: &mut Composer,
    down: u32,
    across: u32,
) -> (&'static str, u32, u32, u32) {
    composer.constant("DOWN", down).constant("ACROSS", across);
    composer.constant("ROWS", 4 * down);
    composer.constant("A_QUADS", 8 * down).constant("B_QUADS", 8 * across);
    // 16 values of k in blocks of four by four, spread over the invocations.
    composer.constant("A_BLOCKS", down.div_ceil(2));
    composer.constant("B_BLOCKS", across.div_ceil(2));
    ("shared_tile", LANES, 32 * down, 8 * across)
}

/// As [`tile`], for few rows.
pub(super) fn staged(composer: &mut Composer, rows: u32) -> (&'static str, u32, u32, u32) {
    composer.constant("ROWS", rows);
    ("staged_rows", LANES, rows, 8)
}
