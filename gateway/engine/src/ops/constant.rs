//! Values from nothing.

use gw_tensor::{Shape, Tensor};

use super::{Call, Table, sizes};
use crate::error::OpError;
use crate::graph::Attr;
use crate::net::Operand;
use crate::net::fold::{self, Number};

/// A `Range` is shape arithmetic, or positions: far longer ones are a mistake or an attack.
const RANGE_MAX: usize = 1 << 22;

pub(super) const OPS: Table =
    &[("Constant", constant), ("ConstantOfShape", constant_of_shape), ("Range", range)];

fn constant(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let named = |name: &str| call.attr(name);
    let scalar = Shape::default();
    let tensor = if let Some(tensor) = call.tensor("value") {
        tensor.clone()
    } else if let Some(Attr::Float(value)) = named("value_float") {
        Tensor::from_slice(scalar, &[*value])?
    } else if let Some(Attr::Int(value)) = named("value_int") {
        Tensor::from_slice(scalar, &[*value])?
    } else if let Some(Attr::Floats(values)) = named("value_floats") {
        Tensor::from_slice([values.len()], values)?
    } else if let Some(Attr::Ints(values)) = named("value_ints") {
        Tensor::from_slice([values.len()], values)?
    } else {
        return Err(OpError::Unsupported("a constant that is no tensor of numbers".to_owned()));
    };
    Ok(vec![call.builder.constant(tensor)])
}

fn constant_of_shape(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let target = sizes(&call.known_ints(0)?)?;
    let scalar = Shape::default();
    let value = match call.tensor("value") {
        Some(tensor) => tensor.reshaped(scalar)?,
        None => Tensor::from_slice(scalar, &[0f32])?,
    };
    let value = call.builder.constant(value);
    Ok(vec![call.builder.expand(&value, &target)?])
}

fn range(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let dtype = call.input(0)?.dtype;
    let mut ends = [Number::Int(0); 3];
    for (index, (end, name)) in ends.iter_mut().zip(["start", "limit", "delta"]).enumerate() {
        let input = call.input(index)?;
        let values = call.builder.numbers(&input, name)?;
        *end = *values.first().ok_or_else(|| OpError::Missing(name.to_owned()))?;
    }
    let [start, limit, delta] = ends;
    let steps = ((limit.float() - start.float()) / delta.float()).ceil();
    if steps.is_nan() || steps > RANGE_MAX as f64 {
        return Err(OpError::mismatch("range", format!("at most {RANGE_MAX} steps"), steps));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded above")]
    let count = steps.max(0.0) as usize;
    let value = |index: usize| match dtype {
        dtype if dtype.is_float() => Number::Float(start.float() + index as f64 * delta.float()),
        _ => {
            let index = i64::try_from(index).unwrap_or(i64::MAX);
            Number::Int(start.int().wrapping_add(index.wrapping_mul(delta.int())))
        }
    };
    let values: Vec<Number> = (0..count).map(value).collect();
    let tensor = fold::tensor(dtype, &[count], &values);
    let tensor = tensor.ok_or_else(|| OpError::Unsupported("this range".to_owned()))?;
    Ok(vec![call.builder.constant(tensor)])
}
