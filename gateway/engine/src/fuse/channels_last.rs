//! Channels side by side: `[n, c, h, w]` lies as `[n, h, w, c]` from convolution to convolution.
//!
//! One load then brings four channels, and a window of one pixel is a row of a plain product.
//! Nothing is copied for it: a tensor changes its order only where all that read it take it so,
//! and convolutions and element-wise nodes read and write any order.

use gw_shaders::expr::Expr;
use gw_shaders::pool;

use super::{Rules, Uses, fits_kernel, is_whole, redirect, replace};
use crate::net::layout::{Layout, common};
use crate::net::{Conv, Gemm, Kind, Net, Node, Operand, TensorId};

/// Whether anything was changed.
pub(super) fn apply(net: &mut Net, rules: &Rules<'_>) -> bool {
    let is_taken = |node: &Node| matches!(&node.kind, Kind::Conv(conv) if takes(net, node, conv));
    if !net.nodes.iter().flatten().any(is_taken) {
        return false;
    }
    let mut uses = Uses::of(net);
    for index in 0..net.nodes.len() {
        let Some(node) = net.nodes[index].clone() else { continue };
        match &node.kind {
            Kind::Conv(conv) if takes(net, &node, conv) => {
                convolution(net, &mut uses, index, &node, conv, rules);
            }
            Kind::Pointwise(_) => pointwise(net, &mut uses, &node),
            Kind::Pool { .. } => pooling(net, &mut uses, index, &node),
            Kind::Reduce(_) => {
                if let Some(node) = reduction(&node) {
                    replace(net, &mut uses, index, node, None);
                }
            }
            _ => {}
        }
    }
    true
}

/// Copies once what convolutions would each copy: images that repeat their pixels.
pub(super) fn write_out(net: &mut Net) {
    let mut copies: Vec<(Operand, Operand)> = Vec::new();
    for mut slot in std::mem::take(&mut net.nodes) {
        if let Some(node) = &mut slot
            && matches!(&node.kind, Kind::Conv(conv) if takes(net, node, conv))
            && node.inputs[0].layout.strides().is_none()
        {
            let x = node.inputs[0].clone();
            let known = copies.iter().find(|(from, _)| *from == x).map(|(_, to)| to.clone());
            node.inputs[0] = known.unwrap_or_else(|| {
                let to = Operand { dtype: x.dtype, ..beside(net, x.tensor, &x.shape()) };
                let kind = Kind::Pointwise(Expr::identity(x.scalar()));
                let (names, inputs) = (node.names.clone(), vec![x.clone()]);
                net.nodes.push(Some(Node { names, kind, inputs, output: to.clone() }));
                copies.push((x, to.clone()));
                to
            });
        }
        net.nodes.push(slot);
    }
}

/// The axes of an image with its channels last, and back.
const LAST: [usize; 4] = [0, 2, 3, 1];
const FIRST: [usize; 4] = [0, 3, 1, 2];

/// Whether a kernel for channels side by side does this convolution.
fn takes(net: &Net, node: &Node, conv: &Conv) -> bool {
    if node.inputs.len() > conv.operands() {
        return false;
    }
    let (x, weights) = (&node.inputs[0], &node.inputs[1]);
    let (channels, out) = (x.shape()[1], weights.shape()[0]);
    let groups = conv.groups as usize;
    let is_known = net.is_constant(weights) && !net.is_constant(x);
    is_known && (groups == 1 || groups == channels && groups == out)
}

fn convolution(
    net: &mut Net,
    uses: &mut Uses,
    index: usize,
    node: &Node,
    conv: &Conv,
    rules: &Rules<'_>,
) {
    let before = node.output.tensor;
    if uses.writer(net, before).is_none() {
        return;
    }
    let view = node.output.with_layout(node.output.layout.transposed(&LAST));
    let dense = beside(net, before, &view.shape());
    let place = dense.layout.transposed(&FIRST);
    let Some(last) = with_channels_last(node, conv, dense.clone()) else { return };
    if !fits_kernel(net, &last, rules) {
        return;
    }
    let last = if move_readers(net, uses, before, dense.tensor, &place) {
        Some(last)
    } else {
        with_channels_last(node, conv, view).filter(|node| fits_kernel(net, node, rules))
    };
    if let Some(last) = last {
        replace(net, uses, index, last, None);
    }
}

/// The convolution that writes `output`, `[n, h, w, c]`.
fn with_channels_last(node: &Node, conv: &Conv, output: Operand) -> Option<Node> {
    let x = node.inputs[0].with_layout(node.inputs[0].layout.transposed(&LAST));
    let weights = &node.inputs[1];
    let window = conv.window;
    let one = window.kernel == [1, 1] && window.strides == [1, 1] && conv.groups == 1;
    if one && x.shape()[..3] == output.shape()[..3] {
        return product(node, conv, &x, &output);
    }
    let shape = weights.shape();
    let terms = [shape[1] * shape[2] * shape[3], shape[0]];
    let filters = weights.layout.transposed(&[2, 3, 1, 0]).reshaped(&terms)?;
    let mut inputs = vec![x, weights.with_layout(filters)];
    inputs.extend(node.inputs[2..].iter().cloned());
    let kind = Kind::ConvLast(conv.clone());
    Some(Node { names: node.names.clone(), kind, inputs, output })
}

