//! Short chains that optimisers write as one operator of `com.microsoft`.

use gw_shaders::expr::{Binary, Reg, Unary};
use gw_shaders::kernel::Scalar;
use gw_shaders::norm;
use gw_shaders::reduce::Op;
use gw_tensor::{DType, Shape};

use super::{
    Call, Table, activation, axis, elementwise, gather, matmul, norm as norms, reduce, window,
};
use crate::error::OpError;
use crate::graph::Attr;
use crate::net::formula::Formula;
use crate::net::{Kind, Operand};

pub(super) const OPS: Table = &[
    ("com.microsoft.BiasAdd", bias_add),
    ("com.microsoft.BiasSoftmax", bias_softmax),
    ("com.microsoft.BiasSplitGelu", bias_split_gelu),
    ("com.microsoft.EmbedLayerNormalization", embed),
    ("com.microsoft.FusedConv", conv),
    ("com.microsoft.FusedGemm", gemm),
    ("com.microsoft.FusedMatMulActivation", matmul_activation),
    ("com.microsoft.GemmFastGelu", gemm_gelu),
    ("com.microsoft.QuickGelu", quick_gelu),
];

/// `softmax(x + bias)` over all axes from `axis` on. The bias repeats over inner or outer axes by
/// the rules of broadcasting.
fn bias_softmax(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, bias) = (call.input(0)?, call.input(1)?);
    let dims = x.shape();
    let at = axis(call.int("axis", 1), dims.len())?;
    let bias = call.builder.expand(&bias, &dims)?;
    let sum = elementwise::apply(call.builder, Binary::Add, &x, &bias)?;
    if sum.scalar() != Scalar::F32 {
        return Err(OpError::Type { what: "input 0".to_owned(), given: x.dtype });
    }
    let rows = [dims[..at].iter().product(), dims[at..].iter().product(), 1];
    let flat = call.builder.reshape(&sum, &rows)?;
    let kind = Kind::Softmax { log: false };
    let result = call.builder.emit(kind, vec![flat], &rows, x.dtype)?;
    Ok(vec![call.builder.reshape(&result, &dims)?])
}

/// With `a | b = x + bias` along the last axis: `a * gelu(b)`.
fn bias_split_gelu(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, bias) = (call.input(0)?, call.input(1)?);
    let sum = elementwise::apply(call.builder, Binary::Add, &x, &bias)?;
    let dims = sum.shape();
    let last = dims.len().saturating_sub(1);
    let (2.., 0) = (dims.last().copied().unwrap_or(0), dims.last().map_or(1, |size| size % 2))
    else {
        return Err(OpError::mismatch("input 0", "an even last axis", Shape::from(dims)));
    };
    let half = dims[last] / 2;
    let left = call.builder.slice(&sum, last, 0, 1, half)?;
    let right = call.builder.slice(&sum, last, half, 1, half)?;
    let mut formula = Formula::floats(2);
    let gate = activation::gelu_of(&mut formula, 1, false);
    formula.mul(0, gate);
    Ok(vec![call.builder.pointwise(&formula.0, &[left, right], x.dtype)?])
}

/// `x * sigmoid(alpha * x)`.
fn quick_gelu(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let mut formula = Formula::floats(1);
    let alpha = formula.c(call.float("alpha", 1.702));
    let scaled = formula.mul(alpha, 0);
    let gate = formula.un(Unary::Sigmoid, scaled);
    formula.mul(0, gate);
    activation::one_float(call, &formula)
}

/// Inputs: words, segments, the tables of words, positions and segments, scale, bias, the mask,
/// positions; outputs: the normalised sum, the length of each entry, the sum.
fn embed(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let words = call.input(0)?;
    let shape = words.shape();
    let &[batch, length] = shape.as_slice() else {
        return Err(OpError::mismatch("input 0", "2 axes", Shape::from(shape)));
    };
    let table = call.input(2)?;
    let width = table.shape().get(1).copied().unwrap_or(0);
    let places = match call.optional(8) {
        Some(places) => places,
        None => gather::steps(call.builder, 2, 1, length, 1)?,
    };
    let mut parts = vec![rows(call, &table, &words)?];
    let table = call.input(3)?;
    parts.push(rows(call, &table, &places)?);
    if let Some(table) = call.optional(4) {
        let segments = match call.optional(1) {
            Some(segments) => segments,
            None => call.builder.ints(&[1, 1], &[0])?,
        };
        parts.push(rows(call, &table, &segments)?);
    }
    let whole = [batch, length, width];
    for part in &mut parts {
        *part = call.builder.expand(part, &whole)?;
    }
    let mut formula = Formula::floats(parts.len());
    let mut total = formula.add(0, 1);
    for part in 2..parts.len() {
        total = formula.add(total, part);
    }
    debug_assert_eq!(total, formula.0.output);
    let dtype = table.dtype;
    let sum = call.builder.pointwise(&formula.0, &parts, dtype)?;
    let epsilon = call.float("epsilon", 1e-12);
    let mut weights = [call.input(5)?, call.input(6)?].map(Some);
    for weight in weights.iter_mut().flatten() {
        *weight = call.builder.expand(weight, &[width])?;
    }
    let result = norms::rows(call.builder, norm::Kind::Layer, &sum, width, epsilon, weights)?;
    let counts = match call.optional(7) {
        Some(mask) => {
            let mut formula = Formula::new(&[mask.scalar()]);
            let one = formula.0.constant(mask.scalar(), 1.0);
            let is_one = formula.bin(Binary::Equal, 0, one);
            formula.cast(Scalar::I32, is_one);
            let ones = call.builder.pointwise(&formula.0, &[mask], DType::I32)?;
            reduce::over(call.builder, Op::Sum, &ones, &[1], false, DType::I32)?
        }
        None => {
            let zero = call.builder.ints(&[1], &[0])?;
            let zero = elementwise::convert(call.builder, &zero, DType::I32)?;
            call.builder.expand(&zero, &[batch])?
        }
    };
    Ok(vec![result, counts, sum])
}

