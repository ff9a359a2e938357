//! Layers with a state.

use gw_shaders::recurrent;

use super::{Lowering, sizes};
use crate::error::OpError;
use crate::net::{Node, Recurrent};

/// Dispatches of one layer, at most.
const PARTS_MAX: u32 = 1 << 12;

impl Lowering<'_> {
    pub(super) fn recurrent(&mut self, kind: &Recurrent, node: &Node) -> Result<(), OpError> {
        let [steps, batch, directions, hidden, _] = sizes(&node.inputs[0])?;
        let mut bindings =
            node.inputs.iter().map(|input| self.dense(input)).collect::<Result<Vec<_>, _>>()?;
        bindings.push(self.buffer(node.output.tensor)?);
        let at_once = recurrent::steps_at_once(kind.cell, hidden)?;
        if steps.div_ceil(at_once) > PARTS_MAX {
            return Err(OpError::Unsupported(format!("{steps} steps of {hidden} units")));
        }
        let mut first = 0u32;
        loop {
            let end = first.saturating_add(at_once).min(steps);
            let spec = recurrent::Spec {
                cell: kind.cell,
                steps,
                batch,
                directions,
                reverse: kind.reverse,
                hidden,
                clip: kind.clip,
                activations: kind.activations.clone(),
                part: [first, end],
            };
            self.step(self.made(spec)?, bindings.clone());
            first = end;
            if first == steps {
                return Ok(());
            }
        }
    }
}
