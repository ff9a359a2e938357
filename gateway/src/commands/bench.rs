//! `gw bench`: how fast one model runs on one device.

mod trace;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gw_engine::{Profile, Tuned};
use gw_inference::{DeviceChoice, InferenceConfig, LoadedModel, TensorSpec};
use gw_tensor::{DType, Shape, Tensor};
use half::{bf16, f16};
use serde::Serialize;

use crate::models::values::ValueArg;
use crate::models::{self, ShapeArg, Shapes};
use crate::report::{self, Advice, Output};

/// Measure a model on one device with random inputs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  gw bench model.onnx --device cpu --shape input_ids=1x128 --runs 50
  gw bench model.onnx --device llvmpipe --profile --trace run.json

The device `noop` takes every command and computes nothing: what is left is the work of the CPU.
Inputs are repeatable: integers are 0 or 1 (valid token ids of any vocabulary), inputs with `mask`
in their name are all ones, floats are uniform between 0 and 1.")]
pub(crate) struct Args {
    /// An ONNX file, or a source such as hf:org/repo#model.onnx
    model: String,
    /// Where to run: auto, gpu, cpu, or a part of an adapter's name
    #[arg(long, env = "GW_DEVICE", value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// The shape of one input; repeat for each [default: open dimensions are 1]
    #[arg(long, env = "GW_SHAPE", value_name = "NAME=1x128")]
    shape: Vec<ShapeArg>,
    /// The elements of a small input, instead of random ones; repeat for each
    #[arg(long, env = "GW_VALUE", value_name = "NAME=1,2,3")]
    value: Vec<ValueArg>,
    /// Runs to measure, after the first
    #[arg(long, env = "GW_RUNS", value_name = "N", default_value = "20")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    /// Run every node by itself on a GPU: slow and simple, to compare with
    #[arg(long, env = "GW_NO_FUSE", value_parser = clap::builder::FalseyValueParser::new())]
    no_fuse: bool,
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
    #[command(flatten)]
    output: Output,
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

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // Minutes of measuring must not end in a folder that is not there.
    let mut trace = args.trace.as_deref().map(create).transpose()?;
    let path = models::locate(&args.model)?;
    let start = Instant::now();
    let config = config(args)?;
    let model = open(args, &path, &config)?;
    let load = start.elapsed();
    let shapes = ValueArg::shapes(&args.value, model.signature(), &args.shape)?;
    let resolved = Shapes::resolve(model.signature(), &shapes)?;
    resolved.note_assumptions();
    let values = ValueArg::tensors(&args.value, model.signature(), &resolved)?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut inputs = Vec::new();
    for spec in &model.signature().inputs {
        let tensor = match values.get(&spec.name) {
            Some(given) => given.clone(),
            None => random.tensor(spec, &resolved.shapes[&spec.name])?,
        };
        inputs.push((spec.name.clone(), tensor));
    }
    let once = || -> anyhow::Result<Duration> {
        let start = Instant::now();
        model.run(&inputs)?;
        Ok(start.elapsed())
    };
    let first = once().map_err(|error| resolved.explain(error))?;
    let tuned = model.settle();
    let mut times = (0..args.runs).map(|_| once()).collect::<anyhow::Result<Vec<_>>>()?;
    times.sort_unstable();
    let shapes: Vec<(String, Shape)> = resolved.shapes.into_iter().collect();
    let dispatches = model.dispatches(&shapes)?;
    let on_device = model.footprint().peak_bytes;
    let profile = match args.profile {
        true => Some(profiled(args, model.as_ref(), &inputs, trace.as_mut())?),
        false => None,
    };
    let figures = Figures {
        adapter: model.device().to_owned(),
        load_ms: millis(load),
        first_ms: millis(first),
        median_ms: millis(percentile(&times, 50)),
        p10_ms: millis(percentile(&times, 10)),
        p90_ms: millis(percentile(&times, 90)),
        runs: args.runs,
        dispatches,
        peak_bytes: if dispatches.is_some() { Some(on_device) } else { resident_peak() },
        tuned: (args.tune && dispatches.is_some()).then_some(tuned),
        profile,
    };
    args.output.print(&figures, text)
}

