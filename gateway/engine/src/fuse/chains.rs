//! `g(f(x))`: an element-wise node takes over those that only it reads, and reads through copies.

use gw_shaders::expr::{Binary, Expr, Instr, Unary};

use super::{Rules, Uses, expr, fits_kernel, joined, replace};
use crate::net::{Kind, Net, Node, Operand, formula};

/// Longer expressions run out of registers before they save more traffic.
const INSTRS_MAX: usize = 64;

/// A conversion or a comparison with its constant, and a choice.
const CHEAP_INSTRS_MAX: usize = 4;

pub(super) fn apply(net: &mut Net, rules: &Rules<'_>) {
    let mut uses = Uses::of(net);
    for index in 0..net.nodes.len() {
        while let Some((node, absorbed)) = step(net, &uses, index, rules) {
            replace(net, &mut uses, index, node, absorbed);
        }
    }
}

/// One producer taken over by the node at `index`.
fn step(net: &Net, uses: &Uses, index: usize, rules: &Rules<'_>) -> Option<(Node, Option<usize>)> {
    let node = net.nodes[index].as_ref()?;
    let consumer = expr(node)?;
    for input in &node.inputs {
        let Some((from, producer)) = uses.writer(net, input.tensor) else { continue };
        let Some(inner) = expr(producer) else { continue };
        let only = uses.is_only_for(input.tensor, index);
        let is_copy = inner.is_identity() && producer.inputs.len() == 1;
        let repeats = node.output.layout.elements() > producer.output.layout.elements();
        let computes_twice = repeats && !is_cheap(inner);
        if from >= index || !(is_copy || only && !computes_twice) {
            continue;
        }
        if inner.instrs.len() + consumer.instrs.len() > INSTRS_MAX {
            continue;
        }
        let Some(fused) = inlined(node, consumer, producer, inner) else { continue };
        if fits_kernel(net, &fused, rules) {
            return Some((fused, only.then_some(from)));
        }
    }
    None
}

/// Whether computing it again costs no more than reading its result.
fn is_cheap(expr: &Expr) -> bool {
    expr.inputs.len() == 1
        && expr.instrs.len() <= CHEAP_INSTRS_MAX
        && !expr.instrs.iter().any(|instr| match instr {
            Instr::Unary(op, _) => !matches!(op, Unary::Neg | Unary::Not | Unary::Abs),
            Instr::Binary(op, ..) => matches!(op, Binary::Pow | Binary::Mod | Binary::Fmod),
            Instr::Const(..) | Instr::Select(..) | Instr::Cast(..) => false,
        })
}

/// `consumer` with every read of `producer`'s result replaced by its expression.
fn inlined(node: &Node, consumer: &Expr, producer: &Node, inner: &Expr) -> Option<Node> {
    let result = producer.output.tensor;
    let mut inputs: Vec<Operand> = Vec::new();
    let mut place = |operand: Operand| {
        let known = inputs.iter().position(|other| *other == operand);
        known.unwrap_or_else(|| {
            inputs.push(operand);
            inputs.len() - 1
        })
    };
    // Which inputs of the fused expression each input of the consumer needs.
    let mut sources = Vec::with_capacity(node.inputs.len());
    for input in &node.inputs {
        if input.tensor != result {
            sources.push((false, vec![place(input.clone())]));
            continue;
        }
        // It reads the bits as those of another type.
        if input.scalar() != producer.output.scalar() {
            return None;
        }
        let mut arguments = Vec::with_capacity(producer.inputs.len());
        for argument in &producer.inputs {
            let layout = input.layout.over(&argument.layout)?;
            arguments.push(place(argument.with_layout(layout)));
        }
        sources.push((true, arguments));
    }
    let mut fused = Expr::new(inputs.iter().map(Operand::scalar).collect());
    let mut arguments = Vec::with_capacity(sources.len());
    for (is_inlined, places) in sources {
        arguments.push(if is_inlined { fused.inline(inner, &places) } else { places[0] });
    }
    fused.inline(consumer, &arguments);
    Some(Node {
        names: joined(producer, node),
        kind: Kind::Pointwise(formula::tidied(&fused)),
        inputs,
        output: node.output.clone(),
    })
}
