//! A sum over rows, each times a number of its own, is a product of matrices: the mean over the
//! tokens that a mask lets through. Nothing between is written, and what follows is its epilogue.

use gw_shaders::expr::{Binary, Expr, Instr};
use gw_shaders::kernel::Scalar;
use gw_shaders::reduce::Op;

use super::{Rules, Uses, expr, fits_kernel, is_whole, joined, replace};
use crate::net::formula::{Formula, only_instr};
use crate::net::{Gemm, Kind, Net, Node, Operand};

pub(super) fn apply(net: &mut Net, rules: &Rules<'_>) {
    let mut uses = Uses::of(net);
    for index in 0..net.nodes.len() {
        if let Some((from, node)) =
            weighted(net, &uses, index).filter(|(_, node)| fits_kernel(net, node, rules))
        {
            replace(net, &mut uses, index, node, Some(from));
        }
    }
}

/// The product that the sum at `index` is, and the node that multiplied.
fn weighted(net: &Net, uses: &Uses, index: usize) -> Option<(usize, Node)> {
    let node = net.nodes[index].as_ref()?;
    let Kind::Reduce(op @ (Op::Sum | Op::Mean)) = node.kind else { return None };
    let summed = node.inputs.first().filter(|summed| is_whole(net, summed))?;
    let [outer, count, inner] = summed.shape()[..] else { return None };
    let (from, product) = uses.writer(net, summed.tensor)?;
    let alone = uses.is_only_for(summed.tensor, index) && from < index;
    if !alone || count == 1 || inner == 1 || summed.scalar() != Scalar::F32 {
        return None;
    }
    let Instr::Binary(Binary::Mul, a, b) = only_instr(expr(product)?)? else { return None };
    let seen = |register: usize| {
        let operand = product.inputs.get(register)?;
        Some(operand.with_layout(operand.layout.reshaped(&[outer, count, inner])?))
    };
    let column = |operand: Operand| {
        let first = operand.layout.sliced(2, 0, 1, 1)?;
        let repeats = first.expanded(&[outer, count, inner]) == operand.layout;
        let row = first.reshaped(&[outer, 1, 1, count]).filter(|_| repeats)?;
        Some(operand.with_layout(row))
    };
    let (weights, rows) = match column(seen(b)?) {
        Some(weights) => (weights, seen(a)?),
        None => (column(seen(a)?)?, seen(b)?),
    };
    let rows = rows.with_layout(rows.layout.reshaped(&[outer, 1, count, inner])?);
    let epilogue = match op {
        Op::Mean => {
            let mut formula = Formula::floats(1);
            let count = formula.c(count as f32);
            formula.bin(Binary::Div, 0, count);
            formula.0
        }
        _ => Expr::identity(Scalar::F32),
    };
    let kind = Kind::Gemm(Gemm { quantised: false, epilogue });
    let output = node.output.with_layout(node.output.layout.reshaped(&[outer, 1, 1, inner])?);
    Some((from, Node { names: joined(product, node), kind, inputs: vec![weights, rows], output }))
}
