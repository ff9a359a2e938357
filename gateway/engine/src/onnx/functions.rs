//! Functions of a model: operators that the file itself defines. A call becomes a graph inside its
//! node, with the attributes of the call written in.

use std::cell::Cell;
use std::collections::HashMap;

use super::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto, ValueInfoProto};
use crate::operators;

/// Calls inside calls, at most; what calls itself never ends.
const DEPTH_MAX: usize = 16;

/// Calls in one model, at most: each is a copy of its function.
const CALLS_MAX: usize = 1 << 16;

/// The functions of a model, by domain and name.
pub(super) struct Functions {
    table: HashMap<(String, String), FunctionProto>,
    depth: Cell<usize>,
    calls: Cell<usize>,
}

/// A call being imported.
pub(super) struct Entered<'a>(&'a Functions);

impl Functions {
    pub(super) fn new(functions: Vec<FunctionProto>) -> Self {
        let keyed = functions.into_iter().map(|function| {
            let domain = if function.domain == "ai.onnx" { "" } else { &function.domain };
            ((domain.to_owned(), function.name.clone()), function)
        });
        Self { table: keyed.collect(), depth: Cell::new(0), calls: Cell::new(0) }
    }

    /// The function that `node` calls. An operator that the engine has is faster as it is.
    pub(super) fn of(&self, node: &NodeProto) -> Option<&FunctionProto> {
        if self.table.is_empty() || operators::family(&node.domain, &node.op_type).is_some() {
            return None;
        }
        self.table.get(&(node.domain.clone(), node.op_type.clone()))
    }

    /// Counts one more call.
    pub(super) fn enter(&self) -> Result<Entered<'_>, String> {
        self.calls.set(self.calls.get() + 1);
        if self.depth.get() >= DEPTH_MAX || self.calls.get() > CALLS_MAX {
            return Err(format!(
                "functions call each other more than {DEPTH_MAX} deep or {CALLS_MAX} times"
            ));
        }
        self.depth.set(self.depth.get() + 1);
        Ok(Entered(self))
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.depth.set(self.0.depth.get() - 1);
    }
}

/// The nodes of `function` as a graph, with the attributes that `call` gives.
pub(super) fn body(function: &FunctionProto, call: &NodeProto) -> GraphProto {
    let value = |name: &String| ValueInfoProto { name: name.clone(), r#type: None };
    let mut nodes = function.node.clone();
    for node in &mut nodes {
        fill(node, function, call);
    }
    GraphProto {
        node: nodes,
        name: function.name.clone(),
        input: function.input.iter().map(value).collect(),
        output: function.output.iter().map(value).collect(),
        ..GraphProto::default()
    }
}

/// Replaces attributes that stand for those of the call; one that nobody gives is left out.
fn fill(node: &mut NodeProto, function: &FunctionProto, call: &NodeProto) {
    let given = |name: &str| {
        let named = |list: &[AttributeProto]| list.iter().find(|a| a.name == name).cloned();
        named(&call.attribute).or_else(|| named(&function.attribute_proto))
    };
    let attributes = std::mem::take(&mut node.attribute).into_iter();
    node.attribute = attributes
        .filter_map(|attribute| match attribute.ref_attr_name.as_str() {
            "" => Some(attribute),
            name => Some(AttributeProto { name: attribute.name, ..given(name)? }),
        })
        .collect();
    for attribute in &mut node.attribute {
        for inner in attribute.g.iter_mut().flat_map(|graph| &mut graph.node) {
            fill(inner, function, call);
        }
    }
}
