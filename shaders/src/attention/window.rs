//! Which keys a query sees by its place: causal and local attention.

use std::ops::Range;

use super::Spec;
use crate::compose::Composer;
use crate::data::Data;

/// Query `i` sees key `j` only where `i + first <= j <= i + last`; a bound that is not there hides
/// nothing. A query that stands at key `i + past` and sees `left` keys before its own and `right`
/// behind it has the bounds `past - left` and `past + right`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Window {
    /// From a query's number to the first key that it sees.
    pub first: Option<i32>,
    /// From a query's number to the last key that it sees.
    pub last: Option<i32>,
}

impl Window {
    /// Every key.
    pub const ALL: Self = Self { first: None, last: None };

    /// Query `i` stands at key `i + past` and sees none behind it.
    pub const fn causal(past: i32) -> Self {
        Self { first: None, last: Some(past) }
    }

    /// The same where the first query stands at key `past`.
    #[must_use]
    pub fn moved(self, past: i32) -> Self {
        let add = |bound: i32| bound.saturating_add(past);
        Self { first: self.first.map(add), last: self.last.map(add) }
    }

    /// What both let through.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let both = |a: Option<i32>, b: Option<i32>, tighter: fn(i32, i32) -> i32| match (a, b) {
            (Some(a), Some(b)) => Some(tighter(a, b)),
            (one, other) => one.or(other),
        };
        Self {
            first: both(self.first, other.first, i32::max),
            last: both(self.last, other.last, i32::min),
        }
    }

    /// The keys of `keys` that a query sees.
    pub fn keys_of(&self, query: u32, keys: u32) -> Range<u32> {
        let place = |bound: i32, more: i64| {
            let place = i64::from(query) + i64::from(bound) + more;
            u32::try_from(place.clamp(0, keys.into())).expect("it lies between two of 32 bits")
        };
        let start = self.first.map_or(0, |first| place(first, 0));
        let end = self.last.map_or(keys, |last| place(last, 1));
        start..end.max(start)
    }

    /// Pairs of a query and a key that it sees.
    pub fn pairs(&self, queries: u32, keys: u32) -> u64 {
        (0..queries).map(|query| self.keys_of(query, keys).len() as u64).sum()
    }

    const fn name(self) -> &'static str {
        match (self.first, self.last) {
            (None, None) => "",
            (None, Some(_)) => ", causal",
            (Some(_), _) => ", window",
        }
    }

    /// The keys that a tile of `tile` queries walks, at most.
    pub(super) fn walked(self, tile: u32, keys: u32) -> u64 {
        let seen = match (self.first, self.last) {
            (Some(first), Some(last)) => i64::from(last) - i64::from(first) + 1,
            _ => i64::from(keys),
        };
        // The first may lie in the middle of four.
        let walked = seen.max(0).unsigned_abs() + u64::from(tile) + 3;
        walked.min(keys.into())
    }
}

/// How many keys a batch entry has, where one `i32` per entry says that: later ones are hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counts {
    /// A window counts from a query's number, as without counts.
    Start,
    /// The last query stands at the last key of its entry, and a window counts from there.
    End,
}

impl Spec {
    /// The keys that a query of a batch entry sees by its place; `counts` is what is bound.
    ///
    /// # Panics
    /// Where `counts` are not those of the spec.
    pub fn keys_seen(&self, counts: Option<&Data>, entry: u32, query: u32) -> Range<u32> {
        let (Some(from), Some(counts)) = (self.counts, counts) else {
            return self.window.keys_of(query, self.keys);
        };
        let count = u32::try_from(counts.i32()[entry as usize]).unwrap_or(0).min(self.keys);
        let window = match from {
            Counts::Start => self.window,
            Counts::End => self.window.moved(count.wrapping_sub(self.queries).cast_signed()),
        };
        window.keys_of(query, count)
    }
}

/// What of a variant's name says which keys are seen.
pub(super) fn name(spec: &Spec) -> String {
    let counts = if spec.counts.is_some() { ", counted keys" } else { "" };
    format!("{}{counts}", spec.window.name())
}

/// Declares which keys are seen, and the counts where there are any.
pub(super) fn declare(composer: &mut Composer, spec: &Spec) {
    composer.source(include_str!("window.wgsl"));
    // Beyond this a bound hides all or nothing, whatever its number.
    let most = i32::try_from(spec.queries.saturating_add(spec.keys)).unwrap_or(i32::MAX);
    let most = most.min(i32::MAX / 4);
    let cut = |bound: i32| bound.clamp(-most, most);
    match spec.window.first {
        Some(first) => composer.i32("first_seen", cut(first)).hook("seen_from", "from_first"),
        None => composer.hook("seen_from", "from_start"),
    };
    match spec.window.last {
        Some(last) => composer.i32("last_seen", cut(last)).hook("seen_to", "to_last"),
        None => composer.hook("seen_to", "to_end"),
    };
    match spec.counts {
        None => composer.hook("entry_of", "entry_of_all"),
        Some(Counts::Start) => composer.read("counts", "i32").hook("entry_of", "entry_from_start"),
        Some(Counts::End) => composer.read("counts", "i32").hook("entry_of", "entry_to_end"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_sees_what_lies_around_its_place() {
        let all = |window: Window, keys| -> Vec<Range<u32>> {
            (0..3).map(|query| window.keys_of(query, keys)).collect()
        };
        assert_eq!(all(Window::ALL, 2), [0..2, 0..2, 0..2]);
        assert_eq!(all(Window::causal(1), 3), [0..2, 0..3, 0..3]);
        let two = Window { first: Some(-1), last: Some(0) };
        assert_eq!(all(two, 3), [0..1, 0..2, 1..3]);
        assert_eq!(two.pairs(3, 3), 5);
        assert_eq!(all(Window { first: Some(2), last: None }, 3), [2..3, 3..3, 3..3]);
        assert_eq!(all(Window { first: Some(1), last: Some(-1) }, 4), [1..1, 2..2, 3..3]);
        let far = Window { first: Some(i32::MIN), last: Some(i32::MAX) };
        assert_eq!(all(far, 2), [0..2, 0..2, 0..2]);
    }

    #[test]
    fn the_tighter_bounds_of_two_hold() {
        let two = Window { first: Some(-1), last: Some(2) };
        assert_eq!(two.and(Window::causal(0)), Window { first: Some(-1), last: Some(0) });
        assert_eq!(two.and(Window { first: Some(0), last: None }).first, Some(0));
        assert_eq!(Window::ALL.and(two), two);
    }

    #[test]
    fn a_tile_walks_no_more_than_its_queries_see() {
        let window = Window { first: Some(-7), last: Some(0) };
        assert_eq!(window.walked(32, 1000), 8 + 32 + 3);
        assert_eq!(window.walked(32, 20), 20);
        assert_eq!(Window::causal(0).walked(32, 1000), 1000);
        for (first, last) in [(-7, 0), (-3, 9), (5, 6)] {
            let window = Window { first: Some(first), last: Some(last) };
            for tile in (0..512).step_by(16) {
                let start = window.keys_of(tile, 500).start / 4 * 4;
                let end = window.keys_of(tile + 15, 500).end;
                assert!(u64::from(end.saturating_sub(start)) <= window.walked(16, 500));
            }
        }
    }
}
