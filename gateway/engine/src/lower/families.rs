//! One function per kind of node: from operands to the spec of its kernel family.
//!
//! - [`gemm`], [`blocks`], [`dot`]: products. [`gather`], [`embed`]: rows that indices name.
//! - [`index`]: scans, sorting, scattering, trees and determinants. [`recurrent`]: layers with a
//!   state.

mod blocks;
mod dot;
mod embed;
mod gather;
mod gemm;
mod index;
mod recurrent;

use bytes::Bytes;
use gw_shaders::expr::Expr;
use gw_shaders::gemm::{Epilogue, keeps_halves};
use gw_shaders::kernel::Scalar;
use gw_shaders::layout::Matrix;
use gw_shaders::{attention, linear_attention, lrn, norm, reduce, softmax};
use gw_tensor::{DType, Tensor};

use super::{Lowering, Made, offset, size, stride};
use crate::error::OpError;
use crate::net::layout::Layout;
use crate::net::{Attention, Kind, MaskKind, Node, Operand};
use crate::plan::BufferId;

/// Dispatches of one node, at most.
const PARTS_MAX: u32 = 1 << 12;

impl Lowering<'_> {
    pub(super) fn node(&mut self, node: &Node) -> Result<(), OpError> {
        match &node.kind {
            Kind::Pointwise(expr) => self.pointwise(expr, node),
            Kind::Gemm(gemm) => self.gemm(gemm, node),
            Kind::Dot(epilogue) => self.dot(epilogue, node),
            Kind::Blocks(kind) => self.blocks(*kind, node),
            Kind::Attention(attention) => self.attention(attention, node),
            Kind::LinearAttention(spec) => self.linear_attention(spec, node),
            Kind::Conv(conv) => self.conv(conv, node),
            Kind::ConvLast(conv) => self.conv_last(conv, node),
            Kind::Softmax { log } => {
                let [outer, len, inner] = sizes(&node.inputs[0])?;
                let spec = softmax::Spec { outer, len, inner, log: *log };
                self.dense_step(node, self.made(spec)?)
            }
            Kind::Norm(form) => {
                let [rows, cols] = sizes(&node.inputs[0])?;
                let made = self.made(norm::Spec { form: *form, rows, cols })?;
                // The kernel takes the row last.
                let mut node = node.clone();
                node.inputs.rotate_left(1);
                self.dense_step(&node, made)
            }
            Kind::Normed(gemm, form) => self.normed(gemm, *form, node),
            Kind::Embed(embed) => self.embed(embed, node),
            Kind::Reduce(op) => {
                let [outer, reduced, inner] = sizes(&node.inputs[0])?;
                let scalar = node.inputs[0].scalar();
                let spec = reduce::Spec { op: *op, scalar, outer, reduced, inner };
                self.dense_step(node, self.made(spec)?)
            }
            Kind::Det => self.det(node),
            Kind::Scan { op, exclusive, reverse } => self.scan(*op, *exclusive, *reverse, node),
            Kind::Scatter(op) => self.scatter(*op, node),
            Kind::Sort { largest } => self.sort(*largest, node),
            Kind::Trees { fold, turns } => self.trees(*fold, *turns, node),
            Kind::Gather { quantised } => self.gather(*quantised, node),
            Kind::Pool { kind, window } => self.pool(*kind, window, node),
            Kind::Fold(window) => self.fold(window, node),
            Kind::Resample => self.resample(node),
            Kind::Sample { mode, padding, units } => self.sample(*mode, *padding, *units, node),
            Kind::Roi { kind, scale } => self.roi(*kind, *scale, node),
            Kind::Recurrent(kind) => self.recurrent(kind, node),
            Kind::Lrn { size, alpha, beta, bias } => {
                let [batch, channels, inner] = sizes(&node.inputs[0])?;
                let (size, alpha, beta, bias) = (*size, *alpha, *beta, *bias);
                let spec = lrn::Spec { batch, channels, inner, size, alpha, beta, bias };
                self.dense_step(node, self.made(spec)?)
            }
        }
    }

    /// A step of a kernel that takes every input dense.
    pub(super) fn dense_step(&mut self, node: &Node, made: Made) -> Result<(), OpError> {
        let mut bindings =
            node.inputs.iter().map(|input| self.dense(input)).collect::<Result<Vec<_>, _>>()?;
        bindings.push(self.buffer(node.output.tensor)?);
        self.step(made, bindings);
        Ok(())
    }

    /// An operand as matrices; it is copied where an axis has not one stride.
    fn matrix(&mut self, operand: &Operand) -> Result<(Matrix, BufferId), OpError> {
        if let Some(matrix) = matrix(&operand.layout)?
            && self.binds_whole(operand)
        {
            return Ok((matrix, self.buffer(operand.tensor)?));
        }
        let buffer = self.dense(operand)?;
        let dense = matrix(&Layout::dense(&operand.shape()))?;
        Ok((dense.expect("a dense layout has one stride per axis"), buffer))
    }

    /// A constant operand as 16-bit floats, where it is stored so and they are kept.
    pub(super) fn as_halves(&self, operand: &Operand) -> Option<Operand> {
        let stored = self.net.stored(operand);
        let is_half = matches!(stored.dtype, DType::F16 | DType::Bf16);
        let kept = self.net.is_constant(operand) && keeps_halves(self.caps);
        (is_half && kept).then_some(stored)
    }

    pub(super) fn epilogue(
        &mut self,
        expr: &Expr,
        further: &[Operand],
        bindings: &mut Vec<BufferId>,
    ) -> Result<Epilogue, OpError> {
        let mut inputs = Vec::with_capacity(further.len());
        for operand in further {
            let (matrix, buffer) = self.matrix(operand)?;
            inputs.push(matrix);
            bindings.push(buffer);
        }
        Ok(Epilogue { expr: expr.clone(), inputs })
    }

    /// The tokens in as many parts as their loops need.
    fn linear_attention(
        &mut self,
        spec: &linear_attention::Spec,
        node: &Node,
    ) -> Result<(), OpError> {
        let mut bindings =
            node.inputs.iter().map(|input| self.dense(input)).collect::<Result<Vec<_>, _>>()?;
        bindings.push(self.buffer(node.output.tensor)?);
        let at_once = spec.tokens_at_once()?;
        if spec.length.div_ceil(at_once) > PARTS_MAX {
            let tokens = format!("{} tokens of {} rows", spec.length, spec.key_dim);
            return Err(OpError::Unsupported(tokens));
        }
        let mut from = 0u32;
        loop {
            let end = from.saturating_add(at_once).min(spec.length);
            let part = linear_attention::Spec { part: [from, end], ..spec.clone() };
            self.step(self.made(part)?, bindings.clone());
            from = end;
            if from == spec.length {
                return Ok(());
            }
        }
    }

    fn attention(&mut self, kind: &Attention, node: &Node) -> Result<(), OpError> {
        let [batch, heads, queries, head_dim] = sizes(&node.inputs[0])?;
        let [_, kv_heads, keys, _] = sizes(&node.inputs[1])?;
        let [_, _, _, value_dim] = sizes(&node.inputs[2])?;
        let mut bindings = Vec::with_capacity(6);
        let mut rows = [attention::Rows::default(); 3];
        for (rows, operand) in rows.iter_mut().zip(&node.inputs) {
            let in_place =
                if self.binds_whole(operand) { head_rows(&operand.layout)? } else { None };
            let (found, buffer) = match in_place {
                Some(found) => (found, self.buffer(operand.tensor)?),
                None => {
                    let dense = head_rows(&Layout::dense(&operand.shape()))?;
                    (dense.expect("dense rows lie one after another"), self.dense(operand)?)
                }
            };
            *rows = found;
            bindings.push(buffer);
        }
        let mut view = attention::MaskView::default();
        if let (MaskKind::Additive | MaskKind::Boolean, Some(operand)) =
            (kind.mask, node.inputs.get(3))
        {
            let (matrix, buffer) = self.matrix(operand)?;
            bindings.push(buffer);
            let [batch, head] = matrix.batch;
            let (query, key) = (matrix.row, matrix.col);
            view = attention::MaskView { offset: matrix.offset, batch, head, query, key };
        }
        if kind.counts.is_some()
            && let Some(operand) = node.inputs.last()
        {
            bindings.push(self.dense(operand)?);
        }
        let mask = match kind.mask {
            MaskKind::None => attention::Mask::None,
            MaskKind::Additive => attention::Mask::Additive(view),
            MaskKind::Boolean => attention::Mask::Boolean(view),
        };
        let output = head_rows(&node.output.layout)?
            .ok_or_else(|| OpError::Unsupported("the layout of this output".to_owned()))?;
        bindings.push(self.buffer(node.output.tensor)?);
        let [q, k, v] = rows;
        let spec = attention::Spec {
            batch,
            heads,
            kv_heads,
            queries,
            keys,
            head_dim,
            value_dim,
            scale: kind.scale,
            q,
            k,
            v,
            output,
            mask,
            mask_expr: kind.mask_expr.clone(),
            window: kind.window,
            counts: kind.counts,
            nan_to_zero: kind.nan_to_zero,
        };
        let made = self.made(spec)?;
        self.step(made, bindings);
        Ok(())
    }
}

