//! Numbers stored as small integers.

use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Shape};

use super::elementwise::convert;
use super::{Call, Table, axis};
use crate::error::OpError;
use crate::net::Operand;
use crate::net::formula::Formula;

pub(super) const OPS: Table = &[("DequantizeLinear", dequantize)];

/// `(x - zero point) * scale`, in the form that `fuse::quantised` looks for.
fn dequantize(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let dims = x.shape();
    if call.int("block_size", 0) != 0 {
        return Err(OpError::Unsupported("a scale per block".to_owned()));
    }
    // One scale for all, or one per index of `axis`.
    let mut shape = vec![1; dims.len()];
    if scale.layout.elements() != 1 {
        let at = axis(call.int("axis", 1), dims.len())?;
        shape[at] = dims[at];
    }
    let wanted: usize = shape.iter().product();
    if scale.layout.elements() != wanted {
        let given = Shape::from(scale.shape());
        return Err(OpError::mismatch("input 1", format!("{wanted} scales"), given));
    }
    let scale = call.builder.reshape(&scale, &shape)?;
    let mut value = convert(call.builder, &x, DType::F32)?;
    if let Some(zero) = call.optional(2) {
        let known = call.builder.data(&zero)?;
        let is_zero = known.is_some_and(|zero| zero.bytes().iter().all(|&byte| byte == 0));
        if !is_zero {
            let zero = convert(call.builder, &zero, DType::F32)?;
            let zero = call.builder.reshape(&zero, &shape)?;
            let mut formula = Formula::floats(2);
            formula.sub(0, 1);
            value = call.builder.pointwise(&formula.0, &[value, zero], DType::F32)?;
        }
    }
    let mut formula = Formula::floats(2);
    formula.mul(0, 1);
    debug_assert_eq!(scale.scalar(), Scalar::F32);
    let dtype = scale.dtype;
    Ok(vec![call.builder.pointwise(&formula.0, &[value, scale], dtype)?])
}
