//! Rows that indices name, of a table in parts where no binding holds it.

use std::ops::Range;

use gw_shaders::gather::{self, Table};
use gw_tensor::DType;

use super::{Lowering, halves, sizes, words};
use crate::error::OpError;
use crate::lower::parts::{Part, ranges};
use crate::net::{Node, Operand};
use crate::plan::BufferId;

impl Lowering<'_> {
    pub(super) fn gather(&mut self, quantised: bool, node: &Node) -> Result<(), OpError> {
        let data = &node.inputs[0];
        let [outer, axis, inner] = sizes(data)?;
        let indices = node.inputs.last().ok_or_else(|| OpError::Missing("indices".to_owned()))?;
        let [count] = sizes(indices)?;
        let at_once = self.rows_at_once(data, quantised)?;
        let positions = self.dense(indices)?;
        let output = self.buffer(node.output.tensor)?;
        for (index, rows) in ranges(axis, at_once).enumerate() {
            let mut bindings = Vec::with_capacity(4);
            let part = [rows.start, rows.end];
            let scales = quantised.then(|| &node.inputs[1]);
            let table = self.table(data, scales, rows, &mut bindings)?;
            bindings.extend([positions, output]);
            let spec = gather::Spec { table, outer, axis, part, inner, count };
            let made = self.made(spec)?;
            self.step(made, bindings);
            self.split += usize::from(index > 0);
        }
        Ok(())
    }

    /// Binds some rows of a table, and their scales where it has any.
    pub(super) fn table(
        &mut self,
        data: &Operand,
        scales: Option<&Operand>,
        rows: Range<u32>,
        bindings: &mut Vec<BufferId>,
    ) -> Result<Table, OpError> {
        let [outer, axis, inner] = sizes(data)?;
        let Some(scales) = scales else {
            if let Some(data) = self.as_halves(data) {
                let held = [Part(1, rows)];
                bindings.push(self.converted_part(&data, " rows of halves", &held, |data| {
                    Ok(words(gather::pack_halves(&halves(data), inner)))
                })?);
                let is_brain = data.dtype == DType::Bf16;
                return Ok(if is_brain { Table::PackedBf16 } else { Table::PackedF16 });
            }
            bindings.push(self.dense_part(data, Part(1, rows))?);
            return Ok(Table::Plain(data.scalar()));
        };
        let held = [Part(1, rows.clone())];
        bindings.push(self.converted_part(data, " rows", &held, |data| {
            Ok(words(gather::pack_i8(&data.as_slice::<i8>()?, inner)))
        })?);
        let by_row = scales.layout.reshaped(&[outer as usize, axis as usize]);
        let by_row = by_row.ok_or_else(|| OpError::Unsupported("this view".to_owned()))?;
        bindings.push(self.dense_part(&scales.with_layout(by_row), Part(1, rows))?);
        Ok(Table::PackedI8)
    }

    /// How many rows of a table one binding holds.
    pub(super) fn rows_at_once(&self, data: &Operand, quantised: bool) -> Result<u32, OpError> {
        if !self.net.is_constant(data) {
            return Ok(u32::MAX);
        }
        let [outer, _, inner] = sizes(data)?;
        let row = match self.as_halves(data) {
            _ if quantised => inner.div_ceil(4),
            Some(_) => inner.div_ceil(2),
            None => inner,
        };
        self.units_at_once(data, 4 * u64::from(outer) * u64::from(row))
    }
}