/// Without `--tune` nothing but the runs is measured, and nothing is kept.
fn config(args: &Args) -> anyhow::Result<InferenceConfig> {
    let config = InferenceConfig { gpu_fuse: !args.no_fuse, ..InferenceConfig::default() };
    Ok(match args.tune {
        true => InferenceConfig { plan_cache_dir: Some(models::plan_cache_dir()?), ..config },
        false => InferenceConfig { gpu_tune: Duration::ZERO, ..config },
    })
}

/// The model on the device that was asked for; only here that may be `noop`.
fn open(
    args: &Args,
    path: &Path,
    config: &InferenceConfig,
) -> anyhow::Result<Box<dyn LoadedModel>> {
    match &args.device {
        DeviceChoice::Named(name) if name == "noop" => {
            let source = gw_inference::ModelSource::File(path);
            Ok(gw_inference::open_noop(config).load(&args.model, source)?)
        }
        device => models::open(&args.model, path, device, config),
    }
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).map_err(|error| {
        let message = format!("--trace: {} cannot be written: {error}", path.display());
        Advice::new(message).hint("name a file in a folder that is there").usage().into()
    })
}

fn profiled(
    args: &Args,
    model: &dyn LoadedModel,
    inputs: &[(String, Tensor)],
    trace: Option<&mut File>,
) -> anyhow::Result<Profiled> {
    let profile = model.profile(inputs, args.runs)?.ok_or_else(|| {
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

fn millis(time: Duration) -> f64 {
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

/// Xorshift: the same inputs in every run, and no need for more.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn tensor(&mut self, spec: &TensorSpec, shape: &Shape) -> anyhow::Result<Tensor> {
        let elements = shape.len_checked()?;
        let mask = spec.name.to_lowercase().contains("mask");
        let size = elements.checked_mul(spec.dtype.size());
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size.unwrap_or(usize::MAX))?;
        for _ in 0..elements {
            let unit = if mask { 1.0 } else { (self.next() >> 40) as f32 / (1u64 << 24) as f32 };
            let bit = u8::from(mask || self.next() >> 63 == 1);
            match spec.dtype {
                DType::F32 => bytes.extend(unit.to_le_bytes()),
                DType::F64 => bytes.extend(f64::from(unit).to_le_bytes()),
                DType::F16 => bytes.extend(f16::from_f32(unit).to_le_bytes()),
                DType::Bf16 => bytes.extend(bf16::from_f32(unit).to_le_bytes()),
                small if small.is_small_float() => {
                    bytes.push(gw_tensor::small::encode(small, unit));
                }
                integer => {
                    bytes.push(bit);
                    bytes.resize(bytes.len() + integer.size() - 1, 0);
                }
            }
        }
        Ok(Tensor::new(spec.dtype, shape.clone(), bytes)?)
    }
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

    #[test]
    fn random_inputs_are_valid() {
        let spec = |name: &str, dtype| TensorSpec {
            name: name.to_owned(),
            dtype,
            dims: None,
            entries: None,
        };
        let mut random = Random(1);
        let shape = Shape::new([4, 64]);
        let ids = random.tensor(&spec("ids", DType::I64), &shape).unwrap();
        let ids = ids.to_vec::<i64>().unwrap();
        assert!(ids.iter().all(|id| (0..=1).contains(id)));
        assert!(ids.contains(&0) && ids.contains(&1));
        let mask = random.tensor(&spec("attention_mask", DType::I64), &shape).unwrap();
        assert!(mask.to_vec::<i64>().unwrap().iter().all(|&bit| bit == 1));
        let image = random.tensor(&spec("image", DType::F32), &shape).unwrap();
        let image = image.to_vec::<f32>().unwrap();
        assert!(image.iter().all(|x| (0.0..1.0).contains(x)) && image[0] != image[1]);
    }

    #[test]
    fn a_shape_that_no_machine_holds_is_an_error() {
        let spec = TensorSpec { name: "x".into(), dtype: DType::F32, dims: None, entries: None };
        assert!(Random(1).tensor(&spec, &Shape::new([usize::MAX / 8])).is_err());
    }
}
