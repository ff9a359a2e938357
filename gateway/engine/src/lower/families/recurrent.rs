//! Layers with a state.

use gw_shaders::recurrent::{self, Cell};

use super::{Lowering, size, sizes};
use crate::error::OpError;
use crate::net::{Node, Operand, Recurrent};
use crate::plan::BufferId;

/// Dispatches of one layer, at most.
const PARTS_MAX: u32 = 1 << 12;

impl Lowering<'_> {
    pub(super) fn recurrent(&mut self, kind: &Recurrent, node: &Node) -> Result<(), OpError> {
        let [rows, directions, batch, hidden] = sizes(&node.output)?;
        let steps = rows - kind.cell.further_rows();
        let mut begins = [0, 0];
        let mut bindings = Vec::with_capacity(node.inputs.len() + 1);
        // The lengths come last, the first cell of an LSTM and the first state before.
        let states = if matches!(kind.cell, Cell::Lstm { .. }) { 2 } else { 1 };
        let first = node.inputs.len() - 1 - states;
        for (index, input) in node.inputs.iter().enumerate() {
            bindings.push(match index.checked_sub(first).filter(|&state| state < states) {
                Some(state) => {
                    let (buffer, start) = self.stretch(input)?;
                    begins[state] = start;
                    buffer
                }
                None => self.dense(input)?,
            });
        }
        bindings.push(self.buffer(node.output.tensor)?);
        let at_once = recurrent::steps_at_once(kind.cell, hidden, kind.projection)?;
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
                begins,
                projection: kind.projection,
                stored: kind.stored.clone(),
                part: [first, end],
            };
            self.step(self.made(spec)?, bindings.clone());
            first = end;
            if first == steps {
                return Ok(());
            }
        }
    }

    /// A buffer that holds what the operand sees, one after another, and where it begins there.
    fn stretch(&mut self, operand: &Operand) -> Result<(BufferId, u32), OpError> {
        match operand.layout.run() {
            Some(start) if !self.net.is_constant(operand) => {
                Ok((self.buffer(operand.tensor)?, size(start)?))
            }
            _ => Ok((self.dense(operand)?, 0)),
        }
    }
}
