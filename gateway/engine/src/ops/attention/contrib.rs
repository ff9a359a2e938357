//! The attentions of `com.microsoft`.

use gw_shaders::attention::Window;
use gw_shaders::expr::Binary;
use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Shape};

use super::scores::{Form, Stage, attend};
use super::{appended, both, count, first_keys, join_heads, past_of, split_heads};
use crate::error::OpError;
use crate::net::Operand;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::ops::{Call, elementwise, matmul, sizes, wants};

/// Inputs: q, k, v, their bias, the padding of keys, the bias of scores, past keys and values;
/// outputs: the result, present keys and values, the scores.
pub(super) fn multi_head(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    for index in [8, 9] {
        if call.optional(index).is_some() {
            return Err(OpError::Unsupported(format!("input {index}, a shared buffer")));
        }
    }
    let heads = count(call, "num_heads")?;
    let [q, k, v] = projected(call, heads)?;
    let (past_k, past_v) = (call.optional(6), call.optional(7));
    let past = past_k.as_ref().and_then(|past| past.shape().get(2).copied()).unwrap_or(0);
    let k = appended(call.builder, past_k, &k)?;
    let v = appended(call.builder, past_v, &v)?;
    let mut form = Form::of_scale(scale(call, &q));
    form.side_by_side = true;
    let places = [q.shape()[0], q.shape()[2], k.shape()[2]];
    let padding = match call.optional(4) {
        Some(mask) => padding(call, &mask, places, past)?,
        None => None,
    };
    form.mask = both(call.builder, padding, call.optional(5))?;
    if call.flag("unidirectional", false) && places[1] > 1 {
        form.window = Window::causal(past_of(past)?);
    }
    if wants(call, 3) {
        form.keep = Some(Stage::Masked);
    }
    let (result, kept) = attend(call.builder, [&q, &k, &v], &form)?;
    let mut outputs = vec![join_heads(call.builder, &result)?, k, v];
    outputs.extend(kept);
    Ok(outputs)
}

/// The queries, keys and values by head, with their bias added.
fn projected(call: &mut Call<'_>, heads: usize) -> Result<[Operand; 3], OpError> {
    let query = call.input(0)?;
    let (key, value, bias) = (call.optional(1), call.optional(2), call.optional(3));
    let (Some(key), Some(value)) = (key.clone(), value) else {
        if bias.is_some() {
            return Err(OpError::Unsupported("a bias of packed keys and values".to_owned()));
        }
        return match key {
            // `[batch, length, heads, 2, d]`.
            Some(pair) => {
                let q = split_heads(call.builder, &query, heads)?;
                Ok([q, packed(call, &pair, 0, 2, heads)?, packed(call, &pair, 1, 2, heads)?])
            }
            // `[batch, length, heads, 3, d]`.
            None => Ok([
                packed(call, &query, 0, 3, heads)?,
                packed(call, &query, 1, 3, heads)?,
                packed(call, &query, 2, 3, heads)?,
            ]),
        };
    };
    let by_head = key.shape().len() == 4;
    let mut parts = [query, key, value];
    if let Some(bias) = bias {
        let mut start = 0;
        // Keys and values that are given by head have theirs already.
        let biased = if by_head { 1 } else { 3 };
        for part in &mut parts[..biased] {
            let width = part.shape().last().copied().unwrap_or(0);
            let own = piece(call.builder, &bias, start, width)?;
            *part = elementwise::apply(call.builder, Binary::Add, part, &own)?;
            start += width;
        }
    }
    let [q, k, v] = parts;
    let q = split_heads(call.builder, &q, heads)?;
    if by_head {
        return Ok([q, k, v]);
    }
    Ok([q, split_heads(call.builder, &k, heads)?, split_heads(call.builder, &v, heads)?])
}

/// Elements `start..start + count` of the only axis.
fn piece(
    builder: &mut Builder,
    x: &Operand,
    start: usize,
    count: usize,
) -> Result<Operand, OpError> {
    match x.shape()[..] {
        [size] if start.saturating_add(count) <= size => builder.slice(x, 0, start, 1, count),
        _ => {
            let expected = format!("at least {} elements", start.saturating_add(count));
            Err(OpError::mismatch("the bias", expected, Shape::from(x.shape())))
        }
    }
}

