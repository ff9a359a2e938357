//! `gw plan`: what the engine would do for one model and one set of shapes, without doing it.

use std::sync::Arc;
use std::time::Duration;

use gw_engine::plan::summary::PlanSummary;
use gw_engine::plan::why::Why;
use gw_engine::{AdapterSelect, Device, Model, PlanCache, PlanError, PlanOptions, Tuning};
use gw_inference::{DeviceChoice, InferenceConfig};
use gw_shaders::kernel::Caps;
use serde::Serialize;

use crate::models::values::ValueArg;
use crate::models::{self, ShapeArg, Shapes};
use crate::report::{Advice, Output};

/// Print the steps that a GPU takes for one run of a model
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  gw plan model.onnx --shape input_ids=1x128
  gw plan silero_vad.onnx --value sr=16000 --why

The plan is made for an adapter of this machine, software adapters included, or for what WebGPU
guarantees everywhere where there is none.")]
pub(crate) struct Args {
    /// An ONNX file, or a source such as hf:org/repo#model.onnx
    model: String,
    /// The shape of one input; repeat for each [default: open dimensions are 1]
    #[arg(long, env = "GW_SHAPE", value_name = "NAME=1x128")]
    shape: Vec<ShapeArg>,
    /// The elements of a small input whose value decides what is computed; repeat for each
    #[arg(long, env = "GW_VALUE", value_name = "NAME=1,2,3")]
    value: Vec<ValueArg>,
    /// For each step the nodes that it computes and what chose its variant, and where others went
    #[arg(long, env = "GW_WHY", value_parser = clap::builder::FalseyValueParser::new())]
    why: bool,
    /// The adapter to plan for: auto, gpu, or a part of its name
    #[arg(long, env = "GW_DEVICE", value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// Plan every node by itself: slow and simple, to compare with
    #[arg(long, env = "GW_NO_FUSE", value_parser = clap::builder::FalseyValueParser::new())]
    no_fuse: bool,
    #[command(flatten)]
    output: Output,
}

/// The plan, and the adapter that it is made for.
#[derive(Serialize)]
struct Planned {
    adapter: String,
    #[serde(flatten)]
    plan: PlanSummary,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let path = models::locate(&args.model)?;
    let signature = models::signature(&path)?;
    let shapes = ValueArg::shapes(&args.value, &signature, &args.shape)?;
    let resolved = Shapes::resolve(&signature, &shapes)?;
    resolved.note_assumptions();
    let values = ValueArg::tensors(&args.value, &signature, &resolved)?;
    let device = device(&args.device)?;
    let caps = device.as_ref().map_or(Caps::minimal(), |device| device.caps());
    let options = PlanOptions { fuse: !args.no_fuse, ..PlanOptions::default() };
    let plan = Model::open(&path)?.plan_with(&resolved.shapes, &values, &caps, &options);
    let mut plan = plan.map_err(|error| advised(error, &resolved))?;
    let mut adapter = "any WebGPU adapter".to_owned();
    if let Some(device) = device {
        adapter.clone_from(&device.info().name);
        tuning(&device)?.choose(&mut plan, &caps);
    }
    let planned = Planned { adapter, plan: plan.summary() };
    args.output.print(&planned, |planned| {
        let Planned { adapter, plan } = planned;
        if args.why {
            format!("{}\nfor {adapter}", Why(plan))
        } else {
            format!("{plan}\nfor {adapter}")
        }
    })
}

/// With the flag that gives what the planner asks for.
fn advised(error: PlanError, resolved: &Shapes) -> anyhow::Error {
    let hint = match &error {
        PlanError::MissingValue { input, .. } => {
            format!("give the value of the input: --value {input}=NUMBER, or NUMBER,NUMBER,…")
        }
        _ => return resolved.explain(error.into()),
    };
    let message = "the plan depends on the value of an input";
    anyhow::Error::from(error).context(Advice::new(message).hint(hint))
}

/// What was measured on the adapter, by whatever served a model there.
fn tuning(device: &Device) -> anyhow::Result<Tuning> {
    let bytes_max = InferenceConfig::default().plan_cache_bytes_max;
    let cache = PlanCache::new(models::plan_cache_dir()?, bytes_max);
    Ok(Tuning::new(device, Some(Arc::new(cache)), Duration::ZERO))
}

/// The adapter to plan for; none where any is meant and there is none.
fn device(choice: &DeviceChoice) -> anyhow::Result<Option<Arc<Device>>> {
    match choice {
        DeviceChoice::Auto => Ok(Device::open(&AdapterSelect::Any).ok()),
        DeviceChoice::Gpu => Ok(Some(Device::open(&AdapterSelect::Hardware)?)),
        DeviceChoice::Named(name) => Ok(Some(Device::open(&AdapterSelect::Named(name.clone()))?)),
        DeviceChoice::Cpu => Err(Advice::new("the cpu runs no plan, only GPU adapters do")
            .hint("leave --device out to plan for any adapter")
            .usage()
            .into()),
    }
}
