//! The figures of `examples/01-embed`.

use anyhow::{Context, Result, ensure};
use gw_artifact::manifest::Manifest;
use serde_json::{Value, json};

use super::{Row, median};
use crate::gateway::{Gateway, run};
use crate::reference::{cosine, embed_now, sentences};
use crate::{fetch, repo};

/// Requests per median; guest time has a long tail on a busy machine.
const RUNS: usize = 200;

fn example(device: &str) -> Gateway {
    Gateway::dev(&repo().join("examples/01-embed"), &["--no-watch", "--device", device])
}

pub(super) fn agreement() -> Result<Row> {
    let sentences = sentences()?;
    let expected = embed_now(&sentences)?;
    let mut worst = 1.0f64;
    for device in ["cpu", "llvmpipe"] {
        let answer = example(device).post("/embed", &json!({ "input": sentences }).to_string());
        ensure!(answer.status == 200, "{device}: {}", answer.body);
        let answer = answer.json();
        for (index, expected) in expected.iter().enumerate() {
            let given: Vec<f64> = serde_json::from_value(answer["embeddings"][index].clone())?;
            worst = worst.min(cosine(&given, &expected.embedding));
        }
    }
    Ok(Row {
        key: "embed-agreement",
        ours: worst,
        peer: Some(1.0),
        ratio: Some(worst),
        unit: "cosine",
        runs: 2 * expected.len(),
        bar: ">= 0.9999",
        holds: worst >= 0.9999,
    })
}

pub(super) fn dispatches() -> Result<Row> {
    let (manifest, _) = Manifest::open(&repo().join("examples/01-embed"))?;
    let model = manifest.models.first().context("the example has a model")?;
    let model = fetch(&model.source, model.sha256.as_ref())?;
    let path = model.to_str().context("the cache's path is text")?;
    let mut args = vec!["plan", path, "-o", "json"];
    for input in ["input_ids=1x128", "attention_mask=1x128", "token_type_ids=1x128"] {
        args.extend(["--shape", input]);
    }
    let (code, out, err) = run(&args);
    ensure!(code == 0, "gw plan: {err}");
    let plan: Value = serde_json::from_str(&out)?;
    let dispatches = plan["dispatches"].as_u64().context("`dispatches` is a count")?;
    Ok(Row {
        key: "embed-dispatches",
        ours: dispatches as f64,
        peer: None,
        ratio: None,
        unit: "dispatches",
        runs: 1,
        bar: "<= 60",
        holds: dispatches <= 60,
    })
}

pub(super) fn guest_ms() -> Result<Row> {
    let gateway = example("cpu");
    let mut times = Vec::with_capacity(RUNS);
    for index in 0..RUNS + 20 {
        // 30 words of one token each, with the two that frame them: 32 tokens, none cached.
        let text = format!("{} {index}", "the cat sat on the mat and ".repeat(4)) + " it";
        let answer = gateway.post("/embed", &json!({ "input": text }).to_string());
        ensure!(answer.status == 200, "{}", answer.body);
        if index == 0 {
            ensure!(answer.json()["usage"]["tokens"] == 32, "{}", answer.json()["usage"]);
        }
        if index >= 20 {
            times.push(answer.timing("plugin").context("Server-Timing has `plugin`")?);
        }
    }
    let ours = median(&mut times);
    Ok(Row {
        key: "embed-guest-ms",
        ours,
        peer: None,
        ratio: None,
        unit: "ms",
        runs: RUNS,
        bar: "< 1",
        holds: ours < 1.0,
    })
}
