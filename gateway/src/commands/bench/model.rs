//! `gw bench MODEL`: runs of one model on one device.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gw_engine::{Profile, Tuned};
use gw_inference::{Backend, DeviceChoice, InferenceConfig, LoadedModel, ModelSource};
use gw_tensor::{Shape, Tensor};
use serde::Serialize;

use super::inputs::Inputs;
use super::trace;
use crate::models::values::ValueArg;
use crate::models::{self, ShapeArg};
use crate::report::{self, Advice, Output};

/// Runs to measure where the user says nothing.
const RUNS: u32 = 20;

/// What is said of a model and its runs.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Flags {
    /// Where to run: auto, gpu, cpu, or a part of an adapter's name
    #[arg(long, env = "GW_DEVICE", value_name = "DEVICE", default_value = "auto")]
    pub(super) device: DeviceChoice,
    /// The shape of one input; repeat for each [default: open dimensions are 1]
    #[arg(long, env = "GW_SHAPE", value_name = "NAME=1x128")]
    pub(super) shape: Vec<ShapeArg>,
    /// The elements of a small input, instead of random ones; repeat for each
    #[arg(long, env = "GW_VALUE", value_name = "NAME=1,2,3")]
    pub(super) value: Vec<ValueArg>,
    /// Runs to measure, after the first [default: 20]
    #[arg(long, env = "GW_RUNS", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: Option<u32>,
    /// Run every node by itself on a GPU: slow and simple, to compare with
    #[arg(long, env = "GW_NO_FUSE", value_parser = clap::builder::FalseyValueParser::new())]
    pub(super) no_fuse: bool,
    /// Measure first which variants of the kernels are the fastest on a GPU, and keep that for what
    /// serves there
    #[arg(long, env = "GW_TUNE", value_parser = clap::builder::FalseyValueParser::new())]
    tune: bool,
    /// Print the time, bytes and FLOPs of every step of a GPU, beside what the device can do
    #[arg(long, env = "GW_PROFILE", value_parser = clap::builder::FalseyValueParser::new())]
    profile: bool,
    /// Write the profile to a file that Chrome's tracing and Perfetto open
    #[arg(long, env = "GW_TRACE", value_name = "FILE", requires = "profile")]
    trace: Option<PathBuf>,
    /// Time two starts, each to the first answer in a process of its own: the first with empty
    /// caches of plans and shaders, the second with what the first left there
    #[arg(long, env = "GW_COLD", value_parser = clap::builder::FalseyValueParser::new())]
    #[arg(conflicts_with_all = ["runs", "tune", "profile"])]
    pub(super) cold: bool,
    /// Keep plans in this folder and time one answer: what `--cold` asks of the processes that it
    /// starts
    #[arg(long, env = "GW_PLANS", value_name = "DIR", hide = true)]
    pub(super) plans: Option<PathBuf>,
}

impl Flags {
    /// A flag that was given, though only models have it. `--device` is not told: it has a default,
    /// and stands in many an environment for good.
    pub(super) fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("shape", !self.shape.is_empty()),
            ("value", !self.value.is_empty()),
            ("runs", self.runs.is_some()),
            ("no-fuse", self.no_fuse),
            ("tune", self.tune),
            ("profile", self.profile),
            ("cold", self.cold),
            ("plans", self.plans.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }
}

/// The figures; times in milliseconds.
#[derive(Debug, Serialize)]
struct Figures {
    adapter: String,
    /// Reading the file until the model could run.
    load_ms: f64,
    /// The first run: planning, compiling and uploading fall into it.
    first_ms: f64,
    median_ms: f64,
    p10_ms: f64,
    p90_ms: f64,
    runs: u32,
    /// On a GPU: dispatches of one run.
    dispatches: Option<usize>,
    /// On a GPU the most device memory held at once, on the CPU the most resident memory of this
    /// process (`None` where the system does not tell).
    peak_bytes: Option<u64>,
    /// With `--tune`: the steps that are done another way since.
    #[serde(skip_serializing_if = "Option::is_none")]
    tuned: Option<Vec<Tuned>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Profiled>,
}

/// A profile, and what a program would work out from it; times in microseconds.
#[derive(Debug, Serialize)]
struct Profiled {
    /// The time of all steps.
    steps_us: f64,
    #[serde(flatten)]
    profile: Profile,
}

