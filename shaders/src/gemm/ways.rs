//! How a workgroup goes about its tile of a product.
//!
//! On software adapters a tile lies in the registers of one subgroup and workgroup memory is not
//! touched: there the cost is loads, whatever their width, and barriers. On hardware 64 invocations
//! share a tile in workgroup memory.

use crate::compose::Composer;
use crate::kernel::{Caps, Dispatch, Needs, Unsupported};

use super::{Shape, shared};

/// How a workgroup goes about its tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The tile lies in the registers of a subgroup of one known size, whose lanes share the loads
    /// of `a`.
    Subgroup { lanes: u32, rows: u32, quads: u32 },
    /// As [`Way::Subgroup`], in clusters of a few lanes inside subgroups of any size.
    Cluster { rows: u32, quads: u32 },
    /// In the registers of invocations that share nothing.
    Plain { lanes: u32, rows: u32, quads: u32 },
    /// In workgroup memory: each of 8 x 8 invocations has so many quads of rows, and of columns.
    Shared { down: u32, across: u32 },
    /// Few rows; the weights go through workgroup memory.
    Staged { rows: u32 },
}

/// The order of [`Way`]s on a kind of adapter, for products of some numbers of rows.
struct Seed {
    software: bool,
    /// The least and the most rows.
    rows: (u32, u32),
    order: &'static [Kind],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Subgroup,
    Cluster,
    Plain,
    Shared,
    Staged,
}

/// What is taken until something was measured. Software: measured on llvmpipe and `SwiftShader`.
/// Hardware: the tiles that others publish; ARCHITECTURE.md names them.
const SEEDS: [Seed; 5] = {
    use Kind::{Cluster, Plain, Shared, Staged, Subgroup};
    [
        // With one row there is nothing to share.
        Seed { software: true, rows: (0, 1), order: &[Plain, Subgroup, Cluster, Shared, Staged] },
        Seed {
            software: true,
            rows: (2, u32::MAX),
            order: &[Subgroup, Plain, Cluster, Shared, Staged],
        },
        Seed { software: false, rows: (0, 1), order: &[Staged, Plain, Subgroup, Cluster, Shared] },
        Seed { software: false, rows: (2, 4), order: &[Staged, Shared, Subgroup, Cluster, Plain] },
        Seed {
            software: false,
            rows: (5, u32::MAX),
            order: &[Shared, Subgroup, Cluster, Plain, Staged],
        },
    ]
};

/// The sizes of subgroups that products are written for.
const SUBGROUPS: [u32; 6] = [4, 8, 16, 32, 64, 128];

/// Lanes of a cluster: the smallest subgroup that any GPU has.
const CLUSTER: u32 = 4;

/// Rows of a product that the weights of [`Way::Staged`] pay for.
const STAGED_ROWS_MAX: u32 = 4;

/// The ways open on an adapter, best first; `gathers` where each value of b costs a load of its
/// own.
pub(super) fn open(shape: Shape, gathers: bool, caps: &Caps) -> Vec<Way> {
    let m = shape.m;
    let seed = SEEDS
        .iter()
        .find(|seed| seed.software == caps.software && (seed.rows.0..=seed.rows.1).contains(&m));
    let mut order = seed.map_or(&[][..], |seed| seed.order).to_vec();
    if gathers {
        // A depthwise window is too short to be staged.
        order.sort_by_key(|kind| *kind == Kind::Staged);
    }
    let mut ways: Vec<Vec<Way>> =
        order.into_iter().map(|kind| tiles(kind, shape, gathers, caps)).collect();
    // All of the best kind, the best of every other, then the rest.
    let rest: Vec<Way> =
        ways.iter_mut().skip(1).flat_map(|tiles| tiles.drain(tiles.len().min(1)..)).collect();
    let mut ways: Vec<Way> = ways.into_iter().flatten().collect();
    ways.extend(rest);
    ways.retain(|way| {
        way.workgroup_bytes() <= caps.workgroup_bytes && way.lanes() <= caps.workgroup_invocations
    });
    ways
}

