//! `(x - mean) / sqrt(mean of (x - mean)² + eps) * scale + bias` over the last axis, as exporters
//! wrote it before `LayerNormalization` was an operator, and `x / sqrt(mean of x² + eps) * scale`,
//! as they still write `RMSNormalization`: by a division, or a product with the reciprocal.

use gw_shaders::expr::{Binary, Expr, Instr, Unary};
use gw_shaders::kernel::Scalar;
use gw_shaders::norm;
use gw_shaders::reduce::Op;

use super::{Rules, Uses, expr, fits_kernel, is_whole, joined, replace};
use crate::net::formula::{constant, only_instr};
use crate::net::layout::Layout;
use crate::net::{Kind, Net, Node, Operand};

pub(super) fn apply(net: &mut Net, rules: &Rules<'_>) {
    let mut uses = Uses::of(net);
    for index in 0..net.nodes.len() {
        if let Some(node) = normalised(net, &uses, index).filter(|n| fits_kernel(net, n, rules)) {
            replace(net, &mut uses, index, node, None);
        }
    }
    // The scale first, then the bias, each by the node that alone reads the rows.
    for (op, weights) in [(Binary::Mul, [false, false]), (Binary::Add, [true, false])] {
        for index in 0..net.nodes.len() {
            if let Some((from, node)) = weighted(net, &uses, index, op, weights)
                .filter(|(_, node)| fits_kernel(net, node, rules))
            {
                replace(net, &mut uses, index, node, Some(from));
            }
        }
    }
}

/// The normalisation that ends with the division or product at `index`.
fn normalised(net: &Net, uses: &Uses, index: usize) -> Option<Node> {
    let node = net.nodes[index].as_ref()?;
    let shape = node.output.shape();
    let cols = *shape.last().filter(|_| is_whole(net, &node.output))?;
    let row = |register: usize| {
        let operand = per_row(net, node.inputs.get(register)?, &shape)?;
        Some(uses.writer(net, operand.tensor)?.1)
    };
    let inverse = |register: usize| inverse_root(net, uses, row(register)?);
    let (numerator, (eps, variance)) = match only_instr(expr(node)?)? {
        Instr::Binary(Binary::Div, a, b) => (a, root_of_sum(net, uses, row(b)?)?),
        Instr::Binary(Binary::Mul, a, b) => match inverse(b) {
            Some(found) => (a, found),
            None => (b, inverse(a)?),
        },
        _ => return None,
    };
    let numerator = node.inputs.get(numerator)?;
    let squares = row_mean(net, uses, &variance, cols)?;
    let deviation = squared(net, uses, &squares)?;
    let seen = |operand: &Operand| Some(operand.with_layout(operand.layout.reshaped(&shape)?));
    let centres = [numerator, &deviation].map(|operand| centred(net, uses, operand, &shape));
    let (kind, x) = match centres {
        [Some(x), Some(same)] if x == same => (norm::Kind::Layer, x),
        _ if seen(numerator)? == seen(&deviation)? => (norm::Kind::Rms, seen(numerator)?),
        _ => return None,
    };
    let rows = node.output.layout.elements() / cols.max(1);
    let form = norm::Form { kind, eps, scale: false, bias: false };
    let flat =
        |operand: &Operand| Some(operand.with_layout(operand.layout.reshaped(&[rows, cols])?));
    let output = flat(&node.output)?;
    let (names, kind) = (node.names.clone(), Kind::Norm(form));
    Some(Node { names, kind, inputs: vec![flat(&x)?], output })
}

/// The epsilon and the variance of `1 / sqrt(variance + epsilon)`, in the forms there are.
fn inverse_root(net: &Net, uses: &Uses, node: &Node) -> Option<(f32, Operand)> {
    let expr = expr(node)?;
    let before = node.inputs.first().filter(|before| is_whole(net, before))?;
    let (_, before) = uses.writer(net, before.tensor)?;
    match only_instr(expr)? {
        Instr::Unary(Unary::Reciprocal, 0) => root_of_sum(net, uses, before),
        Instr::Binary(Binary::Div, a, 0) if constant(expr, a) == Some(1.0) => {
            root_of_sum(net, uses, before)
        }
        Instr::Binary(Binary::Pow, 0, b) if constant(expr, b) == Some(-0.5) => sum(net, before),
        _ => None,
    }
}

/// The x of `x - mean(x)`, seen as `shape`.
fn centred(net: &Net, uses: &Uses, operand: &Operand, shape: &[usize]) -> Option<Operand> {
    let (_, node) = whole_writer(net, uses, operand, shape)?;
    let Instr::Binary(Binary::Sub, a, b) = only_instr(expr(node)?)? else { return None };
    let (x, mean) = (node.inputs.get(a)?, node.inputs.get(b)?);
    let own = node.output.shape();
    let source = row_mean(net, uses, per_row(net, mean, &own)?, *own.last()?)?;
    let same =
        source.tensor == x.tensor && source.layout.reshaped(shape)? == x.layout.reshaped(shape)?;
    same.then_some(x.with_layout(x.layout.reshaped(shape)?))
}

