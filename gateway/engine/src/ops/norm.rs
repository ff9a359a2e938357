//! Normalisations.

mod channels;
mod statistics;

use gw_shaders::expr::{Binary, Unary};
use gw_shaders::norm;
use gw_tensor::{DType, Shape};

use super::{Call, Table, axis, narrow, wants};
use crate::error::OpError;
use crate::net::builder::{Builder, broadcast};
use crate::net::formula::Formula;
use crate::net::{Kind, Operand};

pub(super) const OPS: Table = &[
    ("BatchNormalization", batch),
    ("GroupNormalization", group),
    ("Hardmax", statistics::hardmax),
    ("InstanceNormalization", instance),
    ("LRN", local_response),
    ("LayerNormalization", layer),
    ("LpNormalization", statistics::by_length),
    ("MeanVarianceNormalization", statistics::mean_variance),
    ("RMSNormalization", rms),
    ("SimplifiedLayerNormalization", rms),
    ("com.microsoft.GroupNorm", channels::group),
    ("com.microsoft.SimplifiedLayerNormalization", rms),
    ("com.microsoft.SkipGroupNorm", channels::skip_group),
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
        return statistics::batch_training(call);
    }
    only_outputs(call, 1)?;
    let x = call.input(0)?;
    let shape = x.shape();
    // Before operator set 9 there could be one weight per element of an entry.
    let by_element = call.opset < 9 && !call.flag("spatial", true);
    let mut weights = Vec::with_capacity(4);
    for index in 1..5 {
        let weight = call.input(index)?;
        weights.push(if by_element {
            call.builder.reshape(&weight, shape.get(1..).unwrap_or(&[]))?
        } else {
            per_channel(call.builder, &weight, shape.len())?
        });
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
pub(super) fn rows(
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
    let form = norm::Form { kind, eps, scale: scale.is_some(), bias: bias.is_some() };
    let mut inputs = vec![flat];
    inputs.extend(weights.into_iter().flatten());
    let result = builder.emit(Kind::Norm(form), inputs, &[count, cols], x.dtype)?;
    builder.reshape(&result, &shape)
}

fn layer(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, scale, bias) = (call.input(0)?, call.optional(1), call.optional(2));
    let at = axis(call.int("axis", -1), x.shape().len())?;
    let weights = [scale, bias];
    let mut outputs = vec![over_last(call, norm::Kind::Layer, &x, at, &weights)?];
    if wants(call, 1) || wants(call, 2) {
        outputs.extend(statistics::of_layer(call, &x, at)?);
    }
    Ok(outputs)
}

fn rms(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let at = axis(call.int("axis", -1), x.shape().len())?;
    let mut outputs = vec![over_last(call, norm::Kind::Rms, &x, at, &[Some(scale), None])?];
    if wants(call, 1) {
        outputs.push(statistics::of_rms(call, &x, at)?);
    }
    Ok(outputs)
}

/// Over all axes from `at` on; the weights are a scale and a bias.
fn over_last(
    call: &mut Call<'_>,
    kind: norm::Kind,
    x: &Operand,
    at: usize,
    weights: &[Option<Operand>; 2],
) -> Result<Operand, OpError> {
    if !x.dtype.is_float() {
        return Err(OpError::Type { what: "input 0".to_owned(), given: x.dtype });
    }
    let shape = x.shape();
    let normed = &shape[at..];
    let cols = normed.iter().product();
    let eps = call.float("epsilon", EPSILON);
    let fits = |weight: &Operand| broadcast(&weight.shape(), normed).is_ok_and(|to| to == normed);
    if weights.iter().flatten().all(fits) {
        let mut weight = |weight: &Operand| -> Result<Operand, OpError> {
            let expanded = call.builder.expand(weight, normed)?;
            call.builder.reshape(&expanded, &[cols])
        };
        let [scale, bias] = weights;
        let weights =
            [scale.as_ref().map(&mut weight).transpose()?, bias.as_ref().map(weight).transpose()?];
        return rows(call.builder, kind, x, cols, eps, weights);
    }
    // Weights that differ from row to row.
    let normed = rows(call.builder, kind, x, cols, eps, [None, None])?;
    let [scale, bias] = weights;
    let mut number = |given: &Option<Operand>, default: f32| match given {
        Some(given) => call.builder.expand(given, &shape),
        None => Ok(call.builder.float(default)),
    };
    let (scale, bias) = (number(scale, 1.0)?, number(bias, 0.0)?);
    line(call.builder, &normed, &scale, &bias)
}

fn skip_layer(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    skip(call, norm::Kind::Layer)
}

fn skip_rms(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    skip(call, norm::Kind::Rms)
}

/// Inputs: x, skip, gamma, (beta), bias; outputs: the result, mean, inverse deviation, the sum.
fn skip(call: &mut Call<'_>, kind: norm::Kind) -> Result<Vec<Operand>, OpError> {
    let (x, other, scale) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let shape = x.shape();
    let at = axis(-1, shape.len())?;
    let has_beta = kind == norm::Kind::Layer;
    let (beta, bias) =
        if has_beta { (call.optional(3), call.optional(4)) } else { (None, call.optional(3)) };
    // The second summand may be one for the whole batch.
    let mut inputs = vec![x.clone(), call.builder.expand(&other, &shape)?];
    if let Some(bias) = &bias {
        inputs.push(call.builder.expand(bias, &shape)?);
    }
    let mut formula = Formula::floats(inputs.len());
    let total = formula.add(0, 1);
    if inputs.len() > 2 {
        formula.add(total, 2);
    }
    let sum = call.builder.pointwise(&formula.0, &inputs, x.dtype)?;
    let result = over_last(call, kind, &sum, at, &[Some(scale), beta])?;
    let unused = call.builder.empty(&[0], DType::F32)?;
    let [mean, inverse] = match (kind, wants(call, 1) || wants(call, 2)) {
        (_, false) => [unused.clone(), unused],
        (norm::Kind::Layer, true) => statistics::of_layer(call, &sum, at)?,
        (norm::Kind::Rms, true) if wants(call, 1) => {
            return Err(OpError::Unsupported("the mean of an RMS normalisation".to_owned()));
        }
        (norm::Kind::Rms, true) => [unused, statistics::of_rms(call, &sum, at)?],
    };
    Ok(vec![result, mean, inverse, sum])
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
