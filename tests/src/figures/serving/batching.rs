//! What joining requests in one run gains.

use std::time::Duration;

use anyhow::{Context, Result};
use gw_inference::{InferenceConfig, ModelPolicy, Models};
use prometheus_client::registry::Registry;

use super::models::{PATIENCE, block_on, rate, spec};
use crate::figures::{Row, median, say};

/// All three are measured in turn, this often.
const ROUNDS: usize = 5;
/// Of one measurement.
const TIME: Duration = Duration::from_secs(5);
/// Long enough for the engine to measure its variants.
const WARM_UP: Duration = Duration::from_secs(8);
/// Callers with one text each, or the texts of one caller.
const TEXTS: usize = 32;

/// Texts a second: of callers whose requests are joined, of one caller who sends whole batches, and
/// of callers whose requests each run alone.
struct Rates {
    joined: f64,
    batches: f64,
    alone: f64,
    /// How far apart the rounds of the last lie, over their median.
    noise: f64,
}

/// Of what is compared, the row is what is nearest to its bar.
pub(in super::super) fn gain() -> Result<Row> {
    let mut rows = Vec::new();
    // The CPU joins as many rows as it has threads, so that a batch is no goal there.
    for (device, of_batches, of_alone) in [("llvmpipe", Some(0.9), 1.3), ("cpu", None, 1.0)] {
        let Rates { joined, batches, alone, noise } = block_on(measure(device))?;
        let (of, over) = (joined / batches, joined / alone);
        let noise = 100.0 * noise;
        say(&format!(
            "{device}: {joined:.1} texts/s, {of:.2}x of {batches:.1} in batches of {TEXTS}, \
             {over:.2}x of {alone:.1} unbatched, whose rounds differ by {noise:.0} %"
        ));
        rows.extend(of_batches.map(|least| (joined, batches, least)));
        rows.push((joined, alone, of_alone));
    }
    let share = |&(ours, peer, least): &(f64, f64, f64)| ours / peer / least;
    let nearest = rows.iter().min_by(|a, b| share(a).total_cmp(&share(b)));
    let &(ours, peer, _) = nearest.context("two devices were measured")?;
    Ok(Row {
        key: "batch-gain",
        ours,
        peer: Some(peer),
        ratio: Some(ours / peer),
        unit: "texts/s",
        runs: ROUNDS,
        bar: ">= 0.9x, 1.3x, cpu 1x",
        holds: rows.iter().all(|row| share(row) >= 1.0),
    })
}

async fn measure(device: &str) -> Result<Rates> {
    // A run takes 100 ms at most by default: two texts on llvmpipe.
    let config =
        InferenceConfig { wait_max: PATIENCE, run_time: PATIENCE, ..InferenceConfig::default() };
    let models = Models::new(config, &mut Registry::default());
    let joins = models.load(&spec("minilm-f32", device, ModelPolicy::default())?)?;
    let policy = ModelPolicy { batch_max: Some(1), ..ModelPolicy::default() };
    let joins_nothing = models.load(&spec("minilm-f32", device, policy)?)?;
    let ways = [(&joins, TEXTS, 1), (&joins, 1, TEXTS), (&joins_nothing, TEXTS, 1)];
    for (model, callers, rows) in ways {
        rate(model, callers, rows, WARM_UP).await?;
    }
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (rates, (model, callers, rows)) in rates.iter_mut().zip(ways) {
            rates.push(rate(model, callers, rows, TIME).await?);
        }
    }
    let spread = |values: &[f64]| {
        let (least, most) = values.iter().fold((f64::INFINITY, 0f64), |(least, most), &value| {
            (least.min(value), most.max(value))
        });
        most - least
    };
    let spread = spread(&rates[2]);
    let [joined, batches, alone] = rates.map(|mut rates| median(&mut rates));
    Ok(Rates { joined, batches, alone, noise: spread / alone })
}
