//! Sentence embeddings over HTTP, against the Python server that one would write instead.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::load::{Load, run};
use super::site::{Site, load};
use super::texts::{body, texts};
use crate::figures::process::resident_kib;
use crate::figures::{Row, median, say};
use crate::gateway::send;
use crate::reference::cosine;
use crate::repo;

/// Both sides are measured in turn, this often.
const ROUNDS: usize = 5;
/// Of one measurement.
const ROUND: Duration = Duration::from_secs(10);
/// Texts whose answers are compared before anything is measured: one of each length.
const COMPARED: usize = 62;

/// What both sides do, ours first.
struct Measured {
    /// Embeddings a second; the medians.
    rates: [f64; 2],
    /// Resident memory behind the load.
    mib: [f64; 2],
}

pub(in super::super) fn http_embeddings() -> Result<Row> {
    let Measured { rates: [ours, peer], .. } = side_by_side(ROUNDS)?;
    let ratio = ours / peer;
    Ok(Row {
        key: "http-embeddings",
        ours,
        peer: Some(peer),
        ratio: Some(ratio),
        unit: "texts/s",
        runs: ROUNDS,
        bar: ">= 1x",
        holds: ratio >= 1.0,
    })
}

pub(in super::super) fn http_memory() -> Result<Row> {
    // Memory is what it is behind a round; another moves it little.
    let rounds = 2;
    let Measured { mib: [ours, peer], .. } = side_by_side(rounds)?;
    let ratio = ours / peer;
    Ok(Row {
        key: "http-memory",
        ours,
        peer: Some(peer),
        ratio: Some(ratio),
        unit: "MiB",
        runs: rounds,
        bar: "<= 0.5x",
        holds: ratio <= 0.5,
    })
}

fn side_by_side(rounds: usize) -> Result<Measured> {
    let ours = Site::start("cpu", &["/embed"], "")?;
    let theirs = Python::serve(&ours.model, &ours.tokenizer)?;
    let urls = [ours.gateway.url.clone(), theirs.url.clone()];
    let worst = agreement(&urls)?;
    say(&format!("worst cosine {worst:.7} over {COMPARED} texts"));
    ensure!(worst >= 0.999, "the two do not answer the same: cosine {worst}");
    let measure = |url: &str, length| -> Result<f64> {
        let ([seen], share) = run([Load { length, ..load(url, "/embed", None) }])?;
        ensure!(seen.is_sound() && seen.refused.is_empty(), "{url}{}", seen.trouble());
        say(&format!("{url}: {:.1} texts/s, load generator {:.2} of a core", seen.rate(), share));
        Ok(seen.rate())
    };
    for url in &urls {
        measure(url, ROUND / 4)?;
    }
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (side, url) in urls.iter().enumerate() {
            rates[side].push(measure(url, ROUND)?);
        }
    }
    let rates = rates.map(|mut rates| median(&mut rates));
    let mut mib = [0.0; 2];
    for (mib, process) in mib.iter_mut().zip([ours.process(), theirs.child.id().to_string()]) {
        *mib = resident_kib(&process)? as f64 / 1024.0;
    }
    let ([a, b], [c, d]) = (rates, mib);
    say(&format!("{a:.1} texts/s, peer {b:.1}; {c:.0} MiB, peer {d:.0} MiB"));
    Ok(Measured { rates, mib })
}

/// The lowest cosine between the answers of both sides.
fn agreement(urls: &[String; 2]) -> Result<f64> {
    let mut worst = 1.0f64;
    for text in texts(COMPARED) {
        let mut vectors = Vec::new();
        for url in urls {
            let answer = send("POST", &format!("{url}/embed"), Some(&body(&text)));
            ensure!(answer.status == 200, "{url}: {}", answer.body);
            let vector = answer.json()["embeddings"][0].take();
            vectors.push(serde_json::from_value::<Vec<f64>>(vector)?);
        }
        worst = worst.min(cosine(&vectors[0], &vectors[1]));
    }
    Ok(worst)
}

/// A running `tests/peers/embeddings.py`, which is one process.
struct Python {
    child: Child,
    url: String,
}

impl Python {
    fn serve(model: &str, tokenizer: &str) -> Result<Self> {
        let mut child = Command::new(repo().join("tests/peers/run"))
            .args(["embeddings", model, tokenizer])
            .stdout(Stdio::piped())
            .spawn()
            .context("starting tests/peers/run")?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut peer = Self { child, url: String::new() };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let url = line.trim().strip_prefix("listening on ");
        url.with_context(|| format!("it said {line:?}; its error is above"))?
            .clone_into(&mut peer.url);
        Ok(peer)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
