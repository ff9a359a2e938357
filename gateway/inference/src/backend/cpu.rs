//! The CPU: rten, with its weights packed at load.
//!
//! rten reads the ONNX file itself; `gw-engine` reads it first, for the types and dimensions that
//! rten does not keep and for errors that say what is wrong with a damaged file.

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use gw_tensor::{Shape, Tensor};
use rten::{
    LoadError, LoadErrorKind, ModelOptions, NodeId, RunError, RunErrorKind, RunOptions, ThreadPool,
};

use super::convert::{Elements, crosses, output};
use super::guard::guard;
use super::import::{chain, import_error, rows_are_independent, signature};
use super::{Backend, BackendKind, Footprint, LoadedModel};
use crate::{InferenceError, Signature};

const DEVICE: &str = "cpu";

/// The CPU with one pool of threads for all models.
pub(super) struct Cpu {
    /// `None` is rten's own pool, one thread per physical core.
    threads: Option<Arc<ThreadPool>>,
    count: usize,
}

impl Cpu {
    pub(super) fn new(threads: Option<NonZeroUsize>) -> Self {
        let pool = |count: NonZeroUsize| Arc::new(ThreadPool::with_num_threads(count.get()));
        let count = threads.or_else(|| std::thread::available_parallelism().ok());
        Self { threads: threads.map(pool), count: count.map_or(1, NonZeroUsize::get) }
    }
}

impl Backend for Cpu {
    fn kind(&self) -> BackendKind {
        BackendKind::Cpu
    }

    fn device(&self) -> &str {
        DEVICE
    }

    fn load(&self, name: &str, path: &Path) -> Result<Box<dyn LoadedModel>, InferenceError> {
        guard(name, DEVICE, || Ok(Box::new(CpuModel::load(name, path, self)?) as _))
    }
}

struct CpuModel {
    name: String,
    model: rten::Model,
    signature: Signature,
    inputs: Vec<NodeId>,
    outputs: Vec<NodeId>,
    rows_are_independent: bool,
    threads: Option<Arc<ThreadPool>>,
    thread_count: usize,
}

impl CpuModel {
    fn load(name: &str, path: &Path, cpu: &Cpu) -> Result<Self, InferenceError> {
        // The importer alone, so that an operator that only the engine lacks is no obstacle here.
        let graph =
            gw_engine::onnx::open(path).map_err(|error| import_error(name, DEVICE, &error))?;
        let signature = signature(&graph);
        let ports = || signature.inputs.iter().chain(&signature.outputs);
        if let Some(port) = ports().find(|port| !crosses(port.dtype)) {
            let reason = format!("the cpu device cannot hold {} ({port})", port.dtype);
            return Err(InferenceError::Load { model: name.to_owned(), reason });
        }
        let model = read(name, path)?;
        let node = |port: &crate::TensorSpec| {
            model.find_node(&port.name).ok_or_else(|| InferenceError::Load {
                model: name.to_owned(),
                reason: format!("its graph has no value for {port}"),
            })
        };
        Ok(Self {
            name: name.to_owned(),
            inputs: signature.inputs.iter().map(node).collect::<Result<_, _>>()?,
            outputs: signature.outputs.iter().map(node).collect::<Result<_, _>>()?,
            model,
            signature,
            rows_are_independent: rows_are_independent(&graph),
            threads: cpu.threads.clone(),
            thread_count: cpu.count,
        })
    }

    fn run_checked(&self, inputs: &[Tensor]) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let failed = |reason| InferenceError::Run {
            model: self.name.clone(),
            device: DEVICE.to_owned(),
            reason,
        };
        let elements: Vec<Elements<'_>> =
            inputs.iter().map(Elements::of).collect::<Result<_, _>>().map_err(failed)?;
        let mut values = Vec::with_capacity(inputs.len());
        for ((node, tensor), elements) in self.inputs.iter().zip(inputs).zip(&elements) {
            values.push((*node, elements.view(tensor.shape()).map_err(failed)?));
        }
        let options = RunOptions::default().with_thread_pool(self.threads.clone());
        let results = (self.model.run(values, &self.outputs, Some(options)))
            .map_err(|error| self.run_error(&error))?;
        let named = self.signature.outputs.iter().zip(results);
        named
            .map(|(port, value)| {
                let tensor = output(value, port.dtype)
                    .map_err(|reason| failed(format!("output {:?}: {reason}", port.name)))?;
                Ok((port.name.clone(), tensor))
            })
            .collect()
    }

    fn run_error(&self, error: &RunError) -> InferenceError {
        let (model, device) = (self.name.clone(), DEVICE.to_owned());
        let reason = error.to_string();
        match error.kind() {
            RunErrorKind::OperatorError | RunErrorKind::InvalidInput => {
                InferenceError::Run { model, device, reason }
            }
            // The graph itself is at fault, whatever the inputs hold.
            _ => InferenceError::Load { model, reason },
        }
    }
}

impl LoadedModel for CpuModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn device(&self) -> &str {
        DEVICE
    }

    fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, InferenceError> {
        let inputs = (self.signature.check(inputs.to_vec()))
            .map_err(|problem| InferenceError::BadInput { model: self.name.clone(), problem })?;
        guard(&self.name, DEVICE, || self.run_checked(&inputs))
    }

    fn rows_are_independent(&self) -> bool {
        self.rows_are_independent
    }

    /// One per thread: `MiniLM` on two threads takes the same time per row alone and in pairs, and
    /// a third longer per row in batches of 32 at 128 tokens.
    fn rows_side_by_side(&self) -> Option<usize> {
        Some(self.thread_count)
    }

    fn footprint(&self) -> Footprint {
        // Four bytes per parameter, and once more for the packed copy.
        let weight_bytes = 8 * self.model.total_params() as u64;
        Footprint { weight_bytes, ..Footprint::default() }
    }

    fn dispatches(&self, _: &[(String, Shape)]) -> Result<Option<usize>, InferenceError> {
        Ok(None)
    }
}

fn read(name: &str, path: &Path) -> Result<rten::Model, InferenceError> {
    let mut options = ModelOptions::with_all_ops();
    options.prepack_weights(true);
    // By path, tensors in files beside the model are found; but rten goes by the file's suffix,
    // which a content-addressed store does not keep.
    let has_suffix = path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("onnx"));
    let loaded = if has_suffix {
        options.load_file(path)
    } else {
        let bytes = std::fs::read(path).map_err(|error| InferenceError::Load {
            model: name.to_owned(),
            reason: format!("{}: {error}", path.display()),
        })?;
        options.load(bytes)
    };
    loaded.map_err(|error| load_error(name, &error))
}

/// Tells an operator that rten lacks from a file that is wrong. rten has no type for the
/// difference, only these words.
fn load_error(model: &str, error: &LoadError) -> InferenceError {
    let model = model.to_owned();
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    match cause.split_once(" operator ") {
        Some((op, reason)) if error.kind() == LoadErrorKind::OperatorInvalid => {
            InferenceError::Unsupported {
                model,
                device: DEVICE.to_owned(),
                op: op.to_owned(),
                node: error.node().unwrap_or_default().to_owned(),
                reason: reason.to_owned(),
            }
        }
        _ => InferenceError::Load { model, reason: chain(error) },
    }
}
