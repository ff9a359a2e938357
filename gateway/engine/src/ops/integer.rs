//! Products of integers: exact, whatever their length.
//!
//! Where the adapter adds up bytes, products with constant weights are just that ([`dot`]). Other
//! kernels multiply floats: sums are cut into parts that are exact in `f32` ([`exact`]), which are
//! added as `i32`.

mod dot;
mod exact;

use gw_shaders::expr::{Binary, Expr};
use gw_shaders::kernel::Scalar;
use gw_shaders::reduce;
use gw_tensor::{DType, Shape};

use exact::{Factors, size_max};

use super::convert::{convert, width};
use super::quant::{Target, centred, dynamic_scale};
use super::{Call, Table, delegate};
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::net::{Kind, Operand};

pub(super) const OPS: Table = &[
    ("ConvInteger", conv_integer),
    ("MatMulInteger", matmul_integer),
    ("QLinearConv", qlinear_conv),
    ("QLinearMatMul", qlinear_matmul),
    ("com.microsoft.DynamicQuantizeMatMul", dynamic_quantize_matmul),
    ("com.microsoft.MatMulIntegerToFloat", matmul_integer_to_float),
    ("com.microsoft.QGemm", qgemm),
];

/// `MatMulInteger` (ONNX 10).
fn matmul_integer(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let (a_zero, b_zero) = (rows(call, 2)?, call.optional(3));
    Ok(vec![product(call, &a, a_zero.as_ref(), &b, b_zero.as_ref())?])
}

/// A scale or zero point of a left-hand matrix: one, or one per row as a column.
fn rows(call: &mut Call<'_>, index: usize) -> Result<Option<Operand>, OpError> {
    let Some(given) = call.optional(index) else { return Ok(None) };
    let shape = given.shape();
    match shape.as_slice() {
        [1] => call.builder.reshape(&given, &[]).map(Some),
        &[rows] => call.builder.reshape(&given, &[rows, 1]).map(Some),
        _ => Ok(Some(given)),
    }
}

/// The `i32` product of `a - a_zero` and `b - b_zero`; zero points are broadcast.
fn product(
    call: &mut Call<'_>,
    a: &Operand,
    a_zero: Option<&Operand>,
    b: &Operand,
    b_zero: Option<&Operand>,
) -> Result<Operand, OpError> {
    bytes_only(&[a, b])?;
    let builder = &mut *call.builder;
    if let Some(product) = dot::product(builder, a, a_zero, b, b_zero)? {
        return Ok(product);
    }
    let wide_a = same_shape(builder, a, a_zero)?;
    // Zero points of weights that stay bytes are taken off afterwards.
    let keeps_bytes = builder.net.is_constant(b) && b.shape().len() == 2;
    let with_zero = match b_zero {
        Some(zero) if !super::quant::is_zero(builder, zero)? => Some(zero.clone()),
        _ => None,
    };
    let late_zero = with_zero.as_ref().filter(|_| keeps_bytes);
    let wide_b = match &with_zero {
        Some(zero) if !keeps_bytes => same_shape(builder, b, Some(zero))?,
        _ => b.clone(),
    };
    let length = a.shape().last().copied().unwrap_or(0);
    let shape = b.shape();
    let at = shape.len().saturating_sub(2);
    let columns = if shape.len() < 2 { 1 } else { shape[at + 1] };
    let data = if builder.net.is_constant(&wide_b) { builder.net.constant(&wide_b) } else { None };
    let factors = Factors {
        dtype: wide_b.dtype,
        known: data.as_ref(),
        sizes: [shape[..at].iter().product(), length, columns],
        joins_inner: false,
    };
    if shape[at] != length {
        let expected = format!("{length} rows, as input 0 has columns");
        return Err(OpError::mismatch("input 1", expected, Shape::from(shape)));
    }
    let part = factors.part(size_max(wide_a.dtype))?;
    // The whole first: small parts of large weights would fold, and bytes would become floats.
    let left = convert(builder, &wide_a, DType::F32)?;
    let right = convert(builder, &wide_b, DType::F32)?;
    let mut total: Option<Operand> = None;
    for start in (0..length.max(1)).step_by(part) {
        let count = part.min(length - start);
        let left = call.builder.slice(&left, left.shape().len() - 1, start, 1, count)?;
        let right = call.builder.slice(&right, at, start, 1, count)?;
        let sums = delegate(call, "MatMul", vec![Some(left), Some(right)])?.swap_remove(0);
        total = Some(add_part(call.builder, total, &sums)?);
    }
    let total = total.ok_or_else(|| OpError::Missing("a sum".to_owned()))?;
    match late_zero {
        Some(zero) => less_zeros(call.builder, &total, &wide_a, zero),
        None => Ok(total),
    }
}

