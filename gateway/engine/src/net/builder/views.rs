//! Operands seen another way: a copy only where no view is.

use gw_shaders::expr::Expr;
use gw_tensor::{DType, Shape, Tensor};

use super::{Builder, FOLD_AT_ONCE_MAX, broadcast, check_size};
use crate::error::OpError;
use crate::net::layout::Layout;
use crate::net::{Kind, Operand};

impl Builder {
    /// The operand as a tensor of its own.
    pub(crate) fn copy(&mut self, operand: &Operand) -> Result<Operand, OpError> {
        if let Some(data) = self.data(operand)? {
            return Ok(self.constant(data));
        }
        let expr = Expr::identity(operand.scalar());
        let shape = operand.shape();
        self.emit(Kind::Pointwise(expr), vec![operand.clone()], &shape, operand.dtype)
    }

    /// The same elements, in the same order, under another shape of the same size.
    pub(crate) fn reshape(&mut self, x: &Operand, shape: &[usize]) -> Result<Operand, OpError> {
        let elements = check_size(shape)?;
        if elements != x.layout.elements() {
            let given = Shape::from(x.shape());
            return Err(OpError::mismatch("reshape", Shape::from(shape), given));
        }
        if let Some(layout) = x.layout.reshaped(shape) {
            return Ok(x.with_layout(layout));
        }
        let dense = self.copy(x)?;
        let layout = dense.layout.reshaped(shape).expect("a dense layout takes any shape");
        Ok(dense.with_layout(layout))
    }

    /// `perm` names every axis once.
    pub(crate) fn transpose(x: &Operand, perm: &[usize]) -> Operand {
        x.with_layout(x.layout.transposed(perm))
    }

    /// `count` elements along `axis`; the caller has checked that they exist.
    pub(crate) fn slice(
        &mut self,
        x: &Operand,
        axis: usize,
        start: usize,
        step: isize,
        count: usize,
    ) -> Result<Operand, OpError> {
        if count == 0 {
            let mut shape = x.shape();
            shape[axis] = 0;
            return self.empty(&shape, x.dtype);
        }
        if let Some(layout) = x.layout.sliced(axis, start, step, count) {
            return Ok(x.with_layout(layout));
        }
        let dense = self.copy(x)?;
        let layout = dense.layout.sliced(axis, start, step, count);
        Ok(dense.with_layout(layout.expect("an axis of a dense layout has one stride")))
    }

    /// [`Layout::windows`] of `axis`, of a copy where they are no view.
    pub(crate) fn windows(
        &mut self,
        x: &Operand,
        axis: usize,
        windows: [usize; 2],
        kernel: [usize; 2],
    ) -> Result<Operand, OpError> {
        if let Some(layout) = x.layout.windows(axis, windows, kernel) {
            return Ok(x.with_layout(layout));
        }
        let dense = self.copy(x)?;
        let layout = dense.layout.windows(axis, windows, kernel);
        Ok(dense.with_layout(layout.expect("an axis of a dense layout has one stride")))
    }

    /// The operand repeated to `shape` by the rules of broadcasting.
    pub(crate) fn expand(&mut self, x: &Operand, shape: &[usize]) -> Result<Operand, OpError> {
        check_size(shape)?;
        let fits = broadcast(&x.shape(), shape)?;
        if fits != shape {
            return Err(OpError::mismatch("shape", Shape::from(shape), Shape::from(fits)));
        }
        Ok(x.with_layout(x.layout.expanded(shape)))
    }

    /// The operands one after another along `axis`; the caller has checked the other axes.
    pub(crate) fn concat(&mut self, parts: &[Operand], axis: usize) -> Result<Operand, OpError> {
        let first = parts.first().ok_or_else(|| OpError::Missing("input 0".to_owned()))?;
        let mut shape = first.shape();
        shape[axis] = parts.iter().map(|part| part.shape()[axis]).fold(0, usize::saturating_add);
        let dtype = first.dtype;
        let parts: Vec<&Operand> = parts.iter().filter(|part| part.layout.elements() > 0).collect();
        let [alone] = parts.as_slice() else {
            let elements = check_size(&shape)?;
            if elements <= FOLD_AT_ONCE_MAX && parts.iter().all(|part| self.net.is_constant(part)) {
                return self.concat_constants(&parts, axis, &shape, dtype);
            }
            // What is taken apart and joined again.
            if parts.iter().all(|part| part.tensor == first.tensor && part.dtype == dtype) {
                let layouts: Vec<&Layout> = parts.iter().map(|part| &part.layout).collect();
                if let Some(layout) = Layout::joined(&layouts, axis) {
                    return Ok(first.with_layout(layout));
                }
            }
            let whole = self.empty(&shape, dtype)?;
            let mut start = 0;
            for part in parts {
                let count = part.shape()[axis];
                let place = whole.layout.sliced(axis, start, 1, count);
                let place = place.expect("an axis of a dense layout has one stride");
                let expr = Expr::identity(part.scalar());
                let target = whole.with_layout(place);
                self.push(Kind::Pointwise(expr), vec![part.clone()], target);
                start += count;
            }
            return Ok(whole);
        };
        Ok((*alone).clone())
    }

    fn concat_constants(
        &mut self,
        parts: &[&Operand],
        axis: usize,
        shape: &[usize],
        dtype: DType,
    ) -> Result<Operand, OpError> {
        let outer: usize = shape[..axis].iter().product();
        let mut rows = vec![Vec::new(); outer];
        for part in parts {
            let Some(data) = self.data(part)? else { continue };
            let bytes = data.bytes();
            let row = bytes.len() / outer.max(1);
            for (index, target) in rows.iter_mut().enumerate() {
                target.extend_from_slice(&bytes[index * row..(index + 1) * row]);
            }
        }
        Ok(self.constant(Tensor::new(dtype, shape, rows.concat())?))
    }
}
