//! What the CPU does for a run on a device: encoding it, and starting up.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::dispatches::model;
use super::{Row, median, say};
use crate::gateway::run;

const ROUNDS: usize = 7;

const SHAPES: [&str; 6] = [
    "--shape",
    "input_ids=1x128",
    "--shape",
    "attention_mask=1x128",
    "--shape",
    "token_type_ids=1x128",
];

/// Of the two adapters, the row is the one that is farther from its bar.
pub(super) fn encode_us() -> Result<Row> {
    let path = model("minilm-f32")?;
    let mut rows = Vec::new();
    for (adapter, most) in [("llvmpipe", 1.2), ("noop", 0.3)] {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let mut line = vec!["bench", &path, "--device", adapter, "--profile", "-o", "json"];
            line.extend(SHAPES);
            let (code, out, err) = run(&line);
            ensure!(code == 0, "gw bench: {err}");
            let figures: Value = serde_json::from_str(&out)?;
            let time = figures["profile"]["encode_us_per_dispatch"].as_f64();
            times.push(time.context("`encode_us_per_dispatch` is a number")?);
        }
        let time = median(&mut times);
        say(&format!("{adapter}: {time:.2} us, at most {most}"));
        rows.push((time, most));
    }
    rows.sort_by(|a, b| (b.0 / b.1).total_cmp(&(a.0 / a.1)));
    let (ours, most) = rows[0];
    Ok(Row {
        key: "encode-us",
        ours,
        peer: None,
        ratio: None,
        unit: "us a dispatch",
        runs: ROUNDS,
        bar: "<= 1.2, noop 0.3",
        holds: ours <= most,
    })
}

/// A whole process, from its start to its end, of which the first run warms the caches.
pub(super) fn warm_start_ms() -> Result<Row> {
    let path = model("minilm-f32")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ones.npy");
    std::fs::write(&file, ones(128))?;
    let file = file.to_str().context("a temporary path is text")?;
    let inputs = ["input_ids", "attention_mask", "token_type_ids"];
    let inputs = inputs.map(|name| format!("{name}={file}"));
    let out = folder.path().join("outputs");
    let out = out.to_str().context("a temporary path is text")?;
    let mut line = vec!["infer", &path, "--device", "llvmpipe", "--out", out];
    line.extend(inputs.iter().flat_map(|input| ["--input", input]));
    let once = || -> Result<f64> {
        let start = Instant::now();
        let (code, _, err) = run(&line);
        ensure!(code == 0, "gw infer: {err}");
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    once()?;
    let mut times = (0..ROUNDS).map(|_| once()).collect::<Result<Vec<_>>>()?;
    let ours = median(&mut times);
    Ok(Row {
        key: "warm-start-ms",
        ours,
        peer: None,
        ratio: None,
        unit: "ms",
        runs: ROUNDS,
        bar: "<= 400",
        holds: ours <= 400.0,
    })
}

/// `[1, length]` ones of 64 bits, in the form of `.npy` files (version 1.0).
fn ones(length: usize) -> Vec<u8> {
    let header = format!("{{'descr': '<i8', 'fortran_order': False, 'shape': (1, {length}), }}");
    let mut file = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    file.extend(format!("{header:<117}\n").bytes());
    file.extend((0..length).flat_map(|_| 1i64.to_le_bytes()));
    file
}
