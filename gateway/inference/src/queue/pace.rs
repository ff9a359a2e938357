//! How long rows take, measured run by run.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::batch::Key;

/// Shapes that are remembered; requests choose them, so there must be a bound.
const SHAPES_MAX: usize = 256;

/// How fast one model is. What is not known yet is `None`.
pub(crate) struct Pace {
    /// By the shape of a row.
    by_shape: HashMap<Key, Known>,
    /// What joining gains, by the power of two that a row's elements reach: rows of about one size
    /// gain alike, and so each shape need not be tried by itself.
    joining: BTreeMap<u32, Joining>,
    /// Seconds per element in the last run, whatever its shape: a guess for shapes that never ran.
    per_element: Option<f64>,
    /// Seconds of a whole request, over the last ones.
    usual: f64,
    /// How much longer requests waited than was forecast: joined runs are shorter than the sum of
    /// their requests, and other models on the device make them longer.
    skew: f64,
}

/// How fast rows of one shape are.
#[derive(Default)]
struct Known {
    /// Seconds per row.
    row: f64,
    runs: u64,
    /// A bit for each of [`size_class`] that has run.
    sizes: u64,
}

/// How fast rows of about one size are in runs of different numbers of them.
#[derive(Default)]
struct Joining {
    runs: u64,
    /// Seconds per element, by [`size_class`], where there was a run.
    by_size: Vec<Option<f64>>,
}

/// Runs of 1, 2 to 3, 4 to 7 … rows.
fn size_class(rows: usize) -> usize {
    rows.ilog2() as usize
}

/// Each so many runs a larger one is tried, though it was slower before. Who takes part in it waits
/// for twice as long as others, so it must be far fewer than one in a hundred.
const TRY_AGAIN: u64 = 1024;

/// By how much a row must be faster in a larger run: each who joins waits for all of it.
const GAIN_MIN: f64 = 0.9;

/// Down at once and up slowly: the first run of a shape may plan and compile, and a busy machine
/// slows single runs.
fn note(known: f64, seconds: f64) -> f64 {
    seconds.min(known + (seconds - known) / 4.0)
}

/// A forecast below this says nothing about the skew: waking up takes as long.
const FORECAST_MIN: Duration = Duration::from_millis(2);

impl Default for Pace {
    fn default() -> Self {
        let (by_shape, joining) = (HashMap::new(), BTreeMap::new());
        Self { by_shape, joining, per_element: None, usual: 0.0, skew: 1.0 }
    }
}

impl Pace {
    /// Notes a run. Only one that had one slot of its device says what joining gains: where more
    /// waits each run has one, and one row on all of them makes less of each.
    pub(crate) fn ran(&mut self, key: &Key, rows: usize, took: Duration, is_narrow: bool) {
        if rows == 0 {
            return;
        }
        let row = took.as_secs_f64() / rows as f64;
        if self.by_shape.len() >= SHAPES_MAX && !self.by_shape.contains_key(key) {
            self.by_shape.clear();
        }
        let known = self.by_shape.entry(key.clone()).or_default();
        let bit = 1 << size_class(rows);
        let is_new = known.sizes & bit == 0;
        known.sizes |= bit;
        known.runs += 1;
        // The first run of a size says little, but more than nothing.
        if known.runs == 1 {
            known.row = row;
        } else if !is_new {
            known.row = note(known.row, row);
            self.per_element = Some(known.row / elements(key));
        }
        if is_narrow {
            self.joining.entry(row_class(key)).or_default().ran(rows, row / elements(key));
        }
    }

    /// How many rows of this shape are worth joining in a run.
    pub(crate) fn pays(&self, key: &Key) -> usize {
        self.joining.get(&row_class(key)).map_or(1, Joining::pays)
    }

    /// Notes how much of the device a whole request takes.
    pub(crate) fn comes(&mut self, takes: Duration) {
        self.usual += (takes.as_secs_f64() - self.usual) / 16.0;
    }

    /// What a request takes of which nothing is known.
    pub(crate) fn usual(&self) -> Duration {
        Duration::try_from_secs_f64(self.usual).unwrap_or_default()
    }

    /// Notes how long a request waited for its first run.
    pub(crate) fn waited(&mut self, forecast: Duration, waited: Duration) {
        if forecast < FORECAST_MIN {
            return;
        }
        let skew = (waited.as_secs_f64() / forecast.as_secs_f64()).clamp(0.1, 10.0);
        self.skew += (skew - self.skew) / 16.0;
    }

    /// What a forecast comes to, by how those before it came out.
    pub(crate) fn corrected(&self, forecast: Duration) -> Duration {
        let seconds = forecast.as_secs_f64() * self.skew;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// How long so many rows of a shape take.
    pub(crate) fn time_of(&self, key: &Key, rows: usize) -> Option<Duration> {
        let seconds = self.row(key)? * rows as f64;
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// How many rows of a shape are done in this time, one at least.
    pub(crate) fn rows_in(&self, time: Duration, key: &Key) -> Option<usize> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        let rows = (time.as_secs_f64() / self.any_row(key)?) as usize;
        Some(rows.max(1))
    }

    /// As [`Self::row`], after one run already.
    fn any_row(&self, key: &Key) -> Option<f64> {
        self.by_shape.get(key).map(|known| known.row).or_else(|| self.row(key))
    }

    /// What is known for a forecast: a first run may have compiled all that it took.
    fn row(&self, key: &Key) -> Option<f64> {
        let known = self.by_shape.get(key).filter(|known| known.runs > 1);
        known.map(|known| known.row).or_else(|| Some(self.per_element? * elements(key)))
    }
}

impl Joining {
    fn ran(&mut self, rows: usize, element: f64) {
        let size = size_class(rows);
        if self.by_size.len() <= size {
            self.by_size.resize(size + 1, None);
        }
        let known = &mut self.by_size[size];
        *known = Some(known.map_or(element, |before| note(before, element)));
        self.runs += 1;
    }

