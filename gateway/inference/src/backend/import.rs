//! What both backends learn from the model file before they load it.

use std::collections::HashSet;

use gw_engine::graph::{Attr, Graph, Node, ValueId};
use gw_engine::{Model, ModelError, OpError, PlanError, RunError};
use gw_tensor::DType;

use super::ModelSource;
use crate::{InferenceError, Signature, TensorSpec};

/// The engine's reading of a model.
pub(super) fn read(name: &str, source: ModelSource<'_>) -> Result<Model, ModelError> {
    match source {
        ModelSource::File(path) => Model::open(path),
        ModelSource::Bytes(bytes) => Model::parse(bytes.clone(), name),
    }
}

/// The graph of a model, also of one with operators that the engine lacks.
pub(super) fn read_graph(name: &str, source: ModelSource<'_>) -> Result<Graph, ModelError> {
    match source {
        ModelSource::File(path) => gw_engine::onnx::open(path),
        ModelSource::Bytes(bytes) => gw_engine::onnx::parse(bytes.clone(), name),
    }
}

/// The signature of an imported graph.
pub(super) fn signature(graph: &Graph) -> Signature {
    let spec = |id: &ValueId| {
        let value = graph.value(*id);
        TensorSpec {
            name: value.name.clone(),
            // Only an output may leave its type open, and then it is a float in practice.
            dtype: value.dtype.unwrap_or(DType::F32),
            dims: value.dims.clone(),
            entries: None,
        }
    };
    let input = |id: &ValueId| TensorSpec { entries: entries(graph, *id), ..spec(id) };
    Signature {
        inputs: graph.inputs.iter().map(input).collect(),
        outputs: graph.outputs.iter().map(spec).collect(),
    }
}

/// How many entries the table has that an input's elements, as they are, are looked up in: of
/// several tables the smallest. `None` where there is none, or what is looked up is computed.
fn entries(graph: &Graph, input: ValueId) -> Option<usize> {
    let mut same = HashSet::from([Some(input)]);
    let mut smallest = None;
    for node in graph.nodes.iter().filter(|node| node.domain.is_empty()) {
        let given = |index: usize| node.inputs.get(index).copied().flatten();
        if keeps_elements(node) && same.contains(&given(0)) {
            same.extend(node.outputs.first());
        }
        if node.op == "Gather"
            && same.contains(&given(1))
            && let Some(dims) = given(0).and_then(|table| constant_dims(graph, table))
            && let Some(size) = dims.get(gather_axis(node, dims.len()))
        {
            smallest = Some(smallest.map_or(*size, |known: usize| known.min(*size)));
        }
    }
    smallest
}

/// Whether a node only moves the integers that it is given.
fn keeps_elements(node: &Node) -> bool {
    /// `INT32` and `INT64` of `TensorProto.DataType`: every input fits both.
    const INTEGERS: [i64; 2] = [6, 7];
    match node.op.as_str() {
        "Identity" | "Unsqueeze" | "Squeeze" | "Reshape" | "Flatten" | "Transpose" => true,
        "Cast" => matches!(node.attrs.get("to"), Some(Attr::Int(to)) if INTEGERS.contains(to)),
        _ => false,
    }
}

/// The axis of a `Gather` from the front; past the end where the file is wrong.
fn gather_axis(node: &Node, rank: usize) -> usize {
    let axis = match node.attrs.get("axis") {
        Some(Attr::Int(axis)) => *axis,
        _ => 0,
    };
    let from_front = if axis < 0 { axis.saturating_add_unsigned(rank as u64) } else { axis };
    usize::try_from(from_front).unwrap_or(usize::MAX)
}

/// The dimensions of a constant, also of one that is dequantised first.
fn constant_dims(graph: &Graph, id: ValueId) -> Option<Vec<usize>> {
    if let Some(tensor) = &graph.value(id).constant {
        return Some(tensor.shape().to_vec());
    }
    let node = graph.nodes.iter().find(|node| node.outputs.contains(&Some(id)))?;
    let same_shape = matches!(node.op.as_str(), "DequantizeLinear" | "Cast" | "Identity");
    if same_shape { constant_dims(graph, node.inputs.first().copied().flatten()?) } else { None }
}