/// A window of one pixel: rows are pixels.
fn product(node: &Node, conv: &Conv, x: &Operand, output: &Operand) -> Option<Node> {
    let &[n, h, w, channels] = x.shape().as_slice() else { return None };
    let out = *output.shape().last()?;
    let weights = node.inputs[1].layout.reshaped(&[out, channels])?.transposed(&[1, 0]);
    let matrix = |operand: &Operand, columns| {
        let layout = operand.layout.reshaped(&[n, 1, h * w, columns])?;
        layout.strides().is_some().then(|| operand.with_layout(layout))
    };
    let b = weights.expanded(&[n, 1, channels, out]);
    let mut inputs = vec![matrix(x, channels)?, node.inputs[1].with_layout(b)];
    inputs.extend(node.inputs[2..].iter().cloned());
    Some(Node {
        names: node.names.clone(),
        kind: Kind::Gemm(Gemm { quantised: conv.quantised, epilogue: conv.epilogue.clone() }),
        inputs,
        output: matrix(output, out)?,
    })
}

/// Element-wise nodes write in the order of what they read; those that fill parts of one tensor
/// are decided together.
fn pointwise(net: &mut Net, uses: &mut Uses, node: &Node) {
    let before = node.output.tensor;
    let shape = net.tensor(before).shape.to_vec();
    let writers = uses.writers[before.0 as usize].clone();
    let mut votes = 0;
    for &writer in &writers {
        let Some(writer) = &net.nodes[writer] else { return };
        let is_part = matches!(writer.kind, Kind::Pointwise(_))
            && writer.output.shape().len() == shape.len()
            && writer.output.layout.strides().is_some();
        if !is_part {
            return;
        }
        for input in writer.inputs.iter().filter(|input| !net.is_constant(input)) {
            let weight = input.layout.elements().cast_signed();
            votes += match is_channels_last(&input.layout) {
                Some(true) => weight + 1,
                Some(false) => -weight,
                None => 0,
            };
        }
    }
    if votes <= 0 || is_channels_last(&node.output.layout) == Some(true) {
        return;
    }
    let rank = shape.len();
    let mut last: Vec<usize> = (0..rank).collect();
    last[1..].rotate_left(1);
    let mut first: Vec<usize> = (0..rank).collect();
    first[1..].rotate_right(1);
    let turned: Vec<usize> = last.iter().map(|&axis| shape[axis]).collect();
    let dense = beside(net, before, &turned);
    let place = dense.layout.transposed(&first);
    let moved = move_readers(net, uses, before, dense.tensor, &place);
    for writer in writers {
        let Some(mut node) = net.nodes[writer].clone() else { continue };
        if moved {
            // A slice of a dense tensor is a slice of the same elements in another order.
            let Some(layout) = node.output.layout.over(&place) else { continue };
            node.output = Operand { tensor: dense.tensor, layout, dtype: node.output.dtype };
        }
        for operand in node.inputs.iter_mut().chain([&mut node.output]) {
            operand.layout = operand.layout.transposed(&last);
        }
        replace(net, uses, writer, node, None);
    }
}

/// Whether axis 1 is the innermost in memory, and the others lie in order; `None` where the
/// operand has no order of its own.
fn is_channels_last(layout: &Layout) -> Option<bool> {
    let (shape, steps) = (layout.shape(), layout.steps());
    let repeats = shape.iter().zip(&steps).any(|(&size, step)| size > 1 && step.is_none());
    if shape.len() < 3 || repeats || shape[2..].iter().all(|&size| size == 1) {
        return None;
    }
    let channel = steps[1]?;
    let others: Vec<isize> = steps[..1].iter().chain(&steps[2..]).flatten().copied().collect();
    Some(others.is_sorted_by(|a, b| a >= b) && others.iter().all(|&step| step > channel))
}

fn pooling(net: &mut Net, uses: &mut Uses, index: usize, node: &Node) {
    let Some((input, output)) = pooled(&node.inputs[0], node) else { return };
    let before = node.output.tensor;
    let dense = beside(net, before, &output);
    let Some(place) = place_of_planes(&dense.layout, node) else { return };
    if !move_readers(net, uses, before, dense.tensor, &place) {
        return;
    }
    let node = Node { inputs: vec![input], output: dense, ..node.clone() };
    replace(net, uses, index, node, None);
}

