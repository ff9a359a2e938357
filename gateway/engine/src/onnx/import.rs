//! `ModelProto` to [`Graph`]: names become indices, nodes are put in order.

use std::collections::{HashMap, HashSet, VecDeque};

use super::external::Beside;
use super::functions::{self, Functions};
use super::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    ValueInfoProto,
};
use super::tensor;
use crate::error::ModelError;
use crate::graph::{Attr, CALL, Dim, Graph, Node, Value, ValueId};

/// Broadcasting was explicit before, so that the same node means something else.
const OPSET_MIN: i64 = 7;

/// What every error, every external path and every call of a function needs.
struct Context<'a> {
    model: &'a str,
    beside: &'a Beside<'a>,
    functions: Functions,
}

impl Context<'_> {
    fn invalid(&self, place: impl Into<String>, reason: impl Into<String>) -> ModelError {
        ModelError::Invalid {
            model: self.model.to_owned(),
            place: place.into(),
            reason: reason.into(),
        }
    }
}

/// The graph of `model`, which errors call `name`; external data lies `beside` it.
pub(super) fn import(
    model: ModelProto,
    name: &str,
    beside: &Beside<'_>,
) -> Result<Graph, ModelError> {
    let functions = Functions::new(model.functions);
    let ctx = &Context { model: name, beside, functions };
    let proto = model.graph.ok_or_else(|| ctx.invalid("file", "there is no graph"))?;
    let opset = default_opset(&model.opset_import).unwrap_or(OPSET_MIN);
    if opset < OPSET_MIN {
        let reason = format!("version {opset} is older than {OPSET_MIN}; convert the model");
        return Err(ctx.invalid("operator set", reason));
    }
    let mut graph = Importer::new(ctx, opset).graph(proto)?;
    if graph.outputs.is_empty() {
        return Err(ctx.invalid("graph", "there is no output"));
    }
    graph.metadata =
        model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect();
    Ok(graph)
}

/// The version of the operators without a domain.
fn default_opset(imports: &[OperatorSetIdProto]) -> Option<i64> {
    let is_default = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    imports.iter().find(|set| is_default(&set.domain)).map(|set| set.version)
}

/// One graph being imported; subgraphs have their own.
struct Importer<'a> {
    ctx: &'a Context<'a>,
    graph: Graph,
    ids: HashMap<String, ValueId>,
    /// Whether a node, an input or an initialiser gives the value.
    given: Vec<bool>,
}

impl<'a> Importer<'a> {
    fn new(ctx: &'a Context<'a>, opset: i64) -> Self {
        let graph = Graph { opset, ..Graph::default() };
        Self { ctx, graph, ids: HashMap::new(), given: Vec::new() }
    }

    fn graph(mut self, proto: GraphProto) -> Result<Graph, ModelError> {
        self.graph.name = proto.name;
        if !proto.sparse_initializer.is_empty() {
            return Err(self.ctx.invalid("graph", "sparse initialisers are not supported"));
        }
        for initialiser in proto.initializer {
            self.initialiser(initialiser)?;
        }
        for input in proto.input {
            self.input(input)?;
        }
        for (index, node) in proto.node.into_iter().enumerate() {
            self.node(node, index)?;
        }
        for output in proto.output {
            let id = self.id(&output.name);
            self.describe(id, output)?;
            self.graph.outputs.push(id);
        }
        self.graph.nodes = self.ordered()?;
        Ok(self.graph)
    }

    /// The value of this name, made where it is new.
    fn id(&mut self, name: &str) -> ValueId {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        // A file of 2 GiB cannot hold 2^32 names.
        let id = ValueId(u32::try_from(self.graph.values.len()).expect("files are bounded"));
        let value = Value { name: name.to_owned(), dtype: None, dims: None, constant: None };
        self.graph.values.push(value);
        self.given.push(false);
        self.ids.insert(name.to_owned(), id);
        id
    }

    /// The value of this name, which something gives now.
    fn give(&mut self, name: &str) -> Result<ValueId, ModelError> {
        let id = self.id(name);
        if std::mem::replace(&mut self.given[id.0 as usize], true) {
            return Err(self.ctx.invalid(format!("value `{name}`"), "is given twice"));
        }
        Ok(id)
    }

    fn initialiser(&mut self, mut proto: TensorProto) -> Result<(), ModelError> {
        let name = std::mem::take(&mut proto.name);
        let place = format!("initialiser `{name}`");
        let tensor = tensor::tensor(proto, self.ctx.beside)
            .map_err(|reason| self.ctx.invalid(place, reason))?;
        let id = self.give(&name)?;
        let value = &mut self.graph.values[id.0 as usize];
        value.dtype = Some(tensor.dtype());
        value.dims = Some(tensor.shape().iter().map(|&size| Dim::Fixed(size)).collect());
        value.constant = Some(tensor);
        Ok(())
    }

