//! The kinds of node that read a neighbourhood along spatial axes.

use gw_shaders::gemm::Weights;
use gw_shaders::layout::View;
use gw_shaders::{conv, fold, gemm, pool, resample, roi, sample};
use gw_tensor::DType;

use super::families::{floats, halves, matrix, sizes, words};
use super::{Lowering, key, offset, stride};
use crate::error::OpError;
use crate::net::fold::cast;
use crate::net::layout::Layout;
use crate::net::{Conv, Node, Operand, Window};
use crate::plan::BufferId;

impl Lowering<'_> {
    pub(super) fn conv(&mut self, kind: &Conv, node: &Node) -> Result<(), OpError> {
        let [batch, channels_in, h, w] = sizes(&node.inputs[0])?;
        let [_, channels_out, rows, cols] = sizes(&node.output)?;
        let (operands, epilogue) = node.inputs.split_at(kind.operands());
        let weights = match &operands[2..] {
            [scales] => self.expanded(&operands[1], scales)?,
            _ => self.dense(&operands[1])?,
        };
        let mut bindings = vec![self.dense(&operands[0])?, weights];
        let per_group = channels_out / kind.groups;
        let grouped = [batch, kind.groups, per_group, rows * cols].map(|size| size as usize);
        let mut further = Vec::with_capacity(epilogue.len());
        for operand in epilogue {
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
            windows: windows(&kind.window, [h, w], [rows, cols]),
            epilogue,
        };
        let made = self.made(spec)?;
        self.step(made, bindings);
        Ok(())
    }

    pub(super) fn conv_last(&mut self, kind: &Conv, node: &Node) -> Result<(), OpError> {
        let [batch, h, w, channels_in] = sizes(&node.inputs[0])?;
        let [_, rows, cols, channels_out] = sizes(&node.output)?;
        let depthwise = kind.groups > 1;
        let (x, x_buffer) = self.pixels(&node.inputs[0])?;
        let (operands, epilogue) = node.inputs.split_at(kind.operands());
        let mut bindings = vec![x_buffer];
        let filters = self.filters(&operands[1..], depthwise, &mut bindings)?;
        let pixels = (rows * cols) as usize;
        // The pixels of all images as rows of one matrix, or each image for itself.
        let images = batch as usize;
        let views = [[1, images * pixels], [images, pixels]].into_iter().find_map(|[n, rows]| {
            let views = epilogue.iter().chain([&node.output]).map(|operand| {
                let layout = operand.layout.reshaped(&[n, 1, rows, channels_out as usize])?;
                layout.strides().is_some().then(|| operand.with_layout(layout))
            });
            Some((n == 1, views.collect::<Option<Vec<_>>>()?))
        });
        let unsupported = || OpError::Unsupported("the layout of this output".to_owned());
        let (together, mut further) = views.ok_or_else(unsupported)?;
        let output = further.pop().ok_or_else(unsupported)?;
        let epilogue = self.epilogue(&kind.epilogue, &further, &mut bindings)?;
        let result = matrix(&output.layout)?.ok_or_else(unsupported)?;
        bindings.push(self.buffer(node.output.tensor)?);
        let made = self.made(conv::last::Spec {
            batch,
            depthwise,
            filters,
            channels_in,
            channels_out,
            windows: windows(&kind.window, [h, w], [rows, cols]),
            x,
            together,
            result,
            epilogue,
        })?;
        self.step(made, bindings);
        Ok(())
    }

    /// `[n, h, w, c]` as it lies; it is copied where an axis has not one stride.
    fn pixels(&mut self, operand: &Operand) -> Result<(View, BufferId), OpError> {
        let in_place = operand.layout.strides().is_some() && self.binds_whole(operand);
        let dense = Layout::dense(&operand.shape());
        let layout = if in_place { &operand.layout } else { &dense };
        let strides = layout.strides().unwrap_or_default();
        let strides = strides.into_iter().map(stride).collect::<Result<_, _>>()?;
        let view = View { offset: offset(layout)?, strides };
        let buffer = if in_place { self.buffer(operand.tensor)? } else { self.dense(operand)? };
        Ok((view, buffer))
    }

    /// Constant weights `[terms, channels]`, packed, and their scales where they have some.
    fn filters(
        &mut self,
        operands: &[Operand],
        depthwise: bool,
        bindings: &mut Vec<BufferId>,
    ) -> Result<Weights, OpError> {
        let weights = &operands[0];
        let [terms, channels] = sizes(weights)?;
        if let [_, scales] = operands {
            bindings.push(self.converted(weights, " packed", |data| {
                let bytes = bytemuck::cast_slice::<u8, i8>(data.bytes());
                Ok(words(gemm::pack_i8(bytes, terms, channels)))
            })?);
            bindings.push(self.dense(scales)?);
            let signed = weights.dtype == DType::I8;
            return Ok(if signed { Weights::PackedI8 } else { Weights::PackedU8 });
        }
        if let Some(weights) = self.as_halves(weights).filter(|_| !depthwise) {
            bindings.push(self.converted(&weights, " packed halves", |data| {
                Ok(words(gemm::pack_halves(&halves(data), terms, channels)))
            })?);
            let is_brain = weights.dtype == DType::Bf16;
            return Ok(if is_brain { Weights::PackedBf16 } else { Weights::PackedF16 });
        }
        bindings.push(self.converted(weights, " packed", |data| {
            let floats = floats(data)?;
            let floats = floats.as_slice::<f32>()?;
            Ok(words(if depthwise {
                conv::last::pack_depthwise(&floats, terms, channels)
            } else {
                gemm::pack_f32(&floats, terms, channels)
            }))
        })?);
        Ok(Weights::PackedF32)
    }

    /// Constant bytes `[out, …]` times their scales `[out]`, for a convolution that takes no bytes.
    fn expanded(&mut self, weights: &Operand, scales: &Operand) -> Result<BufferId, OpError> {
        let known = self.net.constant(scales);
        let known = known.ok_or_else(|| OpError::Dynamic("a scale".to_owned()))?;
        let form = format!(" times {}", key(self.net, scales));
        self.converted(weights, &form, |data| {
            let (weights, scales) = (cast(data, DType::F32), floats(&known)?);
            let weights = weights.ok_or_else(|| OpError::Dynamic("a weight".to_owned()))?;
            let (weights, scales) = (weights.as_slice::<f32>()?, scales.as_slice::<f32>()?);
            let each = (weights.len() / scales.len().max(1)).max(1);
            let filters = weights.chunks(each).zip(scales.iter());
            let scaled = filters.flat_map(|(filter, scale)| filter.iter().map(move |w| w * scale));
            Ok(words(scaled.collect::<Vec<f32>>()))
        })
    }

    pub(super) fn pool(
        &mut self,
        kind: pool::Kind,
        window: &Window<3>,
        node: &Node,
    ) -> Result<(), OpError> {
        let last = node.inputs[0].shape().len() == 5;
        let ([planes, d, h, w, inner], [_, slices, rows, cols, _]) = if last {
            (sizes(&node.inputs[0])?, sizes(&node.output)?)
        } else {
            let ([planes, d, h, w], [_, slices, rows, cols]) =
                (sizes(&node.inputs[0])?, sizes(&node.output)?);
            ([planes, d, h, w, 1], [planes, slices, rows, cols, 1])
        };
        let spec = pool::Spec {
            kind,
            planes,
            inner,
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

/// The windows of a convolution from one size to another.
fn windows(window: &Window<2>, input: [u32; 2], output: [u32; 2]) -> conv::Windows {
    conv::Windows {
        input,
        output,
        kernel: window.kernel,
        strides: window.strides,
        pads: window.pads_begin,
        dilations: window.dilations,
    }
}
