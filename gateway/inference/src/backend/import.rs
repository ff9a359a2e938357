//! What both backends learn from the model file before they load it.

use gw_engine::ModelError;
use gw_engine::graph::{Attr, Graph, ValueId};
use gw_tensor::DType;

use crate::{InferenceError, Signature, TensorSpec};

/// The signature of an imported graph.
pub(super) fn signature(graph: &Graph) -> Signature {
    let spec = |id: &ValueId| {
        let value = graph.value(*id);
        TensorSpec {
            name: value.name.clone(),
            // Only an output may leave its type open, and then it is a float in practice.
            dtype: value.dtype.unwrap_or(DType::F32),
            dims: value.dims.clone(),
        }
    };
    Signature {
        inputs: graph.inputs.iter().map(spec).collect(),
        outputs: graph.outputs.iter().map(spec).collect(),
    }
}

/// Operators whose result may depend on more than one row, or on what nobody gave: choices and
/// counts are made for a whole tensor, random numbers are drawn for its places.
const ACROSS_ROWS: [&str; 13] = [
    "Bernoulli",
    "Compress",
    "If",
    "Loop",
    "Multinomial",
    "NonMaxSuppression",
    "NonZero",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Scan",
    "Unique",
];

/// Whether no node takes its scale, or a decision, from a whole activation; see
/// [`crate::LoadedModel::rows_are_independent`].
pub(super) fn rows_are_independent(graph: &Graph) -> bool {
    graph.nodes.iter().all(|node| {
        let inner_are = node.attrs.values().all(|attr| match attr {
            Attr::Graph(inner) => rows_are_independent(inner),
            _ => true,
        });
        let across = node.op.starts_with("DynamicQuantize");
        inner_are && !across && !ACROSS_ROWS.contains(&node.op.as_str())
    })
}

/// An importer's error in the words of this crate.
pub(super) fn import_error(model: &str, device: &str, error: &ModelError) -> InferenceError {
    let model = model.to_owned();
    match error {
        ModelError::UnsupportedOps { ops, .. } if !ops.is_empty() => InferenceError::Unsupported {
            model,
            device: device.to_owned(),
            op: ops[0].op.clone(),
            node: ops[0].node.clone(),
            reason: chain(error),
        },
        _ => InferenceError::Load { model, reason: chain(error) },
    }
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
