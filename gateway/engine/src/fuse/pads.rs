//! A convolution of a tensor with zeros around it pads by itself.

use super::{Rules, Uses, expr, fits_kernel, is_whole, replace};
use crate::net::formula::constant;
use crate::net::layout::Layout;
use crate::net::{Conv, Kind, Net, Node, Operand, TensorId};

pub(super) fn apply(net: &mut Net, rules: &Rules<'_>) {
    let mut uses = Uses::of(net);
    for index in 0..net.nodes.len() {
        if let Some(node) = padded(net, &uses, index).filter(|node| fits_kernel(net, node, rules)) {
            replace(net, &mut uses, index, node, None);
        }
    }
}

/// The convolution at `index`, of what lies inside the zeros.
fn padded(net: &Net, uses: &Uses, index: usize) -> Option<Node> {
    let node = net.nodes[index].as_ref()?;
    let Kind::Conv(conv) = &node.kind else { return None };
    let whole = node.inputs.first().filter(|whole| is_whole(net, whole))?;
    let (inside, place) = middle(net, uses, whole.tensor, index)?;
    let [n, c, height, width] = whole.shape()[..] else { return None };
    let area = height * width;
    let (y, x) = (place.offset() / width, place.offset() % width);
    // With one spatial axis the other has size one.
    let rest = place.elements() / (n * c).max(1);
    let (h, w) = match (height, width) {
        (1, _) => (1, rest),
        (_, 1) => (rest, 1),
        _ => {
            let shape = place.shape();
            let &[.., h, w] = shape.as_slice() else { return None };
            (h, w)
        }
    };
    let due = [(n, c * area), (c, area), (h, width), (w, 1)];
    let strides = place.reshaped(&[n, c, h, w])?.strides()?;
    let in_place = due
        .iter()
        .zip(&strides)
        .all(|(&(size, stride), &given)| size == 1 || usize::try_from(given) == Ok(stride));
    if !in_place || y + h > height || x + w > width {
        return None;
    }
    let mut window = conv.window;
    let sides = [(y, height - y - h), (x, width - x - w)];
    for (axis, (before, after)) in sides.into_iter().enumerate() {
        let grown = |pad: u32, by: usize| pad.checked_add(u32::try_from(by).ok()?);
        window.pads_begin[axis] = grown(window.pads_begin[axis], before)?;
        window.pads_end[axis] = grown(window.pads_end[axis], after)?;
    }
    let mut inputs = node.inputs.clone();
    inputs[0] = inside.with_layout(inside.layout.reshaped(&[n, c, h, w])?);
    let kind = Kind::Conv(Conv { window, ..conv.clone() });
    Some(Node { kind, inputs, ..node.clone() })
}

/// What is copied into a tensor of zeros, and where to, before the node at `index` reads it.
fn middle(net: &Net, uses: &Uses, id: TensorId, index: usize) -> Option<(Operand, Layout)> {
    let &[zeros, copy] = uses.writers[id.0 as usize].as_slice() else { return None };
    let (zeros, copying) = (net.nodes[zeros].as_ref()?, net.nodes[copy].as_ref()?);
    let is_zero = zeros.inputs.is_empty()
        && constant(expr(zeros)?, expr(zeros)?.output) == Some(0.0)
        && is_whole(net, &zeros.output);
    let is_copy = expr(copying)?.is_identity() && copy < index;
    let inside = copying.inputs.first()?;
    (is_zero && is_copy).then(|| (inside.clone(), copying.output.layout.clone()))
}
