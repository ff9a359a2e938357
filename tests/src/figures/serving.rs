//! What serving many callers costs and withstands, on whole gateways and on models alone.
//!
//! - `texts`: what is asked; `load`: who asks, and what they saw; `site`: a node to ask; `models`:
//!   models to ask.
//! - `batching`, `embeddings`, `overload`, `fairness`: how fast, and for whom.
//! - `metering`, `residency`, `soak`: what is counted, kept and given back.

pub(super) mod batching;
pub(super) mod embeddings;
pub(super) mod fairness;
mod load;
pub(super) mod metering;
mod models;
pub(super) mod overload;
pub(super) mod residency;
mod site;
pub mod soak;
mod texts;

/// The least of `values` that so many in a hundred of them do not exceed; 0 where there are none.
fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (percent * values.len()).div_ceil(100);
    values.get(rank.max(1) - 1).or(values.last()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_seen() {
        let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 99), 198.0);
        assert_eq!(percentile(&mut values, 0), 1.0);
        assert_eq!(percentile(&mut values, 100), 200.0);
        assert_eq!(percentile(&mut [7.0], 99), 7.0);
        assert_eq!(percentile(&mut [], 99), 0.0);
    }
}