/// Planes `[n * c, d, h, w]` that lie channels last, and the shape of what comes of them.
fn pooled(input: &Operand, node: &Node) -> Option<(Operand, [usize; 5])> {
    let Kind::Pool { kind, .. } = &node.kind else { return None };
    if matches!(kind, pool::Kind::MaxPlace { .. }) {
        return None;
    }
    let &[_, d, h, w] = input.shape().as_slice() else { return None };
    let (n, c) = images(&input.layout)?;
    let layout = input.layout.reshaped(&[n, c, d, h, w])?.transposed(&[0, 2, 3, 4, 1]);
    let &[_, depth, rows, columns] = node.output.shape().as_slice() else { return None };
    let dense = layout.is_dense() && !input.layout.is_dense();
    dense.then(|| (input.with_layout(layout), [n, depth, rows, columns, c]))
}

/// `[n, d, h, w, c]` seen as the planes that a pooling wrote before.
fn place_of_planes(last: &Layout, node: &Node) -> Option<Layout> {
    last.transposed(&[0, 4, 1, 2, 3]).reshaped(&node.output.shape())
}

/// The images and channels that the first axis counts together.
fn images(layout: &Layout) -> Option<(usize, usize)> {
    match *layout.factor_sizes(0).as_slice() {
        [channels] => Some((1, channels)),
        [images, channels] => Some((images, channels)),
        _ => None,
    }
}

/// `[n * c, hw, 1]` that lies as `[n, hw, c]`, or `[n, c, hw]` that lies as `[n * hw, c, 1]`.
fn reduction(node: &Node) -> Option<Node> {
    let (input, output) = reduced(&node.inputs[0])?;
    let output = node.output.with_layout(node.output.layout.reshaped(&output)?);
    Some(Node { inputs: vec![input], output, ..node.clone() })
}

fn reduced(input: &Operand) -> Option<(Operand, [usize; 2])> {
    let &[outer, terms, inner] = input.shape().as_slice() else { return None };
    let dense = |layout: Layout| layout.is_dense().then(|| input.with_layout(layout));
    if input.layout.is_dense() {
        return None;
    }
    let turned = input.layout.transposed(&[0, 2, 1]).reshaped(&[outer * inner, terms, 1]);
    if let Some(rows) = turned.and_then(dense) {
        return Some((rows, [outer * inner, 1]));
    }
    let (n, c) = images(&input.layout).filter(|_| inner == 1)?;
    let planes = input.layout.reshaped(&[n, c, terms])?.transposed(&[0, 2, 1]);
    Some((dense(planes)?, [n, c]))
}

/// A tensor for the same elements in another order.
fn beside(net: &mut Net, id: TensorId, shape: &[usize]) -> Operand {
    let (name, dtype) = (net.tensor(id).name.clone(), net.tensor(id).dtype);
    net.add(name, dtype, shape, None)
}

/// Lets all readers of `from` read `to`; false, and nothing done, where one would need a copy.
fn move_readers(
    net: &mut Net,
    uses: &mut Uses,
    from: TensorId,
    to: TensorId,
    place: &Layout,
) -> bool {
    if !accept(net, uses, from, place) {
        return false;
    }
    redirect(net, uses, from, to, place, |_, _| true)
}

/// Whether all that read a tensor could read its elements where `place` says.
fn accept(net: &Net, uses: &Uses, from: TensorId, place: &Layout) -> bool {
    let at = from.0 as usize;
    !uses.is_output[at]
        && uses.readers[at].iter().all(|&reader| {
            let Some(node) = &net.nodes[reader] else { return true };
            let mut turned = node.clone();
            for input in turned.inputs.iter_mut().filter(|input| input.tensor == from) {
                let Some(layout) = input.layout.over(place) else { return false };
                input.layout = layout;
            }
            reads(net, uses, node, &turned)
        })
}

/// Whether `turned`, which is `node` with other layouts, needs no copy that `node` does not.
fn reads(net: &Net, uses: &Uses, node: &Node, turned: &Node) -> bool {
    let changed = |at: usize| node.inputs[at] != turned.inputs[at];
    let strided = || turned.inputs.iter().all(|input| input.layout.strides().is_some());
    match &turned.kind {
        Kind::Pointwise(_) => {
            let inputs = turned.inputs.iter().map(|input| &input.layout);
            let layouts: Vec<&Layout> = inputs.chain([&turned.output.layout]).collect();
            common(&layouts).is_some()
        }
        Kind::Gemm(_) | Kind::Attention(_) => strided(),
        Kind::Conv(conv) if !changed(1) => takes(net, turned, conv) && strided(),
        Kind::ConvLast(_) => !changed(1) && strided(),
        Kind::Reduce(_) => {
            turned.inputs[0].layout.is_dense() || reduced(&turned.inputs[0]).is_some()
        }
        Kind::Pool { .. } if !turned.inputs[0].layout.is_dense() => {
            pooled(&turned.inputs[0], turned).is_some_and(|(_, output)| {
                let place = place_of_planes(&Layout::dense(&output), turned);
                let whole = is_whole(net, &turned.output);
                whole && place.is_some_and(|place| accept(net, uses, turned.output.tensor, &place))
            })
        }
        _ => (0..turned.inputs.len()).all(|at| !changed(at) || turned.inputs[at].layout.is_dense()),
    }
}