    /// Before IR version 4 every initialiser is among the inputs too, as a default.
    fn input(&mut self, proto: ValueInfoProto) -> Result<(), ModelError> {
        let is_initialiser = self
            .ids
            .get(&proto.name)
            .is_some_and(|id| self.graph.values[id.0 as usize].constant.is_some());
        if is_initialiser {
            return Ok(());
        }
        let id = self.give(&proto.name)?;
        self.describe(id, proto)?;
        self.graph.inputs.push(id);
        Ok(())
    }

    /// Takes over the declared type and dimensions of an input or output.
    fn describe(&mut self, id: ValueId, proto: ValueInfoProto) -> Result<(), ModelError> {
        let Some(declared) = proto.r#type else { return Ok(()) };
        let place = || format!("value `{}`", proto.name);
        let other = [
            (declared.sequence_type.is_some(), "sequences"),
            (declared.map_type.is_some(), "maps"),
            (declared.sparse_tensor_type.is_some(), "sparse tensors"),
            (declared.optional_type.is_some(), "optional values"),
        ];
        if let Some((_, kind)) = other.iter().find(|(present, _)| *present) {
            return Err(self.ctx.invalid(place(), format!("{kind} are not supported")));
        }
        let Some(tensor) = declared.tensor_type else { return Ok(()) };
        let dtype = match tensor.elem_type {
            0 => None,
            number => {
                Some(tensor::dtype(number).map_err(|reason| self.ctx.invalid(place(), reason))?)
            }
        };
        let value = &mut self.graph.values[id.0 as usize];
        value.dtype = value.dtype.or(dtype);
        if let Some(shape) = tensor.shape.filter(|_| value.dims.is_none()) {
            let dim = |dim: super::proto::DimensionProto| match (dim.dim_value, dim.dim_param) {
                (Some(size), _) => usize::try_from(size).map_or(Dim::Unknown, Dim::Fixed),
                // Exporters write these for every dimension that they do not know.
                (None, Some(name)) if matches!(name.as_str(), "" | "?" | "-1" | "None") => {
                    Dim::Unknown
                }
                (None, Some(name)) => Dim::Symbol(name),
                _ => Dim::Unknown,
            };
            value.dims = Some(shape.dim.into_iter().map(dim).collect());
        }
        Ok(())
    }

    fn node(&mut self, mut proto: NodeProto, index: usize) -> Result<(), ModelError> {
        let name = match proto.name.as_str() {
            "" => format!("{}_{index}", proto.op_type),
            given => given.to_owned(),
        };
        let place = format!("node `{name}` ({})", proto.op_type);
        if proto.domain == "ai.onnx" {
            proto.domain.clear();
        }
        let attrs = match self.called(&proto, &place)? {
            Some(body) => {
                CALL.1.clone_into(&mut proto.op_type);
                CALL.0.clone_into(&mut proto.domain);
                HashMap::from([("body".to_owned(), Attr::Graph(Box::new(body)))])
            }
            None => self.attrs(std::mem::take(&mut proto.attribute), &place)?,
        };
        let inputs =
            proto.input.iter().map(|input| (!input.is_empty()).then(|| self.id(input))).collect();
        let outputs = proto
            .output
            .iter()
            .map(|output| (!output.is_empty()).then(|| self.give(output)).transpose())
            .collect::<Result<_, _>>()?;
        let (op, domain) = (proto.op_type, proto.domain);
        self.graph.nodes.push(Node { name, op, domain, attrs, inputs, outputs });
        Ok(())
    }

    /// The body of the function that a node calls, with the attributes of the call.
    fn called(&self, node: &NodeProto, place: &str) -> Result<Option<Graph>, ModelError> {
        let functions = &self.ctx.functions;
        let Some(function) = functions.of(node) else { return Ok(None) };
        let call = functions.enter().map_err(|reason| self.ctx.invalid(place, reason))?;
        let opset = default_opset(&function.opset_import).unwrap_or(self.graph.opset);
        let body = Importer::new(self.ctx, opset).graph(functions::body(function, node))?;
        drop(call);
        Ok(Some(body))
    }

    fn attrs(
        &self,
        attributes: Vec<AttributeProto>,
        place: &str,
    ) -> Result<HashMap<String, Attr>, ModelError> {
        let mut attrs = HashMap::with_capacity(attributes.len());
        for attribute in attributes {
            let key = attribute.name.clone();
            if let Some(attr) = self.attr(attribute, place)?
                && attrs.insert(key.clone(), attr).is_some()
            {
                return Err(self.ctx.invalid(place, format!("attribute `{key}` twice")));
            }
        }
        Ok(attrs)
    }

