//! `gw plan`: what the engine would do for one model and one set of shapes, without doing it.

use gw_engine::plan::summary::PlanSummary;
use gw_engine::{AdapterSelect, Device, Model, PlanOptions};
use gw_inference::DeviceChoice;
use gw_shaders::kernel::Caps;
use serde::Serialize;

use crate::models::{self, ShapeArg, Shapes};
use crate::report::{Advice, Output};

/// Print the steps that a GPU takes for one run of a model
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  gw plan model.onnx --shape input_ids=1x128

The plan is made for an adapter of this machine, software adapters included, or for what WebGPU
guarantees everywhere where there is none.")]
pub(crate) struct Args {
    /// An ONNX file, or a source such as hf:org/repo#model.onnx
    model: String,
    /// The shape of one input; repeat for each [default: open dimensions are 1]
    #[arg(long, env = "GW_SHAPE", value_name = "NAME=1x128")]
    shape: Vec<ShapeArg>,
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
    let resolved = Shapes::resolve(&models::signature(&path)?, &args.shape)?;
    resolved.note_assumptions();
    let (adapter, caps) = caps(&args.device)?;
    let options = PlanOptions { fuse: !args.no_fuse, ..PlanOptions::default() };
    let plan = Model::open(&path)?.plan(&resolved.shapes, &caps, &options)?;
    let planned = Planned { adapter, plan: plan.summary() };
    args.output.print(&planned, |planned| format!("{}\nfor {}", planned.plan, planned.adapter))
}

/// What the kernels may use, and the name of the adapter that offers it.
fn caps(choice: &DeviceChoice) -> anyhow::Result<(String, Caps)> {
    let open = |select: &AdapterSelect| {
        Device::open(select).map(|device| (device.info().name.clone(), device.caps()))
    };
    match choice {
        DeviceChoice::Auto => Ok(open(&AdapterSelect::Any)
            .unwrap_or_else(|_| ("any WebGPU adapter".to_owned(), Caps::minimal()))),
        DeviceChoice::Gpu => Ok(open(&AdapterSelect::Hardware)?),
        DeviceChoice::Named(name) => Ok(open(&AdapterSelect::Named(name.clone()))?),
        DeviceChoice::Cpu => Err(Advice::new("the cpu runs no plan, only GPU adapters do")
            .hint("leave --device out to plan for any adapter")
            .usage()
            .into()),
    }
}
