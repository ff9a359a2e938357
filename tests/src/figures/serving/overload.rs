//! Ten times more requests than a node can serve.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::load::{Arrivals, Load, Seen, run};
use super::percentile;
use super::site::Site;
use crate::figures::{Row, median, say};

/// The three loads are run in turn, this often.
const ROUNDS: usize = 3;
/// To find the peak, on sixteen connections; those that are refused come again when they are told.
const PEAK_TIME: Duration = Duration::from_secs(10);
/// Of the load below the peak, and of that far above it.
const TIME: Duration = Duration::from_secs(20);
/// Of the peak: a node that is used well, and is not overloaded.
const CALM: f64 = 0.8;
const OVERLOAD: f64 = 10.0;
/// So many clients wait for an answer at once, or for a connection.
const CONNECTIONS: usize = 512;
/// The node's budget for latency, which is what tells it whom to refuse: what a node at [`CALM`]
/// makes its unluckiest clients wait anyway.
const WAIT_MAX: &str = "50ms";
/// What a refusal may take, in milliseconds.
const REFUSAL_MAX: f64 = 5.0;

/// The medians over all rounds.
struct Measured {
    /// Accepted requests a second, on sixteen connections and under overload.
    peak: f64,
    goodput: f64,
    /// Of accepted requests, in milliseconds, below the peak and under overload.
    calm_p99: f64,
    p99: f64,
    /// Of refusals.
    refusal_p99: f64,
    /// Every request had an answer that may be.
    is_sound: bool,
}

pub(in super::super) fn p99() -> Result<Row> {
    let seen = measure()?;
    let ratio = seen.p99 / seen.calm_p99;
    Ok(Row {
        key: "overload-p99",
        ours: seen.p99,
        peer: Some(seen.calm_p99),
        ratio: Some(ratio),
        unit: "ms",
        runs: ROUNDS,
        bar: "<= 1.5x, refusals < 5 ms",
        holds: ratio <= 1.5 && seen.refusal_p99 < REFUSAL_MAX,
    })
}

pub(in super::super) fn goodput() -> Result<Row> {
    let seen = measure()?;
    let ratio = seen.goodput / seen.peak;
    Ok(Row {
        key: "overload-goodput",
        ours: seen.goodput,
        peer: Some(seen.peak),
        ratio: Some(ratio),
        unit: "texts/s",
        runs: ROUNDS,
        bar: ">= 0.9x, all answered",
        holds: ratio >= 0.9 && seen.is_sound,
    })
}

fn measure() -> Result<Measured> {
    let config = format!("[inference]\nwait_max = \"{WAIT_MAX}\"\n");
    let site = Site::start("cpu", &["/embed"], &config)?;
    let load = |arrivals, connections, length| -> Result<Seen> {
        let load = site.load("/embed", None);
        let ([seen], share) = run([Load { arrivals, connections, length, ..load }])?;
        let (accepted, refused) = (seen.accepted.len(), seen.refused.len());
        let rate = seen.rate();
        say(&format!(
            "{accepted} accepted ({rate:.1}/s), {refused} refused, load generator {share:.2} of a \
             core{}",
            seen.trouble()
        ));
        Ok(seen)
    };
    let peak = |length| load(Arrivals::Closed, 16, length);
    peak(PEAK_TIME / 2)?;
    let mut values = [const { Vec::new() }; 5];
    let mut is_sound = true;
    for _ in 0..ROUNDS {
        let peak = peak(PEAK_TIME)?;
        let rate = peak.rate();
        let mut calm = load(Arrivals::Open(CALM * rate), CONNECTIONS, TIME)?;
        let mut flood = load(Arrivals::Open(OVERLOAD * rate), CONNECTIONS, TIME)?;
        ensure!(!flood.refused.is_empty(), "ten times the peak, and nobody was refused");
        is_sound &= peak.is_sound() && calm.is_sound() && flood.is_sound();
        let refusal = percentile(&mut flood.refused, 99);
        let round = [rate, flood.rate(), calm.p99(), flood.p99(), refusal];
        say(&format!(
            "peak {:.1}/s, goodput {:.1}/s, p99 {:.1} ms, overloaded {:.1} ms, refusals {:.2} ms",
            round[0], round[1], round[2], round[3], round[4]
        ));
        for (values, value) in values.iter_mut().zip(round) {
            values.push(value);
        }
    }
    let [peak, goodput, calm_p99, p99, refusal_p99] = values.map(|mut values| median(&mut values));
    say(&format!("p99 of refusals {refusal_p99:.2} ms"));
    Ok(Measured { peak, goodput, calm_p99, p99, refusal_p99, is_sound })
}
