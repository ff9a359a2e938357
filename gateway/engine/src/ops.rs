//! The operators: what each means in terms of [`crate::net`].
//!
//! A file per family, all of one shape: a table `OPS` of names, then the functions it names. A
//! function reads the node's inputs and attributes through [`Call`] and makes operands with the
//! [`Builder`], which folds what is constant: no operator has a second, constant form.

mod activation;
mod attention;
mod attributes;
mod call;
mod constant;
mod control;
mod convert;
mod detection;
mod einsum;
mod elementwise;
mod fused;
mod gather;
mod index;
mod integer;
mod layout;
mod loss;
mod matmul;
mod ml;
mod nbits;
mod norm;
pub mod operators;
mod pad;
mod pool;
mod qlinear;
mod quant;
mod random;
mod recurrent;
mod reduce;
mod resize;
mod sample;
mod scan;
mod scatter;
mod select;
mod shape;
mod signal;
mod sort;
mod text;
mod training;
mod transposed;
mod window;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use gw_tensor::{DType, Shape, Tensor};

use attributes::KNOWN;
use call::Call;

use crate::error::{OpError, UnsupportedOp};
use crate::graph::{Attr, Graph, Node, ValueId};
use crate::net::builder::{Builder, Built, Made, RANK_MAX};
use crate::net::{Input, Operand};
use crate::plan::why::NodeName;

/// Makes the outputs of one node, in order; optional ones at the end may be left out.
pub(crate) type Build = fn(&mut Call<'_>) -> Result<Vec<Operand>, OpError>;

/// The operators of one family. Those of `com.microsoft` have their domain before the name.
pub(crate) type Table = &'static [(&'static str, Build)];

/// Every family: its name and its table.
pub(crate) const FAMILIES: &[(&str, Table)] = &[
    ("activation", activation::OPS),
    ("attention", attention::OPS),
    ("constant", constant::OPS),
    ("control", control::OPS),
    ("convert", convert::OPS),
    ("detection", detection::OPS),
    ("einsum", einsum::OPS),
    ("elementwise", elementwise::OPS),
    ("fused", fused::OPS),
    ("gather", gather::OPS),
    ("index", index::OPS),
    ("integer", integer::OPS),
    ("layout", layout::OPS),
    ("loss", loss::OPS),
    ("matmul", matmul::OPS),
    ("ml", ml::OPS),
    ("norm", norm::OPS),
    ("nbits", nbits::OPS),
    ("pad", pad::OPS),
    ("pool", pool::OPS),
    ("qlinear", qlinear::OPS),
    ("quant", quant::OPS),
    ("random", random::OPS),
    ("recurrent", recurrent::OPS),
    ("reduce", reduce::OPS),
    ("resize", resize::OPS),
    ("sample", sample::OPS),
    ("scan", scan::OPS),
    ("scatter", scatter::OPS),
    ("select", select::OPS),
    ("shape", shape::OPS),
    ("signal", signal::OPS),
    ("sort", sort::OPS),
    ("text", text::OPS),
    ("training", training::OPS),
    ("transposed", transposed::OPS),
    ("window", window::OPS),
];

static REGISTRY: LazyLock<HashMap<&'static str, Build>> =
    LazyLock::new(|| FAMILIES.iter().flat_map(|(_, table)| *table).copied().collect());

/// Graphs inside graphs, at most: more than any exporter writes, and little stack.
const DEPTH_MAX: usize = 16;

/// The name of an operator in the tables.
pub(crate) fn full_name(domain: &str, op: &str) -> String {
    match domain {
        "" => op.to_owned(),
        domain => format!("{domain}.{op}"),
    }
}

