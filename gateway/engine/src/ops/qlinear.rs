//! Operators of `com.microsoft` on numbers stored as small integers, which are computed as floats
//! and quantised again.

use gw_shaders::kernel::Scalar;
use gw_tensor::DType;

use super::quant::{Target, dequantize};
use super::{Call, Table, delegate};
use crate::error::OpError;
use crate::net::Operand;

pub(super) const OPS: Table = &[
    ("com.microsoft.QLinearAdd", binary),
    ("com.microsoft.QLinearAveragePool", unary),
    ("com.microsoft.QLinearConcat", concat),
    ("com.microsoft.QLinearGlobalAveragePool", unary),
    ("com.microsoft.QLinearLeakyRelu", unary),
    ("com.microsoft.QLinearMul", binary),
    ("com.microsoft.QLinearReduceMean", unary),
    ("com.microsoft.QLinearSigmoid", unary),
    ("com.microsoft.QLinearSoftmax", unary),
];

/// The operator of ONNX that a name stands for.
fn float_form(call: &Call<'_>) -> String {
    call.node.op.trim_start_matches("QLinear").to_owned()
}

/// Inputs `at`, `at + 1`, `at + 2`: x, its scale, its zero point; as floats.
fn floats(call: &mut Call<'_>, at: usize) -> Result<Operand, OpError> {
    let (x, scale) = (call.input(at)?, call.input(at + 1)?);
    if scale.scalar() != Scalar::F32 {
        return Err(OpError::Type { what: format!("input {}", at + 1), given: scale.dtype });
    }
    let scale = call.builder.reshape(&scale, &[])?;
    let zero = call.optional(at + 2);
    let zero = zero.map(|zero| call.builder.reshape(&zero, &[])).transpose()?;
    dequantize(call.builder, &x, &scale, zero.as_ref(), DType::F32)
}

/// `x` quantised with the scale and the zero point of inputs `at` and `at + 1`.
fn quantized(
    call: &mut Call<'_>,
    x: &Operand,
    at: usize,
    dtype: DType,
) -> Result<Operand, OpError> {
    let scale = call.input(at)?;
    let scale = call.builder.reshape(&scale, &[])?;
    let zero = call.optional(at + 1);
    let zero = zero.map(|zero| call.builder.reshape(&zero, &[])).transpose()?;
    let dtype = zero.as_ref().map_or(dtype, |zero| zero.dtype);
    Target::of(dtype).quantize(call.builder, x, &scale, zero.as_ref())
}

/// x, its scale, its zero point, those of the output.
fn unary(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let layout = if call.node.op == "QLinearSoftmax" { None } else { Some("channels_last") };
    if layout.is_some_and(|name| call.flag(name, false)) {
        return Err(OpError::Unsupported("channels_last".to_owned()));
    }
    let form = float_form(call);
    let dtype = call.input(0)?.dtype;
    let x = floats(call, 0)?;
    let y = delegate(call, &form, vec![Some(x)])?.swap_remove(0);
    Ok(vec![quantized(call, &y, 3, dtype)?])
}

/// a, its scale, its zero point, b, its scale, its zero point, those of the output.
fn binary(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let form = float_form(call);
    let dtype = call.input(0)?.dtype;
    let (a, b) = (floats(call, 0)?, floats(call, 3)?);
    let y = delegate(call, &form, vec![Some(a), Some(b)])?.swap_remove(0);
    Ok(vec![quantized(call, &y, 6, dtype)?])
}

/// The scale and zero point of the output, then x, its scale, its zero point, as often as wanted.
fn concat(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let dtype = call.input(2)?.dtype;
    let mut parts = Vec::new();
    for at in (2..call.node.inputs.len()).step_by(3) {
        parts.push(Some(floats(call, at)?));
    }
    let y = delegate(call, "Concat", parts)?.swap_remove(0);
    Ok(vec![quantized(call, &y, 0, dtype)?])
}