    /// So many as make a row faster. What was not tried yet is tried.
    fn pays(&self) -> usize {
        let cost = |size: u32| self.by_size.get(size as usize).copied().flatten();
        let mut size = 0;
        while let Some(now) = cost(size)
            && size + 1 < usize::BITS
        {
            match cost(size + 1) {
                Some(next) if next > now * GAIN_MIN => break,
                _ => size += 1,
            }
        }
        let tries = u32::from(self.runs.is_multiple_of(TRY_AGAIN));
        // The least of its class: who joins waits for the others, and more would gain little.
        1 << (size + tries).min(usize::BITS - 2)
    }
}

/// The power of two that the elements of one row reach.
fn row_class(key: &Key) -> u32 {
    count(key).ilog2()
}

fn elements(key: &Key) -> f64 {
    count(key) as f64
}

/// Elements of one row over all inputs, one at least.
fn count(key: &Key) -> usize {
    key.iter().map(|dims| dims.iter().product::<usize>()).sum::<usize>().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(length: usize) -> Key {
        vec![vec![length], vec![length]]
    }

    #[test]
    fn nothing_is_known_before_the_first_run() {
        let mut pace = Pace::default();
        pace.ran(&key(4), 0, SECOND, true);
        assert_eq!(pace.rows_in(SECOND, &key(4)), None);
        assert_eq!(pace.time_of(&key(4), 1), None);
    }

    #[test]
    fn a_shape_that_never_ran_is_judged_by_its_elements() {
        let mut pace = Pace::default();
        pace.ran(&key(4), 10, SECOND, true);
        assert_eq!(pace.rows_in(SECOND, &key(4)), Some(10));
        assert_eq!(pace.time_of(&key(4), 10), None, "it may have compiled");
        pace.ran(&key(4), 10, SECOND, true);
        assert_eq!(pace.time_of(&key(4), 10), Some(SECOND));
        assert_eq!(pace.rows_in(SECOND, &key(8)), Some(5));
        assert_eq!(pace.rows_in(SECOND, &key(400)), Some(1), "one row at least");
        assert_eq!(pace.time_of(&key(8), 10), Some(2 * SECOND));
    }

    #[test]
    fn a_slow_run_counts_for_little_and_a_fast_one_at_once() {
        let mut pace = Pace::default();
        let row = |pace: &Pace| pace.time_of(&key(1), 1).unwrap();
        pace.ran(&key(1), 1, 4 * SECOND, true);
        pace.ran(&key(1), 1, SECOND, true);
        assert_eq!(row(&pace), SECOND);
        pace.ran(&key(1), 1, 5 * SECOND, true);
        assert_eq!(row(&pace), 2 * SECOND);
        pace.ran(&key(1), 2, 50 * SECOND, true);
        assert_eq!(row(&pace), 2 * SECOND, "the first run of two rows may have compiled");
    }

    #[test]
    fn rows_are_joined_as_long_as_that_makes_them_faster() {
        // Of so many rows in a run each takes so long.
        let run = |pace: &mut Pace, rows: usize, millis: u64| {
            pace.ran(&key(1), rows, Duration::from_millis(millis * rows as u64), true);
        };
        let mut pace = Pace::default();
        run(&mut pace, 1, 100);
        assert_eq!(pace.pays(&key(1)), 2, "what was not tried is tried");
        assert_eq!(pace.pays(&key(2)), 1, "rows of another size");
        pace.ran(&key(2), 2, Duration::from_millis(1), false);
        assert_eq!(pace.pays(&key(2)), 1, "it had all of the device");
        run(&mut pace, 2, 60);
        run(&mut pace, 3, 60);
        assert_eq!(pace.pays(&key(1)), 4);
        run(&mut pace, 5, 55);
        assert_eq!(pace.pays(&key(1)), 2, "less than a tenth is not worth the wait");
        // Once in a while it is tried again, and may have become better.
        let tried = (0..TRY_AGAIN).filter(|_| {
            run(&mut pace, 2, 60);
            pace.pays(&key(1)) == 4
        });
        assert_eq!(tried.count(), 1);
        run(&mut pace, 4, 30);
        assert_eq!(pace.pays(&key(1)), 8);
    }

    #[test]
    fn forecasts_are_corrected_by_how_they_came_out() {
        let mut pace = Pace::default();
        pace.waited(Duration::from_millis(1), SECOND);
        assert_eq!(pace.corrected(SECOND), SECOND, "too short to say anything");
        pace.waited(SECOND, 9 * SECOND);
        assert_eq!(pace.corrected(2 * SECOND), 3 * SECOND, "one says little");
        for _ in 0..200 {
            pace.waited(SECOND, 2 * SECOND);
        }
        let corrected = pace.corrected(3 * SECOND);
        assert!(corrected.abs_diff(6 * SECOND) < Duration::from_millis(10), "{corrected:?}");
    }

    #[test]
    fn only_so_many_shapes_are_remembered() {
        let mut pace = Pace::default();
        for length in 0..3 * SHAPES_MAX {
            pace.ran(&key(length), 1, SECOND, true);
            assert!(pace.by_shape.len() <= SHAPES_MAX);
        }
    }
}
