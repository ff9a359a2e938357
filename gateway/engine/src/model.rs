//! A model: an imported graph, and plans made of it.
//!
//! - `rows`: whether the rows of a batch are independent.

mod rows;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::Path;

use bytes::Bytes;
use gw_shaders::dot;
use gw_shaders::kernel::Caps;
use gw_tensor::{DType, Shape, Tensor};

use crate::error::{ModelError, PlanError};
use crate::fuse::{self, Rules};
use crate::graph::{Dim, Graph, ValueId};
use crate::lower::{self, Constants};
use crate::net::builder::{Builder, Built, Made, check_size};
use crate::net::oracle::{Answer, Oracle, Question};
use crate::net::{Net, Operand, Output};
use crate::onnx;
use crate::ops;
use crate::plan::Plan;
use crate::plan::why::{Elsewhere, Fate, NodeName};

/// An imported model: parsed and checked, with no shapes yet.
#[derive(Debug)]
pub struct Model {
    name: String,
    graph: Graph,
    signature: Signature,
    constants: Constants,
}

/// What a model takes and gives, in its own order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// What a run must give.
    pub inputs: Vec<PortSignature>,
    /// What it gets back.
    pub outputs: Vec<PortSignature>,
}

/// One input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSignature {
    /// The name in the model file, kept exactly.
    pub name: String,
    /// The element type; `F32` for an output whose type the file leaves open.
    pub dtype: DType,
    /// The dimensions; `None` where the file leaves even the rank open.
    pub dims: Option<Vec<Dim>>,
}

/// What a plan may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlanOptions {
    /// How quantised weights lie on the device.
    pub weights: WeightMode,
    /// Whether several nodes may become one dispatch. Without it the plan is slow and simple,
    /// to compare with.
    pub fuse: bool,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { weights: WeightMode::default(), fuse: true }
    }
}

/// How quantised weights lie on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WeightMode {
    /// As bytes, expanded where they are read.
    #[default]
    Int8,
    /// As floats, expanded before the upload: four times the memory.
    F32,
}

/// What the next part of a run is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// All that is left.
    Whole(Plan),
    /// To take the input with this index as a constant, and plan again.
    Input(usize, PlanError),
    /// To run this plan, whose one output decides what has to be computed, and plan again. The
    /// error says whose value it is, to those who cannot run it.
    Value(Plan, PlanError),
}