/// The node that makes all of what `operand` sees, in its order, as `shape`.
fn whole_writer<'n>(
    net: &'n Net,
    uses: &Uses,
    operand: &Operand,
    shape: &[usize],
) -> Option<(usize, &'n Node)> {
    let elements: usize = shape.iter().product();
    let same = is_whole(net, operand) && operand.layout.elements() == elements;
    uses.writer(net, operand.tensor).filter(|_| same)
}

/// An operand with one value per row of `shape`, repeated along it: all of its tensor.
fn per_row<'o>(net: &Net, operand: &'o Operand, shape: &[usize]) -> Option<&'o Operand> {
    let mut column = shape.to_vec();
    *column.last_mut()? = 1;
    let rows: usize = column.iter().product();
    let expected = Layout::dense(&column).expanded(shape);
    let whole = net.tensor(operand.tensor).shape.elements() == rows;
    (whole && operand.layout == expected).then_some(operand)
}

/// What the mean over rows of `cols` elements, which `operand` is, is taken of.
fn row_mean(net: &Net, uses: &Uses, operand: &Operand, cols: usize) -> Option<Operand> {
    let (_, node) = uses.writer(net, operand.tensor)?;
    let Kind::Reduce(Op::Mean) = node.kind else { return None };
    let source = node.inputs.first()?;
    let fits = source.shape()[1..] == [cols, 1];
    fits.then(|| source.clone())
}

/// The epsilon and the variance of `sqrt(variance + epsilon)`, in one node or two.
fn root_of_sum(net: &Net, uses: &Uses, node: &Node) -> Option<(f32, Operand)> {
    let root = expr(node)?;
    match only_instr(root)? {
        Instr::Unary(Unary::Sqrt, 0) => {}
        Instr::Binary(Binary::Pow, 0, b) if constant(root, b) == Some(0.5) => {}
        _ => return None,
    }
    let before = node.inputs.first().filter(|before| is_whole(net, before))?;
    sum(net, uses.writer(net, before.tensor)?.1)
}

/// The epsilon and the variance of `variance + epsilon`.
fn sum(net: &Net, node: &Node) -> Option<(f32, Operand)> {
    let expr = expr(node)?;
    let Instr::Binary(Binary::Add, a, b) = only_instr(expr)? else { return None };
    let (variance, eps) = match constant(expr, b) {
        Some(eps) => (a, eps),
        None => (b, constant(expr, a)?),
    };
    #[expect(clippy::cast_possible_truncation, reason = "the constant was a float")]
    let eps = eps as f32;
    let variance = node.inputs.get(variance).filter(|operand| is_whole(net, operand))?;
    Some((eps, variance.clone()))
}

/// The d of `d * d` or `d ^ 2`.
fn squared(net: &Net, uses: &Uses, operand: &Operand) -> Option<Operand> {
    let (_, node) = uses.writer(net, operand.tensor)?;
    let expr: &Expr = expr(node)?;
    let is_square = match only_instr(expr)? {
        Instr::Binary(Binary::Mul, a, b) => a == b,
        Instr::Binary(Binary::Pow, _, b) => constant(expr, b) == Some(2.0),
        _ => false,
    };
    (is_square && is_whole(net, operand)).then(|| node.inputs.first().cloned()).flatten()
}

/// A normalisation with the scale or bias that the node at `index` applies.
fn weighted(
    net: &Net,
    uses: &Uses,
    index: usize,
    op: Binary,
    expected: [bool; 2],
) -> Option<(usize, Node)> {
    let node = net.nodes[index].as_ref()?;
    let Instr::Binary(found, a, b) = only_instr(expr(node)?)? else { return None };
    let sides = [(a, b), (b, a)];
    sides.into_iter().filter(|_| found == op).find_map(|(rows, weight)| {
        let (rows, weight) = (node.inputs.get(rows)?, node.inputs.get(weight)?);
        let (from, producer) = uses.writer(net, rows.tensor)?;
        let Kind::Norm(form) = producer.kind else { return None };
        let alone = is_whole(net, rows) && uses.is_only_for(rows.tensor, index);
        if !alone || [form.scale, form.bias] != expected || !is_whole(net, &node.output) {
            return None;
        }
        let last = node.output.shape().len().checked_sub(1)?;
        let values = weight.layout.varying_along(last)?;
        let cols = producer.inputs[0].shape()[1];
        if weight.scalar() != Scalar::F32 || values.elements() != cols || from >= index {
            return None;
        }
        let mut inputs = producer.inputs.clone();
        inputs.push(weight.with_layout(values));
        let is_scale = op == Binary::Mul;
        let bias = form.bias || !is_scale;
        let kind = Kind::Norm(norm::Form { scale: true, bias, ..form });
        let layout = node.output.layout.reshaped(&producer.output.shape())?;
        let output = node.output.with_layout(layout);
        Some((from, Node { names: joined(producer, node), kind, inputs, output }))
    })
}
