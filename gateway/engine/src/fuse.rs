//! Several nodes become one where one dispatch can do their work. A file per rule.
//!
//! The order matters: a rule sees what those before it left.
//!
//! 1. [`attention`]: products, mask and softmax in between.
//! 2. [`layer_norm`]: a normalisation that is written out.
//! 3. [`pads`]: zeros around the input of a convolution.
//! 4. [`pooling`]: weighted sums of rows.
//! 5. [`quantised`]: weights that are expanded from bytes stay bytes, of products, filters, tables.
//! 6. [`constants`]: what is still computed from constants alone is computed now.
//! 7. [`channels_last`]: convolutions whose channels lie side by side, and what is between them.
//! 8. [`chains`]: element-wise nodes that read each other.
//! 9. [`epilogue`]: an element-wise node after a product or convolution.
//! 10. [`siblings`]: products of one input with several weights.
//! 11. [`recurrent`]: the input of a layer with a state, and what is done to its states.
//! 12. [`rows`]: sums of rows that indices name, and normalisations of what makes rows.
//! 13. [`attention::window`]: masks that positions alone decide.
//! 14. [`attention::mask`]: what an attention adds to the scores of a key.
//!
//! [`Lineage`] keeps track of which nodes of the model are where.

mod attention;
mod chains;
mod channels_last;
mod constants;
mod epilogue;
mod layer_norm;
mod pads;
mod pooling;
mod quantised;
mod recurrent;
mod rows;
mod siblings;

use gw_shaders::kernel::Caps;

use crate::error::OpError;
use crate::lower::{Constants, fits};
use crate::model::{PlanOptions, WeightMode};
use crate::net::lineage::Lineage;
use crate::net::{Kind, Net, Node, Operand, TensorId};
use crate::plan::why::NodeName;

/// What a rule may use beside the graph.
pub(crate) struct Rules<'a> {
    pub(crate) caps: &'a Caps,
    pub(crate) options: PlanOptions,
    pub(crate) constants: &'a Constants,
}

/// Applies every rule that `rules` allow, in place.
pub(crate) fn fuse(net: &mut Net, rules: &Rules<'_>) -> Result<(), OpError> {
    net.drop_unread();
    if rules.options.fuse {
        // Here, because what follows counts on the places of nodes.
        channels_last::write_out(net);
    }
    let lineage = Lineage::of(net);
    if rules.options.fuse {
        attention::apply(net, rules);
        layer_norm::apply(net, rules);
        pads::apply(net, rules);
        pooling::apply(net, rules);
        net.drop_unread();
    }
    if rules.options.fuse && rules.options.weights == WeightMode::Int8 {
        quantised::apply(net)?;
        net.drop_unread();
    }
    constants::apply(net, rules.constants);
    if rules.options.fuse {
        if channels_last::apply(net, rules) {
            // Some rows lie together only now.
            layer_norm::apply(net, rules);
            net.drop_unread();
        }
        chains::apply(net, rules);
        net.drop_unread();
        epilogue::apply(net, rules);
        siblings::apply(net, rules)?;
        recurrent::apply(net, rules);
        net.drop_unread();
        rows::apply(net, rules);
        attention::window::apply(net, rules);
        net.drop_unread();
        attention::mask::apply(net, rules);
        net.drop_unread();
    }
    lineage.credit(net);
    Ok(())
}

/// Who writes and who reads each tensor.
struct Uses {
    writers: Vec<Vec<usize>>,
    /// A node that reads a tensor twice is there twice.
    readers: Vec<Vec<usize>>,
    is_output: Vec<bool>,
}

impl Uses {
    fn of(net: &Net) -> Self {
        let count = net.tensors.len();
        let mut uses = Self {
            writers: vec![Vec::new(); count],
            readers: vec![Vec::new(); count],
            is_output: vec![false; count],
        };
        for output in &net.outputs {
            uses.is_output[output.operand.tensor.0 as usize] = true;
        }
        for (index, node) in net.nodes.iter().enumerate() {
            if let Some(node) = node {
                uses.add(index, node);
            }
        }
        uses
    }