impl Model {
    /// Imports the ONNX file at `path` and the external data files beside it.
    ///
    /// # Errors
    /// Where the file cannot be read or breaks the rules of ONNX, and where an operator is not
    /// supported.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::new(onnx::open(path)?, onnx::model_name(path))
    }

    /// Imports a model from memory; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`Model::open`]; external data is refused.
    pub fn parse(bytes: Bytes, name: &str) -> Result<Self, ModelError> {
        Self::new(onnx::parse(bytes, name)?, name.to_owned())
    }

    fn new(graph: Graph, name: String) -> Result<Self, ModelError> {
        let missing = ops::unsupported(&graph);
        if !missing.is_empty() {
            return Err(ModelError::UnsupportedOps { model: name, ops: missing });
        }
        let signature = Signature::of(&graph);
        Ok(Self { name, graph, signature, constants: Constants::default() })
    }

    /// What errors call the model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The graph as imported.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What the model takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The steps of one run with inputs of these shapes. An input whose dimensions are all
    /// fixed needs none.
    ///
    /// # Errors
    /// Where a shape does not fit the model, where a node cannot run with it, and where a value
    /// of the run decides what has to be computed: only a [`crate::Session`] has such values.
    pub fn plan(
        &self,
        shapes: &BTreeMap<String, Shape>,
        caps: &Caps,
        options: &PlanOptions,
    ) -> Result<Plan, PlanError> {
        self.plan_with(shapes, &BTreeMap::new(), caps, options)
    }

    /// As [`Model::plan`], with the values of small inputs: where what has to be computed depends
    /// on one, its value is taken into the plan.
    ///
    /// # Errors
    /// As [`Model::plan`], [`PlanError::MissingValue`] where an input decides that has no value
    /// here, and where a value does not have the type or shape of its input.
    pub fn plan_with(
        &self,
        shapes: &BTreeMap<String, Shape>,
        values: &BTreeMap<String, Tensor>,
        caps: &Caps,
        options: &PlanOptions,
    ) -> Result<Plan, PlanError> {
        let mut answers = Vec::new();
        loop {
            let (index, error) = match self.stage(shapes, &answers, caps, *options)? {
                Stage::Whole(plan) => return Ok(plan),
                Stage::Value(_, error) => return Err(error),
                Stage::Input(index, error) => (index, error),
            };
            let port = &self.signature.inputs[index];
            let Some(value) = values.get(&port.name) else {
                let (input, expected) = (port.name.clone(), port.to_string());
                return Err(PlanError::MissingValue { input, expected, reason: Box::new(error) });
            };
            let fits = shapes.get(&port.name).is_none_or(|shape| shape == value.shape());
            if value.dtype() != port.dtype
                || !fits
                || !port.fits(value.shape(), &mut HashMap::new())
            {
                return Err(PlanError::InputShape {
                    model: self.name.clone(),
                    input: port.name.clone(),
                    expected: port.to_string(),
                    given: value.shape().clone(),
                });
            }
            answers.push(Answer::Input(index, value.clone()));
        }
    }

    /// As [`Model::plan`], with what is known of this run.
    pub(crate) fn stage(
        &self,
        shapes: &BTreeMap<String, Shape>,
        answers: &[Answer],
        caps: &Caps,
        options: PlanOptions,
    ) -> Result<Stage, PlanError> {
        let shapes = self.signature.input_shapes(&self.name, shapes)?;
        let mut builder = self.declared(&shapes, answers, caps)?;
        let (outputs, stopped) = match ops::build(&self.graph, &mut builder) {
            Ok(outputs) => (outputs, None),
            Err(stopped) => (Vec::new(), Some(self.node_error(stopped))),
        };
        let (mut net, built) = (builder.net, builder.built);
        net.outputs = self.named(outputs);
        let (error, asked) = match (stopped, builder.oracle.question) {
            (None, _) => return self.lowered(net, &built, caps, options).map(Stage::Whole),
            (Some(error), None) => return Err(error),
            (Some(error), Some(Question::Input(input))) => return Ok(Stage::Input(input, error)),
            (Some(error), Some(Question::Value(tensor))) => (error, tensor),
        };
        let operand = net.whole(asked);
        net.outputs = vec![Output { name: "asked".to_owned(), operand }];
        Ok(Stage::Value(self.lowered(net, &built, caps, options)?, error))
    }

    /// Bytes of host memory that it holds: the constants of its file, of which later plans are
    /// made, and those in the form of devices, which its plans share.
    pub fn host_bytes(&self) -> u64 {
        self.constants.held(&self.graph)
    }

    fn named(&self, outputs: Vec<Operand>) -> Vec<Output> {
        let names = self.signature.outputs.iter().map(|port| port.name.clone());
        names.zip(outputs).map(|(name, operand)| Output { name, operand }).collect()
    }

    /// The weights that plans have made.
    pub(crate) fn constants(&self) -> &Constants {
        &self.constants
    }

    fn node_error(&self, stopped: ops::Stopped) -> PlanError {
        PlanError::Node {
            model: self.name.clone(),
            node: stopped.node,
            op: stopped.op,
            reason: Box::new(stopped.error),
        }
    }

    /// A builder that has the inputs.
    fn declared(
        &self,
        shapes: &[Shape],
        answers: &[Answer],
        caps: &Caps,
    ) -> Result<Builder, PlanError> {
        let mut builder = Builder::new(Oracle::new(answers), dot::pays(caps));
        for (index, (port, shape)) in self.signature.inputs.iter().zip(shapes).enumerate() {
            check_size(shape).map_err(|error| {
                let node = port.name.clone();
                self.node_error(ops::Stopped { node, op: "input".to_owned(), error })
            })?;
            let value = answers.iter().find_map(|answer| match answer {
                Answer::Input(input, value) if *input == index => Some(value.clone()),
                _ => None,
            });
            ops::declare(&mut builder, &port.name, port.dtype, shape, value);
        }
        Ok(builder)
    }

    fn lowered(
        &self,
        mut net: Net,
        built: &[Built],
        caps: &Caps,
        options: PlanOptions,
    ) -> Result<Plan, PlanError> {
        net.drop_unread();
        let rules = Rules { caps, options, constants: &self.constants };
        fuse::fuse(&mut net, &rules).map_err(|reason| PlanError::Graph {
            model: self.name.clone(),
            reason: Box::new(reason),
        })?;
        let mut plan = lower::lower(&net, caps, &self.constants).map_err(|stopped| {
            let lower::Stopped { node, op, error } = stopped;
            self.node_error(ops::Stopped { node, op, error })
        })?;
        plan.elsewhere = elsewhere(&net, &plan, built);
        Ok(plan)
    }
}

