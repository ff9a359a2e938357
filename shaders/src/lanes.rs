//! How many invocations share one row of a row-wise kernel.
//!
//! On software adapters each row has an invocation of its own, so that nothing waits, or a
//! subgroup. On hardware a workgroup of 64 takes a row, so that neighbours read neighbouring
//! memory; a subgroup, which needs no barrier, is offered there too.

use crate::compose::Composer;
use crate::kernel::{Caps, Dispatch, LOOP_TURNS_MAX, Needs, Unsupported};

/// One way to spread rows over invocations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lanes {
    /// An invocation takes whole rows.
    Alone,
    /// The invocations of a workgroup, so many, share a row.
    Together(u32),
    /// A subgroup, of a size that every subgroup has, shares a row.
    Subgroup(u32),
}

impl Lanes {
    /// The ways open on an adapter, best first, for rows that take one invocation `turns` turns of
    /// its loops.
    ///
    /// # Errors
    /// Where no way keeps within [`LOOP_TURNS_MAX`].
    pub(crate) fn ways(
        name: &'static str,
        turns: u64,
        caps: &Caps,
    ) -> Result<Vec<Self>, Unsupported> {
        let (alone, together) = (Self::Alone, Self::Together(SHARING));
        if !caps.software {
            return Ok(vec![together, alone]);
        }
        let mut ways = Vec::with_capacity(2);
        if turns <= LOOP_TURNS_MAX {
            ways.push(alone);
        }
        if turns.div_ceil(SHARING.into()) <= LOOP_TURNS_MAX {
            ways.push(together);
        }
        if ways.is_empty() {
            return Err(Unsupported::new(name, "rows as long as these on a software adapter"));
        }
        Ok(ways)
    }

    /// As [`Self::ways`] for folds that are sums and maxima of floats: a subgroup takes a row too,
    /// whatever size all subgroups have, but is not the best.
    ///
    /// # Errors
    /// As [`Self::ways`].
    pub(crate) fn ways_of_floats(
        name: &'static str,
        turns: u64,
        caps: &Caps,
    ) -> Result<Vec<Self>, Unsupported> {
        let mut ways = Self::ways(name, turns, caps)?;
        if let Some((size @ (4 | 8 | 16 | 32 | 64 | 128), largest)) = caps.subgroup
            && size == largest
            && (!caps.software || turns.div_ceil(size.into()) <= LOOP_TURNS_MAX)
        {
            ways.push(Self::Subgroup(size));
        }
        Ok(ways)
    }

    /// The subgroup of a software adapter that takes a row as fast as its invocations would.
    pub(crate) fn subgroup(caps: &Caps) -> Option<Self> {
        match caps.subgroup {
            Some((smallest, largest)) if smallest == largest && caps.software => {
                matches!(largest, 8 | 16).then_some(Self::Subgroup(largest))
            }
            _ => None,
        }
    }

    /// The function of `lanes.wgsl` that adds up one value per lane.
    pub(crate) const fn sum(self) -> &'static str {
        match self {
            Self::Alone => "sum_alone",
            Self::Together(_) => "sum_shared",
            Self::Subgroup(_) => "sum_subgroup",
        }
    }

    /// The function of `lanes.wgsl` that finds the largest of one value per lane.
    pub(crate) const fn max(self) -> &'static str {
        match self {
            Self::Alone => "max_alone",
            Self::Together(_) => "max_shared",
            Self::Subgroup(_) => "max_subgroup",
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Alone => "row per invocation",
            Self::Together(_) => "row per workgroup",
            Self::Subgroup(_) => "row per subgroup",
        }
    }

    /// The invocations that share a row.
    pub(crate) const fn count(self) -> u32 {
        match self {
            Self::Alone => 1,
            Self::Together(count) | Self::Subgroup(count) => count,
        }
    }

    /// Declares `LANES`, the invocations that share a row, and the folds over them.
    pub(crate) fn declare(self, composer: &mut Composer) {
        composer.constant("LANES", self.count());
        self.folds(composer);
    }

    /// Declares the folds over `LANES`, which are those of a workgroup where they share a row.
    pub(crate) fn folds(self, composer: &mut Composer) {
        composer.source(include_str!("lanes.wgsl")).source(crate::expr::LIBRARY);
        composer.hook("sum_of_lanes", self.sum()).hook("max_of_lanes", self.max());
    }

    /// What the folds need.
    pub(crate) fn needs(self) -> Needs {
        match self {
            Self::Alone => Needs::default(),
            Self::Together(count) => Needs { workgroup_bytes: 8 * count, ..Needs::default() },
            Self::Subgroup(size) => Needs { subgroup: Some((size, size)), ..Needs::default() },
        }
    }

    /// The dispatch over `rows` rows, of which each calls `entry(row, lane)`.
    pub(crate) fn finish(
        self,
        mut composer: Composer,
        entry: &'static str,
        rows: u64,
        caps: &Caps,
    ) -> Result<Dispatch, Unsupported> {
        let rows_word = u32::try_from(rows)
            .map_err(|_| Unsupported::new(composer.name(), format!("{rows} rows are too many")))?;
        composer.u32("rows", rows_word);
        if self != Self::Alone {
            let size = self.count();
            composer.text(&format!(
                "fn rows_of_group(group: u32, lane: u32) {{\n    {entry}(group, lane);\n}}\n"
            ));
            return composer.finish("rows_of_group", size, rows, self.needs(), caps);
        }
        composer.text(&format!(
            "fn rows_of_group(group: u32, lane: u32) {{\n    let row = group * {ALONE}u + lane;\n    \
             if (row < params.rows) {{\n        {entry}(row, 0u);\n    }}\n}}\n"
        ));
        let groups = rows.div_ceil(u64::from(ALONE));
        composer.finish("rows_of_group", ALONE, groups, Needs::default(), caps)
    }
}

/// A power of two, for the tree of the folds.
pub(crate) const SHARING: u32 = 64;

/// The vector width of llvmpipe, so that few rows still spread over all cores.
const ALONE: u32 = 8;
