//! `f(a * b, …)`: a product or convolution applies the element-wise node that alone reads it, and
//! stores where that node would: bias, activation, residual, and a part of a joined tensor.

use gw_shaders::expr::Expr;
use gw_shaders::kernel::Scalar;

use super::{Rules, Uses, expr, fits_kernel, is_whole, joined, replace};
use crate::net::{Kind, Net, Node, Operand, formula};

pub(super) fn apply(net: &mut Net, rules: &Rules<'_>) {
    let mut uses = Uses::of(net);
    for index in 0..net.nodes.len() {
        if let Some((node, absorbed)) = step(net, &uses, index, rules) {
            replace(net, &mut uses, index, node, Some(absorbed));
        }
    }
}

fn step(net: &Net, uses: &Uses, index: usize, rules: &Rules<'_>) -> Option<(Node, usize)> {
    let node = net.nodes[index].as_ref()?;
    let consumer = expr(node)?;
    let mut candidates: Vec<(usize, &Node)> = node
        .inputs
        .iter()
        .filter(|input| is_whole(net, input) && uses.is_only_for(input.tensor, index))
        .filter_map(|input| uses.writer(net, input.tensor))
        .filter(|(from, producer)| *from < index && epilogue(&producer.kind).is_some())
        .collect();
    // Of two products the later one: the other is then there to be read.
    candidates.sort_by_key(|(from, _)| std::cmp::Reverse(*from));
    candidates.into_iter().find_map(|(from, producer)| {
        let fused = absorbed(net, node, consumer, producer)?;
        fits_kernel(net, &fused, rules).then_some((fused, from))
    })
}

fn epilogue(kind: &Kind) -> Option<(&Expr, usize)> {
    match kind {
        Kind::Gemm(gemm) => Some((&gemm.epilogue, gemm.operands())),
        Kind::Dot(epilogue) => Some((epilogue, 2)),
        Kind::Conv(conv) | Kind::ConvLast(conv) => Some((&conv.epilogue, conv.operands())),
        _ => None,
    }
}

/// `producer` with `consumer` as the end of its epilogue.
fn absorbed(net: &Net, node: &Node, consumer: &Expr, producer: &Node) -> Option<Node> {
    let result = producer.output.tensor;
    let shape = producer.output.shape();
    let (first, operands) = epilogue(&producer.kind)?;
    let is_whole_number = matches!(producer.kind, Kind::Dot(_));
    let is_taken = |operand: &Operand| match operand.scalar() {
        Scalar::F32 => true,
        Scalar::I32 => is_whole_number,
        Scalar::U32 => false,
    };
    let sees_result = |operand: &Operand| {
        operand.tensor != result || operand.scalar() == producer.output.scalar()
    };
    let all = node.inputs.iter().all(|input| is_taken(input) && sees_result(input));
    if !is_taken(&node.output) || !all {
        return None;
    }
    let mut inputs = producer.inputs.clone();
    let mut fused = Expr::new(first.inputs.clone());
    let mut places = Vec::with_capacity(node.inputs.len());
    for input in &node.inputs {
        if input.tensor == result {
            places.push(None);
            continue;
        }
        let operand = input.with_layout(input.layout.reshaped(&shape)?);
        let own = inputs[operands..].iter().position(|other| *other == operand);
        places.push(Some(own.unwrap_or_else(|| {
            inputs.push(operand);
            inputs.len() - operands - 1
        })));
    }
    fused.inputs.truncate(1);
    fused.inputs.extend(inputs[operands..].iter().map(Operand::scalar));
    let arguments: Vec<usize> = (0..first.inputs.len()).collect();
    let value = fused.inline(first, &arguments);
    let arguments: Vec<usize> =
        places.iter().map(|place| place.map_or(value, |input| input + 1)).collect();
    fused.inline(consumer, &arguments);
    let mut kind = producer.kind.clone();
    match &mut kind {
        Kind::Dot(epilogue) => *epilogue = formula::tidied(&fused),
        Kind::Gemm(gemm) => gemm.epilogue = formula::tidied(&fused),
        Kind::ConvLast(conv) => conv.epilogue = formula::tidied(&fused),
        Kind::Conv(conv) => {
            // It has no strides for its output.
            if !is_whole(net, &node.output) {
                return None;
            }
            conv.epilogue = formula::tidied(&fused);
        }
        _ => return None,
    }
    let output = node.output.with_layout(node.output.layout.reshaped(&shape)?);
    Some(Node { names: joined(producer, node), kind, inputs, output })
}
