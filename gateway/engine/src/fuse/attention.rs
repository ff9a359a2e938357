//! `softmax(scale * q kᵀ + mask) v`, in the forms that exporters write: scales on either side of
//! the product, an added mask or a choice of minus infinity, zeros for rows without a key.

pub(super) mod mask;
pub(super) mod window;

use gw_shaders::attention::Window;
use gw_shaders::expr::{Binary, Expr, Instr, Unary};
use gw_shaders::kernel::Scalar;

use super::{Rules, Uses, expr, fits_kernel, is_whole, redirect, replace};
use crate::net::formula::{Formula, constant, only_instr};
use crate::net::layout::Layout;
use crate::net::{Attention, Kind, MaskKind, Net, Node, Operand};
use crate::plan::why::NodeName;

/// Choosing a number this low hides a key as adding it does: no score reaches its last digit.
const HIDES: f64 = -1e30;

/// Steps between a product and its softmax, at most.
const STEPS_MAX: usize = 8;

pub(super) fn apply(net: &mut Net, rules: &Rules<'_>) {
    let mut uses = Uses::of(net);
    for index in 0..net.nodes.len() {
        if let Some(found) = find(net, &uses, index) {
            fuse(net, &mut uses, index, found, rules);
        }
    }
}

/// The parts of an attention that ends with the product at some index.
struct Found {
    q: Operand,
    /// `[b0, b1, keys, d]`.
    k: Operand,
    v: Operand,
    scale: f32,
    mask: Mask,
    nan_to_zero: bool,
    names: Vec<NodeName>,
}

enum Mask {
    None,
    Additive(Operand),
    /// The node at this index chooses `low` where the condition is zero.
    Choice {
        at: usize,
        condition: Operand,
        low: f64,
        negated: bool,
    },
}

fn find(net: &Net, uses: &Uses, index: usize) -> Option<Found> {
    let last = net.nodes[index].as_ref()?;
    let Kind::Gemm(_) = &last.kind else { return None };
    let mut names = Vec::new();
    let (softmax, reader, nan_to_zero) = softmax_before(net, uses, index, &mut names)?;
    let scores = softmax.inputs.first()?;
    let [_, len, inner] = scores.shape()[..] else { return None };
    let mut walk = Walk { scale: 1.0, mask: Mask::None };
    let product = scores_before(net, uses, scores, reader, &mut walk)?;
    let shape = product.output.shape();
    if inner != 1 || len != shape[3] || last.inputs[0].shape() != shape {
        return None;
    }
    names.extend(product.names.iter().cloned());
    names.reverse();
    names.extend(last.names.iter().cloned());
    let q = unscaled(net, uses, &product.inputs[0], &mut walk.scale);
    let k = unscaled(net, uses, &product.inputs[1], &mut walk.scale);
    let heads = heads(&q.layout, [shape[0], shape[1]]);
    let mask = walk.mask.reshaped(&[heads[0], heads[1], shape[2], shape[3]])?;
    let k = by_head(&k.with_layout(k.layout.transposed(&[0, 1, 3, 2])), heads)?;
    let [k, v] = ungrouped([k, by_head(&last.inputs[1], heads)?]);
    Some(Found { q: by_head(&q, heads)?, k, v, scale: walk.scale, mask, nan_to_zero, names })
}

/// Keys and values that several neighbouring heads share, once for all of them.
fn ungrouped(given: [Operand; 2]) -> [Operand; 2] {
    let once = given.each_ref().map(|operand| operand.layout.one_of_each(1));
    match once {
        [Some(k), Some(v)] if k.shape()[1] == v.shape()[1] => {
            [given[0].with_layout(k), given[1].with_layout(v)]
        }
        _ => given,
    }
}

/// The two batch axes; where the model joined entries and heads to one, they come apart again.
fn heads(layout: &Layout, batch: [usize; 2]) -> [usize; 2] {
    match layout.factor_sizes(1).as_slice() {
        &[entries, heads] if batch[0] == 1 => [entries, heads],
        _ => batch,
    }
}

fn by_head(operand: &Operand, [entries, heads]: [usize; 2]) -> Option<Operand> {
    let shape = operand.shape();
    let layout = operand.layout.reshaped(&[entries, heads, shape[2], shape[3]])?;
    Some(operand.with_layout(layout))
}