/// Operators that draw random numbers.
const RANDOM: [&str; 6] = [
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];

/// Whether a run may differ from the one before on the same inputs.
pub(super) fn draws_numbers(graph: &Graph) -> bool {
    find_op(graph, &|op| RANDOM.contains(&op)).is_some()
}

/// The first operator, in the graph or in those inside its nodes, that `wanted` says.
pub(super) fn find_op<'a>(graph: &'a Graph, wanted: &dyn Fn(&str) -> bool) -> Option<&'a str> {
    graph.nodes.iter().find_map(|node| {
        let inside = node.attrs.values().find_map(|attr| match attr {
            Attr::Graph(inner) => find_op(inner, wanted),
            _ => None,
        });
        inside.or_else(|| Some(node.op.as_str()).filter(|op| wanted(op)))
    })
}

/// Whether a run asked for more than the engine's bounds allow.
pub(super) fn is_too_large(error: &RunError) -> bool {
    fn beyond(error: &OpError) -> bool {
        match error {
            OpError::TooLarge { .. } => true,
            OpError::Inner { reason, .. } => beyond(reason),
            _ => false,
        }
    }
    match error {
        RunError::MemoryLimit { .. } => true,
        RunError::Plan(PlanError::Node { reason, .. }) => beyond(reason),
        _ => false,
    }
}

/// A run's error in the words of this crate.
pub(super) fn run_error(model: &str, device: &str, error: &RunError) -> InferenceError {
    let reason = reason(model, error);
    let (model, device) = (model.to_owned(), device.to_owned());
    match error {
        RunError::Plan(PlanError::Node { node, op, reason, .. }) if lacks_kernel(reason) => {
            let (op, node, reason) = (op.clone(), node.clone(), reason.to_string());
            InferenceError::Unsupported { model, device, op, node, reason }
        }
        // A shape that the model cannot take, or that is too large for the adapter.
        RunError::Plan(_) | RunError::Memory(_) => InferenceError::Run { model, device, reason },
        _ if error.is_caller_fault() => InferenceError::Run { model, device, reason },
        _ if error.is_out_of_memory() => InferenceError::OutOfMemory { model, device, reason },
        _ if error.is_device_lost() => InferenceError::DeviceLost { model, device, reason },
        _ => InferenceError::Device { model, device, reason },
    }
}

/// Whether no shape would help.
fn lacks_kernel(error: &OpError) -> bool {
    matches!(
        error,
        OpError::Unsupported(_) | OpError::Kernel(_) | OpError::Type { .. } | OpError::Dynamic(_)
    )
}

/// An importer's error in the words of this crate.
pub(super) fn import_error(model: &str, device: &str, error: &ModelError) -> InferenceError {
    let reason = reason(model, error);
    let model = model.to_owned();
    match error {
        ModelError::UnsupportedOps { ops, .. } if !ops.is_empty() => InferenceError::Unsupported {
            model,
            device: device.to_owned(),
            op: ops[0].op.clone(),
            node: ops[0].node.clone(),
            reason,
        },
        _ => InferenceError::Load { model, reason },
    }
}

/// An error with its causes, for one that names the model itself: it is not named twice.
fn reason(model: &str, error: &dyn std::error::Error) -> String {
    let text = chain(error);
    text.strip_prefix(&format!("model {model}: ")).unwrap_or(&text).to_owned()
}

/// An error with its causes, for errors that carry text.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat the cause in their own words.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_model_once() {
        let (name, input, expected) = ("model.onnx", "x".to_owned(), "f32 [n]".to_owned());
        let plan = PlanError::MissingShape { model: name.to_owned(), input, expected };
        let error = run_error(name, "llvmpipe", &plan.into());
        let told = "model model.onnx failed on llvmpipe: input `x` f32 [n] needs a shape";
        assert_eq!(error.to_string(), told);
        let error = gw_engine::Model::parse(bytes::Bytes::new(), "empty").err().unwrap();
        let error = import_error("empty", "cpu", &error).to_string();
        assert_eq!(error, "model empty cannot be loaded: file: there is no graph");
    }
}