fn bytes_only(operands: &[&Operand]) -> Result<(), OpError> {
    for operand in operands {
        let is_byte = matches!(width(operand.dtype), Some((bits, _)) if bits <= 8);
        if !is_byte || operand.shape().is_empty() {
            return Err(OpError::Type { what: "a matrix".to_owned(), given: operand.dtype });
        }
    }
    Ok(())
}

/// `x - zero`, which has the shape of `x`.
fn same_shape(
    builder: &mut Builder,
    x: &Operand,
    zero: Option<&Operand>,
) -> Result<Operand, OpError> {
    let less = centred(builder, x, zero)?;
    match less.shape() == x.shape() {
        true => Ok(less),
        false => Err(OpError::mismatch(
            "a zero point",
            format!("one that fits {}", Shape::from(x.shape())),
            Shape::from(zero.map_or_else(Vec::new, Operand::shape)),
        )),
    }
}

/// `total + i32(sums)`.
fn add_part(
    builder: &mut Builder,
    total: Option<Operand>,
    sums: &Operand,
) -> Result<Operand, OpError> {
    let Some(total) = total else { return convert(builder, sums, DType::I32) };
    let mut formula = Formula::new(&[Scalar::F32, Scalar::I32]);
    let whole = formula.cast(Scalar::I32, 0);
    formula.add(whole, 1);
    builder.pointwise(&formula.0, &[sums.clone(), total], DType::I32)
}

/// `total - (sum of a over its last axis) * zero`.
fn less_zeros(
    builder: &mut Builder,
    total: &Operand,
    a: &Operand,
    zero: &Operand,
) -> Result<Operand, OpError> {
    let mut shape = a.shape();
    let length = shape.pop().unwrap_or(1);
    let outer: usize = shape.iter().product();
    let a = Builder::retyped(a, DType::I32);
    let flat = builder.reshape(&a, &[outer, length, 1])?;
    let kind = Kind::Reduce(reduce::Op::Sum);
    let sums = builder.emit(kind, vec![flat], &[outer, 1], DType::I32)?;
    shape.push(1);
    let sums = builder.reshape(&sums, &shape)?;
    let mut formula = Formula::new(&[Scalar::I32; 3]);
    let excess = formula.mul(1, 2);
    formula.sub(0, excess);
    let less = builder.pointwise(&formula.0, &[total.clone(), sums, zero.clone()], DType::I32)?;
    builder.reshape(&less, &total.shape())
}

/// `ConvInteger` (ONNX 10).
fn conv_integer(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, weights) = (call.input(0)?, call.input(1)?);
    let (x_zero, w_zero) = (call.optional(2), call.optional(3));
    Ok(vec![convolution(call, &x, x_zero.as_ref(), &weights, w_zero.as_ref())?])
}

/// The `i32` convolution of `x - x_zero [n, c, …]` with `weights - w_zero [out, c / groups, …]`;
/// the zero point of the weights is one, or one per output channel.
fn convolution(
    call: &mut Call<'_>,
    x: &Operand,
    x_zero: Option<&Operand>,
    weights: &Operand,
    w_zero: Option<&Operand>,
) -> Result<Operand, OpError> {
    bytes_only(&[x, weights])?;
    let (dims, shape) = (x.shape(), weights.shape());
    if dims.len() < 3 || shape.len() != dims.len() {
        let expected = format!("weights for {}", Shape::from(dims));
        return Err(OpError::mismatch("input 1", expected, Shape::from(shape)));
    }
    let x_zero = x_zero.map(|zero| call.builder.reshape(zero, &[])).transpose()?;
    let x = same_shape(call.builder, x, x_zero.as_ref())?;
    let w_zero = w_zero.map(|zero| channels(call.builder, zero, &shape)).transpose()?;
    let weights = same_shape(call.builder, weights, w_zero.as_ref())?;
    let groups = usize::try_from(call.int("group", 1)).unwrap_or(0);
    let per_group = shape[1];
    if groups == 0 || per_group.checked_mul(groups) != Some(dims[1]) {
        let expected = format!("weights for {} channels in {groups} groups", dims[1]);
        return Err(OpError::mismatch("input 1", expected, Shape::from(shape)));
    }
    let data = if call.builder.net.is_constant(&weights) {
        call.builder.net.constant(&weights)
    } else {
        None
    };
    let factors = Factors {
        dtype: weights.dtype,
        known: data.as_ref(),
        sizes: [shape[0], per_group, shape[2..].iter().product()],
        joins_inner: true,
    };
    let part = factors.part(size_max(x.dtype))?;
    let x = convert(call.builder, &x, DType::F32)?;
    let weights = convert(call.builder, &weights, DType::F32)?;
    let mut split = dims.clone();
    split.splice(1..2, [groups, per_group]);
    let split_x = call.builder.reshape(&x, &split)?;
    let mut total: Option<Operand> = None;
    for start in (0..per_group.max(1)).step_by(part) {
        let count = part.min(per_group - start);
        let (mut x, mut w) = (x.clone(), weights.clone());
        if count < per_group {
            let some = call.builder.slice(&split_x, 2, start, 1, count)?;
            let mut joined = dims.clone();
            joined[1] = groups * count;
            x = call.builder.reshape(&some, &joined)?;
            w = call.builder.slice(&w, 1, start, 1, count)?;
        }
        let sums = delegate(call, "Conv", vec![Some(x), Some(w)])?.swap_remove(0);
        total = Some(add_part(call.builder, total, &sums)?);
    }
    total.ok_or_else(|| OpError::Missing("a sum".to_owned()))
}

