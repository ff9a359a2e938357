//! The node tests of ONNX, run through the engine: what passes, what is wrong, what is refused.
//!
//! - [`data`]: the tests, from the `onnx` package. [`compare`]: when an output is right.
//! - [`report`]: the counts, by family of operators. [`page`]: the list of operators.

pub mod compare;
pub mod data;
pub mod page;
pub mod report;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use gw_engine::{
    AdapterSelect, Device, Interpreter, Model, PlanOptions, RunError, Session, SessionOptions,
};
use gw_inference::{DeviceChoice, InferenceConfig, InferenceError};
use gw_tensor::Tensor;

use data::{Case, Set};

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A part of the adapter's name.
    pub device: String,
    /// Models that the adapter refuses run on the CPU backend.
    pub cpu: bool,
    /// Only cases whose name contains this.
    pub only: String,
    /// Every case with an index that this divides.
    pub every: usize,
    /// Cases in this folder instead of ONNX's own.
    pub data: Option<PathBuf>,
}

/// How one case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every output is right.
    Passed,
    /// An output is wrong, or the engine broke; the text says which.
    Failed(String),
    /// The engine refused the model with this error.
    Unsupported(String),
}

/// One case and how it ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The name of the case.
    pub name: String,
    /// The family of operators that it tests.
    pub family: &'static str,
    /// How it ended.
    pub outcome: Outcome,
}

/// Runs the cases that `options` choose; `each` is called as they end.
///
/// # Errors
/// Where there is no such adapter, or a case cannot be read.
pub fn run(options: &Options, each: &(dyn Fn(usize, usize) + Sync)) -> Result<Vec<Ended>> {
    let place = Place::open(&options.device)?;
    let all = options.data.as_deref().map_or_else(data::cases, Case::all)?;
    let cases: Vec<Case> = all
        .into_iter()
        .filter(|case| case.name.contains(&options.only))
        .step_by(options.every.max(1))
        .collect();
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut ended = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(index) else { return ended };
            each(index, cases.len());
            let outcome = judged(case, &place, options.cpu);
            ended.push((index, Ended { name: case.name.clone(), family: case.family(), outcome }));
        }
    };
    let mut ended = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    ended.sort_by_key(|(index, _)| *index);
    Ok(ended.into_iter().map(|(_, ended)| ended).collect())
}

/// What runs the engine's plans.
enum Place {
    Device(Arc<Device>),
    /// [`Interpreter`]: no adapter.
    Interpreter,
}

type Run = Box<dyn Fn(&[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, RunError>>;

impl Place {
    fn open(name: &str) -> Result<Self> {
        if name == "interpreter" {
            return Ok(Self::Interpreter);
        }
        Ok(Self::Device(Device::open(&AdapterSelect::Named(name.to_owned()))?))
    }

    fn load(&self, model: Model) -> Run {
        let model = Arc::new(model);
        match self {
            Self::Device(device) => {
                let session = Session::new(model, Arc::clone(device), SessionOptions::default());
                Box::new(move |inputs| session.run(inputs))
            }
            Self::Interpreter => {
                let interpreter = Interpreter::new(model, PlanOptions::default());
                Box::new(move |inputs| interpreter.run(inputs))
            }
        }
    }
}

/// A panic is a failure of the case.
fn judged(case: &Case, place: &Place, cpu: bool) -> Outcome {
    let run = AssertUnwindSafe(|| judge(case, place, cpu));
    match std::panic::catch_unwind(run) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Outcome::Failed(format!("{error:#}")),
        Err(_) => Outcome::Failed("panicked".to_owned()),
    }
}

fn judge(case: &Case, place: &Place, cpu: bool) -> Result<Outcome> {
    let refused = match in_engine(case, place)? {
        Outcome::Unsupported(reason) => reason,
        outcome => return Ok(outcome),
    };
    if cpu && let Some(outcome) = on_cpu(case)? {
        return Ok(outcome);
    }
    Ok(Outcome::Unsupported(refused))
}

fn in_engine(case: &Case, place: &Place) -> Result<Outcome> {
    let model = match Model::open(&case.model()) {
        Ok(model) => model,
        Err(error) => return Ok(Outcome::Unsupported(chain(&error))),
    };
    let names: Vec<String> =
        model.signature().inputs.iter().map(|port| port.name.clone()).collect();
    let run = place.load(model);
    for set in case.sets()? {
        let inputs = named(&names, &set);
        match run(&inputs) {
            Ok(outputs) => {
                if let Some(wrong) = compared(case)(&outputs, &set.outputs) {
                    return Ok(Outcome::Failed(wrong));
                }
            }
            Err(error) if is_refusal(&error) => return Ok(Outcome::Unsupported(chain(&error))),
            Err(error) => return Ok(Outcome::Failed(chain(&error))),
        }
    }
    Ok(Outcome::Passed)
}

/// Says what is wrong with outputs, if anything is.
type Compared = fn(&[(String, Tensor)], &[Tensor]) -> Option<String>;

/// How the outputs of a case are compared: random numbers by their type and shape alone.
fn compared(case: &Case) -> Compared {
    let is_drawn = ["test_bernoulli", "test_training_dropout"]
        .iter()
        .any(|family| case.name.starts_with(family) && !case.name.contains("zero_ratio"));
    if is_drawn { compare::drawn } else { compare::outputs }
}

/// Clear errors of the planner and of what a device can hold; anything else is a fault of ours.
fn is_refusal(error: &RunError) -> bool {
    matches!(error, RunError::Plan(_) | RunError::OutOfRange { .. } | RunError::MemoryLimit { .. })
}

/// `None` where the CPU backend refuses the model too.
fn on_cpu(case: &Case) -> Result<Option<Outcome>> {
    let (choice, config) = (DeviceChoice::Cpu, InferenceConfig::default());
    let Ok(model) = gw_inference::open_model(&case.model(), &choice, &config) else {
        return Ok(None);
    };
    let names: Vec<String> =
        model.signature().inputs.iter().map(|input| input.name.clone()).collect();
    for set in case.sets()? {
        match model.run(&named(&names, &set)) {
            Ok(outputs) => {
                if let Some(wrong) = compared(case)(&outputs, &set.outputs) {
                    return Ok(Some(Outcome::Failed(format!("on the cpu: {wrong}"))));
                }
            }
            Err(
                InferenceError::Load { .. }
                | InferenceError::Unsupported { .. }
                | InferenceError::BadInput { .. },
            ) => {
                return Ok(None);
            }
            Err(error) => {
                return Ok(Some(Outcome::Failed(format!("on the cpu: {}", chain(&error)))));
            }
        }
    }
    Ok(Some(Outcome::Passed))
}

/// The tests give their inputs in the model's order.
fn named(names: &[String], set: &Set) -> Vec<(String, Tensor)> {
    names.iter().cloned().zip(set.inputs.iter().cloned()).collect()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Reads a tensor file of a case.
fn tensor(path: &Path) -> Result<Tensor> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    gw_engine::onnx::tensor(bytes.into())
        .map_err(|reason| anyhow::anyhow!("{}: {reason}", path.display()))
}
