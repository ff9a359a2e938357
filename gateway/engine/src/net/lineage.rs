//! Which node of the model each fused node computes, whatever rule took it over.

use std::collections::HashSet;

use super::{Net, TensorId};
use crate::plan::why::NodeName;

/// Who was there before the rules, and who read whom.
pub(crate) struct Lineage {
    nodes: Vec<Option<Known>>,
    readers: Vec<Vec<usize>>,
}

struct Known {
    names: Vec<NodeName>,
    output: TensorId,
}

impl Lineage {
    pub(crate) fn of(net: &Net) -> Self {
        let mut readers = vec![Vec::new(); net.tensors.len()];
        let mut nodes = Vec::with_capacity(net.nodes.len());
        for (index, node) in net.nodes.iter().enumerate() {
            nodes.push(node.as_ref().map(|node| {
                for input in &node.inputs {
                    readers[input.tensor.0 as usize].push(index);
                }
                Known { names: node.names.clone(), output: node.output.tensor }
            }));
        }
        Self { nodes, readers }
    }

    /// Gives the names that the rules left out to the nodes that compute them now: those that
    /// come first on the way to who reads their results.
    pub(crate) fn credit(self, net: &mut Net) {
        let named = net.nodes.iter().flatten().flat_map(|node| &node.names);
        let named: HashSet<NodeName> = named.cloned().collect();
        for (index, known) in self.nodes.iter().enumerate().rev() {
            let Some(Known { names, .. }) = known else { continue };
            let lost: Vec<&NodeName> = names.iter().filter(|name| !named.contains(name)).collect();
            if lost.is_empty() {
                continue;
            }
            for heir in self.heirs(net, index) {
                if let Some(node) = &mut net.nodes[heir] {
                    node.names.splice(0..0, lost.iter().map(|name| (*name).clone()));
                }
            }
        }
        for node in net.nodes.iter_mut().flatten() {
            let mut seen = HashSet::new();
            node.names.retain(|name| seen.insert(name.clone()));
        }
    }

    fn heirs(&self, net: &Net, index: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut open = vec![index];
        let mut seen = HashSet::new();
        while let Some(at) = open.pop() {
            let Some(known) = &self.nodes[at] else { continue };
            // What is a constant now has no heirs.
            if !seen.insert(at) || net.tensor(known.output).constant.is_some() {
                continue;
            }
            match &net.nodes[at] {
                Some(_) => found.push(at),
                None => open.extend(&self.readers[known.output.0 as usize]),
            }
        }
        found
    }
}
