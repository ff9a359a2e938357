//! What runs a model: the trait that `cpu` and `gpu` share.

mod convert;
mod cpu;
mod gpu;
mod guard;
mod import;
mod nominal;
mod rows;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use gw_engine::{AdapterSelect, Device, PlanCache, Profile, Tuned, Value};
use gw_tensor::{Shape, Tensor};

use crate::device::{Candidate, Selected, select};
use crate::worker::nice::giving_way;
use crate::{DeviceChoice, InferenceConfig, InferenceError, InferenceMetrics, Signature};

/// The two kinds of backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// rten, on all cores.
    Cpu,
    /// `gw-engine`, on one adapter.
    Gpu,
}

/// Where the bytes of an ONNX model are.
#[derive(Clone, Copy, Debug)]
pub enum ModelSource<'a> {
    /// In a file, which may have files of weights beside it.
    File(&'a Path),
    /// In memory. Nothing else is read: a model whose weights lie in other files is refused.
    Bytes(&'a Bytes),
}

/// One device that can load models.
pub trait Backend: Send + Sync {
    /// Which kind it is.
    fn kind(&self) -> BackendKind;

    /// The device's name: `cpu`, or the adapter's.
    fn device(&self) -> &str;

    /// How many runs it can do side by side, each with its share of it.
    fn slots(&self) -> usize {
        1
    }

    /// Counts what happens to the device from now on. The CPU is never lost.
    fn watch(&self, metrics: &InferenceMetrics) {
        let _ = metrics;
    }

    /// Loads a model. `name` is what errors call it.
    ///
    /// # Errors
    /// [`InferenceError::Load`] for a bad file, [`InferenceError::Unsupported`] for an operator
    /// that the device lacks.
    fn load(
        &self,
        name: &str,
        source: ModelSource<'_>,
    ) -> Result<Box<dyn LoadedModel>, InferenceError>;
}

/// A model on a device, ready to run. It never panics, whatever the file and the inputs hold.
pub trait LoadedModel: Send + Sync {
    /// What it takes and gives.
    fn signature(&self) -> &Signature;

    /// What errors call it.
    fn name(&self) -> &str;

    /// The name of the device that it runs on.
    fn device(&self) -> &str;

    /// Makes a guess at the first request and prepares for it, which also finds what no run can do.
    /// Whoever runs the model at once would only wait for it.
    ///
    /// # Errors
    /// [`InferenceError::Unsupported`] for a form of an operator that the device lacks.
    fn warm_up(&self) -> Result<(), InferenceError> {
        Ok(())
    }

    /// Runs once, in the calling thread, and returns every output in the signature's order. A model
    /// whose device was lost is loaded anew on it, and runs once more. A run on a GPU that hangs is
    /// given up after [`InferenceConfig::gpu_hang_time`]; one on the CPU ends when it ends, because
    /// a thread cannot be stopped.
    ///
    /// # Errors
    /// [`InferenceError::BadInput`] where the inputs do not fit the signature, else what the
    /// device reports.
    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, InferenceError>;

    /// As [`LoadedModel::run`], with values that may be on a device. Outputs that take at least
    /// `keep_bytes_min` bytes there may stay on the model's device; `None` keeps none. A device
    /// that has no memory of its own keeps none either, and reads what others kept.
    ///
    /// # Errors
    /// As [`LoadedModel::run`].
    fn run_values(
        &self,
        inputs: &[(String, Value)],
        keep_bytes_min: Option<u64>,
    ) -> Result<Vec<(String, Value)>, InferenceError> {
        let _ = keep_bytes_min;
        let outputs = self.run(&read_all(self.name(), inputs)?)?.into_iter();
        Ok(outputs.map(|(name, tensor)| (name, tensor.into())).collect())
    }

    /// As [`LoadedModel::run_values`], beside other runs: with as little of the device as a run
    /// needs, where it can have less than all. Nothing is kept there.
    ///
    /// # Errors
    /// As [`LoadedModel::run`].
    fn run_beside(
        &self,
        inputs: &[(String, Value)],
    ) -> Result<Vec<(String, Value)>, InferenceError> {
        self.run_values(inputs, None)
    }

    /// Lets these outputs stay on the device however few bytes they take, in runs that keep any:
    /// the next run takes them from there.
    fn keep_always(&mut self, outputs: BTreeSet<String>) {
        let _ = outputs;
    }

    /// Whether a row's result is shown to depend on that row alone; `None` before a run has told.
    /// It is not where a node takes the range of a whole tensor, as dynamic quantisation does, or
    /// walks along the rows, as a recurrence does whose leading axis is time: such a model is
    /// neither batched nor cut.
    fn rows_are_independent(&self) -> Option<bool>;

    /// The size to run where `size` rows wait, or so long a row. A device that plans for each shape
    /// wants few of them, and gets them by repeating a row, or by filling one. At least `size`.
    fn padded(&self, size: usize) -> usize {
        size
    }

    /// Whether only measuring tells how many rows are worth joining; more make the first wait for
    /// the last in vain. Else the more the better.
    fn joining_is_measured(&self) -> bool {
        false
    }

    /// The memory that it holds now.
    fn footprint(&self) -> Footprint;

    /// How many dispatches one run takes for inputs of these shapes; where the values of a run
    /// decide, how many the plan that was made last has. `None` on the CPU, and without a run.
    ///
    /// # Errors
    /// Where no plan can be made for the shapes.
    fn dispatches(&self, shapes: &[(String, Shape)]) -> Result<Option<usize>, InferenceError>;

    /// Waits until the device has measured what it measures behind the first answers, and tells
    /// what it does another way since.
    fn settle(&self) -> Vec<Tuned> {
        Vec::new()
    }

    /// Where the time of a run with these inputs goes, over `runs` runs; `None` where runs have no
    /// steps that could be timed.
    ///
    /// # Errors
    /// As [`LoadedModel::run`].
    fn profile(
        &self,
        inputs: &[(String, Tensor)],
        runs: u32,
    ) -> Result<Option<Profile>, InferenceError> {
        let _ = (inputs, runs);
        Ok(None)
    }
}

/// The tensors of all values, as [`read_back`] gives them.
fn read_all(
    model: &str,
    values: &[(String, Value)],
) -> Result<Vec<(String, Tensor)>, InferenceError> {
    let read =
        |(name, value): &(String, Value)| Ok((name.clone(), read_back(model, value.clone())?));
    values.iter().map(read).collect()
}

/// The tensor of a value. It blocks where that is on a device. `model` is what errors call whoever
/// wants it.
///
/// # Errors
/// [`InferenceError::Device`] where the device fails, [`InferenceError::DeviceLost`] where it was
/// lost, and the value with it.
pub fn read_back(model: &str, value: Value) -> Result<Tensor, InferenceError> {
    match value {
        Value::Host(tensor) => Ok(tensor),
        Value::Device(tensor) => {
            let device = &tensor.device().info().name;
            guard::guard(model, device, || {
                tensor.read().map_err(|error| import::run_error(model, device, &error))
            })
        }
    }
}

/// Bytes that a loaded model holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Weights, in the form that the device reads. On the CPU an upper bound: rten does not tell
    /// which of them it also packs.
    pub weight_bytes: u64,
    /// Intermediate results. Zero on the CPU, where a run allocates and frees them.
    pub arena_bytes: u64,
    /// Mapped memory on the way in and out. Zero on the CPU.
    pub staging_bytes: u64,
    /// Outputs that stay on the device for as long as somebody holds them. Zero on the CPU.
    pub kept_bytes: u64,
    /// Host memory beside the device: constants of its file, of which later plans are made, and
    /// weights that plans share. No part of the device's budget, nor of the total. Zero on the CPU.
    pub host_bytes: u64,
    /// The most that was held at once on the device; zero on the CPU.
    pub peak_bytes: u64,
}

