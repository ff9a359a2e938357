//! `gw bench MODEL --cold`: two starts of a model, each in a process of its own.
//!
//! The first has empty caches, of gw's plans and of the driver's shaders; the second has what the
//! first left there. Nothing else differs: the model's file was read before, so that no start
//! waits for the disk, and no variants are measured between them. Drivers that keep shaders where
//! no variable of [`SHADER_CACHES`] says are warm in both starts, if they are warm at all.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gw_inference::{InferenceConfig, ModelSource};
use serde::{Deserialize, Serialize};

use super::inputs::Inputs;
use super::model::{Flags, millis, noop};
use crate::models;
use crate::report::{self, Exit, Output};

/// Where drivers keep compiled shaders: those of Mesa, and NVIDIA's.
const SHADER_CACHES: [&str; 2] = ["MESA_SHADER_CACHE_DIR", "__GL_SHADER_DISK_CACHE_PATH"];

/// Both starts; times in milliseconds.
#[derive(Debug, Serialize)]
struct Figures {
    first: Start,
    second: Start,
    /// How many times as long the first start takes as the second.
    ratio: f64,
}

/// One start, from nothing to the first answer.
#[derive(Debug, Serialize)]
struct Start {
    total_ms: f64,
    #[serde(flatten)]
    told: Told,
    /// What the parts leave of the total: starting the process, and making the inputs.
    rest_ms: f64,
}

/// What a process says of its start, in a line of its own once it has the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Told {
    adapter: String,
    /// Opening the device.
    open_ms: f64,
    /// Reading the model.
    load_ms: f64,
    /// On a GPU: planning, or reading the plan, and making its pipelines.
    prepare_ms: Option<f64>,
    /// The first run; what a driver compiles late and what is uploaded then fall into it.
    first_run_ms: f64,
}

impl Start {
    fn new(total_ms: f64, told: Told) -> Self {
        let prepare_ms = told.prepare_ms.unwrap_or_default();
        let parts_ms = told.open_ms + told.load_ms + prepare_ms + told.first_run_ms;
        Self { total_ms, told, rest_ms: total_ms - parts_ms }
    }

    /// What is printed of it, from top to bottom.
    fn rows(&self) -> [(&'static str, Option<f64>); 6] {
        let Self { total_ms, told, rest_ms } = self;
        [
            ("open", Some(told.open_ms)),
            ("load", Some(told.load_ms)),
            ("prepare", told.prepare_ms),
            ("first run", Some(told.first_run_ms)),
            ("rest", Some(*rest_ms)),
            ("total", Some(*total_ms)),
        ]
    }
}

/// Starts the model twice.
///
/// # Errors
/// Where the target is no model, or does not run.
pub(super) fn run(target: &str, flags: &Flags, output: Output) -> anyhow::Result<()> {
    let path = models::locate(target)?;
    // What is wrong with the inputs is told once and here.
    let inputs = Inputs::new(&models::signature(&path)?, &flags.shape, &flags.value)?;
    inputs.shapes.note_assumptions();
    let mut file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    std::io::copy(&mut file, &mut std::io::sink())
        .with_context(|| format!("reading {}", path.display()))?;
    let caches = tempfile::tempdir().context("making a folder for empty caches")?;
    let first = start(&path, flags, caches.path())?;
    let second = start(&path, flags, caches.path())?;
    let ratio = first.total_ms / second.total_ms;
    output.print(&Figures { first, second, ratio }, text)
}

/// One start in a process of its own, with its caches below `caches`.
fn start(path: &Path, flags: &Flags, caches: &Path) -> anyhow::Result<Start> {
    let gw = std::env::current_exe().context("finding the program gw itself")?;
    let mut command = Command::new(gw);
    command.arg("bench").arg(path).args(["--device", &flags.device.to_string()]);
    command.args(flags.shape.iter().flat_map(|shape| ["--shape".to_owned(), shape.to_string()]));
    command.args(flags.value.iter().flat_map(|value| ["--value".to_owned(), value.to_string()]));
    command.args(flags.no_fuse.then_some("--no-fuse"));
    command.arg("--plans").arg(caches.join("plans"));
    command.envs(SHADER_CACHES.map(|name| (name, caches.join("shaders"))));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let begun = Instant::now();
    let mut child = command.spawn().context("starting gw once more")?;
    let mut line = String::new();
    let read = BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line);
    let total_ms = millis(begun.elapsed());
    // A driver may write its shaders when the process ends.
    let ended = child.wait().context("waiting for the end of a start")?;
    if !ended.success() {
        // It has said itself what is wrong.
        let code = ended.code().and_then(|code| u8::try_from(code).ok());
        return Err(Exit(code.unwrap_or(1)).into());
    }
    read.context("reading what a start says")?;
    let told = serde_json::from_str(&line).with_context(|| format!("a start says {line:?}"))?;
    Ok(Start::new(total_ms, told))
}

