//! Scans, sorting, scattering, trees and determinants.

use gw_shaders::{det, scan, scatter, sort, trees};

use super::{Lowering, sizes};
use crate::error::OpError;
use crate::net::Node;
use crate::plan::BufferKind;

impl Lowering<'_> {
    pub(super) fn scan(
        &mut self,
        op: scan::Op,
        exclusive: bool,
        reverse: bool,
        node: &Node,
    ) -> Result<(), OpError> {
        let [outer, len, inner] = sizes(&node.inputs[0])?;
        let scalar = node.inputs[0].scalar();
        let spec = scan::Spec { op, scalar, exclusive, reverse, outer, len, inner };
        self.dense_step(node, self.made(spec)?)
    }

    pub(super) fn scatter(&mut self, op: scatter::Op, node: &Node) -> Result<(), OpError> {
        let [rows, inner] = sizes(&node.inputs[0])?;
        let [count] = sizes(&node.inputs[1])?;
        let scalar = node.inputs[0].scalar();
        let spec = scatter::Spec { op, scalar, rows, inner, count };
        self.dense_step(node, self.made(spec)?)
    }

    pub(super) fn det(&mut self, node: &Node) -> Result<(), OpError> {
        let [count, n, _] = sizes(&node.inputs[0])?;
        let spec = det::Spec { count, n };
        self.dense_step(node, self.made(spec)?)
    }

    pub(super) fn trees(
        &mut self,
        fold: trees::Fold,
        turns: u32,
        node: &Node,
    ) -> Result<(), OpError> {
        let [rows, features] = sizes(&node.inputs[0])?;
        let [nodes, _] = sizes(&node.inputs[1])?;
        let [trees] = sizes(&node.inputs[2])?;
        let [weights] = sizes(&node.inputs[3])?;
        let [_, targets] = sizes(&node.output)?;
        let spec = trees::Spec { fold, rows, features, nodes, trees, weights, targets, turns };
        self.dense_step(node, self.made(spec)?)
    }

    /// One step per pass, with the order between two passes in a buffer of its own.
    pub(super) fn sort(&mut self, largest: bool, node: &Node) -> Result<(), OpError> {
        let [outer, len, inner] = sizes(&node.inputs[0])?;
        let [_, keep, _] = sizes(&node.output)?;
        let scalar = node.inputs[0].scalar();
        let spec = sort::Spec { scalar, largest, outer, len, inner, keep, run: 0 };
        let x = self.dense(&node.inputs[0])?;
        let elements = node.inputs[0].layout.elements();
        let mut order = None;
        for pass in sort::passes(&spec) {
            let made = self.made(pass.clone())?;
            let result = match pass.is_last() {
                true => self.buffer(node.output.tensor)?,
                false => {
                    let name = format!("{} runs of {}", self.label, pass.leaves());
                    self.add_buffer(&name, BufferKind::Temporary, elements)
                }
            };
            let bindings = [Some(x), order, Some(result)].into_iter().flatten().collect();
            self.step(made, bindings);
            order = Some(result);
        }
        Ok(())
    }
}