impl Footprint {
    /// All that it holds on its device.
    pub fn total(&self) -> u64 {
        self.weight_bytes + self.arena_bytes + self.staging_bytes + self.kept_bytes
    }
}

/// Opens the device that `choice` means on this machine.
///
/// # Errors
/// [`InferenceError::NoDevice`], which says what there is instead.
pub fn open_backend(
    choice: &DeviceChoice,
    config: &InferenceConfig,
) -> Result<Arc<dyn Backend>, InferenceError> {
    // The pools of the CPU and the drivers that compute on it start their threads here.
    giving_way(config.cpu_nice, || open_chosen(choice, config))
}

fn open_chosen(
    choice: &DeviceChoice,
    config: &InferenceConfig,
) -> Result<Arc<dyn Backend>, InferenceError> {
    let adapters = || {
        let adapters = gw_engine::adapters().into_iter();
        adapters.map(|info| Candidate { name: info.name, software: info.software }).collect()
    };
    if let Some(gpu) = named(choice, config) {
        return Ok(Arc::new(gpu));
    }
    match select(choice, adapters)? {
        Selected::Cpu => {
            if *choice == DeviceChoice::Auto {
                tracing::info!("there is no hardware adapter; the cpu serves");
            }
            Ok(Arc::new(cpu::Cpu::new(config)))
        }
        Selected::Adapter(adapter) => match Device::open(&adapter) {
            Ok(device) => Ok(Arc::new(gpu::Gpu::new(device, config))),
            Err(error) if *choice == DeviceChoice::Auto => {
                tracing::warn!(%error, "the hardware adapter does not open; using the cpu");
                Ok(Arc::new(cpu::Cpu::new(config)))
            }
            Err(error) => Err(InferenceError::NoDevice {
                choice: choice.to_string(),
                reason: error.to_string(),
            }),
        },
    }
}