/// Every operator type of `graph` and its subgraphs that has no entry.
pub(crate) fn unsupported(graph: &Graph) -> Vec<UnsupportedOp> {
    let mut found: Vec<UnsupportedOp> = Vec::new();
    let mut graphs = vec![graph];
    while let Some(graph) = graphs.pop() {
        for node in &graph.nodes {
            let op = full_name(&node.domain, &node.op);
            if !REGISTRY.contains_key(op.as_str()) {
                match found.iter_mut().find(|entry| entry.op == op) {
                    Some(entry) => entry.count += 1,
                    None => found.push(UnsupportedOp { op, node: node.name.clone(), count: 1 }),
                }
            }
            graphs.extend(node.attrs.values().filter_map(|attr| match attr {
                Attr::Graph(inner) => Some(&**inner),
                _ => None,
            }));
        }
    }
    found.sort_by(|a, b| a.op.cmp(&b.op));
    found
}

/// The inner node where building stopped, and why.
pub(crate) struct Stopped {
    pub(crate) node: String,
    pub(crate) op: String,
    pub(crate) error: OpError,
}

/// Builds the nodes of `graph` into `builder`, whose innermost scope has its inputs.
pub(crate) fn build(graph: &Graph, builder: &mut Builder) -> Result<Vec<Operand>, Stopped> {
    for value in &graph.values {
        if let Some(tensor) = &value.constant {
            builder.node.name.clone_from(&value.name);
            let operand = builder.constant(tensor.clone());
            let is_outermost = builder.scopes.len() == 1;
            builder.net.tensors[operand.tensor.0 as usize].stable = is_outermost;
            bind(builder, &value.name, operand);
        }
    }
    for node in &graph.nodes {
        let made = builder.net.tensors.len();
        builder.node = NodeName { name: node.name.clone(), op: full_name(&node.domain, &node.op) };
        let nodes = builder.net.nodes.len();
        let outputs = build_node(graph, node, builder).map_err(|error| Stopped {
            node: node.name.clone(),
            op: node.op.clone(),
            error,
        })?;
        note(builder, node, nodes, outputs.first());
        for (id, operand) in node.outputs.iter().zip(outputs) {
            let Some(id) = id else { continue };
            let name = &graph.value(*id).name;
            if operand.tensor.0 as usize >= made {
                builder.net.tensors[operand.tensor.0 as usize].name.clone_from(name);
            }
            bind(builder, name, operand);
        }
    }
    let output = |id: &ValueId| {
        let name = &graph.value(*id).name;
        builder.lookup(name).cloned().ok_or_else(|| Stopped {
            node: graph.name.clone(),
            op: "graph".to_owned(),
            error: OpError::Missing(format!("output `{name}`")),
        })
    };
    graph.outputs.iter().map(output).collect()
}

/// Remembers that `node` was built, and that the net had `nodes` nodes before.
fn note(builder: &mut Builder, node: &Node, nodes: usize, result: Option<&Operand>) {
    let is_outer = node.attrs.values().any(|attr| matches!(attr, Attr::Graph(_)));
    let made = match builder.net.nodes.len() > nodes {
        _ if is_outer => Made::Inner,
        true => Made::Nodes,
        false => Made::Nothing,
    };
    let (node, result) = (builder.node.clone(), result.cloned());
    builder.built.push(Built { node, result, made });
}

fn bind(builder: &mut Builder, name: &str, operand: Operand) {
    let scope = builder.scopes.last_mut().expect("the outermost scope is never closed");
    scope.insert(name.to_owned(), operand);
}

/// Declares an input of the outermost graph; where its value is known it is a constant.
pub(crate) fn declare(
    builder: &mut Builder,
    name: &str,
    dtype: DType,
    shape: &[usize],
    value: Option<Tensor>,
) {
    let operand = builder.net.add(name.to_owned(), dtype, shape, value);
    builder.net.inputs.push(Input { name: name.to_owned(), tensor: operand.tensor });
    bind(builder, name, operand);
}