/// The tiles of one kind, best first.
fn tiles(kind: Kind, shape: Shape, gathers: bool, caps: &Caps) -> Vec<Way> {
    let m = shape.m;
    // Few rows leave most of a tall tile's work unused; a tall one amortises costly columns.
    let rows = match m {
        0..=1 => 1,
        2 => 2,
        3..=4 => 4,
        5..=8 => 8,
        32.. if gathers => 32,
        _ => 16,
    };
    // What else may win where the best is not known: half the registers.
    let lower = (rows >= 16 && !caps.software).then_some(rows / 2);
    let heights = || [Some(rows), lower].into_iter().flatten();
    match kind {
        Kind::Subgroup => {
            let Some((lanes, largest)) = caps.subgroup else { return Vec::new() };
            if lanes != largest || !SUBGROUPS.contains(&lanes) {
                return Vec::new();
            }
            // 16 x 8 sums per lane won on llvmpipe; wide subgroups reach the same tile with less.
            let wide = lanes <= 16 && !gathers;
            let widths = if wide { &[2, 1][..] } else { &[1] };
            // Twice as tall wins at some sizes, and takes its compiler twice as long.
            let tallest = tallest(shape, caps).filter(|_| wide);
            let taller = (m >= 32 && rows == 16 && wide && tallest != Some(32)).then_some(32);
            let tile = |rows, quads| Way::Subgroup { lanes, rows, quads };
            let mut found: Vec<Way> = tallest.map(|rows| tile(rows, 2)).into_iter().collect();
            found.extend(widths.iter().map(|&quads| tile(rows, quads)));
            found.extend(lower.map(|rows| tile(rows, 1)));
            found.extend(taller.map(|rows| tile(rows, 2)));
            found
        }
        Kind::Cluster => {
            let open = caps.subgroup.is_some_and(|(smallest, largest)| {
                smallest >= CLUSTER && largest <= 128 && smallest != largest
            });
            let tile = |rows| Way::Cluster { rows, quads: 1 };
            if open { heights().map(tile).collect() } else { Vec::new() }
        }
        Kind::Plain => {
            let lanes = if caps.software { 8 } else { 64 };
            let rows = rows.min(16);
            let few = (rows >= 8 && !caps.software).then_some(4);
            let tile = |rows| Way::Plain { lanes, rows, quads: 1 };
            [Some(rows), few].into_iter().flatten().map(tile).collect()
        }
        Kind::Shared => {
            let tile = |[down, across]: [u32; 2]| Way::Shared { down, across };
            // Others are for adapters that may have them as their best.
            let shapes = if caps.software { &[[2, 2]][..] } else { &[[2, 2], [1, 1], [4, 2]] };
            shapes.iter().copied().map(tile).collect()
        }
        Kind::Staged if m <= STAGED_ROWS_MAX => vec![Way::Staged { rows }],
        Kind::Staged => Vec::new(),
    }
}

/// Rows of the tile for a product so large that a software adapter saves within some two hundred
/// runs what its compiler takes for it: 0.27 GFLOP take 16 ms by one of 48 rows, 27 by one of 16.
/// With AVX-512 32 rows are the fastest.
pub(super) fn tallest(shape: Shape, caps: &Caps) -> Option<u32> {
    let lanes = caps.subgroup.map_or(0, |(smallest, _)| smallest);
    let sizes = [shape.batch[0], shape.batch[1], shape.m, shape.n, shape.k].map(u64::from);
    let sums = sizes.into_iter().fold(1, u64::saturating_mul);
    let repays = caps.software && lanes >= 8 && shape.m >= 512 && sums >= 1 << 27;
    repays.then_some(if caps.avx512 { 32 } else { 48 })
}

