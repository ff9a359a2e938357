//! Real models against ONNX Runtime: the largest error of each, on one device.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use gw_engine::{AdapterSelect, Device, Interpreter, Model, PlanOptions, Session, SessionOptions};
use gw_inference::{DeviceChoice, InferenceConfig, LoadedModel};
use gw_tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::conformance::compare::numbers;
use crate::conformance::data::{Case, Set};
use crate::{reference, repo};

/// How far one model is from ONNX Runtime.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Agreement {
    /// The name of its folder.
    pub model: String,
    /// Sets of inputs that were run.
    pub sets: usize,
    /// The largest error of any element of any output, over the output's range; infinite where a
    /// whole number, a type or a shape is another.
    pub worst: f64,
    /// Why it could not be run, if it could not.
    pub error: Option<String>,
}

/// Where models run.
#[derive(Debug)]
pub enum Place {
    /// The CPU backend.
    Cpu,
    /// The engine's plans on the CPU.
    Interpreter(PlanOptions),
    /// The engine on this device, with these plans.
    Device(Arc<Device>, PlanOptions),
}

impl Place {
    /// `cpu`, `interpreter`, or a part of an adapter's name.
    ///
    /// # Errors
    /// Where there is no such adapter.
    pub fn open(name: &str, fuse: bool) -> Result<Self> {
        if name == "cpu" {
            return Ok(Self::Cpu);
        }
        let plan = PlanOptions { fuse, ..PlanOptions::default() };
        if name == "interpreter" {
            return Ok(Self::Interpreter(plan));
        }
        let device = Device::open(&AdapterSelect::Named(name.to_owned()))?;
        Ok(Self::Device(device, plan))
    }

    fn load(&self, case: &Case) -> Result<Loaded> {
        Ok(match self {
            Self::Cpu => {
                let config = InferenceConfig::default();
                Loaded::Cpu(gw_inference::open_model(&case.model(), &DeviceChoice::Cpu, &config)?)
            }
            Self::Interpreter(plan) => {
                let model = Arc::new(Model::open(&case.model())?);
                Loaded::Interpreter(Box::new(Interpreter::new(model, *plan)))
            }
            Self::Device(device, plan) => {
                let model = Arc::new(Model::open(&case.model())?);
                let options = SessionOptions { plan: *plan, ..SessionOptions::default() };
                Loaded::Engine(Box::new(Session::new(model, Arc::clone(device), options)))
            }
        })
    }
}

enum Loaded {
    Cpu(Box<dyn LoadedModel>),
    Interpreter(Box<Interpreter>),
    Engine(Box<Session>),
}

impl Loaded {
    fn names(&self) -> Vec<String> {
        match self {
            Self::Cpu(model) => {
                model.signature().inputs.iter().map(|input| input.name.clone()).collect()
            }
            Self::Interpreter(model) => {
                model.signature().inputs.iter().map(|port| port.name.clone()).collect()
            }
            Self::Engine(session) => {
                session.signature().inputs.iter().map(|port| port.name.clone()).collect()
            }
        }
    }

    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>> {
        Ok(match self {
            Self::Cpu(model) => model.run(inputs)?,
            Self::Interpreter(model) => model.run(inputs)?,
            Self::Engine(session) => session.run(inputs)?,
        })
    }
}

/// The models, made by `tests/reference/models.py` where they are missing.
///
/// # Errors
/// Where one cannot be had.
pub fn models() -> Result<Vec<Case>> {
    let folder = folder();
    let status = Command::new(reference::python()?)
        .arg(repo().join("tests/reference/models.py"))
        .arg(&folder)
        .stdout(std::process::Stdio::null())
        .status()
        .context("starting tests/reference/models.py")?;
    ensure!(status.success(), "tests/reference/models.py failed; its error is above");
    Case::all(&folder)
}

/// `GW_REAL_MODELS`, or a folder under `target/`.
fn folder() -> PathBuf {
    let given = std::env::var_os("GW_REAL_MODELS").map(PathBuf::from);
    given.unwrap_or_else(|| repo().join("target/real-models"))
}

/// Runs every set of one model.
pub fn measure(case: &Case, place: &Place) -> Agreement {
    let (model, sets) = (case.name.clone(), 0);
    match worst(case, place) {
        Ok((sets, worst)) => Agreement { model, sets, worst, error: None },
        Err(error) => {
            Agreement { model, sets, worst: f64::INFINITY, error: Some(format!("{error:#}")) }
        }
    }
}

fn worst(case: &Case, place: &Place) -> Result<(usize, f64)> {
    let loaded = place.load(case)?;
    let names = loaded.names();
    let sets = case.sets()?;
    let mut worst = 0f64;
    for Set { inputs, outputs } in &sets {
        let inputs: Vec<_> = names.iter().cloned().zip(inputs.iter().cloned()).collect();
        let given = loaded.run(&inputs)?;
        if given.len() < outputs.len() {
            bail!("{} outputs, not {}", given.len(), outputs.len());
        }
        for ((_, given), due) in given.iter().zip(outputs) {
            worst = worst.max(error(given, due));
        }
    }
    Ok((sets.len(), worst))
}

/// The largest difference over the range of what is due.
pub fn error(given: &Tensor, due: &Tensor) -> f64 {
    if given.dtype() != due.dtype() || given.shape() != due.shape() {
        return f64::INFINITY;
    }
    let is_float = matches!(due.dtype(), DType::F32 | DType::F16 | DType::Bf16 | DType::F64);
    let (given, due) = (numbers(given), numbers(due));
    if !is_float {
        return if given == due { 0.0 } else { f64::INFINITY };
    }
    let finite = || due.iter().copied().filter(|value| value.is_finite());
    let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    // A single number has no range, and the rounding of equal ones is none: their size stands in.
    let size = high.abs().max(low.abs());
    let range = if high - low > 1e-6 * size { high - low } else { size };
    let range = if range > 0.0 { range } else { 1.0 };
    given.iter().zip(&due).fold(0f64, |worst, (given, due)| {
        let same = given.total_cmp(due).is_eq() || given.is_nan() && due.is_nan();
        let difference = if same { 0.0 } else { (given - due).abs() / range };
        // `max` would drop a NaN.
        if difference.is_nan() { f64::INFINITY } else { worst.max(difference) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_over_the_range_and_whole_numbers_must_be_equal() {
        let due = Tensor::from_slice([3], &[1f32, 3.0, 5.0]).unwrap();
        let given = Tensor::from_slice([3], &[1f32, 3.004, 5.0]).unwrap();
        assert!((error(&given, &due) - 0.001).abs() < 1e-6);
        let odd = Tensor::from_slice([3], &[1f32, f32::NAN, 5.0]).unwrap();
        assert!(error(&odd, &due).is_infinite());
        let equal = Tensor::from_slice([2], &[0.001f32, 0.001]).unwrap();
        let rounded = Tensor::from_slice([2], &[0.001f32, 0.001f32.next_up()]).unwrap();
        assert!(error(&rounded, &equal) < 1e-6 && error(&equal, &rounded) < 1e-6);
        let labels = Tensor::from_slice([1], &[3i64]).unwrap();
        assert!(error(&Tensor::from_slice([1], &[4i64]).unwrap(), &labels).is_infinite());
        assert!(error(&labels, &labels) == 0.0);
    }
}
