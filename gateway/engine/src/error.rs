//! What can go wrong between a model file and a plan.

use std::fmt;
use std::path::PathBuf;

use gw_shaders::kernel::Unsupported;
use gw_tensor::{DType, Shape, TensorError};

/// Why a model file could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The bytes are not a whole `ModelProto`.
    #[error("model {model} is not an ONNX file, or is cut short")]
    NotOnnx {
        /// The model.
        model: String,
        /// Where the decoder stopped.
        source: prost::DecodeError,
    },
    /// Something in the file breaks the rules of ONNX or the limits of the importer.
    #[error("model {model}: {place}: {reason}")]
    Invalid {
        /// The model.
        model: String,
        /// The part of the file, such as ``node `Add_3` (Add)``.
        place: String,
        /// The rule, with the numbers.
        reason: String,
    },
    /// The model needs operators that the engine lacks: all of them, in one error.
    #[error("model {model} uses operators that are not supported: {}", Listed(ops))]
    UnsupportedOps {
        /// The model.
        model: String,
        /// One entry per operator type.
        ops: Vec<UnsupportedOp>,
    },
}

/// An operator type that the engine lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedOp {
    /// The operator, with its domain where that is not `ai.onnx`.
    pub op: String,
    /// The first node that uses it.
    pub node: String,
    /// How many nodes use it.
    pub count: usize,
}

struct Listed<'a>(&'a [UnsupportedOp]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} (node `{}`", entry.op, entry.node)?;
            match entry.count {
                1 => f.write_str(")")?,
                more => write!(f, " and {} more)", more - 1)?,
            }
        }
        Ok(())
    }
}

/// Why a model cannot be planned for the shapes of a run.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No shape was given for an input whose dimensions are not all fixed.
    #[error("model {model}: input `{input}` {expected} needs a shape")]
    MissingShape {
        /// The model.
        model: String,
        /// The input.
        input: String,
        /// The dimensions that the model declares.
        expected: String,
    },
    /// A shape was given for an input that the model does not have.
    #[error("model {model} has no input `{input}`; its inputs are {}", known.join(", "))]
    UnknownInput {
        /// The model.
        model: String,
        /// The name that was given.
        input: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// What has to be computed depends on the value of an input, and there is none.
    #[error("{reason}; the value of input `{input}` {expected} decides it")]
    MissingValue {
        /// The input.
        input: String,
        /// What the model declares.
        expected: String,
        /// Where it is needed.
        reason: Box<PlanError>,
    },
    /// A shape does not fit what the model declares.
    #[error("model {model}: input `{input}` expects {expected}, given {given}")]
    InputShape {
        /// The model.
        model: String,
        /// The input.
        input: String,
        /// The dimensions that the model declares.
        expected: String,
        /// The shape that was given.
        given: Shape,
    },
    /// A node cannot be planned.
    #[error("model {model}: node `{node}` ({op}): {reason}")]
    Node {
        /// The model.
        model: String,
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong.
        reason: Box<OpError>,
    },
    /// The graph as a whole cannot be planned.
    #[error("model {model}: {reason}")]
    Graph {
        /// The model.
        model: String,
        /// What is wrong.
        reason: Box<OpError>,
    },
}

/// What is wrong with one node.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OpError {
    /// An input or attribute that the operator requires is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// A shape, size or value does not fit.
    #[error("{what}: expected {expected}, given {given}")]
    Mismatch {
        /// What was checked.
        what: String,
        /// What the operator asks for.
        expected: String,
        /// What the model gives.
        given: String,
    },
    /// The operator does not take this element type.
    #[error("{what}: the type {given} is not supported")]
    Type {
        /// The input or output.
        what: String,
        /// The type.
        given: DType,
    },
    /// A value that decides a shape is known only during the run.
    #[error("{0} depends on data that is known only during the run")]
    Dynamic(String),
    /// A form of the operator that the engine lacks.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A tensor is beyond the limits of the engine.
    #[error("{what} of shape {shape} is larger than the limit of {limit} elements")]
    TooLarge {
        /// The tensor.
        what: String,
        /// Its shape.
        shape: Shape,
        /// The limit.
        limit: usize,
    },
    /// A node of a graph inside this node.
    #[error("node `{node}` ({op}): {reason}")]
    Inner {
        /// The inner node.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong.
        reason: Box<OpError>,
    },
    /// No kernel does this.
    #[error(transparent)]
    Kernel(#[from] Unsupported),
    /// A tensor could not be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl OpError {
    pub(crate) fn mismatch(
        what: impl Into<String>,
        expected: impl fmt::Display,
        given: impl fmt::Display,
    ) -> Self {
        Self::Mismatch {
            what: what.into(),
            expected: expected.to_string(),
            given: given.to_string(),
        }
    }
}