    /// Makes room for tensors that were added since.
    fn grow(&mut self, net: &Net) {
        let count = net.tensors.len();
        self.writers.resize_with(count, Vec::new);
        self.readers.resize_with(count, Vec::new);
        self.is_output.resize(count, false);
    }

    fn add(&mut self, index: usize, node: &Node) {
        self.writers[node.output.tensor.0 as usize].push(index);
        for input in &node.inputs {
            self.readers[input.tensor.0 as usize].push(index);
        }
    }

    fn remove(&mut self, index: usize, node: &Node) {
        self.writers[node.output.tensor.0 as usize].retain(|&other| other != index);
        for input in &node.inputs {
            self.readers[input.tensor.0 as usize].retain(|&other| other != index);
        }
    }

    /// The node that alone writes all of a tensor.
    fn writer<'n>(&self, net: &'n Net, id: TensorId) -> Option<(usize, &'n Node)> {
        let &[index] = self.writers[id.0 as usize].as_slice() else { return None };
        let node = net.nodes[index].as_ref()?;
        let whole = node.output.layout.elements() == net.tensor(id).shape.elements();
        (whole && node.output.layout.is_dense()).then_some((index, node))
    }

    /// Whether `reader` is the only one that wants a tensor.
    fn is_only_for(&self, id: TensorId, reader: usize) -> bool {
        let readers = &self.readers[id.0 as usize];
        !self.is_output[id.0 as usize] && readers.iter().all(|&other| other == reader)
    }
}

/// Puts `node` in the place of `index` and takes `absorbed` away.
fn replace(net: &mut Net, uses: &mut Uses, index: usize, node: Node, absorbed: Option<usize>) {
    uses.grow(net);
    for old in [Some(index), absorbed].into_iter().flatten() {
        if let Some(old_node) = net.nodes[old].take() {
            uses.remove(old, &old_node);
        }
    }
    uses.add(index, &node);
    net.nodes[index] = Some(node);
}

/// Whether the operand is all of its tensor, in its order.
fn is_whole(net: &Net, operand: &Operand) -> bool {
    operand.layout.is_dense()
        && operand.layout.elements() == net.tensor(operand.tensor).shape.elements()
}

/// Whether a kernel takes `node` in one dispatch.
fn fits_kernel(net: &Net, node: &Node, rules: &Rules<'_>) -> bool {
    fits(net, node, rules.caps, rules.constants)
}

/// The names of two nodes that become one.
fn joined(first: &Node, second: &Node) -> Vec<NodeName> {
    let mut names = first.names.clone();
    names.extend(second.names.iter().cloned());
    names
}

/// The expression of an element-wise node.
fn expr(node: &Node) -> Option<&gw_shaders::expr::Expr> {
    match &node.kind {
        Kind::Pointwise(expr) => Some(expr),
        _ => None,
    }
}

/// Lets every reader of `from` read `to` instead, which holds the same elements where `place`
/// says; false, and nothing done, where a reader cannot.
fn redirect(
    net: &mut Net,
    uses: &mut Uses,
    from: TensorId,
    to: TensorId,
    place: &crate::net::layout::Layout,
    accepts: impl Fn(&Node, &Operand) -> bool,
) -> bool {
    uses.grow(net);
    let moved = |operand: &Operand| {
        let layout = operand.layout.over(place)?;
        Some(Operand { tensor: to, layout, dtype: operand.dtype })
    };
    let mut changed = Vec::new();
    let mut readers = uses.readers[from.0 as usize].clone();
    readers.dedup();
    for index in readers {
        let Some(node) = &net.nodes[index] else { continue };
        let mut node = node.clone();
        for position in 0..node.inputs.len() {
            if node.inputs[position].tensor != from {
                continue;
            }
            let Some(operand) = moved(&node.inputs[position]) else { return false };
            if !accepts(&node, &operand) {
                return false;
            }
            node.inputs[position] = operand;
        }
        changed.push((index, node));
    }
    let mut outputs = net.outputs.clone();
    for output in &mut outputs {
        if output.operand.tensor == from {
            let Some(operand) = moved(&output.operand) else { return false };
            output.operand = operand;
            uses.is_output[to.0 as usize] = true;
        }
    }
    net.outputs = outputs;
    for (index, node) in changed {
        replace(net, uses, index, node, None);
    }
    true
}
