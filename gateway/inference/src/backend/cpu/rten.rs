//! Models in rten, with their weights packed at load.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use gw_tensor::Tensor;
use rten::{
    LoadError, LoadErrorKind, ModelOptions, NodeId, RunError, RunErrorKind, RunOptions, ThreadPool,
};
use rten_onnx::onnx::ModelProto;

use super::super::convert::{Elements, crosses, output};
use super::super::import::chain;
use super::mapped::{Declared, Mapped};
use super::tables::Table;
use super::{DEVICE, ModelSource};
use crate::{InferenceError, Signature};

/// A model, with its large constants in memory or in a mapped file.
enum Loaded {
    Whole(Box<rten::Model>),
    Mapped(Box<Mapped>),
}

impl Loaded {
    fn model(&self) -> &rten::Model {
        match self {
            Self::Whole(model) => model,
            Self::Mapped(mapped) => mapped.model(),
        }
    }

    fn tables(&self) -> &[Table] {
        match self {
            Self::Whole(_) => &[],
            Self::Mapped(mapped) => mapped.tables(),
        }
    }
}

pub(super) struct Rten {
    name: String,
    loaded: Loaded,
    signature: Signature,
    inputs: Vec<NodeId>,
    outputs: Vec<NodeId>,
    /// Of each table, the input that chooses its rows, and what takes them.
    tables: Vec<(usize, NodeId)>,
}

impl Rten {
    pub(super) fn load(
        name: &str,
        source: ModelSource<'_>,
        signature: &Signature,
    ) -> Result<Self, InferenceError> {
        let ports = || signature.inputs.iter().chain(&signature.outputs);
        if let Some(port) = ports().find(|port| !crosses(port.dtype)) {
            let reason = format!("the cpu device cannot hold {} ({port})", port.dtype);
            return Err(InferenceError::Load { model: name.to_owned(), reason });
        }
        let loaded = read(name, source)?;
        let missing = |what: &dyn fmt::Display| InferenceError::Load {
            model: name.to_owned(),
            reason: format!("its graph has no value for {what}"),
        };
        let node = |port: &crate::TensorSpec| {
            loaded.model().find_node(&port.name).ok_or_else(|| missing(port))
        };
        let table = |table: &Table| {
            let input = signature.inputs.iter().position(|port| port.name == table.indices);
            let input = input.ok_or_else(|| missing(&table.indices))?;
            let rows = loaded.model().find_node(&table.rows);
            Ok((input, rows.ok_or_else(|| missing(&table.rows))?))
        };
        Ok(Self {
            name: name.to_owned(),
            inputs: signature.inputs.iter().map(node).collect::<Result<_, _>>()?,
            outputs: signature.outputs.iter().map(node).collect::<Result<_, _>>()?,
            tables: loaded.tables().iter().map(table).collect::<Result<_, _>>()?,
            loaded,
            signature: signature.clone(),
        })
    }

    /// The constants of its file, but for those that are mapped, and four bytes for each parameter
    /// that rten has made of them; all once more for packed copies: an upper bound.
    pub(super) fn weight_bytes(&self) -> u64 {
        let (Declared { elements, bytes }, mapped) = match &self.loaded {
            Loaded::Whole(_) => (Declared::default(), 0),
            Loaded::Mapped(mapped) => (mapped.declared(), mapped.bytes()),
        };
        let made = (self.loaded.model().total_params() as u64).saturating_sub(elements);
        let all = made.saturating_mul(4).saturating_add(bytes);
        all.saturating_mul(2).saturating_sub(mapped)
    }

    /// The inputs are in the signature's order; `threads` is `None` for rten's own pool.
    pub(super) fn run(
        &self,
        inputs: &[Tensor],
        threads: Option<&Arc<ThreadPool>>,
    ) -> Result<Vec<(String, Tensor)>, InferenceError> {
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
        for (table, &(input, rows)) in self.loaded.tables().iter().zip(&self.tables) {
            let Elements::I32(numbers) = &elements[input] else {
                return Err(failed(format!("{:?} holds no whole numbers", table.indices)));
            };
            let value = table.read(numbers, inputs[input].shape().dims()).map_err(failed)?;
            values.push((rows, value));
        }
        let options = RunOptions::default().with_thread_pool(threads.cloned());
        let results = (self.loaded.model().run(values, &self.outputs, Some(options)))
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

fn read(name: &str, source: ModelSource<'_>) -> Result<Loaded, InferenceError> {
    let mut options = ModelOptions::with_all_ops();
    options.prepack_weights(true);
    // What is wrong with a file is told below.
    let parsed = match source {
        ModelSource::File(path) => {
            File::open(path).ok().and_then(|f| ModelProto::parse_file(f).ok())
        }
        ModelSource::Bytes(bytes) => ModelProto::parse_buf(bytes).ok(),
    };
    if let Some(loaded) = parsed.and_then(|model| Mapped::load(&options, model)) {
        let loaded = loaded.map_err(|error| load_error(name, &error))?;
        return Ok(Loaded::Mapped(Box::new(loaded)));
    }
    let loaded = match source {
        // By path, tensors in files beside the model are found; but rten goes by the file's
        // suffix, which a content-addressed store does not keep.
        ModelSource::File(path) if has_suffix(path) => options.load_file(path),
        ModelSource::File(path) => {
            options.load(std::fs::read(path).map_err(|error| InferenceError::Load {
                model: name.to_owned(),
                reason: format!("{}: {error}", path.display()),
            })?)
        }
        ModelSource::Bytes(bytes) => options.load(bytes.to_vec()),
    };
    match loaded {
        Ok(model) => Ok(Loaded::Whole(Box::new(model))),
        Err(error) => Err(load_error(name, &error)),
    }
}

fn has_suffix(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("onnx"))
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
