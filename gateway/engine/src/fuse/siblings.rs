//! `x * a`, `x * b`, `x * c` become `x * [a b c]`: the query, key and value of an attention.

use std::fmt::Write as _;

use gw_tensor::Tensor;

use super::{Rules, Uses, fits_kernel, is_whole, redirect, replace};
use crate::error::OpError;
use crate::lower::key;
use crate::net::layout::Layout;
use crate::net::{Gemm, Kind, Net, Node, Operand, TensorId};

pub(super) fn apply(net: &mut Net, rules: &Rules<'_>) -> Result<(), OpError> {
    let mut uses = Uses::of(net);
    for index in 0..net.nodes.len() {
        let group = siblings(net, &uses, index);
        if group.len() > 1 {
            merge(net, &mut uses, &group, rules)?;
        }
    }
    Ok(())
}

/// The products that differ from the one at `index` by their weights only, itself first.
fn siblings(net: &Net, uses: &Uses, index: usize) -> Vec<usize> {
    let Some(first) = net.nodes[index].as_ref() else { return Vec::new() };
    let Some(gemm) = mergeable(net, uses, first) else { return Vec::new() };
    let mut readers = uses.readers[first.inputs[0].tensor.0 as usize].clone();
    readers.sort_unstable();
    readers.dedup();
    readers.retain(|&other| {
        let Some(node) = &net.nodes[other] else { return false };
        other >= index
            && node.inputs[0] == first.inputs[0]
            && node.inputs.len() == first.inputs.len()
            && net.stored(&node.inputs[1]).dtype == net.stored(&first.inputs[1]).dtype
            && mergeable(net, uses, node) == Some(gemm)
    });
    readers
}

/// A product of one matrix with constant weights, whose epilogue has constants per column only.
fn mergeable<'n>(net: &Net, uses: &Uses, node: &'n Node) -> Option<&'n Gemm> {
    let Kind::Gemm(gemm) = &node.kind else { return None };
    let shape = node.output.shape();
    let one = shape[..2] == [1, 1] && is_whole(net, &node.output);
    let free = !uses.is_output[node.output.tensor.0 as usize];
    let known = net.is_constant(&node.inputs[1]) && node.inputs[1].layout.one_matrix().is_some();
    let columns = node.inputs[2..]
        .iter()
        .all(|input| net.is_constant(input) && column_values(input).is_some());
    (one && free && known && columns && !net.is_constant(&node.inputs[0])).then_some(gemm)
}

/// One value per column: of scales `[n]`, or of an epilogue input `[1, 1, m, n]`.
fn column_values(operand: &Operand) -> Option<Operand> {
    match operand.shape().len() {
        1 => Some(operand.clone()),
        _ => Some(operand.with_layout(operand.layout.varying_along(3)?)),
    }
}

fn merge(
    net: &mut Net,
    uses: &mut Uses,
    group: &[usize],
    rules: &Rules<'_>,
) -> Result<(), OpError> {
    let nodes: Vec<Node> = group.iter().filter_map(|&index| net.nodes[index].clone()).collect();
    let widths: Vec<usize> = nodes.iter().map(|node| node.output.shape()[3]).collect();
    let (total, rows) = (widths.iter().sum(), nodes[0].output.shape()[2]);
    let depth = nodes[0].inputs[0].shape()[3];
    let mut inputs = vec![nodes[0].inputs[0].clone()];
    for position in 1..nodes[0].inputs.len() {
        let parts: Vec<Operand> = nodes
            .iter()
            .filter_map(|node| match position {
                1 => {
                    let layout = node.inputs[1].layout.one_matrix()?;
                    Some(net.stored(&node.inputs[1]).with_layout(layout))
                }
                _ => column_values(&node.inputs[position]),
            })
            .collect();
        let Some(joined) = side_by_side(net, &parts, rules)? else { return Ok(()) };
        let is_scale = position == 2 && inputs[1].dtype == gw_tensor::DType::I8;
        let layout = match position {
            1 => joined.layout.reshaped(&[1, 1, depth, total]),
            _ if is_scale => Some(joined.layout.clone()),
            _ => Some(joined.layout.expanded(&[1, 1, rows, total])),
        };
        let Some(layout) = layout else { return Ok(()) };
        inputs.push(joined.with_layout(layout));
    }
    let name = nodes.iter().map(|node| net.tensor(node.output.tensor).name.as_str());
    let name = name.collect::<Vec<_>>().join(" | ");
    let output = net.add(name, nodes[0].output.dtype, [1, 1, rows, total], None);
    let names = nodes.iter().flat_map(|node| node.names.clone()).collect();
    let kind = nodes[0].kind.clone();
    let merged = Node { names, kind, inputs, output: output.clone() };
    if !fits_kernel(net, &merged, rules) {
        return Ok(());
    }
    if !readers_accept(net, uses, &nodes, &output, &widths) {
        return Ok(());
    }
    replace(net, uses, group[0], merged, None);
    let mut start = 0;
    for (node, width) in nodes.iter().zip(&widths) {
        let place = column_block(&output, start, *width);
        redirect(net, uses, node.output.tensor, output.tensor, &place, takes_strides);
        start += width;
    }
    for &index in &group[1..] {
        if let Some(node) = net.nodes[index].take() {
            uses.remove(index, &node);
        }
    }
    Ok(())
}