/// The sizes of an operand that has `N` axes.
pub(super) fn sizes<const N: usize>(operand: &Operand) -> Result<[u32; N], OpError> {
    let shape = operand.shape();
    let mut sizes = [0; N];
    debug_assert_eq!(shape.len(), N, "the kind of the node says how many axes there are");
    for (target, &axis) in sizes.iter_mut().zip(&shape) {
        *target = size(axis)?;
    }
    Ok(sizes)
}

/// `None` where an axis has not one stride.
pub(super) fn matrix(layout: &Layout) -> Result<Option<Matrix>, OpError> {
    let Some(strides) = layout.strides() else { return Ok(None) };
    let &[outer, inner, row, col] = strides.as_slice() else { return Ok(None) };
    Ok(Some(Matrix {
        offset: offset(layout)?,
        batch: [stride(outer)?, stride(inner)?],
        row: stride(row)?,
        col: stride(col)?,
    }))
}

/// `[batch, head, row, element]` as rows; `None` where the elements of a row lie apart.
fn head_rows(layout: &Layout) -> Result<Option<attention::Rows>, OpError> {
    let Some(found) = matrix(layout)? else { return Ok(None) };
    let width = layout.shape().last().copied().unwrap_or(1);
    Ok((found.col == 1 || width == 1).then_some(attention::Rows {
        offset: found.offset,
        batch: found.batch[0],
        head: found.batch[1],
        row: found.row,
    }))
}

pub(super) fn words<T: bytemuck::Pod>(values: Vec<T>) -> Bytes {
    bytemuck::cast_slice::<T, u8>(&values).to_vec().into()
}

/// Half and double precision as single.
pub(super) fn floats(data: &Tensor) -> Result<Tensor, OpError> {
    debug_assert_eq!(crate::net::scalar(data.dtype()), Scalar::F32);
    match data.dtype() {
        DType::F32 => Ok(data.clone()),
        other => crate::net::fold::cast(data, DType::F32)
            .ok_or(OpError::Type { what: "a weight".to_owned(), given: other }),
    }
}

/// The bits of 16-bit floats.
pub(super) fn halves(data: &Tensor) -> Vec<u16> {
    debug_assert_eq!(data.dtype().size(), 2, "halves take two bytes");
    data.bytes().chunks_exact(2).map(|half| u16::from_le_bytes([half[0], half[1]])).collect()
}
