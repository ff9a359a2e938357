//! Tiles of few columns and many rows, for products whose columns would leave most of a wide tile
//! without work: the pixels of an image with few channels.

use super::Shape;
use crate::compose::Composer;
use crate::kernel::{Caps, Dispatch, LOOP_TURNS_MAX, Needs, Unsupported};

/// Rows of one lane, vec4 columns, and the cost of one sum in percent of those of a wide tile:
/// the fewer a tile has, the more loads it takes for each.
const TILES: [(u32, u32, u64); 3] = [(4, 8, 100), (8, 4, 105), (8, 2, 130)];

/// The variants for subgroups of one small size: those that come before all others, and the rest.
pub(super) fn variants(
    name: &'static str,
    shape: Shape,
    caps: &Caps,
    operands: &dyn Fn(&mut Composer) -> Result<(), Unsupported>,
) -> Result<[Vec<Dispatch>; 2], Unsupported> {
    let lanes = match caps.subgroup {
        Some((smallest, largest)) if smallest == largest && matches!(largest, 4 | 8) => largest,
        _ => return Ok([Vec::new(), Vec::new()]),
    };
    let cost = |rows: u32, columns: u32, percent: u64| {
        let padded = |size: u32, unit: u32| u64::from(size.div_ceil(unit)) * u64::from(unit);
        padded(shape.m, rows).saturating_mul(padded(shape.n, columns)).saturating_mul(percent)
    };
    let wide = cost(16, 8 * lanes, 100);
    let mut tiles: Vec<_> = TILES
        .into_iter()
        .filter(|&(_, quads, _)| quads <= lanes && shape.m >= 8 * lanes)
        .map(|(rows, quads, percent)| (cost(rows * lanes, 4 * quads, percent), rows, quads))
        .collect();
    tiles.sort_unstable();
    // Hardware has its tiles in workgroup memory.
    let wins = caps.software && tiles.first().is_some_and(|&(best, ..)| best < wide);
    let mut found = Vec::with_capacity(tiles.len());
    for (_, rows, quads) in tiles {
        let steps = lanes / quads;
        if caps.software && u64::from(shape.k.div_ceil(4 * steps)) > LOOP_TURNS_MAX {
            return Ok([Vec::new(), Vec::new()]);
        }
        let mut composer = Composer::new(name, format!("lanes{lanes} {rows}x{quads}"));
        composer.source(include_str!("../gemm.wgsl")).source(include_str!("narrow.wgsl"));
        composer.u32("m", shape.m).u32("n", shape.n).u32("k", shape.k);
        composer.u32("inner_batch", shape.batch[1].max(1));
        composer.constant("ROWS", rows).constant("QUADS", quads);
        composer.constant("LANES", lanes).constant("STEPS", steps);
        operands(&mut composer)?;
        let needs = Needs { subgroup: Some((lanes, lanes)), ..Needs::default() };
        let tiles =
            u64::from(shape.m.div_ceil(rows * lanes)) * u64::from(shape.n.div_ceil(4 * quads));
        let batch = u64::from(shape.batch[0]) * u64::from(shape.batch[1]);
        let groups = tiles.saturating_mul(batch);
        found.push(composer.finish("rows_in_lanes", lanes, groups, needs, caps)?);
    }
    let rest = found.split_off(usize::from(wins));
    Ok([found, rest])
}
