//! Many durations in little memory, and their percentiles.

use std::time::Duration;

use serde::Serialize;

/// Durations below so many microseconds have a bucket each; above, each power of two has half as
/// many, so that a percentile is at most 0.2 % too large.
const FINE: u64 = 1024;

/// How often each duration came, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// By bucket, up to the largest that came: 48 KiB for a second, and never over 230 KiB.
    counts: Vec<u64>,
    count: u64,
    max: u64,
}

impl Histogram {
    pub(super) fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket(micros);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.count += 1;
        self.max = self.max.max(micros);
    }

    /// The nearest rank of so many thousandths: no fewer are at most this long.
    fn permille(&self, permille: u64) -> f64 {
        let rank = (self.count * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        // The largest of its bucket, but never more than was measured.
        let micros = found.map_or(0, |bucket| last_of(bucket).min(self.max));
        micros as f64 / 1e3
    }

    /// The usual percentiles; `None` where nothing came.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        (self.count > 0).then(|| Percentiles {
            count: self.count,
            p50_ms: self.permille(500),
            p90_ms: self.permille(900),
            p99_ms: self.permille(990),
            p999_ms: self.permille(999),
            max_ms: self.max as f64 / 1e3,
        })
    }
}

/// The bucket of a number: itself while small, then its leading bits and how many follow them.
fn bucket(micros: u64) -> usize {
    let shift = (micros / FINE).checked_ilog2().map_or(0, |log| log + 1);
    let bucket = u64::from(shift) * (FINE / 2) + (micros >> shift);
    usize::try_from(bucket).expect("there are at most 64 times half of FINE, and FINE")
}

/// The largest number of a bucket.
fn last_of(bucket: usize) -> u64 {
    let (bucket, half) = (bucket as u64, FINE / 2);
    let shift = (bucket / half).saturating_sub(1);
    let lead = bucket - shift * half;
    // The last bucket ends where the numbers end.
    ((u128::from(lead + 1) << shift) - 1).try_into().unwrap_or(u64::MAX)
}

/// What most, and the slowest, took; in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) count: u64,
    pub(super) p50_ms: f64,
    pub(super) p90_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    pub(super) max_ms: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::inputs::Random;

    #[test]
    fn every_number_is_in_a_bucket_that_is_hardly_wider_than_it() {
        let edges = (0..64).map(|bits| 1u64 << bits).flat_map(|edge| [edge - 1, edge, edge + 1]);
        let mut numbers: Vec<u64> = edges.chain([u64::MAX]).collect();
        numbers.sort_unstable();
        let mut last = 0;
        for micros in numbers {
            let (of, end) = (bucket(micros), last_of(bucket(micros)));
            assert!(end >= micros, "{micros} is above the end {end} of its bucket");
            assert!((end - micros) as f64 <= micros as f64 / 500.0, "{micros} is told as {end}");
            assert!(of >= last, "the bucket of {micros} comes too early");
            last = of;
        }
        assert_eq!(bucket(1023) + 1, bucket(1024));
        assert_eq!(bucket(2047) + 1, bucket(2048));
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_numbers() {
        let mut random = Random(7);
        let mut micros: Vec<u64> = (0..5_000).map(|_| random.next() % 3_000_000).collect();
        let mut histogram = Histogram::default();
        for &micros in &micros {
            histogram.add(Duration::from_micros(micros));
        }
        micros.sort_unstable();
        let found = histogram.percentiles().unwrap();
        let expected = [
            (found.p50_ms, micros[2_499]),
            (found.p90_ms, micros[4_499]),
            (found.p99_ms, micros[4_949]),
            (found.p999_ms, micros[4_994]),
        ];
        for (found, exact) in expected {
            let exact = exact as f64 / 1e3;
            assert!(found >= exact && found <= exact * 1.002, "{found} for {exact}");
        }
        assert_eq!((found.count, found.max_ms), (5_000, micros[4_999] as f64 / 1e3));
    }

    #[test]
    fn few_numbers_are_told_as_they_are() {
        assert_eq!(Histogram::default().percentiles(), None);
        let mut histogram = Histogram::default();
        histogram.add(Duration::from_micros(777));
        let of = histogram.percentiles().unwrap();
        assert_eq!((of.p50_ms, of.p999_ms, of.max_ms), (0.777, 0.777, 0.777));
        histogram.add(Duration::from_secs(5));
        let of = histogram.percentiles().unwrap();
        assert_eq!((of.p50_ms, of.p90_ms, of.max_ms), (0.777, 5_000.0, 5_000.0));
    }
}
