//! `(1 - mask) * low`: an attention makes the mask of each key itself, where it is the same for
//! all queries.

use super::masked;
use crate::fuse::{Rules, Uses, expr, fits_kernel, replace};
use crate::net::{Attention, Kind, Net, Node};

/// More is not worth doing again for every head.
const INSTRS_MAX: usize = 8;

pub(in crate::fuse) fn apply(net: &mut Net, rules: &Rules<'_>) {
    let mut uses = Uses::of(net);
    for index in 0..net.nodes.len() {
        if let Some(node) = made(net, &uses, index).filter(|node| fits_kernel(net, node, rules)) {
            replace(net, &mut uses, index, node, None);
        }
    }
}

fn made(net: &Net, uses: &Uses, index: usize) -> Option<Node> {
    let (node, attention) = masked(net, index)?;
    let mask = &node.inputs[3];
    let (from, producer) = uses.writer(net, mask.tensor)?;
    let expr = expr(producer)?;
    let [source] = producer.inputs.as_slice() else { return None };
    let is_attention = |&reader: &usize| {
        let reader = net.nodes[reader].as_ref();
        reader.is_some_and(|reader| matches!(reader.kind, Kind::Attention(_)))
    };
    let alone = uses.readers[mask.tensor.0 as usize].iter().all(is_attention)
        && !uses.is_output[mask.tensor.0 as usize];
    let by_key = mask.layout.strides().is_some_and(|strides| strides[2] == 0);
    if !alone || !by_key || from >= index || expr.instrs.len() > INSTRS_MAX {
        return None;
    }
    // What reads the bits of another type is left alone.
    if attention.mask_expr.is_some() || mask.scalar() != producer.output.scalar() {
        return None;
    }
    let mut inputs = node.inputs.clone();
    inputs[3] = source.with_layout(mask.layout.over(&source.layout)?);
    let kind = Kind::Attention(Attention { mask_expr: Some(expr.clone()), ..attention.clone() });
    Some(Node { kind, inputs, ..node.clone() })
}
