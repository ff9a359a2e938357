//! Graphs inside graphs.

use super::{Call, DEPTH_MAX, Table, build};
use crate::error::OpError;
use crate::graph::Attr;
use crate::net::Operand;

pub(super) const OPS: Table = &[("If", branch)];

/// The branch that the condition names becomes part of the graph around it.
fn branch(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let condition = call.known_ints(0)?;
    let taken = condition.first().is_some_and(|&value| value != 0);
    let name = if taken { "then_branch" } else { "else_branch" };
    let Some(Attr::Graph(graph)) = call.node.attrs.get(name) else {
        return Err(OpError::Missing(format!("attribute `{name}`")));
    };
    if call.builder.scopes.len() > DEPTH_MAX {
        return Err(OpError::Unsupported(format!("more than {DEPTH_MAX} graphs in graphs")));
    }
    call.builder.scopes.push(std::collections::HashMap::new());
    let outputs = build(graph, call.builder).map_err(|stopped| OpError::Inner {
        node: stopped.node,
        op: stopped.op,
        reason: Box::new(stopped.error),
    });
    call.builder.scopes.pop();
    outputs
}