fn build_node(graph: &Graph, node: &Node, builder: &mut Builder) -> Result<Vec<Operand>, OpError> {
    let name = full_name(&node.domain, &node.op);
    let build = REGISTRY.get(name.as_str());
    let build = build.ok_or_else(|| OpError::Unsupported(name.clone()))?;
    let input = |id: &Option<ValueId>| {
        let Some(id) = id else { return Ok(None) };
        let name = &graph.value(*id).name;
        let operand = builder.lookup(name).cloned();
        operand.map(Some).ok_or_else(|| OpError::Missing(format!("value `{name}`")))
    };
    let inputs = node.inputs.iter().map(input).collect::<Result<_, _>>()?;
    let read = RefCell::default();
    let mut call = Call { node, opset: graph.opset, inputs, builder, read };
    let outputs = build(&mut call)?;
    match unknown(&name, node, &call.read.into_inner()) {
        Some(attribute) => Err(OpError::Unsupported(format!("attribute `{attribute}`"))),
        None => Ok(outputs),
    }
}

/// An attribute that nobody read and that the operator is not known to have: what it asks for
/// would be left out without a word. Those of a form that was not asked for may stay unread.
fn unknown<'a>(op: &str, node: &'a Node, read: &HashSet<String>) -> Option<&'a str> {
    let known = KNOWN.binary_search_by_key(&op, |(name, _)| name);
    let known = known.map_or("", |index| KNOWN[index].1);
    let is_known = |name: &str| known.split(' ').any(|other| other == name);
    let mut names = node.attrs.keys().map(String::as_str);
    // Exporters keep notes of their own in attributes that start so.
    names.find(|name| !read.contains(*name) && !is_known(name) && !name.starts_with("__"))
}

/// The outputs that the operator `op` of ONNX makes of other inputs, with the node's attributes.
fn delegate(
    call: &mut Call<'_>,
    op: &str,
    inputs: Vec<Option<Operand>>,
) -> Result<Vec<Operand>, OpError> {
    let build = REGISTRY.get(op).ok_or_else(|| OpError::Unsupported(op.to_owned()))?;
    let node = Node { op: op.to_owned(), domain: String::new(), ..call.node.clone() };
    let read = RefCell::default();
    build(&mut Call { node: &node, opset: call.opset, inputs, builder: call.builder, read })
}

/// Whether the file asks for this output.
fn wants(call: &Call<'_>, index: usize) -> bool {
    call.node.outputs.get(index).is_some_and(Option::is_some)
}

/// The axis that a possibly negative number names.
fn axis(number: i64, rank: usize) -> Result<usize, OpError> {
    let rank_signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let from_front = if number < 0 { number.checked_add(rank_signed) } else { Some(number) };
    match from_front.map(usize::try_from) {
        Some(Ok(axis)) if axis < rank => Ok(axis),
        _ => Err(OpError::mismatch("axis", format!("one of {rank} axes"), number)),
    }
}

/// The axes that possibly negative numbers name, each once, in ascending order.
fn axes(numbers: &[i64], rank: usize) -> Result<Vec<usize>, OpError> {
    if numbers.len() > RANK_MAX {
        return Err(OpError::mismatch("axes", format!("at most {RANK_MAX}"), numbers.len()));
    }
    let mut axes =
        numbers.iter().map(|&number| axis(number, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    axes.dedup();
    match axes.len() == numbers.len() {
        true => Ok(axes),
        false => Err(OpError::mismatch("axes", "each axis once", format!("{numbers:?}"))),
    }
}

/// Sizes that a model computes: each within bounds.
fn sizes(numbers: &[i64]) -> Result<Vec<usize>, OpError> {
    let size = |&number: &i64| {
        usize::try_from(number).map_err(|_| OpError::mismatch("a size", "at least 0", number))
    };
    numbers.iter().map(size).collect()
}

/// Fails unless there are `rank` axes.
fn expect_rank(what: &str, shape: &[usize], rank: usize) -> Result<(), OpError> {
    match shape.len() == rank {
        true => Ok(()),
        false => Err(OpError::mismatch(what, format!("{rank} axes"), Shape::from(shape))),
    }
}

/// A size as kernels take it.
fn narrow(size: usize) -> Result<u32, OpError> {
    u32::try_from(size).map_err(|_| OpError::mismatch("a size", "less than 2^32", size))
}
