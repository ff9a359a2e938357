//! Rows that are normalised where they are made: by the product or the tables that alone give
//! them. A sum of rows that indices name is one node too.

use gw_shaders::expr::Expr;
use gw_shaders::kernel::Scalar;

use super::{Rules, Uses, expr, fits_kernel, is_whole, joined, replace};
use crate::net::{Embed, Kind, Net, Node, Operand, RowSource};
use crate::plan::why::NodeName;

/// Longer rows have more work than one invocation should do by itself.
const COLS_MAX: usize = 1 << 13;

/// The node that takes the place of the one at an index, and another that it absorbs.
type Rule = fn(&Net, &Uses, usize) -> Option<(Node, Option<usize>)>;

pub(super) fn apply(net: &mut Net, rules: &Rules<'_>) {
    let mut uses = Uses::of(net);
    let in_order: [Rule; 2] = [embedded, normalised];
    for rule in in_order {
        for index in 0..net.nodes.len() {
            if let Some((node, absorbed)) =
                rule(net, &uses, index).filter(|(node, _)| fits_kernel(net, node, rules))
            {
                replace(net, &mut uses, index, node, absorbed);
            }
        }
        net.drop_unread();
        uses = Uses::of(net);
    }
}

/// The element-wise node at `index` with the gathers whose rows it alone reads.
fn embedded(net: &Net, uses: &Uses, index: usize) -> Option<(Node, Option<usize>)> {
    let node = net.nodes[index].as_ref()?;
    let expr: &Expr = expr(node)?;
    let tables: Vec<Option<&Node>> =
        node.inputs.iter().map(|input| gathered(net, uses, input, index)).collect();
    let cols = tables.iter().flatten().next()?.output.shape()[2];
    let same = tables.iter().flatten().all(|table| table.output.shape()[2] == cols);
    let floats = expr.inputs.iter().all(|&scalar| scalar == Scalar::F32);
    let result = node.output.scalar() == Scalar::F32 && is_whole(net, &node.output);
    if !same || !floats || !result || !(1..=COLS_MAX).contains(&cols) {
        return None;
    }
    let count = node.output.layout.elements() / cols;
    let mut inputs = Vec::new();
    let mut sources = Vec::with_capacity(tables.len());
    for (input, table) in node.inputs.iter().zip(&tables) {
        sources.push(match table {
            Some(Node { kind: Kind::Gather { quantised }, inputs: own, .. }) => {
                inputs.extend(own.iter().cloned());
                RowSource::Table { quantised: *quantised }
            }
            _ => {
                inputs.push(input.with_layout(input.layout.reshaped(&[count, cols])?));
                RowSource::Rows
            }
        });
    }
    let mut names: Vec<NodeName> =
        tables.iter().flatten().flat_map(|table| table.names.clone()).collect();
    names.extend(node.names.iter().cloned());
    let kind = Kind::Embed(Embed { sources, expr: expr.clone(), norm: None });
    let output = node.output.with_layout(node.output.layout.reshaped(&[count, cols])?);
    Some((Node { names, kind, inputs, output }, None))
}

/// The gather that makes `operand` for `reader` alone, one row after another.
fn gathered<'n>(net: &'n Net, uses: &Uses, operand: &Operand, reader: usize) -> Option<&'n Node> {
    let (from, node) = uses.writer(net, operand.tensor)?;
    let alone = is_whole(net, operand) && uses.is_only_for(operand.tensor, reader);
    let is_table = matches!(node.kind, Kind::Gather { .. }) && node.inputs[0].shape()[0] == 1;
    (alone && is_table && from < reader).then_some(node)
}

/// The normalisation at `index` with the node that makes its rows for it alone.
fn normalised(net: &Net, uses: &Uses, index: usize) -> Option<(Node, Option<usize>)> {
    let node = net.nodes[index].as_ref()?;
    let Kind::Norm(form) = node.kind else { return None };
    let (rows, weights) = node.inputs.split_first()?;
    let (from, producer) = uses.writer(net, rows.tensor)?;
    let alone = is_whole(net, rows) && uses.is_only_for(rows.tensor, index);
    let shape = producer.output.shape();
    let same = shape.last() == rows.shape().last() && is_whole(net, &node.output);
    if !alone || !same || from >= index {
        return None;
    }
    let kind = match &producer.kind {
        Kind::Gemm(gemm) => Kind::Normed(gemm.clone(), form),
        Kind::Embed(embed) if embed.norm.is_none() => {
            Kind::Embed(Embed { norm: Some(form), ..embed.clone() })
        }
        _ => return None,
    };
    let output = node.output.with_layout(node.output.layout.reshaped(&shape)?);
    let inputs = weights.iter().chain(&producer.inputs).cloned().collect();
    Some((Node { names: joined(producer, node), kind, inputs, output }, Some(from)))
}
