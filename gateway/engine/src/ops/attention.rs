//! Attention and what stands around it in language models.

mod cache;
mod contrib;
mod flex;
mod grouped;
mod rotary;
mod scores;
mod state;

use gw_shaders::attention::{Counts, Window};
use gw_shaders::expr::Binary;
use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Shape};

use super::{Call, Table, gather, wants};
use crate::error::OpError;
use crate::net::Operand;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use scores::{Form, Stage, attend};

pub(super) const OPS: Table = &[
    ("Attention", attention),
    ("CausalConvWithState", state::causal_conv),
    ("LinearAttention", state::linear),
    ("RotaryEmbedding", rotary::onnx),
    ("TensorScatter", cache::scatter),
    ("ai.onnx.preview.FlexAttention", flex::flex),
    ("com.microsoft.Attention", contrib::merged),
    ("com.microsoft.CausalConvWithState", state::causal_conv),
    ("com.microsoft.GroupQueryAttention", grouped::grouped),
    ("com.microsoft.LinearAttention", state::linear),
    ("com.microsoft.MultiHeadAttention", contrib::multi_head),
    ("com.microsoft.RotaryEmbedding", rotary::microsoft),
];

/// `[batch, length, heads * d]` as `[batch, heads, length, d]`.
fn split_heads(builder: &mut Builder, x: &Operand, heads: usize) -> Result<Operand, OpError> {
    let shape = x.shape();
    match shape.as_slice() {
        &[batch, length, width] if heads > 0 && width % heads == 0 => {
            let apart = builder.reshape(x, &[batch, length, heads, width / heads])?;
            Ok(Builder::transpose(&apart, &[0, 2, 1, 3]))
        }
        _ => {
            let expected = format!("[batch, length, {heads} * size]");
            Err(OpError::mismatch("heads", expected, Shape::from(shape)))
        }
    }
}

/// The other way round.
fn join_heads(builder: &mut Builder, x: &Operand) -> Result<Operand, OpError> {
    let shape = x.shape();
    let [batch, heads, length, width] = shape[..] else {
        return Err(OpError::mismatch("heads", "4 axes", Shape::from(shape)));
    };
    let beside = Builder::transpose(x, &[0, 2, 1, 3]);
    builder.reshape(&beside, &[batch, length, heads * width])
}

/// A count that an attribute must give.
fn count(call: &Call<'_>, name: &str) -> Result<usize, OpError> {
    let given = call.int(name, 0);
    usize::try_from(given)
        .ok()
        .filter(|&count| count > 0)
        .ok_or_else(|| OpError::mismatch(name, "at least 1", given))
}

/// What `past` holds, then `x`, along the third of four axes.
fn appended(builder: &mut Builder, past: Option<Operand>, x: &Operand) -> Result<Operand, OpError> {
    let Some(past) = past else { return Ok(x.clone()) };
    let (mut before, mut now) = (past.shape(), x.shape());
    if before.len() == 4 && now.len() == 4 {
        (before[2], now[2]) = (0, 0);
    }
    if before != now || before.len() != 4 || past.dtype != x.dtype {
        let given = format!("{} {}", past.dtype, Shape::from(past.shape()));
        let expected = format!("{} {} of another length", x.dtype, Shape::from(x.shape()));
        return Err(OpError::mismatch("the past", expected, given));
    }
    builder.concat(&[past, x.clone()], 2)
}

/// How many keys each entry has, `[batch]`.
fn counts_of(builder: &mut Builder, given: &Operand, batch: usize) -> Result<Operand, OpError> {
    if given.scalar() != Scalar::I32 || given.layout.elements() != batch {
        let expected = format!("{batch} integers");
        let given = format!("{} {}", given.dtype, Shape::from(given.shape()));
        return Err(OpError::mismatch("the lengths", expected, given));
    }
    builder.reshape(given, &[batch])
}

/// `[batch, 1, 1, keys]`: which keys are among the first `count [batch]` of their entry.
fn first_keys(builder: &mut Builder, counts: &Operand, keys: usize) -> Result<Operand, OpError> {
    if counts.scalar() != Scalar::I32 {
        return Err(OpError::Type { what: "the lengths".to_owned(), given: counts.dtype });
    }
    let batch = counts.layout.elements();
    let counts = builder.reshape(counts, &[batch, 1, 1, 1])?;
    let key = gather::steps(builder, 4, 3, keys, 1)?;
    let mut formula = Formula::new(&[Scalar::I32; 2]);
    formula.bin(Binary::Less, 1, 0);
    builder.pointwise(&formula.0, &[counts, key], DType::Bool)
}