/// Measures the model that `target` names.
///
/// # Errors
/// Where it is no model, or the device does not run it.
pub(super) fn run(target: &str, flags: &Flags, output: Output) -> anyhow::Result<()> {
    // Minutes of measuring must not end in a folder that is not there.
    let mut trace = flags.trace.as_deref().map(create).transpose()?;
    let path = models::locate(target)?;
    let start = Instant::now();
    let config = config(flags)?;
    let model = open(target, &flags.device, &path, &config)?;
    let load = start.elapsed();
    let inputs = Inputs::new(model.signature(), &flags.shape, &flags.value)?;
    inputs.shapes.note_assumptions();
    let once = || -> anyhow::Result<Duration> {
        let start = Instant::now();
        model.run(&inputs.tensors)?;
        Ok(start.elapsed())
    };
    let first = once().map_err(|error| inputs.shapes.explain(error))?;
    let tuned = model.settle();
    let runs = flags.runs.unwrap_or(RUNS);
    let mut times = (0..runs).map(|_| once()).collect::<anyhow::Result<Vec<_>>>()?;
    times.sort_unstable();
    let shapes: Vec<(String, Shape)> = inputs.shapes.shapes.into_iter().collect();
    let dispatches = model.dispatches(&shapes)?;
    let on_device = model.footprint().peak_bytes;
    let profile = match flags.profile {
        true => Some(profiled(runs, model.as_ref(), &inputs.tensors, trace.as_mut())?),
        false => None,
    };
    let figures = Figures {
        adapter: model.device().to_owned(),
        load_ms: millis(load),
        first_ms: millis(first),
        median_ms: millis(percentile(&times, 50)),
        p10_ms: millis(percentile(&times, 10)),
        p90_ms: millis(percentile(&times, 90)),
        runs,
        dispatches,
        peak_bytes: if dispatches.is_some() { Some(on_device) } else { resident_peak() },
        tuned: (flags.tune && dispatches.is_some()).then_some(tuned),
        profile,
    };
    output.print(&figures, text)
}

/// Without `--tune` nothing but the runs is measured, and nothing is kept.
fn config(flags: &Flags) -> anyhow::Result<InferenceConfig> {
    let config = InferenceConfig { gpu_fuse: !flags.no_fuse, ..InferenceConfig::default() };
    Ok(match flags.tune {
        true => InferenceConfig { plan_cache_dir: Some(models::plan_cache_dir()?), ..config },
        false => InferenceConfig { gpu_tune: Duration::ZERO, ..config },
    })
}

/// The model on the device that was asked for; only here that may be `noop`.
fn open(
    target: &str,
    device: &DeviceChoice,
    path: &Path,
    config: &InferenceConfig,
) -> anyhow::Result<Box<dyn LoadedModel>> {
    match noop(device, config) {
        Some(noop) => Ok(noop.load(target, ModelSource::File(path))?),
        None => models::open(target, path, device, config),
    }
}

/// The device that computes nothing, where that is the one which was asked for.
pub(super) fn noop(device: &DeviceChoice, config: &InferenceConfig) -> Option<Arc<dyn Backend>> {
    let is_noop = matches!(device, DeviceChoice::Named(name) if name == "noop");
    is_noop.then(|| gw_inference::open_noop(config))
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).map_err(|error| {
        let message = format!("--trace: {} cannot be written: {error}", path.display());
        Advice::new(message).hint("name a file in a folder that is there").usage().into()
    })
}

fn profiled(
    runs: u32,
    model: &dyn LoadedModel,
    inputs: &[(String, Tensor)],
    trace: Option<&mut File>,
) -> anyhow::Result<Profiled> {
    let profile = model.profile(inputs, runs)?.ok_or_else(|| {
        Advice::new("the cpu has no steps to profile, only GPU adapters do")
            .hint("name an adapter, such as --device llvmpipe")
            .usage()
    })?;
    if let Some(file) = trace {
        let events = trace::trace(model.device(), &profile).to_string();
        file.write_all(events.as_bytes()).context("writing the file of --trace")?;
    }
    Ok(Profiled { steps_us: profile.steps_us(), profile })
}

fn text(figures: &Figures) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let tuned = match figures.tuned.as_deref() {
        None => String::new(),
        Some([]) => "\ntuned       nothing is faster than what it had".to_owned(),
        Some(tuned) => {
            let lines: Vec<String> = tuned.iter().map(ToString::to_string).collect();
            format!("\ntuned       {}", lines.join("\n            "))
        }
    };
    let profile = figures
        .profile
        .as_ref()
        .map_or_else(String::new, |profiled| format!("\n\n{}", profiled.profile));
    format!(
        "adapter     {}\nload        {:.1} ms\nfirst run   {:.2} ms\nmedian      {:.2} ms  \
         (p10 {:.2}, p90 {:.2}, {} runs)\ndispatches  {}\npeak        {}{tuned}{profile}",
        figures.adapter,
        figures.load_ms,
        figures.first_ms,
        figures.median_ms,
        figures.p10_ms,
        figures.p90_ms,
        figures.runs,
        or_dash(figures.dispatches.map(|count| count.to_string())),
        or_dash(figures.peak_bytes.map(report::bytes)),
    )
}

pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The nearest rank: a time that was measured, never one between two.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len());
    sorted[rank - 1]
}

/// The most memory this process had resident, where the system tells.
fn resident_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let times: Vec<_> = (1..=20).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(10));
        assert_eq!(percentile(&times, 10), Duration::from_millis(2));
        assert_eq!(percentile(&times, 90), Duration::from_millis(18));
        assert_eq!(percentile(&times[..1], 90), Duration::from_millis(1));
    }
}
