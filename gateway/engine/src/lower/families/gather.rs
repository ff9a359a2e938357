//! Rows that indices name, of a table in parts where no binding holds it.

use gw_shaders::gather;

use super::{Lowering, sizes, words};
use crate::error::OpError;
use crate::lower::parts::{Part, ranges};
use crate::net::Node;

impl Lowering<'_> {
    pub(super) fn gather(&mut self, quantised: bool, node: &Node) -> Result<(), OpError> {
        let data = &node.inputs[0];
        let [outer, axis, inner] = sizes(data)?;
        let indices = node.inputs.last().ok_or_else(|| OpError::Missing("indices".to_owned()))?;
        let [count] = sizes(indices)?;
        let at_once = if self.net.is_constant(data) {
            let row = if quantised { inner.div_ceil(4) } else { inner };
            self.units_at_once(data, 4 * u64::from(outer) * u64::from(row))?
        } else {
            u32::MAX
        };
        let positions = self.dense(indices)?;
        let output = self.buffer(node.output.tensor)?;
        for (index, rows) in ranges(axis, at_once).enumerate() {
            let mut bindings = Vec::with_capacity(4);
            let part = [rows.start, rows.end];
            let table = if quantised {
                let held = [Part(1, rows.clone())];
                bindings.push(self.converted_part(data, " rows", &held, |data| {
                    Ok(words(gather::pack_i8(&data.as_slice::<i8>()?, inner)))
                })?);
                let scales = &node.inputs[1];
                let by_row = scales.layout.reshaped(&[outer as usize, axis as usize]);
                let by_row = by_row.ok_or_else(|| OpError::Unsupported("this view".to_owned()))?;
                bindings.push(self.dense_part(&scales.with_layout(by_row), Part(1, rows))?);
                gather::Table::PackedI8
            } else {
                bindings.push(self.dense_part(data, Part(1, rows))?);
                gather::Table::Plain(data.scalar())
            };
            bindings.extend([positions, output]);
            let spec = gather::Spec { table, outer, axis, part, inner, count };
            let made = self.made(spec)?;
            self.step(made, bindings);
            self.split += usize::from(index > 0);
        }
        Ok(())
    }
}