    /// `None` for the kinds that no operator needs, such as types.
    fn attr(&self, proto: AttributeProto, place: &str) -> Result<Option<Attr>, ModelError> {
        Ok(Some(match proto.r#type {
            AttributeProto::FLOAT => Attr::Float(proto.f),
            AttributeProto::INT => Attr::Int(proto.i),
            AttributeProto::STRING => Attr::String(proto.s),
            AttributeProto::FLOATS => Attr::Floats(proto.floats),
            AttributeProto::INTS => Attr::Ints(proto.ints),
            AttributeProto::STRINGS => Attr::Strings(proto.strings),
            AttributeProto::TENSOR => {
                let tensor = tensor::tensor(proto.t.unwrap_or_default(), self.ctx.beside);
                let place = format!("{place}: attribute `{}`", proto.name);
                Attr::Tensor(tensor.map_err(|reason| self.ctx.invalid(place, reason))?)
            }
            AttributeProto::GRAPH => {
                let inner = Importer::new(self.ctx, self.graph.opset);
                Attr::Graph(Box::new(inner.graph(proto.g.unwrap_or_default())?))
            }
            _ => return Ok(None),
        }))
    }

    /// The nodes so that each comes after those it reads; of several such orders, the file's.
    fn ordered(&mut self) -> Result<Vec<Node>, ModelError> {
        let nodes = std::mem::take(&mut self.graph.nodes);
        let mut producer = vec![None; self.graph.values.len()];
        for (index, node) in nodes.iter().enumerate() {
            for output in node.outputs.iter().flatten() {
                producer[output.0 as usize] = Some(index);
            }
        }
        let mut readers = vec![Vec::new(); nodes.len()];
        let mut waits = vec![0usize; nodes.len()];
        for (index, node) in nodes.iter().enumerate() {
            for id in node.inputs.iter().flatten().copied().chain(self.captured(node)) {
                if let Some(from) = producer[id.0 as usize] {
                    readers[from].push(index);
                    waits[index] += 1;
                }
            }
        }
        let mut ready: VecDeque<usize> =
            (0..nodes.len()).filter(|&index| waits[index] == 0).collect();
        let mut order = Vec::with_capacity(nodes.len());
        while let Some(index) = ready.pop_front() {
            order.push(index);
            for &reader in &readers[index] {
                waits[reader] -= 1;
                if waits[reader] == 0 {
                    ready.push_back(reader);
                }
            }
        }
        if let Some(stuck) = (0..nodes.len()).find(|&index| waits[index] > 0) {
            let node = &nodes[stuck];
            let place = format!("node `{}` ({})", node.name, node.op);
            return Err(self.ctx.invalid(place, "is part of a cycle"));
        }
        // A file that is in order already, as ONNX demands, stays as it is.
        if is_in_order(&nodes, &producer) {
            return Ok(nodes);
        }
        let mut slots: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
        Ok(order.into_iter().filter_map(|index| slots[index].take()).collect())
    }

    /// The values of this graph that the subgraphs of `node` read.
    fn captured(&self, node: &Node) -> Vec<ValueId> {
        let mut names = Vec::new();
        free_names(node, &mut names);
        names.iter().filter_map(|name| self.ids.get(*name).copied()).collect()
    }
}

fn is_in_order(nodes: &[Node], producer: &[Option<usize>]) -> bool {
    nodes.iter().enumerate().all(|(index, node)| {
        node.attrs.values().all(|attr| !matches!(attr, Attr::Graph(_)))
            && node
                .inputs
                .iter()
                .flatten()
                .all(|id| producer[id.0 as usize].is_none_or(|from| from < index))
    })
}

/// Every name that the subgraphs of `node` read and do not define themselves: inside, a name
/// means the value of the innermost graph that has it.
fn free_names<'a>(node: &'a Node, names: &mut Vec<&'a str>) {
    // A function sees its own inputs and nothing else.
    if (node.domain.as_str(), node.op.as_str()) == CALL {
        return;
    }
    for attr in node.attrs.values() {
        let Attr::Graph(graph) = attr else { continue };
        let made = graph.nodes.iter().flat_map(|inner| inner.outputs.iter().flatten());
        let own: HashSet<ValueId> = graph.inputs.iter().chain(made).copied().collect();
        let (mut own_names, mut read) = (HashSet::new(), Vec::new());
        for (index, value) in (0..).zip(&graph.values) {
            if own.contains(&ValueId(index)) || value.constant.is_some() {
                own_names.insert(value.name.as_str());
            } else {
                read.push(value.name.as_str());
            }
        }
        for inner in &graph.nodes {
            free_names(inner, &mut read);
        }
        names.extend(read.into_iter().filter(|name| !own_names.contains(name)));
    }
}