/// `counts [batch]` less the number of queries.
fn before(builder: &mut Builder, counts: &Operand, queries: usize) -> Result<Operand, OpError> {
    if counts.scalar() != Scalar::I32 {
        return Err(OpError::Type { what: "the lengths".to_owned(), given: counts.dtype });
    }
    let mut formula = Formula::new(&[Scalar::I32]);
    let taken = formula.int(past_of(queries)?);
    formula.sub(0, taken);
    builder.pointwise(&formula.0, std::slice::from_ref(counts), DType::I64)
}

/// Two masks as one; either may add or hide.
fn both(
    builder: &mut Builder,
    a: Option<Operand>,
    b: Option<Operand>,
) -> Result<Option<Operand>, OpError> {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (one, other) => return Ok(one.or(other)),
    };
    Ok(Some(match (a.scalar(), b.scalar()) {
        (Scalar::F32, _) => scores::hide(builder, &a, &b)?,
        (_, Scalar::F32) => scores::hide(builder, &b, &a)?,
        _ => {
            let mut formula = Formula::new(&[a.scalar(), b.scalar()]);
            formula.bin(Binary::And, 0, 1);
            builder.pointwise(&formula.0, &[a, b], DType::Bool)?
        }
    }))
}

/// A length as a causal mask takes it.
fn past_of(length: usize) -> Result<i32, OpError> {
    i32::try_from(length).map_err(|_| OpError::mismatch("the past", "less than 2^31", length))
}

/// Inputs: q, k, v, the mask, past keys and values, the number of keys per entry; outputs: the
/// result, present keys and values, the scores (ONNX 23, 24).
fn attention(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (mut q, mut k, mut v) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let joined = q.shape().len() == 3;
    if joined {
        let (heads, kv_heads) = (count(call, "q_num_heads")?, count(call, "kv_num_heads")?);
        q = split_heads(call.builder, &q, heads)?;
        k = split_heads(call.builder, &k, kv_heads)?;
        v = split_heads(call.builder, &v, kv_heads)?;
    }
    let (past_k, past_v) = (call.optional(4), call.optional(5));
    if past_k.is_some() != past_v.is_some() {
        return Err(OpError::Missing("one of the past key and value".to_owned()));
    }
    let past = past_k.as_ref().and_then(|past| past.shape().get(2).copied()).unwrap_or(0);
    let k = appended(call.builder, past_k, &k)?;
    let v = appended(call.builder, past_v, &v)?;
    let mut form = Form::of_scale(scale_or(call, &q));
    form.softcap = call.float("softcap", 0.0).max(0.0);
    form.side_by_side = joined;
    // So say the errata of ONNX (pull 8068); the text before them left NaN.
    form.nan_to_zero = true;
    form.mask = call.optional(3);
    let window = window(call)?;
    form.window = window.moved(past_of(past)?);
    if let Some(counts) = call.optional(6) {
        let [batch, keys] = [0, 2].map(|axis| k.shape().get(axis).copied().unwrap_or(0));
        form.mask =
            form.mask.map(|mask| scores::full_width(call.builder, &mask, keys)).transpose()?;
        // The last query of an entry stands at its last key (errata of ONNX, pull 8068).
        let from = if past == 0 { Counts::End } else { Counts::Start };
        form.counts = Some((counts_of(call.builder, &counts, batch)?, from));
    }
    if wants(call, 3) {
        form.keep = Some(match call.int("qk_matmul_output_mode", 0) {
            0 => Stage::Product,
            1 => Stage::Capped,
            2 => Stage::Masked,
            3 => Stage::Softmax,
            other => return Err(OpError::mismatch("qk_matmul_output_mode", "0 to 3", other)),
        });
    }
    let (mut result, kept) = attend(call.builder, [&q, &k, &v], &form)?;
    if joined {
        result = join_heads(call.builder, &result)?;
    }
    let mut outputs = vec![result, k, v];
    outputs.extend(kept);
    Ok(outputs)
}

/// Which keys a query sees, counted from the key where it stands (ONNX 25).
fn window(call: &Call<'_>) -> Result<Window, OpError> {
    let side = |name: &str| match call.int(name, -1) {
        -1 => Ok(None),
        count if count >= 0 => Ok(Some(i32::try_from(count).unwrap_or(i32::MAX))),
        other => Err(OpError::mismatch(name, "-1 or more", other)),
    };
    let first = side("left_window_size")?.map(|left| -left);
    let window = Window { first, last: side("right_window_size")? };
    Ok(if call.flag("is_causal", false) { window.and(Window::causal(0)) } else { window })
}

/// The attribute, or one over the root of a row's length.
fn scale_or(call: &Call<'_>, q: &Operand) -> f32 {
    match call.has("scale") {
        true => call.float("scale", 1.0),
        false => scale_of(q),
    }
}

/// One over the root of a row's length.
fn scale_of(q: &Operand) -> f32 {
    let width = q.shape().last().copied().unwrap_or(1).max(1);
    1.0 / (width as f32).sqrt()
}
