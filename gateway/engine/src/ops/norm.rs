//! Normalisations.

use gw_shaders::expr::{Binary, Unary};
use gw_shaders::norm;
use gw_tensor::{DType, Shape};

use super::{Call, Table, axis, narrow};
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::net::{Kind, Operand};

pub(super) const OPS: Table = &[
    ("BatchNormalization", batch),
    ("GroupNormalization", group),
    ("InstanceNormalization", instance),
    ("LRN", local_response),
    ("LayerNormalization", layer),
    ("RMSNormalization", rms),
    ("SimplifiedLayerNormalization", rms),
    ("com.microsoft.SimplifiedLayerNormalization", rms),
    ("com.microsoft.SkipLayerNormalization", skip_layer),
    ("com.microsoft.SkipSimplifiedLayerNormalization", skip_rms),
];

/// ONNX's default for every normalisation.
const EPSILON: f32 = 1e-5;

/// Fails where the file asks for an output beyond the first `count`.
fn only_outputs(call: &Call<'_>, count: usize) -> Result<(), OpError> {
    match call.node.outputs.iter().skip(count).flatten().next() {
        Some(_) => Err(OpError::Unsupported(format!("output {count} and those after"))),
        None => Ok(()),
    }
}

/// `x` as one value per channel, against `[n, c, …]` of `rank` axes.
fn per_channel(builder: &mut Builder, x: &Operand, rank: usize) -> Result<Operand, OpError> {
    let mut shape = vec![1; rank];
    if rank > 1 {
        shape[1] = x.layout.elements();
    }
    builder.reshape(x, &shape)
}

/// `(x - mean) / sqrt(variance + epsilon) * scale + bias` is one line, `x * slope + offset`, whose
/// coefficients are known before the run where the weights are.
fn batch(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    if call.flag("training_mode", false) {
        return Err(OpError::Unsupported("training mode".to_owned()));
    }
    only_outputs(call, 1)?;
    let x = call.input(0)?;
    let rank = x.shape().len();
    let mut weights = Vec::with_capacity(4);
    for index in 1..5 {
        let weight = call.input(index)?;
        weights.push(per_channel(call.builder, &weight, rank)?);
    }
    let [scale, bias, mean, variance] = &weights[..] else { unreachable!("four were pushed") };
    let mut formula = Formula::floats(2);
    let epsilon = formula.c(call.float("epsilon", EPSILON));
    let sum = formula.add(1, epsilon);
    let root = formula.un(Unary::Sqrt, sum);
    formula.bin(Binary::Div, 0, root);
    let slope =
        call.builder.pointwise(&formula.0, &[scale.clone(), variance.clone()], scale.dtype)?;
    let mut formula = Formula::floats(3);
    let shift = formula.mul(1, 2);
    formula.sub(0, shift);
    let inputs = [bias.clone(), mean.clone(), slope.clone()];
    let offset = call.builder.pointwise(&formula.0, &inputs, bias.dtype)?;
    Ok(vec![line(call.builder, &x, &slope, &offset)?])
}

/// `x * slope + offset`.
fn line(
    builder: &mut Builder,
    x: &Operand,
    slope: &Operand,
    offset: &Operand,
) -> Result<Operand, OpError> {
    let mut formula = Formula::floats(3);
    let scaled = formula.mul(0, 1);
    formula.add(scaled, 2);
    builder.pointwise(&formula.0, &[x.clone(), slope.clone(), offset.clone()], x.dtype)
}

/// Rows of `cols` elements, normalised, with the shape of `x`.
fn rows(
    builder: &mut Builder,
    kind: norm::Kind,
    x: &Operand,
    cols: usize,
    eps: f32,
    weights: [Option<Operand>; 2],
) -> Result<Operand, OpError> {
    let shape = x.shape();
    let count = x.layout.elements() / cols.max(1);
    let flat = builder.reshape(x, &[count, cols])?;
    let [scale, bias] = &weights;
    let kind = Kind::Norm { kind, eps, scale: scale.is_some(), bias: bias.is_some() };
    let mut inputs = vec![flat];
    inputs.extend(weights.into_iter().flatten());
    let result = builder.emit(kind, inputs, &[count, cols], x.dtype)?;
    builder.reshape(&result, &shape)
}

fn layer(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    only_outputs(call, 1)?;
    let (x, scale, bias) = (call.input(0)?, call.input(1)?, call.optional(2));
    let result = over_last(call, norm::Kind::Layer, &x, &scale, bias.as_ref())?;
    Ok(vec![result])
}

fn rms(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    only_outputs(call, 1)?;
    let (x, scale) = (call.input(0)?, call.input(1)?);
    Ok(vec![over_last(call, norm::Kind::Rms, &x, &scale, None)?])
}