/// One value, or one per output channel, as weights `[out, …]` or outputs `[n, out, …]` without
/// the first axis broadcast it.
fn channels(builder: &mut Builder, given: &Operand, weights: &[usize]) -> Result<Operand, OpError> {
    let mut target = vec![1; weights.len()];
    if given.layout.elements() != 1 {
        target[0] = weights[0];
    }
    builder.reshape(given, &target)
}

/// `QLinearMatMul` (ONNX 10, 21).
fn qlinear_matmul(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (a, b) = (call.input(0)?, call.input(3)?);
    let (a_scale, a_zero) = (rows(call, 1)?, rows(call, 2)?);
    let (b_scale, b_zero) = (call.input(4)?, call.optional(5));
    let sums = product(call, &a, a_zero.as_ref(), &b, b_zero.as_ref())?;
    let a_scale = a_scale.ok_or_else(|| OpError::Missing("input 1".to_owned()))?;
    let (y_scale, y_zero) = (rows(call, 6)?, rows(call, 7)?);
    let y_scale = y_scale.ok_or_else(|| OpError::Missing("input 6".to_owned()))?;
    let dtype = y_zero.as_ref().map_or(a.dtype, |zero| zero.dtype);
    let scales = [a_scale, b_scale, y_scale];
    Ok(vec![requantize(call.builder, &sums, scales, y_zero.as_ref(), dtype)?])
}

/// `saturate(round(sums * (a_scale * b_scale / y_scale)) + y_zero)`, ties to even.
fn requantize(
    builder: &mut Builder,
    sums: &Operand,
    [a_scale, b_scale, y_scale]: [Operand; 3],
    y_zero: Option<&Operand>,
    dtype: DType,
) -> Result<Operand, OpError> {
    let mut scales = Vec::with_capacity(3);
    for scale in [a_scale, b_scale, y_scale] {
        scales.push(convert(builder, &scale, DType::F32)?);
    }
    let mut formula = Formula::floats(3);
    let both = formula.mul(0, 1);
    formula.bin(Binary::Div, both, 2);
    let factor = builder.pointwise(&formula.0, &scales, DType::F32)?;
    let mut inputs = vec![sums.clone(), factor];
    inputs.extend(y_zero.cloned());
    let scalars: Vec<Scalar> = inputs.iter().map(Operand::scalar).collect();
    let mut formula = Formula::new(&scalars);
    let sum = formula.cast(Scalar::F32, 0);
    let value = formula.mul(sum, 1);
    let zero = y_zero.map(|_| formula.cast(Scalar::F32, 2));
    Target::of(dtype).finish(&mut formula, value, zero)?;
    builder.pointwise(&formula.0, &inputs, dtype)
}

/// `QLinearConv` (ONNX 10).
fn qlinear_conv(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    if call.flag("channels_last", false) {
        return Err(OpError::Unsupported("channels_last".to_owned()));
    }
    let (x, weights) = (call.input(0)?, call.input(3)?);
    let (x_zero, w_zero) = (call.optional(2), call.optional(5));
    let sums = convolution(call, &x, x_zero.as_ref(), &weights, w_zero.as_ref())?;
    let mut spatial = weights.shape();
    spatial.pop();
    let mut sums = sums;
    if let Some(bias) = call.optional(8) {
        let bias = channels(call.builder, &bias, &spatial)?;
        let sum = Expr::binary(Binary::Add, Scalar::I32);
        sums = call.builder.pointwise(&sum, &[sums, bias], DType::I32)?;
    }
    let (x_scale, w_scale, y_scale) = (call.input(1)?, call.input(4)?, call.input(6)?);
    let x_scale = call.builder.reshape(&x_scale, &[])?;
    let w_scale = channels(call.builder, &w_scale, &spatial)?;
    let y_scale = call.builder.reshape(&y_scale, &[])?;
    let y_zero = call.optional(7);
    let y_zero = y_zero.map(|zero| call.builder.reshape(&zero, &[])).transpose()?;
    let dtype = y_zero.as_ref().map_or(x.dtype, |zero| zero.dtype);
    let scales = [x_scale, w_scale, y_scale];
    Ok(vec![requantize(call.builder, &sums, scales, y_zero.as_ref(), dtype)?])
}