/// The softmax whose result the product at `index` reads, also through a guard that gives zeros
/// for NaN; the node that reads the softmax; and whether there is such a guard.
fn softmax_before<'n>(
    net: &'n Net,
    uses: &Uses,
    index: usize,
    names: &mut Vec<NodeName>,
) -> Option<(&'n Node, usize, bool)> {
    let node = net.nodes[index].as_ref()?;
    let probabilities = &node.inputs[0];
    let (at, before) = whole_from(net, uses, probabilities, index)?;
    if let Kind::Softmax { log: false } = before.kind {
        names.extend(before.names.iter().cloned());
        return Some((before, at, false));
    }
    let Some(Instr::Select(test, zero, value)) = only_instr(expr(before)?) else { return None };
    let (test, value) = (before.inputs.get(test)?, before.inputs.get(value)?);
    let (check_at, check) = uses.writer(net, test.tensor)?;
    let guards = constant(expr(before)?, zero) == Some(0.0)
        && only_instr(expr(check)?) == Some(Instr::Unary(Unary::IsNan, 0))
        && check.inputs.first()?.tensor == value.tensor
        && is_whole(net, value)
        && is_whole(net, test)
        && is_whole(net, &check.inputs[0])
        && uses.is_only_for(test.tensor, at);
    let (softmax_at, softmax) = uses.writer(net, value.tensor)?;
    let readers = &uses.readers[value.tensor.0 as usize];
    let alone = readers.iter().all(|&reader| reader == at || reader == check_at)
        && !uses.is_output[value.tensor.0 as usize];
    let Kind::Softmax { log: false } = softmax.kind else { return None };
    names.extend(softmax.names.iter().cloned());
    (guards && alone).then_some((softmax, softmax_at, true))
}

/// The node that makes `operand` for the node at `reader` alone, which reads it as it is.
fn whole_from<'n>(
    net: &'n Net,
    uses: &Uses,
    operand: &Operand,
    reader: usize,
) -> Option<(usize, &'n Node)> {
    let found = uses.writer(net, operand.tensor)?;
    (is_whole(net, operand) && uses.is_only_for(operand.tensor, reader)).then_some(found)
}

/// What lies between the product and the softmax.
struct Walk {
    scale: f32,
    mask: Mask,
}

/// The product that the scores come from, and what is done to it on the way.
fn scores_before<'n>(
    net: &'n Net,
    uses: &Uses,
    scores: &Operand,
    reader: usize,
    walk: &mut Walk,
) -> Option<&'n Node> {
    let (mut at, mut node) = whole_from(net, uses, scores, reader)?;
    for _ in 0..STEPS_MAX {
        if let Kind::Gemm(gemm) = &node.kind {
            return (gemm.epilogue.is_identity() && !gemm.quantised).then_some(node);
        }
        let next = walk.step(net, uses, at, node)?;
        (at, node) = whole_from(net, uses, next, at)?;
    }
    None
}

impl Walk {
    /// Takes in what `node` does to the scores, and gives the operand that they come from.
    fn step<'n>(
        &mut self,
        net: &Net,
        uses: &Uses,
        at: usize,
        node: &'n Node,
    ) -> Option<&'n Operand> {
        let expr = expr(node)?;
        if let Some((operand, factor)) = factor(expr, node) {
            self.scale *= factor;
            return Some(operand);
        }
        // A factor behind the mask would have to scale the mask too.
        if self.scale != 1.0 || !matches!(self.mask, Mask::None) {
            return None;
        }
        let shape = node.output.shape();
        let is_scores = |register: usize| {
            node.inputs.get(register).filter(|operand| {
                operand.shape() == shape && whole_from(net, uses, operand, at).is_some()
            })
        };
        match only_instr(expr)? {
            Instr::Binary(Binary::Add, a, b) => {
                let is_product = |register: usize| {
                    let operand = is_scores(register)?;
                    // No second mask is looked for, so this goes no deeper.
                    let mut rest = Walk { scale: 1.0, mask: Mask::Additive(operand.clone()) };
                    scores_before(net, uses, operand, at, &mut rest).map(|_| operand)
                };
                let (scores, other) = match is_product(a) {
                    Some(scores) => (scores, b),
                    None => (is_product(b)?, a),
                };
                let mask = node.inputs.get(other)?;
                self.mask = Mask::Additive(mask.clone());
                Some(scores)
            }
            Instr::Select(condition, a, b) => {
                let condition = node.inputs.get(condition)?.clone();
                let (scores, low, negated) = match constant(expr, b) {
                    Some(low) => (is_scores(a)?, low, false),
                    None => (is_scores(b)?, constant(expr, a)?, true),
                };
                if low > HIDES {
                    return None;
                }
                self.mask = Mask::Choice { at, condition, low, negated };
                Some(scores)
            }
            _ => None,
        }
    }
}

impl Mask {
    fn reshaped(self, shape: &[usize]) -> Option<Self> {
        let reshaped = |operand: Operand| {
            let layout = operand.layout.reshaped(shape)?;
            Some(operand.with_layout(layout))
        };
        Some(match self {
            Self::None => Self::None,
            Self::Additive(operand) => Self::Additive(reshaped(operand)?),
            Self::Choice { at, condition, low, negated } => {
                Self::Choice { at, condition: reshaped(condition)?, low, negated }
            }
        })
    }
}

/// The operand and the number that a node multiplies.
fn factor<'n>(expr: &Expr, node: &'n Node) -> Option<(&'n Operand, f32)> {
    #[expect(clippy::cast_possible_truncation, reason = "the constant was a float")]
    let number = |register| constant(expr, register).map(|value| value as f32);
    let operand = |register: usize| node.inputs.get(register);
    match only_instr(expr)? {
        Instr::Binary(Binary::Mul, a, b) => match number(b) {
            Some(value) => Some((operand(a)?, value)),
            None => Some((operand(b)?, number(a)?)),
        },
        Instr::Binary(Binary::Div, a, b) => Some((operand(a)?, 1.0 / number(b)?)),
        _ => None,
    }
}

