//! Layers with a state.

use gw_shaders::recurrent;

use super::{Lowering, sizes};
use crate::error::OpError;
use crate::net::{Node, Recurrent};

impl Lowering<'_> {
    pub(super) fn recurrent(&mut self, kind: &Recurrent, node: &Node) -> Result<(), OpError> {
        let [steps, batch, directions, hidden, _] = sizes(&node.inputs[0])?;
        let spec = recurrent::Spec {
            cell: kind.cell,
            steps,
            batch,
            directions,
            reverse: kind.reverse,
            hidden,
            clip: kind.clip,
            activations: kind.activations.clone(),
        };
        self.dense_step(node, recurrent::dispatch(&spec, self.caps)?)
    }
}
