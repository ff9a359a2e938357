//! How many dispatches a run of a model takes on llvmpipe.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Row;
use crate::agreement;
use crate::gateway::run;

/// The file of one of the real models.
pub(super) fn model(name: &str) -> Result<String> {
    let case = agreement::models()?.into_iter().find(|case| case.name == name);
    let path = case.with_context(|| format!("no model is called {name}"))?.model();
    Ok(path.to_str().context("the path of a model is text")?.to_owned())
}

fn count(
    key: &'static str,
    name: &str,
    args: &[&str],
    most: u64,
    bar: &'static str,
) -> Result<Row> {
    let path = model(name)?;
    let mut line = vec!["plan", &path, "--device", "llvmpipe", "-o", "json"];
    line.extend(args);
    let (code, out, err) = run(&line);
    ensure!(code == 0, "gw plan: {err}");
    let plan: Value = serde_json::from_str(&out)?;
    let dispatches = plan["dispatches"].as_u64().context("`dispatches` is a count")?;
    Ok(Row {
        key,
        ours: dispatches as f64,
        peer: None,
        ratio: None,
        unit: "dispatches",
        runs: 1,
        bar,
        holds: dispatches <= most,
    })
}

pub(super) fn minilm() -> Result<Row> {
    let shapes =
        ["input_ids", "attention_mask", "token_type_ids"].map(|name| format!("{name}=1x128"));
    let args: Vec<&str> = shapes.iter().flat_map(|shape| ["--shape", shape]).collect();
    count("dispatches-minilm", "minilm-f32", &args, 40, "<= 40")
}

pub(super) fn lite0() -> Result<Row> {
    count("dispatches-lite0", "lite0", &[], 70, "<= 70")
}

pub(super) fn ocr_det() -> Result<Row> {
    let args = ["--shape", "x=1x3x640x640"];
    count("dispatches-ocr-det", "ocr-det", &args, 110, "<= 110")
}

pub(super) fn resnet50() -> Result<Row> {
    count("dispatches-resnet50", "light-resnet50", &[], 60, "<= 60")
}

/// The official model, in which the value of `sr` decides the branch.
pub(super) fn silero() -> Result<Row> {
    let args = ["--shape", "input=1x512", "--shape", "state=2x1x128", "--value", "sr=16000"];
    count("dispatches-silero", "silero", &args, 12, "<= 12")
}