/// What `operand` is before it is multiplied by numbers, which go into `scale`.
fn unscaled(net: &Net, uses: &Uses, operand: &Operand, scale: &mut f32) -> Operand {
    let mut current = operand.clone();
    for _ in 0..STEPS_MAX {
        let before = uses.writer(net, current.tensor).and_then(|(_, node)| {
            let expr = expr(node)?;
            let (source, value) = match expr.is_identity() {
                true => (node.inputs.first()?, 1.0),
                false => factor(expr, node)?,
            };
            Some((source.with_layout(current.layout.over(&source.layout)?), value))
        });
        let Some((source, value)) = before else { break };
        *scale *= value;
        current = source;
    }
    current
}

fn fuse(net: &mut Net, uses: &mut Uses, index: usize, found: Found, rules: &Rules<'_>) {
    let Some(last) = net.nodes[index].clone() else { return };
    let mut inputs = vec![found.q, found.k, found.v];
    let mut mask_node = None;
    let kind = match found.mask {
        Mask::None => MaskKind::None,
        Mask::Additive(operand) => {
            inputs.push(operand);
            MaskKind::Additive
        }
        Mask::Choice { at, condition, low, negated } => {
            let (node, operand) = chosen_mask(net, at, &condition, low, negated);
            mask_node = Some((at, node));
            inputs.push(operand);
            MaskKind::Additive
        }
    };
    let kind = Kind::Attention(Attention {
        scale: found.scale,
        mask: kind,
        mask_expr: None,
        window: Window::ALL,
        counts: None,
        nan_to_zero: found.nan_to_zero,
    });
    // Rows of all heads side by side, as the product that comes next reads them.
    let shape = last.output.shape();
    let [b0, b1, queries, _] = inputs[0].shape()[..] else { return };
    let width = shape[3];
    let name = net.tensor(last.output.tensor).name.clone();
    let side_by_side = net.add(name, last.output.dtype, [b0, queries, b1, width], None);
    let by_head = side_by_side.layout.transposed(&[0, 2, 1, 3]);
    let Some(place) = by_head.reshaped(&shape) else { return };
    let whole = last.output.layout.reshaped(&[b0, b1, queries, width]);
    let Some(whole) = whole.map(|layout| last.output.with_layout(layout)) else { return };
    let output = side_by_side.with_layout(by_head);
    let node = Node { names: found.names, kind, inputs, output };
    if !fits_kernel(net, &node, rules) || !is_whole(net, &last.output) {
        return;
    }
    if let Some((at, mask)) = mask_node {
        replace(net, uses, at, mask, None);
    }
    let moves =
        redirect(net, uses, last.output.tensor, side_by_side.tensor, &place, |reader, operand| {
            !matches!(reader.kind, Kind::Gemm(_)) || operand.layout.strides().is_some()
        });
    let output = if moves { node.output.clone() } else { whole };
    replace(net, uses, index, Node { output, ..node }, None);
}

/// A node that gives 0 where the condition holds and `low` where not, in place of the choice.
fn chosen_mask(
    net: &mut Net,
    at: usize,
    condition: &Operand,
    low: f64,
    negated: bool,
) -> (Node, Operand) {
    let mut formula = Formula::new(&[condition.scalar()]);
    let zero = formula.c(0.0);
    let low = formula.0.constant(Scalar::F32, low);
    let (yes, no) = if negated { (low, zero) } else { (zero, low) };
    formula.select(0, yes, no);
    // Only what differs is computed: axes along which the condition repeats are left out.
    let (small, full) = without_repeats(std::slice::from_ref(&condition.layout));
    let dtype = gw_tensor::DType::F32;
    let names = net.nodes[at].as_ref().map_or_else(Vec::new, |node| node.names.clone());
    let name = format!("{} mask", names.first().map_or("", |node| node.name.as_str()));
    let output = net.add(name, dtype, small[0].shape(), None);
    let operand = output.with_layout(output.layout.expanded(&full));
    let inputs = vec![condition.with_layout(small[0].clone())];
    (Node { names, kind: Kind::Pointwise(formula.0), inputs, output }, operand)
}

/// Views of one shape with every axis along which all repeat cut to size one, and that shape.
fn without_repeats(layouts: &[Layout]) -> (Vec<Layout>, Vec<usize>) {
    let shape = layouts.first().map_or_else(Vec::new, Layout::shape);
    let mut small = layouts.to_vec();
    for axis in 0..shape.len() {
        let cut = small.iter().zip(layouts).map(|(small, layout)| {
            small.sliced(axis, 0, 1, 1).filter(|cut| cut.expanded(&shape) == *layout)
        });
        if let Some(cut) = cut.collect() {
            small = cut;
        }
    }
    (small, shape)
}

/// The attention at `index` that has a mask, which is its fourth input.
fn masked(net: &Net, index: usize) -> Option<(&Node, &Attention)> {
    let node = net.nodes[index].as_ref()?;
    match &node.kind {
        Kind::Attention(attention) if attention.mask != MaskKind::None => Some((node, attention)),
        _ => None,
    }
}
