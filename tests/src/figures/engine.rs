//! The figures of the engine: what runs, and how right it is.

use anyhow::{Context, Result};

use super::Row;
use crate::agreement::Agreement;
use crate::conformance::report::{Counts, Report};
use crate::conformance::{Options, run};
use crate::{adapters, tool};

fn conformance(
    key: &'static str,
    cpu: bool,
    peer: f64,
    bar: &'static str,
    holds: fn(Counts) -> bool,
) -> Result<Row> {
    // A panic is one failed case of the report.
    std::panic::set_hook(Box::new(|_| {}));
    let options = Options { device: "llvmpipe".to_owned(), cpu, ..Options::default() };
    let ended = run(&options, &|_, _| {});
    drop(std::panic::take_hook());
    let counts = Report::of(&ended?).counts;
    let (ours, ratio) = (counts.passed as f64, Some(counts.passed as f64 / peer));
    let holds = holds(counts);
    Ok(Row { key, ours, peer: Some(peer), ratio, unit: "node tests", runs: 1, bar, holds })
}

/// The peer, measured once on the same tests: ONNX Runtime 1.27's WebGPU provider, 4 wrong.
pub(super) fn conformance_gpu() -> Result<Row> {
    conformance("conformance-gpu", false, 642.0, ">= 1300, 0 wrong", |counts| {
        counts.passed >= 1300 && counts.failed == 0
    })
}

/// The peer, measured once on the same tests: ONNX Runtime 1.27's CPU provider.
pub(super) fn conformance_cpu() -> Result<Row> {
    conformance("conformance-cpu", true, 1420.0, ">= 1420", |counts| counts.passed >= 1420)
}

/// Each device in a process of its own, as its driver is chosen by the environment.
pub(super) fn models_worst_error() -> Result<Row> {
    let (mut worst, mut runs) = (0f64, 0);
    for device in ["cpu", "llvmpipe", "swiftshader"] {
        let mut command = tool("agreement");
        command.args(["--device", device, "--output", "json"]);
        if device == "swiftshader" {
            command.envs(adapters::swiftshader()?);
        }
        let output = command.output().context("starting agreement")?;
        let error = || String::from_utf8_lossy(&output.stderr).into_owned();
        let rows: Vec<Agreement> = serde_json::from_slice(&output.stdout).with_context(error)?;
        for row in rows {
            if row.worst > super::ERROR_MAX {
                let reason = row.error.as_deref().unwrap_or("too far off");
                super::say(&format!("{} on {device}: {:.3e} {reason}", row.model, row.worst));
            }
            worst = worst.max(row.worst);
            runs += row.sets;
        }
    }
    Ok(Row {
        key: "models-worst-error",
        ours: worst,
        peer: None,
        ratio: None,
        unit: "of the range",
        runs,
        bar: "<= 1e-3",
        holds: worst <= super::ERROR_MAX,
    })
}
