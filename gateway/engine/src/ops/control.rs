//! Graphs inside graphs.

use super::{Call, DEPTH_MAX, Table, build};
use crate::error::OpError;
use crate::graph::{Attr, Graph};
use crate::net::Operand;
use crate::net::builder::Builder;

pub(super) const OPS: Table = &[("If", branch)];

/// The branch that the condition names becomes part of the graph around it.
fn branch(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let condition = call.known_ints(0)?;
    let taken = condition.first().is_some_and(|&value| value != 0);
    let name = if taken { "then_branch" } else { "else_branch" };
    let Some(Attr::Graph(graph)) = call.node.attrs.get(name) else {
        return Err(OpError::Missing(format!("attribute `{name}`")));
    };
    inline(call.builder, graph, Vec::new())
}

/// `graph` becomes part of the graph around it; `inputs` are its own, in order.
pub(super) fn inline(
    builder: &mut Builder,
    graph: &Graph,
    inputs: Vec<Operand>,
) -> Result<Vec<Operand>, OpError> {
    if builder.scopes.len() > DEPTH_MAX {
        return Err(OpError::Unsupported(format!("more than {DEPTH_MAX} graphs in graphs")));
    }
    if inputs.len() != graph.inputs.len() {
        let expected = format!("{} inputs", graph.inputs.len());
        return Err(OpError::mismatch("the inner graph", expected, inputs.len()));
    }
    let name = |id| graph.value(id).name.clone();
    let scope = graph.inputs.iter().copied().map(name).zip(inputs).collect();
    let node = builder.node.clone();
    builder.scopes.push(scope);
    let outputs = build(graph, builder).map_err(|stopped| OpError::Inner {
        node: stopped.node,
        op: stopped.op,
        reason: Box::new(stopped.error),
    });
    builder.scopes.pop();
    builder.node = node;
    outputs
}
