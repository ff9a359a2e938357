//! Attention whose scores and shares a graph may change.

use gw_tensor::{DType, Shape};

use super::scale_or;
use super::scores::{Form, attend, mixed, product, sizes, softmax};
use crate::error::OpError;
use crate::graph::Attr;
use crate::net::Operand;
use crate::ops::{Call, control, elementwise, matmul};

/// Inputs: q, k, v, each of four axes (`ai.onnx.preview` 1).
pub(super) fn flex(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (q, k, v) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let scale = scale_or(call, &q);
    let has = |name: &str| matches!(call.attr(name), Some(Attr::Graph(_)));
    if !has("score_mod") && !has("prob_mod") {
        return Ok(vec![attend(call.builder, [&q, &k, &v], &Form::of_scale(scale))?.0]);
    }
    let sizes = sizes(&q, &k, &v)?;
    let scores = product(call.builder, &q, &k, sizes)?;
    let scores = matmul::scale(call.builder, &scores, scale)?;
    let scores = changed(call, "score_mod", scores)?;
    let shares = softmax(call.builder, &scores, None, false)?;
    let shares = changed(call, "prob_mod", shares)?;
    let result = mixed(call.builder, &shares, &v, sizes)?;
    Ok(vec![elementwise::convert(call.builder, &result, q.dtype)?])
}

/// What the graph of an attribute makes of `x`, where there is one.
fn changed(call: &mut Call<'_>, name: &str, x: Operand) -> Result<Operand, OpError> {
    let Some(Attr::Graph(graph)) = call.attr(name) else { return Ok(x) };
    // The graph sees the type of the softmax, which a device holds like that of the query.
    let seen = match call.dtype("softmax_precision")? {
        Some(dtype) => dtype,
        None if x.dtype == DType::F64 => DType::F64,
        None => DType::F32,
    };
    let shape = x.shape();
    let x = elementwise::convert(call.builder, &x, seen)?;
    let outputs = control::inline(call.builder, graph, &[x])?;
    match outputs.into_iter().next() {
        Some(changed) if changed.shape() == shape && changed.dtype.is_float() => Ok(changed),
        Some(other) => {
            let given = Shape::from(other.shape());
            Err(OpError::mismatch(name, Shape::from(shape), given))
        }
        None => Err(OpError::Missing(format!("the output of `{name}`"))),
    }
}
