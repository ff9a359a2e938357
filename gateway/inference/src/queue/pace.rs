//! How long rows take, measured run by run.

use std::collections::HashMap;
use std::time::Duration;

use crate::batch::Key;

/// Shapes that are remembered; requests choose them, so there must be a bound.
const SHAPES_MAX: usize = 256;

/// How fast one model is. What is not known yet is `None`.
#[derive(Default)]
pub(crate) struct Pace {
    /// By the shape of a row.
    by_shape: HashMap<Key, Known>,
    /// Seconds per element in the last run, whatever its shape: a guess for shapes that never ran.
    per_element: Option<f64>,
    /// Seconds of a whole request, over the last ones.
    usual: f64,
    /// How much longer requests waited than was forecast: joined runs are shorter than the sum of
    /// their requests, and other models on the device make them longer.
    skew: Option<f64>,
}

/// How fast rows of one shape are.
#[derive(Default)]
struct Known {
    /// Seconds per row.
    row: f64,
    runs: u64,
    /// Seconds per row in runs of 1, 2 to 3, 4 to 7 … rows, where there was one.
    by_size: Vec<Option<f64>>,
}

/// Each so many runs a larger one is tried, though it was slower before.
const TRY_AGAIN: u64 = 64;

/// By how much a row must be faster in a larger run: what is less is noise.
const GAIN_MIN: f64 = 0.97;

/// Down at once and up slowly: the first run of a shape may plan and compile, and a busy machine
/// slows single runs.
fn note(known: f64, seconds: f64) -> f64 {
    seconds.min(known + (seconds - known) / 4.0)
}

/// A forecast below this says nothing about the skew: waking up takes as long.
const FORECAST_MIN: Duration = Duration::from_millis(2);

impl Pace {
    /// Notes a run.
    pub(crate) fn ran(&mut self, key: &Key, rows: usize, took: Duration) {
        if rows == 0 {
            return;
        }
        let row = took.as_secs_f64() / rows as f64;
        if self.by_shape.len() >= SHAPES_MAX && !self.by_shape.contains_key(key) {
            self.by_shape.clear();
        }
        let known = self.by_shape.entry(key.clone()).or_default();
        let size = rows.ilog2() as usize;
        if known.by_size.len() <= size {
            known.by_size.resize(size + 1, None);
        }
        let is_new = known.by_size[size].is_none();
        known.by_size[size] = Some(known.by_size[size].map_or(row, |before| note(before, row)));
        known.runs += 1;
        // The first run of a size says little, but more than nothing.
        if known.runs == 1 {
            known.row = row;
        } else if !is_new {
            known.row = note(known.row, row);
            self.per_element = Some(known.row / elements(key));
        }
    }

    /// How many rows of this shape are worth joining in a run: as long as a row gets faster by it.
    /// What was not tried yet is tried.
    pub(crate) fn pays(&self, key: &Key) -> usize {
        let Some(known) = self.by_shape.get(key) else { return 2 };
        let cost = |size: u32| known.by_size.get(size as usize).copied().flatten();
        let mut size = 0;
        while let Some(now) = cost(size)
            && size + 1 < usize::BITS
        {
            match cost(size + 1) {
                Some(next) if next > now * GAIN_MIN => break,
                _ => size += 1,
            }
        }
        let tries = u32::from(known.runs.is_multiple_of(TRY_AGAIN));
        // All sizes of a class are tried as one; the largest says most.
        (2 << (size + tries).min(usize::BITS - 2)) - 1
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
        let known = self.skew.get_or_insert(skew);
        *known += (skew - *known) / 16.0;
    }

    /// What a forecast comes to, by how those before it came out.
    pub(crate) fn corrected(&self, forecast: Duration) -> Duration {
        let seconds = forecast.as_secs_f64() * self.skew.unwrap_or(1.0);
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

/// Elements of one row over all inputs, one at least.
fn elements(key: &Key) -> f64 {
    let elements: usize = key.iter().map(|dims| dims.iter().product::<usize>()).sum();
    elements.max(1) as f64
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
        pace.ran(&key(4), 0, SECOND);
        assert_eq!(pace.rows_in(SECOND, &key(4)), None);
        assert_eq!(pace.time_of(&key(4), 1), None);
    }

    #[test]
    fn a_shape_that_never_ran_is_judged_by_its_elements() {
        let mut pace = Pace::default();
        pace.ran(&key(4), 10, SECOND);
        assert_eq!(pace.rows_in(SECOND, &key(4)), Some(10));
        assert_eq!(pace.time_of(&key(4), 10), None, "it may have compiled");
        pace.ran(&key(4), 10, SECOND);
        assert_eq!(pace.time_of(&key(4), 10), Some(SECOND));
        assert_eq!(pace.rows_in(SECOND, &key(8)), Some(5));
        assert_eq!(pace.rows_in(SECOND, &key(400)), Some(1), "one row at least");
        assert_eq!(pace.time_of(&key(8), 10), Some(2 * SECOND));
    }

    #[test]
    fn a_slow_run_counts_for_little_and_a_fast_one_at_once() {
        let mut pace = Pace::default();
        let row = |pace: &Pace| pace.time_of(&key(1), 1).unwrap();
        pace.ran(&key(1), 1, 4 * SECOND);
        pace.ran(&key(1), 1, SECOND);
        assert_eq!(row(&pace), SECOND);
        pace.ran(&key(1), 1, 5 * SECOND);
        assert_eq!(row(&pace), 2 * SECOND);
        pace.ran(&key(1), 2, 50 * SECOND);
        assert_eq!(row(&pace), 2 * SECOND, "the first run of two rows may have compiled");
    }

    #[test]
    fn rows_are_joined_as_long_as_that_makes_them_faster() {
        // Of so many rows in a run each takes so long.
        let run = |pace: &mut Pace, rows: usize, millis: u64| {
            pace.ran(&key(1), rows, Duration::from_millis(millis * rows as u64));
        };
        let mut pace = Pace::default();
        run(&mut pace, 1, 100);
        assert_eq!(pace.pays(&key(1)), 3, "what was not tried is tried");
        run(&mut pace, 2, 60);
        run(&mut pace, 3, 60);
        assert_eq!(pace.pays(&key(1)), 7);
        run(&mut pace, 5, 59);
        assert_eq!(pace.pays(&key(1)), 3, "one in sixty is noise");
        // Once in a while it is tried again, and may have become better.
        let tried = (0..TRY_AGAIN).filter(|_| {
            run(&mut pace, 2, 60);
            pace.pays(&key(1)) == 7
        });
        assert_eq!(tried.count(), 1);
        run(&mut pace, 4, 30);
        assert_eq!(pace.pays(&key(1)), 15);
    }

    #[test]
    fn forecasts_are_corrected_by_how_they_came_out() {
        let mut pace = Pace::default();
        pace.waited(Duration::from_millis(1), SECOND);
        assert_eq!(pace.corrected(SECOND), SECOND, "too short to say anything");
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
            pace.ran(&key(length), 1, SECOND);
            assert!(pace.by_shape.len() <= SHAPES_MAX);
        }
    }
}
