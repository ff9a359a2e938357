//! Another number of samples a second.
//!
//! Source: polyphase filtering with a windowed sinc, with the filter that `SciPy`'s `resample_poly`
//! has by default: a cutoff at the lower of both rates, 10 zero crossings to each side, a Kaiser
//! window with β = 5.

use std::f64::consts::PI;

use super::{Audio, wrong};
use crate::Error;

/// Zero crossings of the sinc to each side.
const CROSSINGS: usize = 10;
/// The Kaiser window's β: about 50 dB of stopband.
const BETA: f64 = 5.0;
/// The largest step of both rates in lowest terms; 44,100 to 16,000 is 441 to 160. The filter has
/// 20 times as many taps.
const STEP_MAX: u32 = 100_000;

impl Audio {
    /// The same sound with `rate` samples a second.
    ///
    /// # Errors
    /// 422 `wrong_rate` where a rate is 0 or the two have no common measure of any use.
    pub fn resample(self, rate: u32) -> Result<Self, Error> {
        if rate == self.rate {
            return Ok(self);
        }
        let common = common_divisor(rate, self.rate).max(1);
        let (up, down) = (rate / common, self.rate / common);
        if up == 0 || down == 0 || up.max(down) > STEP_MAX {
            let message = format!("{} samples a second do not become {rate}", self.rate);
            return Err(wrong(422, "wrong_rate", message));
        }
        let samples = polyphase(&self.samples, up, down);
        Ok(Self { rate, samples })
    }
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// `samples` with `up - 1` zeros behind each, filtered, and every `down`-th kept.
#[allow(clippy::cast_possible_truncation, reason = "places of samples and taps fit")]
fn polyphase(samples: &[f32], up: u32, down: u32) -> Vec<f32> {
    let filter = filter(up as usize, down as usize);
    // Places in the stretched sound: a minute of 22,255 Hz has more of them than 32 bits count, and
    // here `usize` has 32.
    let (up, down, half) = (u64::from(up), u64::from(down), (filter.len() / 2) as u64);
    let length = (samples.len() as u64 * up).div_ceil(down);
    (0..length)
        .map(|at| {
            // From where the filter begins.
            let end = at * down + half;
            let first = end.saturating_sub(2 * half).div_ceil(up) as usize;
            let last = ((end / up) as usize).min(samples.len().wrapping_sub(1));
            let tap = |sample: usize| filter[(end - sample as u64 * up) as usize];
            (first..=last).map(|sample| samples[sample] * tap(sample)).sum()
        })
        .collect()
}

/// A sinc in a Kaiser window, with a gain of `up` for the zeros between samples.
#[allow(clippy::cast_possible_truncation, reason = "the filter is as precise as the samples")]
fn filter(up: usize, down: usize) -> Vec<f32> {
    let widest = up.max(down);
    let half = CROSSINGS * widest;
    let taps: Vec<f64> = (0..=2 * half)
        .map(|at| {
            let x = at as f64 - half as f64;
            let sinc = match x / widest as f64 {
                0.0 => 1.0,
                x => (PI * x).sin() / (PI * x),
            };
            let edge = x / half as f64;
            sinc * bessel(BETA * (1.0 - edge * edge).max(0.0).sqrt()) / bessel(BETA)
        })
        .collect();
    let sum: f64 = taps.iter().sum();
    taps.iter().map(|tap| (tap / sum * up as f64) as f32).collect()
}

/// The modified Bessel function of the first kind and order 0, as its power series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for n in 1..64 {
        term *= (x / 2.0 / f64::from(n)).powi(2);
        sum += term;
    }
    sum
}