impl Way {
    /// Turns of the loops of one invocation, the tests at their ends with them.
    pub(super) fn turns(self, k: u32) -> u64 {
        let k = u64::from(k);
        let shared = |share: u32, rows: u32| k.div_ceil(4 * u64::from(share.div_ceil(rows)));
        match self {
            Self::Subgroup { lanes, rows, .. } => shared(lanes, rows),
            Self::Cluster { rows, .. } => shared(CLUSTER, rows),
            Self::Plain { .. } => k.div_ceil(4),
            Self::Shared { .. } => k.div_ceil(16) * (16 + 3),
            Self::Staged { .. } => k.div_ceil(64) * (16 + 3),
        }
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::Subgroup { lanes, rows, quads } => format!("subgroup{lanes} {rows}x{quads}"),
            Self::Cluster { rows, quads } => format!("cluster{CLUSTER} {rows}x{quads}"),
            Self::Plain { lanes, rows, quads } => format!("plain{lanes} {rows}x{quads}"),
            Self::Shared { down, across } => format!("shared {}x{}", 32 * down, 32 * across),
            Self::Staged { rows } => format!("staged {rows}"),
        }
    }

    /// Invocations of a workgroup.
    const fn lanes(self) -> u32 {
        match self {
            Self::Subgroup { lanes, .. } | Self::Plain { lanes, .. } => lanes,
            Self::Cluster { .. } | Self::Shared { .. } | Self::Staged { .. } => shared::LANES,
        }
    }

    const fn workgroup_bytes(self) -> u32 {
        match self {
            Self::Subgroup { .. } | Self::Cluster { .. } | Self::Plain { .. } => 0,
            Self::Shared { down, across } => shared::tile_bytes(down, across),
            Self::Staged { .. } => shared::STAGED_BYTES,
        }
    }

    pub(super) fn finish(
        self,
        mut composer: Composer,
        shape: Shape,
        caps: &Caps,
    ) -> Result<Dispatch, Unsupported> {
        let mut needs = Needs::default();
        let (entry, lanes, rows, quads) = self.declare(&mut composer, &mut needs);
        let tiles = u64::from(shape.m.div_ceil(rows)) * u64::from(shape.n.div_ceil(4 * quads));
        let batch = u64::from(shape.batch[0]) * u64::from(shape.batch[1]);
        composer.finish(entry, lanes, tiles.saturating_mul(batch), needs, caps)
    }

    /// Declares the sizes of a tile: its entry function, invocations, rows and vec4 columns.
    pub(super) fn declare(
        self,
        composer: &mut Composer,
        needs: &mut Needs,
    ) -> (&'static str, u32, u32, u32) {
        needs.workgroup_bytes = needs.workgroup_bytes.max(self.workgroup_bytes());
        let lanes = self.lanes();
        match self {
            Self::Subgroup { rows, quads, .. } => {
                needs.subgroup = Some((lanes, lanes));
                composer.hook("hear", "subgroupBroadcast");
                registers(composer, [rows, quads, lanes, lanes])
            }
            Self::Cluster { rows, quads } => {
                needs.subgroup = Some((CLUSTER, 128));
                composer.hook("hear", "hear_cluster");
                registers(composer, [rows, quads, lanes, CLUSTER])
            }
            Self::Plain { rows, quads, .. } => {
                composer.hook("hear", "hear_self");
                registers(composer, [rows, quads, lanes, 1])
            }
            Self::Shared { down, across } => shared::tile(composer, down, across),
            Self::Staged { rows } => shared::staged(composer, rows),
        }
    }
}

/// Declares the sizes of a tile in registers, of which `share` lanes share the loads of `a`.
fn registers(
    composer: &mut Composer,
    [rows, quads, lanes, share]: [u32; 4],
) -> (&'static str, u32, u32, u32) {
    composer.constant("ROWS", rows).constant("QUADS", quads);
    composer.constant("LANES", lanes).constant("SHARE", share);
    composer.constant("A_LOADS", rows.div_ceil(share)).constant("STEPS", share.div_ceil(rows));
    ("rows_in_registers", lanes, rows, quads * lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARDWARE: Caps = Caps { workgroup_bytes: 32 << 10, ..Caps::minimal() };

    fn rows(m: u32) -> Shape {
        Shape { batch: [1, 1], m, n: 384, k: 384 }
    }

    fn first(m: u32, caps: Caps) -> String {
        open(rows(m), false, &caps)[0].name()
    }

    #[test]
    fn the_seeds_decide_what_comes_first() {
        let software = Caps { software: true, subgroup: Some((8, 8)), ..HARDWARE };
        assert_eq!(first(1, software), "plain8 1x1");
        assert_eq!(first(128, software), "subgroup8 16x2");
        assert_eq!(first(1024, software), "subgroup8 48x2");
        assert_eq!(first(1024, Caps { avx512: true, ..software }), "subgroup8 32x2");
        let discrete = Caps { subgroup: Some((32, 32)), ..HARDWARE };
        assert_eq!(first(1, discrete), "staged 1");
        assert_eq!(first(128, discrete), "shared 64x64");
        let small = Caps { workgroup_bytes: 0, ..discrete };
        assert_eq!(first(128, small), "subgroup32 16x1");
    }

    #[test]
    fn every_size_of_subgroups_has_a_way() {
        for size in SUBGROUPS {
            let caps = Caps { subgroup: Some((size, size)), ..HARDWARE };
            let ways = open(rows(128), false, &caps);
            assert!(
                ways.iter().any(|way| matches!(way, Way::Subgroup { lanes, .. } if *lanes == size))
            );
        }
        let ways = open(rows(128), false, &Caps { subgroup: Some((8, 32)), ..HARDWARE });
        assert!(ways.iter().any(|way| matches!(way, Way::Cluster { .. })));
        assert!(!ways.iter().any(|way| matches!(way, Way::Subgroup { .. })));
    }
}
