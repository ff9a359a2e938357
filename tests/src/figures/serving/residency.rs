//! Models that come and go: how fast, and what of them stays.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gw_inference::{ModelPolicy, ModelSpec, Models};
use gw_tensor::{DType, Tensor};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::Value;

use super::models::{PATIENCE, block_on, node_told, spec};
use crate::figures::dispatches::model;
use crate::figures::process::resident_kib;
use crate::figures::{Row, median, say};
use crate::gateway::run;

/// Starts of each kind; every pair begins with nothing kept.
const STARTS: usize = 3;

/// Of the two devices, the row is the one that gains less.
pub(in super::super) fn cold_start() -> Result<Row> {
    let mut rows = Vec::new();
    for device in ["cpu", "llvmpipe"] {
        let (first, second) = starts_on(device)?;
        say(&format!("{device}: {first:.0} ms, then {second:.0} ms, {:.1}x", first / second));
        rows.push((first, second));
    }
    let worst = rows.into_iter().min_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    let (peer, ours) = worst.context("two devices were measured")?;
    let ratio = peer / ours;
    Ok(Row {
        key: "cold-start",
        ours,
        peer: Some(peer),
        ratio: Some(ratio),
        unit: "ms",
        runs: STARTS,
        bar: "3x faster",
        holds: ratio >= 3.0,
    })
}

/// The medians of the first and of the second start.
fn starts_on(device: &str) -> Result<(f64, f64)> {
    let path = model("minilm-f32")?;
    let shapes =
        ["input_ids", "attention_mask", "token_type_ids"].map(|name| format!("{name}=1x128"));
    let mut line = vec!["bench", &path, "--device", device, "--cold", "-o", "json"];
    line.extend(shapes.iter().flat_map(|shape| ["--shape", shape]));
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let (code, out, err) = run(&line);
        ensure!(code == 0, "gw bench --cold: {err}");
        let figures: Value = serde_json::from_str(&out)?;
        let time = |start: &str| {
            let time = figures[start]["total_ms"].as_f64();
            time.with_context(|| format!("no time of the {start} start: {out}"))
        };
        first.push(time("first")?);
        second.push(time("second")?);
    }
    Ok((median(&mut first), median(&mut second)))
}

/// Cycles before memory is looked at for the first time, and all of them.
const WARM_CYCLES: usize = 50;
const CYCLES: usize = 1000;

/// How often it is said how far they are.
const SAY_EVERY: usize = 190;

/// By then the allocator has given back what nobody uses.
const SETTLES: Duration = Duration::from_secs(3);

fn settled_mib() -> Result<f64> {
    block_on(async {
        tokio::time::sleep(SETTLES).await;
        Ok(())
    })?;
    Ok(resident_kib("self")? as f64 / 1024.0)
}

/// Of the two devices, the row is the one with more growth. The ledger must be empty behind every
/// cycle.
pub(in super::super) fn load_cycles() -> Result<Row> {
    let mut rows = Vec::new();
    for device in ["cpu", "llvmpipe"] {
        let policy = ModelPolicy::default;
        let specs = [spec("minilm-f32", device, policy())?, spec("lite0", device, policy())?];
        let mut registry = Registry::default();
        let models = node_told(&mut registry);
        let begun = Instant::now();
        block_on(cycles(&models, &registry, &specs, WARM_CYCLES))?;
        let before = settled_mib()?;
        let mut after = before;
        for done in (WARM_CYCLES..CYCLES).step_by(SAY_EVERY) {
            let next = SAY_EVERY.min(CYCLES - done);
            block_on(cycles(&models, &registry, &specs, next))?;
            after = settled_mib()?;
            say(&format!("{device}: {after:.1} MiB after {} cycles", done + next));
        }
        let took = begun.elapsed();
        say(&format!(
            "{device}: {before:.1} MiB, then {after:.1} MiB; {CYCLES} cycles in {took:.0?}"
        ));
        rows.push((after, before));
    }
    let worst = rows.into_iter().max_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    let (ours, peer) = worst.context("two devices were measured")?;
    let ratio = ours / peer;
    Ok(Row {
        key: "load-cycles",
        ours,
        peer: Some(peer),
        ratio: Some(ratio),
        unit: "MiB",
        runs: CYCLES,
        bar: "<= 1.05x, ledger 0",
        holds: ratio <= 1.05,
    })
}

/// Loads, asks and unloads both, so often.
async fn cycles(
    models: &Models,
    registry: &Registry,
    specs: &[ModelSpec; 2],
    count: usize,
) -> Result<()> {
    for cycle in 0..count {
        let loaded = [models.load(&specs[0])?, models.load(&specs[1])?];
        ensure!(models.resident().len() == 2, "two models are resident");
        for model in &loaded {
            let inputs = model.signature().inputs.iter().map(|port| {
                let dims = match port.dtype {
                    DType::I64 => vec![1, 16],
                    _ => vec![1, 3, 224, 224],
                };
                let bytes = dims.iter().product::<usize>() * port.dtype.size();
                Ok((port.name.clone(), Tensor::new(port.dtype, dims, vec![0; bytes])?))
            });
            let inputs = inputs.collect::<Result<Vec<_>>>()?;
            model.infer(inputs, Instant::now() + PATIENCE).await?;
        }
        ensure!(ledger(models, registry)? != [0; 2], "two models hold nothing");
        for model in &loaded {
            models.unload(&model.digest()).await;
        }
        // Their places are still there, as `loaded` has them.
        let left = ledger(models, registry)?;
        ensure!(left == [0; 2], "cycle {cycle}: devices and gauges still have {left:?} bytes");
    }
    Ok(())
}

/// Bytes that models hold by the budgets of devices, and by `/metrics`.
fn ledger(models: &Models, registry: &Registry) -> Result<[u64; 2]> {
    let held = models.budgets().iter().map(|budget| budget.used_bytes).sum();
    let mut text = String::new();
    encode(&mut text, registry)?;
    let gauges = text.lines().filter(|line| line.starts_with("gw_model_bytes{"));
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok());
    let told = gauges.map(|line| value(line).with_context(|| line.to_owned()));
    Ok([held, told.sum::<Result<u64>>()?])
}
