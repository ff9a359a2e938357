//! Rows of several tables, combined and normalised in one step.

use gw_shaders::embed::{Rows, Spec};
use gw_shaders::norm;

use super::{Lowering, sizes, stride};
use crate::error::OpError;
use crate::net::{Embed, Node, Operand, RowSource};
use crate::plan::BufferId;

impl Lowering<'_> {
    pub(super) fn embed(&mut self, kind: &Embed, node: &Node) -> Result<(), OpError> {
        let [count, cols] = sizes(&node.output)?;
        let (weights, mut operands) =
            node.inputs.split_at(kind.norm.map_or(0, norm::Form::operands));
        let mut bindings =
            weights.iter().map(|weight| self.dense(weight)).collect::<Result<Vec<_>, _>>()?;
        let mut inputs = Vec::with_capacity(kind.sources.len());
        for source in &kind.sources {
            let taken = match source {
                RowSource::Table { quantised: true } => 3,
                RowSource::Table { quantised: false } => 2,
                RowSource::Rows => 1,
            };
            let (own, rest) = operands.split_at(taken);
            operands = rest;
            inputs.push(match (source, own) {
                (RowSource::Rows, _) => self.dense_rows(&own[0], &mut bindings)?,
                (_, [data, indices]) => self.rows_of(data, None, indices, &mut bindings)?,
                _ => self.rows_of(&own[0], Some(&own[1]), &own[2], &mut bindings)?,
            });
        }
        bindings.push(self.buffer(node.output.tensor)?);
        let spec = Spec { count, cols, inputs, expr: kind.expr.clone(), norm: kind.norm };
        let made = self.made(spec)?;
        self.step(made, bindings);
        Ok(())
    }

    fn rows_of(
        &mut self,
        data: &Operand,
        scales: Option<&Operand>,
        indices: &Operand,
        bindings: &mut Vec<BufferId>,
    ) -> Result<Rows, OpError> {
        let [_, axis, _] = sizes(data)?;
        if self.rows_at_once(data, scales.is_some())? < axis {
            return Err(OpError::Unsupported("a table in parts".to_owned()));
        }
        let table = self.table(data, scales, 0..axis, bindings)?;
        bindings.push(self.dense(indices)?);
        Ok(Rows::Table { table, axis })
    }

    /// Rows that lie one after another, the same again after a period.
    fn dense_rows(
        &mut self,
        operand: &Operand,
        bindings: &mut Vec<BufferId>,
    ) -> Result<Rows, OpError> {
        let shape = operand.shape();
        let period = operand.layout.factor_sizes(0).last().copied().unwrap_or(1);
        let apart = operand.layout.reshaped(&[shape[0] / period.max(1), period, shape[1]]);
        let in_place = apart.and_then(|layout| match layout.strides()?[..] {
            [0, row, 1] if self.binds_whole(operand) => Some((layout.offset(), row)),
            _ => None,
        });
        let ((offset, row), period) = match in_place {
            Some(found) => {
                bindings.push(self.buffer(operand.tensor)?);
                (found, super::size(period)?)
            }
            None => {
                bindings.push(self.dense(operand)?);
                ((0, shape[1].cast_signed()), super::size(shape[0])?)
            }
        };
        let (offset, row) = (super::size(offset)?, stride(row)?);
        Ok(Rows::Dense { offset, period, row })
    }
}
