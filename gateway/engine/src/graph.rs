//! The graph of a model, as imported: typed values, nodes in topological order.

mod digest;

use std::collections::HashMap;

use gw_tensor::{DType, Shape, Tensor};

pub use digest::Digest;
pub(crate) use digest::Digester;

/// The domain and type of a node that calls a function of its model: its attribute `body` is the
/// function's graph.
pub const CALL: (&str, &str) = ("gw", "Call");

/// A value of a [`Graph`]: an index into its `values`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// One dimension as a model declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Known.
    Fixed(usize),
    /// Named: equal names have equal sizes within one run.
    Symbol(String),
    /// Free.
    Unknown,
}

/// A tensor that flows between nodes.
#[derive(Clone, Debug)]
pub struct Value {
    /// The name in the model file, kept exactly.
    pub name: String,
    /// The element type, where it is known.
    pub dtype: Option<DType>,
    /// The dimensions, where the rank is known.
    pub dims: Option<Vec<Dim>>,
    /// The data of an initialiser or constant.
    pub constant: Option<Tensor>,
}

/// An attribute of a node.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are those of ONNX's AttributeProto")]
pub enum Attr {
    Float(f32),
    Int(i64),
    String(Vec<u8>),
    Tensor(Tensor),
    Graph(Box<Graph>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Strings(Vec<Vec<u8>>),
}

/// One operator.
#[derive(Clone, Debug)]
pub struct Node {
    /// The node's name, or `OpType_index` where the file gives none.
    pub name: String,
    /// The operator's type, such as `MatMul`.
    pub op: String,
    /// The operator's domain; empty for `ai.onnx`.
    pub domain: String,
    /// Attributes by name.
    pub attrs: HashMap<String, Attr>,
    /// Inputs in order; `None` where an optional input is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Outputs in order; `None` where an optional output is left out.
    pub outputs: Vec<Option<ValueId>>,
}

/// A model's graph.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The graph's own name.
    pub name: String,
    /// The version of the `ai.onnx` operator set.
    pub opset: i64,
    /// Every value; [`ValueId`] indexes it.
    pub values: Vec<Value>,
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
    /// The inputs that a run must give: initialisers are not among them.
    pub inputs: Vec<ValueId>,
    /// The outputs.
    pub outputs: Vec<ValueId>,
    /// The model's `metadata_props`.
    pub metadata: HashMap<String, String>,
    /// What the graph was imported from: the file, then the external data in the order in which
    /// it was read. Zero in a graph inside a node, and in one that was made by hand.
    pub digest: Digest,
}

impl Graph {
    /// The value with this id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }
}

/// What is known of a value once the shapes of a run are given.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// The element type.
    pub dtype: DType,
    /// The concrete shape.
    pub shape: Shape,
    /// The data, where it is known before the run.
    pub constant: Option<Tensor>,
}
