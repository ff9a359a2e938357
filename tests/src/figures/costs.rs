//! What a request to each first-party plugin takes, held against the plugin's README.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::{Row, median, say};
use crate::gateway::{Gateway, send};
use crate::reference::photos::photo;
use crate::reference::{app, media};
use crate::repo;

/// Requests whose times count, behind one that does not.
const RUNS: usize = 15;
/// How far a machine's times may be from those of the READMEs, in its favour or not.
const TIME_RATIO_MAX: f64 = 2.5;
/// Memory is the same everywhere, but for what compilers change.
const MEMORY_RATIO_MAX: f64 = 1.1;

/// A row of a table "What it takes".
struct Case {
    plugin: &'static str,
    path: &'static str,
    /// The row's first column.
    what: &'static str,
    file: fn(&Path) -> Result<Vec<u8>>,
}

const CASES: [Case; 10] = [
    Case { plugin: "embed", path: "/embed", what: "a text of 32 tokens", file: |_| Ok(texts(1)) },
    Case { plugin: "embed", path: "/embed", what: "32 such texts", file: |_| Ok(texts(32)) },
    Case {
        plugin: "classify-image",
        path: "/classify",
        what: "600 x 400, PNG, 467 KB",
        file: coffee,
    },
    Case {
        plugin: "moderate-image",
        path: "/moderate",
        what: "600 x 400, PNG, 467 KB",
        file: coffee,
    },
    Case {
        plugin: "detect-face",
        path: "/faces",
        what: "512 x 512, PNG, 792 KB",
        file: |_| Ok(fs::read(photo("astronaut.png"))?),
    },
    Case { plugin: "ocr", path: "/ocr", what: "640 x 220, two lines", file: page },
    Case {
        plugin: "ocr",
        path: "/ocr",
        what: "384 x 191, seven lines",
        file: |_| Ok(fs::read(photo("page.png"))?),
    },
    Case { plugin: "detect-speech", path: "/detect-speech", what: "43 s of 16 kHz", file: sound },
    Case { plugin: "redact", path: "/echo", what: "1 KiB, JSON", file: |_| Ok(personal(1)) },
    Case { plugin: "redact", path: "/echo", what: "1 MiB, JSON", file: |_| Ok(personal(1024)) },
];

fn coffee(_: &Path) -> Result<Vec<u8>> {
    Ok(fs::read(photo("coffee.png"))?)
}

fn page(folder: &Path) -> Result<Vec<u8>> {
    let file = folder.join("page.png");
    media::page(&file, "0")?;
    Ok(fs::read(file)?)
}

fn sound(folder: &Path) -> Result<Vec<u8>> {
    let file = folder.join("speech.wav");
    media::speech(&file)?;
    Ok(fs::read(file)?)
}

/// Texts of 30 words of one token each, with the two that frame them.
fn texts(count: usize) -> Vec<u8> {
    let text = "the cat sat on the mat and ".repeat(4) + "it did";
    json!({ "input": vec![text; count] }).to_string().into_bytes()
}

/// As many KiB of a list of customers, with an address and a card in each.
fn personal(kib: usize) -> Vec<u8> {
    let customer = |number: usize| {
        json!({
            "number": number,
            "from": format!("customer{number}@example.com"),
            "card": "4111 1111 1111 1111",
            "note": "wants the blue one, in the larger size, before the end of the month",
        })
    };
    let (mut customers, mut bytes) = (Vec::new(), 2);
    while bytes < kib << 10 {
        customers.push(customer(customers.len()));
        bytes += customers.last().map_or(0, |last| last.to_string().len() + 1);
    }
    json!(customers).to_string().into_bytes()
}

/// What a request takes.
struct Cost {
    guest_ms: f64,
    memory_mib: f64,
}

pub(super) fn row() -> Result<Row> {
    let mut worst = 0.0f64;
    let mut holds = true;
    for case in &CASES {
        let (measured, said) = (measure(case)?, said(case)?);
        let (time, memory) =
            (measured.guest_ms / said.guest_ms, measured.memory_mib / said.memory_mib);
        say(&format!(
            "{}, {}: {:.2} ms, {:.1} MiB; its README says {:.2} ms, {:.1} MiB",
            case.plugin,
            case.what,
            measured.guest_ms,
            measured.memory_mib,
            said.guest_ms,
            said.memory_mib
        ));
        worst = worst.max(time);
        let within = |ratio: f64, max: f64| (1.0 / max..=max).contains(&ratio);
        holds &= within(time, TIME_RATIO_MAX) && within(memory, MEMORY_RATIO_MAX);
    }
    Ok(Row {
        key: "plugin-costs",
        ours: worst,
        peer: None,
        ratio: None,
        unit: "of the READMEs' guest time, the worst",
        runs: RUNS,
        bar: "time within 2.5x, memory within 1.1x of the READMEs",
        holds,
    })
}

fn measure(case: &Case) -> Result<Cost> {
    let folder = tempfile::tempdir()?;
    let served =
        if case.plugin == "embed" { repo().join("examples/01-embed") } else { app(case.plugin)? };
    let gateway = Gateway::dev(&served, &["--no-watch", "--device", "cpu"]);
    let mut file = (case.file)(folder.path())?;
    let url = format!("{}{}", gateway.url, case.path);
    let mut times = Vec::with_capacity(RUNS);
    for run in 0..=RUNS {
        // No answer comes from the cache: white space and what is behind a picture mean nothing.
        file.push(b' ');
        let answer = send("POST", &url, Some(&file));
        ensure!(answer.status == 200, "{}: {}", case.plugin, answer.body);
        if run > 0 {
            times.push(answer.timing("plugin").context("Server-Timing has `plugin`")?);
        }
    }
    let label = format!("plugin=\"{}\"", case.plugin);
    let memory = |part| gateway.metric(&format!("gw_plugin_memory_bytes_{part}"), &[&label]);
    let memory_mib = memory("sum") / memory("count") / f64::from(1 << 20);
    Ok(Cost { guest_ms: median(&mut times), memory_mib })
}

/// The row of the plugin's README.
fn said(case: &Case) -> Result<Cost> {
    let readme = fs::read_to_string(repo().join("plugins").join(case.plugin).join("README.md"))?;
    let start = format!("| {} | ", case.what);
    let row = readme.lines().find_map(|line| line.strip_prefix(&start));
    let row = row.with_context(|| format!("{}'s README has no row {start}", case.plugin))?;
    let figure = |cell: &str, unit| cell.trim().strip_suffix(unit)?.trim().parse().ok();
    let cells: Vec<_> = row.split('|').collect();
    let [time, memory, ..] = cells[..] else { bail!("{row} has no two figures") };
    let (time, memory) = (figure(time, "ms"), figure(memory, "MiB"));
    let (Some(guest_ms), Some(memory_mib)) = (time, memory) else { bail!("{row}: no figures") };
    Ok(Cost { guest_ms, memory_mib })
}