/// The rows of a table that indices of two axes name.
fn rows(call: &mut Call<'_>, table: &Operand, indices: &Operand) -> Result<Operand, OpError> {
    let (shape, places) = (table.shape(), indices.shape());
    let (&[count, width], &[batch, length]) = (shape.as_slice(), places.as_slice()) else {
        return Err(OpError::mismatch("a table", "2 axes", Shape::from(shape)));
    };
    if table.scalar() != Scalar::F32 || indices.scalar() != Scalar::I32 {
        return Err(OpError::Type { what: "a table".to_owned(), given: table.dtype });
    }
    let rows = call.builder.reshape(table, &[1, count, width])?;
    let taken = gather::take(call.builder, &rows, indices)?;
    call.builder.reshape(&taken, &[batch, length, width])
}

/// A convolution, input 3 added, then the activation that the node names.
fn conv(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let mut result = window::conv(call)?.into_iter().next();
    let mut product = result.take().ok_or_else(|| OpError::Missing("the product".to_owned()))?;
    if let Some(other) = call.optional(3) {
        product = elementwise::apply(call.builder, Binary::Add, &product, &other)?;
    }
    let given = match call.attr("activation_params") {
        Some(Attr::Floats(values)) => values.clone(),
        _ => Vec::new(),
    };
    Ok(vec![finished(call, product, &given)?])
}

/// `x + bias + skip`.
fn bias_add(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (mut sum, shape) = (call.input(0)?, call.input(0)?.shape());
    for index in 1..3 {
        let part = call.input(index)?;
        let part = call.builder.expand(&part, &shape)?;
        sum = elementwise::apply(call.builder, Binary::Add, &sum, &part)?;
    }
    Ok(vec![sum])
}

fn gemm(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let product = matmul::gemm(call)?;
    with_activation(call, product)
}

fn matmul_activation(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let product = matmul::fused_matmul(call)?;
    with_activation(call, product)
}

/// The activation of a product, whose parameters are attributes.
fn with_activation(call: &mut Call<'_>, product: Vec<Operand>) -> Result<Vec<Operand>, OpError> {
    let mut given = Vec::new();
    for name in ["activation_alpha", "activation_beta", "activation_gamma"] {
        match call.attr(name) {
            Some(Attr::Float(value)) => given.push(*value),
            _ => break,
        }
    }
    product.into_iter().map(|product| finished(call, product, &given)).collect()
}

/// The approximate gelu of `x w + bias`.
fn gemm_gelu(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, weights) = (call.input(0)?, call.input(1)?);
    let mut inputs = vec![matmul::product(call.builder, &x, &weights)?];
    if let Some(bias) = call.optional(2) {
        let shape = inputs[0].shape();
        inputs.push(call.builder.expand(&bias, &shape)?);
    }
    let mut formula = Formula::floats(inputs.len());
    let sum = if inputs.len() > 1 { formula.add(0, 1) } else { 0 };
    activation::gelu_of(&mut formula, sum, true);
    Ok(vec![call.builder.pointwise(&formula.0, &inputs, x.dtype)?])
}

/// `x` after the activation that the node names.
fn finished(call: &mut Call<'_>, x: Operand, given: &[f32]) -> Result<Operand, OpError> {
    let name = call.text("activation", "");
    if name.is_empty() {
        return Ok(x);
    }
    let mut formula = Formula::floats(1);
    activated(&mut formula, &name, given)?;
    let dtype = x.dtype;
    call.builder.pointwise(&formula.0, &[x], dtype)
}

/// The activation `name` of register 0.
fn activated(formula: &mut Formula, name: &str, given: &[f32]) -> Result<Reg, OpError> {
    let parameter = |index: usize, default: f32| given.get(index).copied().unwrap_or(default);
    Ok(match name {
        "Relu" => formula.un(Unary::Relu, 0),
        "Sigmoid" => formula.un(Unary::Sigmoid, 0),
        "Softplus" => formula.un(Unary::Softplus, 0),
        "Tanh" => formula.un(Unary::Tanh, 0),
        "Elu" => {
            let below = activation::scaled_expm1(formula, 0, parameter(0, 1.0));
            activation::piecewise(formula, below)
        }
        "LeakyRelu" => {
            let slope = formula.c(parameter(0, 0.01));
            let below = formula.mul(slope, 0);
            activation::piecewise(formula, below)
        }
        "Clip" => {
            let low = formula.c(parameter(0, f32::MIN));
            let high = formula.c(parameter(1, f32::MAX));
            let raised = formula.bin(Binary::Max, 0, low);
            formula.bin(Binary::Min, raised, high)
        }
        "HardSigmoid" => activation::hard_sigmoid_of(formula, parameter(0, 0.2), parameter(1, 0.5)),
        other => return Err(OpError::Unsupported(format!("activation `{other}`"))),
    })
}