/// The adapter that `choice` names, where it opens. Listing adapters loads every driver once more,
/// so that waits until somebody must be told what there is.
fn named(choice: &DeviceChoice, config: &InferenceConfig) -> Option<gpu::Gpu> {
    let DeviceChoice::Named(name) = choice else { return None };
    let device = Device::open(&AdapterSelect::Named(name.clone())).ok()?;
    Some(gpu::Gpu::new(device, config))
}

/// Where what a start finds out is kept for the next.
fn plan_cache(config: &InferenceConfig) -> Option<Arc<PlanCache>> {
    let bytes_max = config.plan_cache_bytes_max;
    let dir = config.plan_cache_dir.as_ref().filter(|_| bytes_max > 0)?;
    Some(Arc::new(PlanCache::new(dir, bytes_max)))
}

/// A device that takes every command and computes nothing, to time what a run costs the CPU.
/// Nothing that serves answers may use it.
pub fn open_noop(config: &InferenceConfig) -> Arc<dyn Backend> {
    Arc::new(gpu::Gpu::opened(Device::noop(), Box::new(|| Ok(Device::noop())), config))
}

/// Opens one model without a queue, for tools that measure or inspect it.
///
/// # Errors
/// As [`open_backend`] and [`Backend::load`].
pub fn open_model(
    path: &Path,
    choice: &DeviceChoice,
    config: &InferenceConfig,
) -> Result<Box<dyn LoadedModel>, InferenceError> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    if matches!(choice, DeviceChoice::Named(_)) {
        // The file is read while the driver loads. What fails fails again below, in words.
        let (model, gpu) = std::thread::scope(|scope| {
            let model = scope.spawn(|| gw_engine::Model::open(path));
            let gpu = named(choice, config);
            (model.join(), gpu)
        });
        if let (Ok(Ok(model)), Some(gpu)) = (model, gpu) {
            return gpu.load_model(&name, model);
        }
    }
    open_backend(choice, config)?.load(&name, ModelSource::File(path))
}
