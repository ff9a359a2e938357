//! Two tenants on one model, of which one asks for a hundred times its share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gw_inference::{Caller, Model, ModelPolicy, Terms};
use tokio::sync::{Semaphore, mpsc};

use super::load::{Arrivals, Load, gap, run};
use super::models::{PATIENCE, block_on, node, rate, spec, texts};
use super::percentile;
use super::site::{Site, api_keys};
use crate::figures::{Row, say};
use crate::random::Random;

/// Calm and flood are measured in turn, this often; all answers of either make one percentile.
const ROUNDS: usize = 3;
/// Of one measurement.
const TIME: Duration = Duration::from_secs(20);
/// To find the peak, with as many callers.
const PEAK_TIME: Duration = Duration::from_secs(5);
const PEAK_CALLERS: usize = 16;
/// Of the peak, that each tenant asks for while both are modest.
const SHARE: f64 = 0.3;
const FLOOD: f64 = 100.0;
/// The requests that a tenant may have on their way. A flood has all of them, always.
const CONNECTIONS: usize = 256;

/// Of the two devices, the row is the one that is nearer to its bar. The ways through HTTP are told
/// beside it: there the flood also takes of the two cores what it takes to send and to refuse it.
pub(in super::super) fn row() -> Result<Row> {
    let mut rows = Vec::new();
    for device in ["llvmpipe", "cpu"] {
        let [calm, flood] = block_on(in_process(device))?;
        say(&format!("{device}: p99 {calm:.1} ms, beside a flood {flood:.1} ms"));
        rows.push((flood, calm));
    }
    let [calm, flood] = over_http()?;
    say(&format!("over HTTP on the cpu: p99 {calm:.1} ms, beside a flood {flood:.1} ms"));
    let worst = rows.into_iter().max_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    let (ours, peer) = worst.context("two devices were measured")?;
    let ratio = ours / peer;
    Ok(Row {
        key: "fairness",
        ours,
        peer: Some(peer),
        ratio: Some(ratio),
        unit: "ms",
        runs: ROUNDS,
        bar: "<= 1.3x",
        holds: ratio <= 1.3,
    })
}

/// The 99th percentile of the modest tenant, beside a modest one and beside a flood.
async fn in_process(device: &str) -> Result<[f64; 2]> {
    let models = node();
    let model = models.load(&spec("minilm-f32", device, ModelPolicy::default())?)?;
    rate(&model, PEAK_CALLERS, 1, PEAK_TIME).await?;
    let peak = rate(&model, PEAK_CALLERS, 1, PEAK_TIME).await?;
    say(&format!("{device}: {peak:.1} texts/s at most"));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (times, greed) in times.iter_mut().zip([1.0, FLOOD]) {
            let modest = tokio::spawn(offer(Arc::clone(&model), "modest", SHARE * peak));
            let greedy = offer(Arc::clone(&model), "greedy", greed * SHARE * peak).await?;
            let modest = modest.await??;
            say(&format!(
                "{device}: {} and {} answered, {} and {} not",
                modest.times.len(),
                greedy.times.len(),
                modest.refused,
                greedy.refused
            ));
            // Who asks for no more than its share is never refused: as if it waited for ever.
            times.extend(vec![f64::INFINITY; modest.refused]);
            times.extend(modest.times);
        }
    }
    Ok(times.map(|mut times| percentile(&mut times, 99)))
}

/// What a tenant saw.
#[derive(Default)]
struct Offered {
    /// Milliseconds until each answer.
    times: Vec<f64>,
    refused: usize,
}

/// Asks so often, at times of its own.
async fn offer(model: Arc<Model>, tenant: &str, rate: f64) -> Result<Offered> {
    let caller = Arc::new(Caller { tenant: tenant.into(), ..Caller::default() });
    let inputs = texts(1)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (tx, mut rx) = mpsc::unbounded_channel();
    let mut random = Random(rate.to_bits());
    let mut due = Instant::now();
    let end = due + TIME;
    loop {
        due += gap(&mut random, rate);
        if due >= end {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        // Who has no connection left does not even ask.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let terms = Terms { caller: Arc::clone(&caller), ..Terms::until(due + PATIENCE) };
        let (model, inputs, tx) = (Arc::clone(&model), inputs.clone(), tx.clone());
        tokio::spawn(async move {
            let came = Instant::now();
            let answer = model.infer_for(inputs, terms).await;
            drop(place);
            // The receiver outlives every sender.
            let _ = tx.send(answer.map(|_| came.elapsed().as_secs_f64() * 1e3));
        });
    }
    drop(tx);
    let mut offered = Offered::default();
    while let Some(answer) = rx.recv().await {
        match answer {
            Ok(time) => offered.times.push(time),
            Err(_) => offered.refused += 1,
        }
    }
    Ok(offered)
}

/// The same through plugins, by API keys.
fn over_http() -> Result<[f64; 2]> {
    const KEYS: [&str; 2] = ["modest", "greedy"];
    let site = Site::start("cpu", &["/embed"], &api_keys(&KEYS))?;
    let load = |key| site.load("/embed", Some(key));
    let peak =
        || -> Result<f64> { Ok(run([Load { length: PEAK_TIME, ..load(KEYS[0]) }])?.0[0].rate()) };
    peak()?;
    let rate = SHARE * peak()?;
    let mut times = [Vec::new(), Vec::new()];
    for (times, greed) in times.iter_mut().zip([1.0, FLOOD]) {
        let open = |key, rate| {
            let (arrivals, connections) = (Arrivals::Open(rate), CONNECTIONS);
            Load { arrivals, connections, length: TIME, ..load(key) }
        };
        let loads = [open(KEYS[0], rate), open(KEYS[1], greed * rate)];
        let ([modest, greedy], share) = run(loads)?;
        say(&format!(
            "HTTP: {} and {} accepted, {} and {} refused, load generator {share:.2} of a core{}{}",
            modest.accepted.len(),
            greedy.accepted.len(),
            modest.refused.len(),
            greedy.refused.len(),
            modest.trouble(),
            greedy.trouble()
        ));
        times.extend(vec![f64::INFINITY; modest.refused.len()]);
        times.extend(modest.accepted);
    }
    Ok(times.map(|mut times| percentile(&mut times, 99)))
}