fn column_block(whole: &Operand, start: usize, width: usize) -> Layout {
    let block = whole.layout.sliced(3, start, 1, width);
    block.expect("an axis of a dense layout has one stride")
}

/// A dense input would have to be copied first.
fn takes_strides(node: &Node, operand: &Operand) -> bool {
    match node.kind {
        Kind::Pointwise(_) => true,
        Kind::Gemm(_) | Kind::Attention(_) => operand.layout.strides().is_some(),
        _ => false,
    }
}

fn readers_accept(
    net: &Net,
    uses: &Uses,
    nodes: &[Node],
    output: &Operand,
    widths: &[usize],
) -> bool {
    let mut start = 0;
    nodes.iter().zip(widths).all(|(node, &width)| {
        let place = column_block(output, start, width);
        start += width;
        let tensor: TensorId = node.output.tensor;
        uses.readers[tensor.0 as usize].iter().all(|&reader| {
            net.nodes[reader].as_ref().is_none_or(|reader| {
                reader.inputs.iter().filter(|input| input.tensor == tensor).all(|input| {
                    let layout = input.layout.over(&place);
                    layout.is_some_and(|layout| takes_strides(reader, &input.with_layout(layout)))
                })
            })
        })
    })
}

/// Constants joined along their last axis.
fn side_by_side(
    net: &mut Net,
    parts: &[Operand],
    rules: &Rules<'_>,
) -> Result<Option<Operand>, OpError> {
    let mut name = String::new();
    for part in parts {
        let bar = if name.is_empty() { "" } else { " | " };
        // Writing to a string cannot fail.
        let _ = write!(name, "{bar}{}", key(net, part));
    }
    let joined = rules.constants.folded(&name, || {
        let data: Option<Vec<Tensor>> = parts.iter().map(|part| net.constant(part)).collect();
        join_columns(&data?)
    });
    Ok(joined.map(|data| {
        let (dtype, shape) = (data.dtype(), data.shape().clone());
        let operand = net.add(name, dtype, shape, Some(data));
        // Every part is named by its content, so the name of the whole says all.
        net.tensors[operand.tensor.0 as usize].stable = true;
        operand
    }))
}

fn join_columns(parts: &[Tensor]) -> Option<Tensor> {
    let first = parts.first()?;
    let (rank, size) = (first.shape().len(), first.dtype().size());
    let rows: usize = first.shape()[..rank - 1].iter().product();
    let widths: Vec<usize> = parts.iter().map(|part| part.shape()[rank - 1]).collect();
    let total: usize = widths.iter().sum();
    let mut bytes = Vec::with_capacity(rows * total * size);
    for row in 0..rows {
        for (part, width) in parts.iter().zip(&widths) {
            let width = width * size;
            bytes.extend_from_slice(&part.bytes()[row * width..(row + 1) * width]);
        }
    }
    let mut shape = first.shape().to_vec();
    shape[rank - 1] = total;
    Tensor::new(first.dtype(), shape, bytes).ok()
}