/// What became of the nodes that no step computes, each once.
fn elsewhere(net: &Net, plan: &Plan, built: &[Built]) -> Vec<Elsewhere> {
    let mut seen: HashSet<&NodeName> = plan.steps.iter().flat_map(|step| &step.nodes).collect();
    let fate = |built: &Built| match (&built.result, built.made) {
        (_, Made::Inner) => Fate::WrittenOut,
        (Some(result), _) if net.is_constant(result) => Fate::Folded,
        (Some(result), Made::Nothing) => Fate::View(net.tensor(result.tensor).name.clone()),
        (None, _) | (_, Made::Nodes) => Fate::Unread,
    };
    let rest = built.iter().filter(|built| seen.insert(&built.node));
    rest.map(|built| Elsewhere { node: built.node.clone(), fate: fate(built) }).collect()
}

impl Signature {
    /// The ports of `graph`.
    pub fn of(graph: &Graph) -> Self {
        let ports = |ids: &[ValueId]| ids.iter().map(|&id| PortSignature::of(graph, id)).collect();
        Self { inputs: ports(&graph.inputs), outputs: ports(&graph.outputs) }
    }

    /// One shape per input, in order, checked against what the model declares.
    fn input_shapes(
        &self,
        model: &str,
        given: &BTreeMap<String, Shape>,
    ) -> Result<Vec<Shape>, PlanError> {
        if let Some(name) = given.keys().find(|name| self.inputs.iter().all(|p| p.name != **name)) {
            return Err(PlanError::UnknownInput {
                model: model.to_owned(),
                input: name.clone(),
                known: self.inputs.iter().map(|port| port.name.clone()).collect(),
            });
        }
        let mut symbols = HashMap::new();
        let shapes = self.inputs.iter().map(|port| match given.get(&port.name) {
            Some(shape) if port.fits(shape, &mut symbols) => Ok(shape.clone()),
            Some(shape) => Err(PlanError::InputShape {
                model: model.to_owned(),
                input: port.name.clone(),
                expected: port.to_string(),
                given: shape.clone(),
            }),
            None => port.fixed_shape().ok_or_else(|| PlanError::MissingShape {
                model: model.to_owned(),
                input: port.name.clone(),
                expected: port.to_string(),
            }),
        });
        shapes.collect()
    }
}

impl PortSignature {
    fn of(graph: &Graph, id: ValueId) -> Self {
        let value = graph.value(id);
        Self {
            name: value.name.clone(),
            dtype: value.dtype.unwrap_or(DType::F32),
            dims: value.dims.clone(),
        }
    }

    /// The shape, where every dimension is fixed.
    pub fn fixed_shape(&self) -> Option<Shape> {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => Some(*size),
            Dim::Symbol(_) | Dim::Unknown => None,
        };
        self.dims.as_ref()?.iter().map(size).collect::<Option<Vec<_>>>().map(Shape::from)
    }

    /// Whether `shape` fits, with the sizes that other inputs gave to the named dimensions.
    fn fits<'a>(&'a self, shape: &Shape, symbols: &mut HashMap<&'a str, usize>) -> bool {
        let Some(dims) = &self.dims else { return true };
        dims.len() == shape.len()
            && dims.iter().zip(shape.iter()).all(|(dim, &size)| match dim {
                Dim::Fixed(fixed) => *fixed == size,
                Dim::Symbol(name) => *symbols.entry(name).or_insert(size) == size,
                Dim::Unknown => true,
            })
    }
}

/// Prints as `i64 [batch, 128, ?]`.
impl fmt::Display for PortSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.dtype)?;
        let Some(dims) = &self.dims else { return f.write_str("of any rank") };
        f.write_str("[")?;
        for (axis, dim) in dims.iter().enumerate() {
            let comma = if axis == 0 { "" } else { ", " };
            match dim {
                Dim::Fixed(size) => write!(f, "{comma}{size}")?,
                Dim::Symbol(name) => write!(f, "{comma}{name}")?,
                Dim::Unknown => write!(f, "{comma}?")?,
            }
        }
        f.write_str("]")
    }
}