/// `sums * a_scale * b_scale + bias`.
fn scaled(
    builder: &mut Builder,
    sums: &Operand,
    a_scale: &Operand,
    b_scale: &Operand,
    bias: Option<&Operand>,
) -> Result<Operand, OpError> {
    let mut inputs = vec![sums.clone(), a_scale.clone(), b_scale.clone()];
    inputs.extend(bias.cloned());
    let scalars: Vec<Scalar> = inputs.iter().map(Operand::scalar).collect();
    let mut formula = Formula::new(&scalars);
    let sum = formula.cast(Scalar::F32, 0);
    let both = formula.mul(1, 2);
    let value = formula.mul(sum, both);
    if bias.is_some() {
        formula.add(value, 3);
    }
    builder.pointwise(&formula.0, &inputs, DType::F32)
}

/// `com.microsoft.MatMulIntegerToFloat`: a, b, their scales, their zero points, a bias.
fn matmul_integer_to_float(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (a, b, b_scale) = (call.input(0)?, call.input(1)?, call.input(3)?);
    let (a_scale, a_zero) = (rows(call, 2)?, rows(call, 4)?);
    let a_scale = a_scale.ok_or_else(|| OpError::Missing("input 2".to_owned()))?;
    let (b_zero, bias) = (call.optional(5), call.optional(6));
    let sums = product(call, &a, a_zero.as_ref(), &b, b_zero.as_ref())?;
    Ok(vec![scaled(call.builder, &sums, &a_scale, &b_scale, bias.as_ref())?])
}

/// `com.microsoft.DynamicQuantizeMatMul`: a, b, the scale and zero point of b, a bias.
fn dynamic_quantize_matmul(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (a, b, b_scale) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let (b_zero, bias) = (call.optional(3), call.optional(4));
    let (a_scale, a_zero) = dynamic_scale(call.builder, &a)?;
    let a = Target::of(DType::U8).quantize(call.builder, &a, &a_scale, Some(&a_zero))?;
    let sums = product(call, &a, Some(&a_zero), &b, b_zero.as_ref())?;
    Ok(vec![scaled(call.builder, &sums, &a_scale, &b_scale, bias.as_ref())?])
}

/// `com.microsoft.QGemm`: `alpha * a * b + c`, with c as an `i32` in units of the product of the
/// scales.
fn qgemm(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (mut a, mut b) = (call.input(0)?, call.input(3)?);
    let (a_scale, b_scale) = (call.input(1)?, call.input(4)?);
    let (a_zero, b_zero) = (call.optional(2), call.optional(5));
    super::expect_rank("input 0", &a.shape(), 2)?;
    super::expect_rank("input 3", &b.shape(), 2)?;
    if call.flag("transA", false) {
        a = Builder::transpose(&a, &[1, 0]);
    }
    if call.flag("transB", false) {
        b = Builder::transpose(&b, &[1, 0]);
    }
    let a_zero = a_zero.map(|zero| call.builder.reshape(&zero, &[])).transpose()?;
    let a_scale = call.builder.reshape(&a_scale, &[])?;
    let mut sums = product(call, &a, a_zero.as_ref(), &b, b_zero.as_ref())?;
    if let Some(c) = call.optional(6) {
        let shape = sums.shape();
        let c = call.builder.expand(&c, &shape)?;
        let sum = Expr::binary(Binary::Add, Scalar::I32);
        sums = call.builder.pointwise(&sum, &[sums, c], DType::I32)?;
    }
    let mut formula = Formula::floats(1);
    let alpha = formula.c(call.float("alpha", 1.0));
    formula.mul(0, alpha);
    let a_scale = call.builder.pointwise(&formula.0, &[a_scale], DType::F32)?;
    match call.optional(7) {
        Some(y_scale) => {
            let y_scale = call.builder.reshape(&y_scale, &[])?;
            let y_zero = call.optional(8);
            let y_zero = y_zero.map(|zero| call.builder.reshape(&zero, &[])).transpose()?;
            let dtype = y_zero.as_ref().map_or(a.dtype, |zero| zero.dtype);
            let scales = [a_scale, b_scale, y_scale];
            Ok(vec![requantize(call.builder, &sums, scales, y_zero.as_ref(), dtype)?])
        }
        None => Ok(vec![scaled(call.builder, &sums, &a_scale, &b_scale, None)?]),
    }
}