/// One of `parts` of `[batch, length, heads, parts, d]`, by head.
fn packed(
    call: &mut Call<'_>,
    x: &Operand,
    part: usize,
    parts: usize,
    heads: usize,
) -> Result<Operand, OpError> {
    let shape = x.shape();
    let [batch, length, own, given, width] = shape[..] else {
        return Err(OpError::mismatch("packed heads", "5 axes", Shape::from(shape)));
    };
    if [own, given] != [heads, parts] {
        let expected = format!("{heads} heads of {parts} parts");
        return Err(OpError::mismatch("packed heads", expected, Shape::from(shape)));
    }
    let one = call.builder.slice(x, 3, part, 1, 1)?;
    let one = call.builder.reshape(&one, &[batch, length, heads, width])?;
    Ok(Builder::transpose(&one, &[0, 2, 1, 3]))
}

/// The attribute; 0 stands for one over the root of a row's length.
fn scale(call: &Call<'_>, q: &Operand) -> f32 {
    match call.float("scale", 0.0) {
        0.0 => super::scale_of(q),
        scale => scale,
    }
}

/// What a mask adds to the scores: `mask_filter_value` where it is 0. It is `[batch]`, the number
/// of keys; `[2 * batch]`, the ends and then the starts; `[3 * batch + 2]`, the number of keys
/// first; or it has the axes of the scores without
/// the heads. `places` are batch, queries and keys.
fn padding(
    call: &mut Call<'_>,
    mask: &Operand,
    places: [usize; 3],
    past: usize,
) -> Result<Option<Operand>, OpError> {
    let [batch, queries, keys] = places;
    let shape = mask.shape();
    let fill = call.float("mask_filter_value", -10_000.0);
    let builder = &mut *call.builder;
    let seen = match shape[..] {
        [size] if size == batch => first_keys(builder, mask, keys)?,
        // The lengths of keys come first; the rest is for kernels that pack entries.
        [size] if size == 3 * batch + 2 => {
            let ends = builder.slice(mask, 0, 0, 1, batch)?;
            first_keys(builder, &ends, keys)?
        }
        [size] if size == 2 * batch => {
            let ends = builder.slice(mask, 0, 0, 1, batch)?;
            let starts = builder.slice(mask, 0, batch, 1, batch)?;
            let (ends, starts) =
                (first_keys(builder, &ends, keys)?, first_keys(builder, &starts, keys)?);
            let mut formula = Formula::new(&[Scalar::U32; 2]);
            let one = formula.0.constant(Scalar::U32, 1.0);
            let begun = formula.bin(Binary::Xor, 1, one);
            formula.bin(Binary::And, 0, begun);
            builder.pointwise(&formula.0, &[ends, starts], DType::Bool)?
        }
        [rows, 1] if keys != 1 && (rows == batch || rows == 1) => return Ok(None),
        [rows, cols] if [rows, cols] == [batch, keys] => {
            let whole = builder.reshape(mask, &[batch, 1, 1, keys])?;
            positive(builder, &whole)?
        }
        [rows, lines, cols] if [rows, lines, cols] == [batch, queries, keys] => {
            let whole = builder.reshape(mask, &[batch, 1, queries, keys])?;
            positive(builder, &whole)?
        }
        [rows, 1, most, also]
            if rows == batch && most == also && most >= keys && past + queries <= most =>
        {
            let rows = builder.slice(mask, 2, past, 1, queries)?;
            let part = builder.slice(&rows, 3, 0, 1, keys)?;
            positive(builder, &part)?
        }
        _ => {
            let expected = format!("a mask over {batch} entries of {keys} keys");
            return Err(OpError::mismatch("the mask", expected, Shape::from(shape)));
        }
    };
    let mut formula = Formula::new(&[seen.scalar()]);
    let (zero, fill) = (formula.c(0.0), formula.c(fill));
    formula.select(0, zero, fill);
    builder.pointwise(&formula.0, &[seen], DType::F32).map(Some)
}