/// Over all axes from `axis` on.
fn over_last(
    call: &mut Call<'_>,
    kind: norm::Kind,
    x: &Operand,
    scale: &Operand,
    bias: Option<&Operand>,
) -> Result<Operand, OpError> {
    let shape = x.shape();
    let at = axis(call.int("axis", -1), shape.len())?;
    let normed = &shape[at..];
    let cols = normed.iter().product();
    let mut weight = |weight: &Operand| -> Result<Operand, OpError> {
        let expanded = call.builder.expand(weight, normed)?;
        call.builder.reshape(&expanded, &[cols])
    };
    let weights = [Some(weight(scale)?), bias.map(&mut weight).transpose()?];
    rows(call.builder, kind, x, cols, call.float("epsilon", EPSILON), weights)
}

fn skip_layer(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    skip(call, norm::Kind::Layer)
}

fn skip_rms(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    skip(call, norm::Kind::Rms)
}

/// Inputs: x, skip, gamma, (beta), bias; outputs: the result, mean, deviation, the sum.
fn skip(call: &mut Call<'_>, kind: norm::Kind) -> Result<Vec<Operand>, OpError> {
    let wants = |index: usize| call.node.outputs.get(index).is_some_and(Option::is_some);
    if wants(1) || wants(2) {
        return Err(OpError::Unsupported("the statistics of a normalisation".to_owned()));
    }
    let (x, other, scale) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let has_beta = kind == norm::Kind::Layer;
    let (beta, bias) =
        if has_beta { (call.optional(3), call.optional(4)) } else { (None, call.optional(3)) };
    let mut inputs = vec![x.clone(), other];
    inputs.extend(bias);
    let mut formula = Formula::floats(inputs.len());
    let mut total = formula.add(0, 1);
    if inputs.len() > 2 {
        total = formula.add(total, 2);
    }
    debug_assert_eq!(total, formula.0.output);
    let sum = call.builder.pointwise(&formula.0, &inputs, x.dtype)?;
    let result = over_last(call, kind, &sum, &scale, beta.as_ref())?;
    let unused = call.builder.empty(&[0], DType::F32)?;
    Ok(vec![result, unused.clone(), unused, sum])
}

fn instance(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let shape = x.shape();
    if shape.len() < 2 {
        return Err(OpError::mismatch("input 0", "at least 2 axes", Shape::from(shape)));
    }
    grouped(call, &x, shape[1])
}

fn group(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let shape = x.shape();
    let groups = usize::try_from(call.int("num_groups", 0)).unwrap_or(0);
    if shape.len() < 2 || groups == 0 || shape[1] % groups != 0 {
        let expected = format!("channels divisible by {groups}");
        return Err(OpError::mismatch("input 0", expected, Shape::from(shape)));
    }
    grouped(call, &x, groups)
}

/// Each group of channels of each batch entry is one row.
fn grouped(call: &mut Call<'_>, x: &Operand, groups: usize) -> Result<Vec<Operand>, OpError> {
    let shape = x.shape();
    let cols = x.layout.elements() / (shape[0] * groups).max(1);
    let eps = call.float("epsilon", EPSILON);
    let normed = rows(call.builder, norm::Kind::Layer, x, cols, eps, [None, None])?;
    let mut weights = Vec::with_capacity(2);
    for index in 1..3 {
        let mut weight = call.input(index)?;
        // Before operator set 21 there is one weight per group.
        if weight.layout.elements() == groups && groups != shape[1] {
            let column = call.builder.reshape(&weight, &[groups, 1])?;
            let wide = call.builder.expand(&column, &[groups, shape[1] / groups])?;
            weight = call.builder.reshape(&wide, &[shape[1]])?;
        }
        weights.push(per_channel(call.builder, &weight, shape.len())?);
    }
    Ok(vec![line(call.builder, &normed, &weights[0], &weights[1])?])
}

fn local_response(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let shape = x.shape();
    if shape.len() < 2 {
        return Err(OpError::mismatch("input 0", "at least 2 axes", Shape::from(shape)));
    }
    let inner = shape[2..].iter().product();
    let size = usize::try_from(call.int("size", 0)).unwrap_or(0);
    let kind = Kind::Lrn {
        size: narrow(size)?,
        alpha: call.float("alpha", 1e-4),
        beta: call.float("beta", 0.75),
        bias: call.float("bias", 1.0),
    };
    let planes = [shape[0], shape[1], inner];
    let x = call.builder.reshape(&x, &planes)?;
    let result = call.builder.emit(kind, vec![x.clone()], &planes, x.dtype)?;
    Ok(vec![call.builder.reshape(&result, &shape)?])
}
