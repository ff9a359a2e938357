//! A layer with a state takes over the product of its input where there are few steps, and the
//! element-wise node that alone reads the states of its steps.

use gw_shaders::expr::{Binary, Instr};
use gw_shaders::kernel::Scalar;
use gw_shaders::recurrent::{Cell, Projection};

use super::{Rules, Uses, expr, fits_kernel, is_whole, joined, redirect, replace};
use crate::net::layout::Layout;
use crate::net::{Kind, Net, Node, Operand, Recurrent, TensorId, fold, formula};

/// With more steps one product for all of them reads the weights less often.
const STEPS_MAX: usize = 4;

pub(super) fn apply(net: &mut Net, rules: &Rules<'_>) {
    let mut uses = Uses::of(net);
    for index in 0..net.nodes.len() {
        if let Some((from, node)) =
            projected(net, &uses, index).filter(|(_, node)| fits_kernel(net, node, rules))
        {
            replace(net, &mut uses, index, node, Some(from));
        }
        store(net, &mut uses, index, rules);
    }
}

fn layer(node: &Node) -> Option<&Recurrent> {
    match &node.kind {
        Kind::Recurrent(layer) => Some(layer),
        _ => None,
    }
}

/// Rows of the output that hold steps.
fn steps(layer: &Recurrent, node: &Node) -> usize {
    node.output.shape()[0] - layer.cell.further_rows() as usize
}

/// The layer at `index` with the product, and the bias, that its input comes from.
fn projected(net: &Net, uses: &Uses, index: usize) -> Option<(usize, Node)> {
    let node = net.nodes[index].as_ref()?;
    let layer = layer(node)?;
    let steps = steps(layer, node);
    // Its reset gate would take the product twice.
    let resets = matches!(layer.cell, Cell::Gru { linear_before_reset: false });
    if layer.projection.is_some() || resets || steps > STEPS_MAX {
        return None;
    }
    let x = node.inputs.first().filter(|x| is_whole(net, x))?;
    let (from, product) = uses.writer(net, x.tensor)?;
    let Kind::Gemm(gemm) = &product.kind else { return None };
    if gemm.quantised || from >= index || !uses.is_only_for(x.tensor, index) {
        return None;
    }
    let bias = match product.inputs.get(gemm.operands()..)? {
        [] if gemm.epilogue.is_identity() => None,
        [bias] => match formula::only_instr(&gemm.epilogue)? {
            Instr::Binary(Binary::Add, 0, 1) | Instr::Binary(Binary::Add, 1, 0) => {
                Some(bias.with_layout(bias.layout.varying_along(3)?))
            }
            _ => return None,
        },
        _ => return None,
    };
    let [_, directions, batch, hidden] = node.output.shape()[..] else { return None };
    let (rows, weights) = (&product.inputs[0], &product.inputs[1]);
    let width = rows.shape()[3];
    let gates = layer.cell.gates() as usize;
    let seen = |operand: &Operand, shape: &[usize]| {
        Some(operand.with_layout(operand.layout.reshaped(shape)?))
    };
    let mut inputs = vec![
        seen(rows, &[steps, batch, width])?,
        seen(weights, &[width, directions, hidden, gates])?,
    ];
    let has_bias = bias.is_some();
    if let Some(bias) = bias {
        inputs.push(seen(&bias, &[directions, hidden, gates])?);
    }
    inputs.extend_from_slice(&node.inputs[1..]);
    let projection = Projection { width: u32::try_from(width).ok()?, bias: has_bias };
    let kind = Kind::Recurrent(Recurrent { projection: Some(projection), ..layer.clone() });
    let (names, output) = (joined(product, node), node.output.clone());
    Some((from, Node { names, kind, inputs, output }))
}

/// Lets the layer at `index` store its states as the element-wise node wants them that is the
/// only one to read those of the steps.
fn store(net: &mut Net, uses: &mut Uses, index: usize, rules: &Rules<'_>) {
    let Some((reader, place, node)) = stored(net, uses, index) else { return };
    let Some(reading) = net.nodes[reader].clone() else { return };
    if !fits_kernel(net, &node, rules) {
        return;
    }
    let (from, to) = (reading.output.tensor, node.output.tensor);
    // Most kernels want what they read from the beginning of a tensor, without gaps.
    let accepts = |_: &Node, operand: &Operand| operand.layout.is_dense();
    if redirect(net, uses, from, to, &place, accepts) {
        replace(net, uses, index, node, Some(reader));
    }
}

/// The reader, where its result lies then, and the layer with what the reader did.
fn stored(net: &Net, uses: &Uses, index: usize) -> Option<(usize, Layout, Node)> {
    let node = net.nodes[index].as_ref()?;
    let layer = layer(node).filter(|layer| layer.stored.is_identity())?;
    let result = node.output.tensor;
    let [rows, directions, batch, hidden] = node.output.shape()[..] else { return None };
    let (steps, slab) = (steps(layer, node), directions * batch * hidden);
    uses.writer(net, result)?;
    let found = uses.readers[result.0 as usize].iter().find_map(|&reader| {
        let reading = net.nodes[reader].as_ref()?;
        let expr = expr(reading)?;
        let [input] = reading.inputs.as_slice() else { return None };
        let start = input.layout.run()?;
        let is_float = expr.inputs == [Scalar::F32] && expr.result() == Ok(Scalar::F32);
        if expr.is_identity() || !is_float || !is_whole(net, &reading.output) {
            return None;
        }
        let end = start + input.layout.elements();
        // The only step is the last state too.
        let twin = steps == 1 && start >= slab && end <= 2 * slab && is_full(net, node);
        let start = if twin { start - slab } else { start };
        let inside = start + input.layout.elements() <= steps * slab;
        let all = Layout::dense(&[rows * slab]).sliced(0, start, 1, input.layout.elements());
        let place = all?.reshaped(&reading.output.shape())?;
        inside.then_some((reader, place, expr))
    });
    let (reader, place, expr) = found?;
    let beyond = |layout: &Layout| layout.run().is_some_and(|start| start >= steps * slab);
    let alone = readings(net, uses, result, reader).all(beyond);
    let kind = Kind::Recurrent(Recurrent { stored: expr.clone(), ..layer.clone() });
    let names = joined(node, net.nodes[reader].as_ref()?);
    alone.then(|| (reader, place, Node { names, kind, ..node.clone() }))
}

/// How all but one node, and the outputs, see a tensor.
fn readings<'n>(
    net: &'n Net,
    uses: &Uses,
    id: TensorId,
    except: usize,
) -> impl Iterator<Item = &'n Layout> {
    let others: Vec<usize> =
        uses.readers[id.0 as usize].iter().copied().filter(|&other| other != except).collect();
    let nodes = others.into_iter().filter_map(|other| net.nodes[other].as_ref());
    let inputs = nodes.flat_map(|node| &node.inputs);
    let outputs = net.outputs.iter().map(|output| &output.operand);
    inputs.chain(outputs).filter(move |operand| operand.tensor == id).map(|operand| &operand.layout)
}

/// Whether no entry is shorter than the steps.
fn is_full(net: &Net, node: &Node) -> bool {
    let lengths = node.inputs.last().and_then(|lengths| net.constant(lengths));
    lengths.is_some_and(|lengths| fold::numbers(&lengths).iter().all(|length| length.int() >= 1))
}
