//! The kinds of node that read a neighbourhood along spatial axes.

use gw_shaders::{conv, fold, pool, resample, roi, sample};

use super::Lowering;
use super::families::sizes;
use crate::error::OpError;
use crate::net::{Conv, Node, Window};

impl Lowering<'_> {
    pub(super) fn conv(&mut self, kind: &Conv, node: &Node) -> Result<(), OpError> {
        let [batch, channels_in, h, w] = sizes(&node.inputs[0])?;
        let [_, channels_out, rows, cols] = sizes(&node.output)?;
        let mut bindings = vec![self.dense(&node.inputs[0])?, self.dense(&node.inputs[1])?];
        let per_group = channels_out / kind.groups;
        let grouped = [batch, kind.groups, per_group, rows * cols].map(|size| size as usize);
        let mut further = Vec::with_capacity(node.inputs.len() - 2);
        for operand in &node.inputs[2..] {
            let layout = operand.layout.reshaped(&grouped);
            let layout = layout.ok_or_else(|| OpError::Unsupported("this view".to_owned()))?;
            further.push(operand.with_layout(layout));
        }
        let epilogue = self.epilogue(&kind.epilogue, &further, &mut bindings)?;
        bindings.push(self.buffer(node.output.tensor)?);
        let spec = conv::Spec {
            batch,
            groups: kind.groups,
            channels_in,
            channels_out,
            input: [h, w],
            output: [rows, cols],
            kernel: kind.window.kernel,
            strides: kind.window.strides,
            pads: kind.window.pads_begin,
            dilations: kind.window.dilations,
            epilogue,
        };
        let made = self.made(spec)?;
        self.step(made, bindings);
        Ok(())
    }

    pub(super) fn pool(
        &mut self,
        kind: pool::Kind,
        window: &Window<3>,
        node: &Node,
    ) -> Result<(), OpError> {
        let [planes, d, h, w] = sizes(&node.inputs[0])?;
        let [_, slices, rows, cols] = sizes(&node.output)?;
        let spec = pool::Spec {
            kind,
            planes,
            input: [d, h, w],
            output: [slices, rows, cols],
            kernel: window.kernel,
            strides: window.strides,
            pads_begin: window.pads_begin,
            pads_end: window.pads_end,
            dilations: window.dilations,
        };
        self.dense_step(node, self.made(spec)?)
    }

    pub(super) fn fold(&mut self, window: &Window<3>, node: &Node) -> Result<(), OpError> {
        let [planes, _, _, _, d, h, w] = sizes(&node.inputs[0])?;
        let [_, slices, rows, cols] = sizes(&node.output)?;
        let spec = fold::Spec {
            planes,
            windows: [d, h, w],
            output: [slices, rows, cols],
            kernel: window.kernel,
            strides: window.strides,
            pads: window.pads_begin,
            dilations: window.dilations,
        };
        self.dense_step(node, self.made(spec)?)
    }

    pub(super) fn resample(&mut self, node: &Node) -> Result<(), OpError> {
        let [outer, axis, inner] = sizes(&node.inputs[0])?;
        let [count, taps] = sizes(&node.inputs[1])?;
        let spec = resample::Spec { outer, axis, inner, count, taps };
        self.dense_step(node, self.made(spec)?)
    }
    pub(super) fn sample(
        &mut self,
        mode: sample::Mode,
        padding: sample::Padding,
        units: sample::Units,
        node: &Node,
    ) -> Result<(), OpError> {
        let [planes, d, h, w] = sizes(&node.inputs[0])?;
        let [sets, points, axes] = sizes(&node.inputs[1])?;
        // Without a set there is no plane, and no step.
        let shared = planes / sets.max(1);
        let input = [d, h, w];
        let spec = sample::Spec { mode, padding, units, axes, planes, shared, points, input };
        self.dense_step(node, self.made(spec)?)
    }

    pub(super) fn roi(&mut self, kind: roi::Kind, scale: f32, node: &Node) -> Result<(), OpError> {
        let [batch, channels, h, w] = sizes(&node.inputs[0])?;
        let [rois, _, rows, cols] = sizes(&node.output)?;
        let (input, output) = ([h, w], [rows, cols]);
        let spec = roi::Spec { kind, batch, channels, input, rois, output, scale };
        self.dense_step(node, self.made(spec)?)
    }
}