/// Where integers are above 0.
fn positive(builder: &mut Builder, x: &Operand) -> Result<Operand, OpError> {
    match x.scalar() {
        Scalar::U32 => Ok(x.clone()),
        Scalar::I32 => {
            let mut formula = Formula::new(&[Scalar::I32]);
            let zero = formula.int(0);
            formula.bin(Binary::Greater, 0, zero);
            builder.pointwise(&formula.0, std::slice::from_ref(x), DType::Bool)
        }
        Scalar::F32 => Err(OpError::Type { what: "the mask".to_owned(), given: x.dtype }),
    }
}

/// Inputs: x, the weights of q, k and v beside each other, their bias, the mask, the past
/// `[2, batch, heads, length, d]`, the bias of scores; outputs: the result, the present.
pub(super) fn merged(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    if call.flag("do_rotary", false) || call.flag("past_present_share_buffer", false) {
        let what = "rotary embeddings or shared buffers of this attention";
        return Err(OpError::Unsupported(what.to_owned()));
    }
    let heads = count(call, "num_heads")?;
    let (x, weights) = (call.input(0)?, call.input(1)?);
    let shape = weights.shape();
    let &[_, wide] = shape.as_slice() else {
        return Err(OpError::mismatch("input 1", "2 axes", Shape::from(shape)));
    };
    let widths = match call.ints("qkv_hidden_sizes") {
        Some(given) if !given.is_empty() => sizes(&given)?,
        _ => vec![wide / 3; 3],
    };
    if widths.len() != 3
        || widths.iter().try_fold(0, |sum: usize, &w| sum.checked_add(w)) != Some(wide)
    {
        let expected = format!("{wide} columns in all");
        return Err(OpError::mismatch("qkv_hidden_sizes", expected, format!("{widths:?}")));
    }
    let mut product = matmul::product(call.builder, &x, &weights)?;
    if let Some(bias) = call.optional(2) {
        product = elementwise::apply(call.builder, Binary::Add, &product, &bias)?;
    }
    let mut start = 0;
    let mut parts = Vec::with_capacity(3);
    for width in widths {
        let part = call.builder.slice(&product, product.shape().len() - 1, start, 1, width)?;
        parts.push(split_heads(call.builder, &part, heads)?);
        start += width;
    }
    let mut past = 0;
    if let Some(states) = call.optional(4) {
        past = states.shape().get(3).copied().unwrap_or(0);
        for (index, part) in parts[1..].iter_mut().enumerate() {
            let half = half(call.builder, &states, index)?;
            *part = appended(call.builder, Some(half), part)?;
        }
    }
    let [q, k, v] = &parts[..] else { unreachable!("three were pushed") };
    let mut form = Form::of_scale(scale(call, q));
    form.side_by_side = true;
    let places = [q.shape()[0], q.shape()[2], k.shape()[2]];
    let padding = match call.optional(3) {
        Some(mask) => padding(call, &mask, places, past)?,
        None => None,
    };
    form.mask = both(call.builder, padding, call.optional(5))?;
    if call.flag("unidirectional", false) && places[1] > 1 {
        form.window = Window::causal(past_of(past)?);
    }
    let (result, _) = attend(call.builder, [q, k, v], &form)?;
    let mut outputs = vec![join_heads(call.builder, &result)?];
    if wants(call, 1) {
        outputs.push(stacked(call.builder, k, v)?);
    }
    Ok(outputs)
}

/// Keys or values of `[2, batch, heads, length, d]`.
fn half(builder: &mut Builder, states: &Operand, index: usize) -> Result<Operand, OpError> {
    let shape = states.shape();
    match shape[..] {
        [2, ref rest @ ..] if rest.len() == 4 => {
            let one = builder.slice(states, 0, index, 1, 1)?;
            builder.reshape(&one, rest)
        }
        _ => {
            let expected = "[2, batch, heads, length, size]";
            Err(OpError::mismatch("the past", expected, Shape::from(shape)))
        }
    }
}

/// Keys and values as `[2, batch, heads, length, d]`.
fn stacked(builder: &mut Builder, k: &Operand, v: &Operand) -> Result<Operand, OpError> {
    if k.shape() != v.shape() {
        let given = Shape::from(v.shape());
        return Err(OpError::mismatch("values", Shape::from(k.shape()), given));
    }
    let mut shape = k.shape();
    shape.insert(0, 1);
    let k = builder.reshape(k, &shape)?;
    let v = builder.reshape(v, &shape)?;
    builder.concat(&[k, v], 0)
}
