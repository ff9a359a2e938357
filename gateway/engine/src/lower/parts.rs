//! Constants that are larger than a binding may be: how they are split, and their parts.

use std::ops::Range;

use bytes::Bytes;
use gw_tensor::Tensor;

use super::Lowering;
use super::constants::on_device;
use crate::error::OpError;
use crate::net::layout::Layout;
use crate::net::{Operand, TensorId, fold};
use crate::plan::BufferId;

/// Some of one axis of an operand.
#[derive(Clone, Debug)]
pub(super) struct Part(pub(super) usize, pub(super) Range<u32>);

/// `0..total` in ranges of `at_once`, of which the last may be shorter; one that is empty where
/// there is nothing.
pub(super) fn ranges(total: u32, at_once: u32) -> impl Iterator<Item = Range<u32>> {
    let at_once = at_once.max(1);
    (0..total.div_ceil(at_once).max(1)).map(move |index| {
        let start = index * at_once;
        start..start.saturating_add(at_once).min(total)
    })
}

impl Lowering<'_> {
    /// Whether no binding holds all of a tensor.
    pub(super) fn is_too_large(&self, id: TensorId) -> bool {
        let elements = self.net.tensor(id).shape.elements();
        (elements as u64).saturating_mul(4) > self.caps.binding_bytes
    }

    /// Whether an operand is read from the buffer of its whole tensor: constants of which no
    /// binding holds the whole are written out as the operand sees them.
    pub(super) fn binds_whole(&self, operand: &Operand) -> bool {
        let seen = (operand.layout.elements() as u64).saturating_mul(4);
        !(self.net.is_constant(operand)
            && self.is_too_large(operand.tensor)
            && seen <= self.caps.binding_bytes)
    }

    /// How many units of a constant, of `bytes` each, one binding holds.
    pub(super) fn units_at_once(&self, operand: &Operand, bytes: u64) -> Result<u32, OpError> {
        let limit = self.caps.binding_bytes;
        match limit / bytes.max(1) {
            0 => {
                let name = &self.net.tensor(operand.tensor).name;
                let reason =
                    format!("a row of {bytes} bytes of `{name}` in a binding of {limit} bytes");
                Err(OpError::Unsupported(reason))
            }
            units => Ok(u32::try_from(units).unwrap_or(u32::MAX)),
        }
    }

    /// A buffer with a part of a constant, one word per element.
    pub(super) fn weight_part(
        &mut self,
        operand: &Operand,
        parts: &[Part],
    ) -> Result<BufferId, OpError> {
        self.converted_part(operand, "", parts, on_device)
    }

    /// A buffer that holds exactly a part of what the operand sees, in row-major order.
    pub(super) fn dense_part(
        &mut self,
        operand: &Operand,
        part: Part,
    ) -> Result<BufferId, OpError> {
        if is_all(operand, std::slice::from_ref(&part)) {
            return self.dense(operand);
        }
        if self.net.is_constant(operand) {
            return self.weight_part(operand, &[part]);
        }
        let layout = sliced(&operand.layout, &[part]);
        let layout = layout.ok_or_else(|| OpError::Unsupported("this view".to_owned()))?;
        self.dense(&operand.with_layout(layout))
    }

    /// As [`Lowering::converted`], of a part of the operand.
    pub(super) fn converted_part(
        &mut self,
        operand: &Operand,
        form: &str,
        parts: &[Part],
        convert: impl FnOnce(&Tensor) -> Result<Bytes, OpError>,
    ) -> Result<BufferId, OpError> {
        if is_all(operand, parts) {
            return self.converted(operand, form, convert);
        }
        if let Some(layout) = sliced(&operand.layout, parts) {
            return self.converted(&operand.with_layout(layout), form, convert);
        }
        // An axis that has not one stride: the part is cut out of what it makes.
        let shape = operand.shape();
        self.converted(operand, &format!("{form} {parts:?}"), |data| {
            let part = sliced(&Layout::dense(&shape), parts);
            let part = part.ok_or_else(|| OpError::Unsupported("this view".to_owned()))?;
            convert(&fold::materialise(data, &part))
        })
    }
}

fn is_all(operand: &Operand, parts: &[Part]) -> bool {
    let shape = operand.shape();
    parts.iter().all(|Part(axis, range)| range.start == 0 && range.end as usize == shape[*axis])
}

fn sliced(layout: &Layout, parts: &[Part]) -> Option<Layout> {
    parts.iter().try_fold(layout.clone(), |layout, Part(axis, range)| {
        layout.sliced(*axis, range.start as usize, 1, range.len())
    })
}
