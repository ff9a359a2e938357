//! What is computed from constants alone is computed before the run: expanded weights, positions.

use crate::lower::{Constants, key};
use crate::net::{Kind, Net, Node, Operand, fold};

/// All that one plan may fold: 512 MiB of floats.
const ELEMENTS_MAX: usize = 1 << 27;

pub(super) fn apply(net: &mut Net, constants: &Constants) {
    let mut budget = ELEMENTS_MAX;
    for index in 0..net.nodes.len() {
        let Some(node) = &net.nodes[index] else { continue };
        let Kind::Pointwise(expr) = &node.kind else { continue };
        let elements = node.output.layout.elements();
        let whole = super::is_whole(net, &node.output);
        let known = node.inputs.iter().all(|input| net.is_constant(input));
        if !whole || !known || node.inputs.is_empty() || elements > budget {
            continue;
        }
        budget -= elements;
        let stable = node.inputs.iter().all(|input| net.tensor(input.tensor).stable);
        let compute = || {
            let data = node.inputs.iter().map(|input| net.constant(input));
            let data = data.collect::<Option<Vec<_>>>()?;
            fold::pointwise(expr, &data, node.output.dtype)
        };
        let name = if stable { folded_key(net, node) } else { String::new() };
        let folded = if stable { constants.folded(&name, compute) } else { compute() };
        let Some(folded) = folded else { continue };
        let tensor = &mut net.tensors[node.output.tensor.0 as usize];
        let shape = tensor.shape.clone();
        let Ok(folded) = folded.reshaped(shape) else { continue };
        if stable {
            tensor.name = name;
            tensor.stable = true;
        }
        tensor.constant = Some(folded);
        net.nodes[index] = None;
    }
}

/// What names the result in every plan: the data it comes from and what is done to them.
fn folded_key(net: &Net, node: &Node) -> String {
    let inputs: Vec<String> = node.inputs.iter().map(|input: &Operand| key(net, input)).collect();
    let name = &net.tensor(node.output.tensor).name;
    format!("{name} = {:?} of {}", node.kind, inputs.join(", "))
}