/// What a start does: opens the device, loads the model, runs it once, and says so.
///
/// # Errors
/// Where the device does not run it.
pub(super) fn answer_once(target: &str, flags: &Flags, plans: &Path) -> anyhow::Result<()> {
    let config = InferenceConfig {
        plan_cache_dir: Some(plans.to_owned()),
        gpu_fuse: !flags.no_fuse,
        gpu_tune: Duration::ZERO,
        ..InferenceConfig::default()
    };
    let mut lap = Instant::now();
    let mut since_last = || {
        let took = millis(lap.elapsed());
        lap = Instant::now();
        took
    };
    let backend = match noop(&flags.device, &config) {
        Some(noop) => noop,
        None => gw_inference::open_backend(&flags.device, &config)?,
    };
    let open_ms = since_last();
    let path = models::locate(target)?;
    let model = backend.load(target, ModelSource::File(&path))?;
    let load_ms = since_last();
    let Inputs { shapes, tensors } = Inputs::new(model.signature(), &flags.shape, &flags.value)?;
    let given: Vec<_> =
        shapes.shapes.iter().map(|(name, shape)| (name.clone(), shape.clone())).collect();
    since_last();
    let dispatches = model.dispatches(&given);
    let prepared = since_last();
    // What cannot be prepared cannot be run, and the run has the better words for it.
    let prepare_ms = if matches!(dispatches, Ok(None)) { None } else { Some(prepared) };
    model.run(&tensors).map_err(|error| shapes.explain(error.into()))?;
    let first_run_ms = since_last();
    let adapter = model.device().to_owned();
    let told = Told { adapter, open_ms, load_ms, prepare_ms, first_run_ms };
    report::print(serde_json::to_string(&told)?)
}

fn text(figures: &Figures) -> String {
    let Figures { first, second, ratio } = figures;
    let adapter = &first.told.adapter;
    let mut text = format!("adapter     {adapter}\n{:12}{:>12}{:>12}\n", "", "first", "second");
    for ((name, first), (_, second)) in first.rows().into_iter().zip(second.rows()) {
        if let (Some(first), Some(second)) = (first, second) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:12}{first:>9.1} ms{second:>9.1} ms");
        }
    }
    let _ = write!(text, "ratio       {ratio:.2}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_starts_stand_side_by_side() {
        let start = |total_ms, prepare_ms| {
            let (open_ms, load_ms, first_run_ms) = (10.0, 20.5, 4.0);
            let adapter = "a gpu".to_owned();
            Start::new(total_ms, Told { adapter, open_ms, load_ms, prepare_ms, first_run_ms })
        };
        let (first, second) = (start(400.0, Some(300.0)), start(100.0, Some(60.0)));
        let figures = Figures { first, second, ratio: 4.0 };
        insta::assert_snapshot!(text(&figures), @r"
        adapter     a gpu
                           first      second
        open             10.0 ms     10.0 ms
        load             20.5 ms     20.5 ms
        prepare         300.0 ms     60.0 ms
        first run         4.0 ms      4.0 ms
        rest             65.5 ms      5.5 ms
        total           400.0 ms    100.0 ms
        ratio       4.00
        ");
        let (first, second) = (start(400.0, None), start(100.0, None));
        let figures = Figures { first, second, ratio: 4.0 };
        assert!(!text(&figures).contains("prepare"), "the cpu prepares nothing");
    }
}
