//! How long rows take, measured run by run.

use std::collections::HashMap;
use std::time::Duration;

use crate::batch::Key;

/// Shapes that are remembered; requests choose them, so there must be a bound.
const SHAPES_MAX: usize = 256;

/// How fast one model is. What is not known yet is `None`.
#[derive(Default)]
pub(crate) struct Pace {
    /// Seconds per row, by the shape of a row.
    by_shape: HashMap<Key, f64>,
    /// Seconds per element in the last run, whatever its shape: a guess for shapes that never ran.
    per_element: Option<f64>,
    /// Seconds of a whole request, over the last ones.
    usual: f64,
    /// How much longer requests waited than was forecast: joined runs are shorter than the sum of
    /// their requests, and other models on the device make them longer.
    skew: Option<f64>,
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
        self.per_element = Some(row / elements(key));
        if self.by_shape.len() >= SHAPES_MAX && !self.by_shape.contains_key(key) {
            self.by_shape.clear();
        }
        // Down at once and up slowly: the first run of a shape may plan and compile, and a busy
        // machine slows single runs.
        let known = self.by_shape.entry(key.clone()).or_insert(row);
        *known = row.min(*known + (row - *known) / 4.0);
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
        forecast.mul_f64(self.skew.unwrap_or(1.0))
    }

    /// How long so many rows of a shape take.
    pub(crate) fn time_of(&self, key: &Key, rows: usize) -> Option<Duration> {
        let seconds = self.row(key)? * rows as f64;
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// How many rows of a shape are done in this time, one at least.
    pub(crate) fn rows_in(&self, time: Duration, key: &Key) -> Option<usize> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        let rows = (time.as_secs_f64() / self.row(key)?) as usize;
        Some(rows.max(1))
    }

    fn row(&self, key: &Key) -> Option<f64> {
        let known = self.by_shape.get(key).copied();
        known.or_else(|| Some(self.per_element? * elements(key)))
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
        assert_eq!(pace.rows_in(SECOND, &key(8)), Some(5));
        assert_eq!(pace.rows_in(SECOND, &key(400)), Some(1), "one row at least");
        assert_eq!(pace.time_of(&key(8), 10), Some(2 * SECOND));
    }

    #[test]
    fn a_slow_run_counts_for_little_and_a_fast_one_at_once() {
        let mut pace = Pace::default();
        let row = |pace: &Pace| pace.time_of(&key(1), 1).unwrap();
        pace.ran(&key(1), 1, 4 * SECOND);
        pace.ran(&key(1), 2, 2 * SECOND);
        assert_eq!(row(&pace), SECOND);
        pace.ran(&key(1), 1, 5 * SECOND);
        assert_eq!(row(&pace), 2 * SECOND);
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
