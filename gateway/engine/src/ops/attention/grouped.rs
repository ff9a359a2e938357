//! `GroupQueryAttention` of `com.microsoft`: groups of query heads over cached keys and values.

use gw_shaders::attention::{Counts, Window};
use gw_shaders::kernel::Scalar;
use gw_shaders::norm;
use gw_tensor::{DType, Shape};

use super::cache::{Rest, written};
use super::scores::{self, Form, attend};
use super::{count, join_heads, rotary, scale_of, split_heads};
use crate::error::OpError;
use crate::net::Operand;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::ops::{Call, norm as rows_of, sizes, wants};

/// The lengths of one call.
struct Lengths {
    /// `[batch]`: keys that each entry has after this call.
    totals: Operand,
    /// `[batch]`: those that it had before.
    pasts: Operand,
    /// All entries begin here.
    is_first: bool,
    /// Keys that the caches hold after this call.
    present: usize,
}

/// Inputs: q, k, v, past keys and values, the last position of each entry, the largest number of
/// keys, cosines, sines, positions, the bias of scores, a score per head without a value, scales,
/// norms of q and k; outputs: the result, present keys and values.
pub(super) fn grouped(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    refuse(call)?;
    let (heads, kv_heads) = (count(call, "num_heads")?, count(call, "kv_num_heads")?);
    let [mut q, mut k, v] = projected(call, heads, kv_heads)?;
    let length = q.shape()[2];
    let (past_k, past_v) = (call.optional(3), call.optional(4));
    let held = past_k.as_ref().and_then(|past| past.shape().get(2).copied()).unwrap_or(0);
    let lengths = lengths(call, q.shape()[0], length, held)?;
    if let Some(weight) = call.optional(14) {
        let least = call.float("qk_norm_epsilon", 1e-6);
        q = normed(call.builder, &q, &weight, call.float("q_norm_epsilon", least))?;
        let weight = call.input(15)?;
        k = normed(call.builder, &k, &weight, call.float("k_norm_epsilon", least))?;
    }
    if call.flag("do_rotary", false) {
        let (cos, sin) = (call.input(7)?, call.input(8)?);
        let places = positions(call, &lengths, length)?;
        let width = 2 * cos.shape().last().copied().unwrap_or(0);
        let beside = call.flag("rotary_interleaved", false);
        for x in [&mut q, &mut k] {
            let places = Some(places.clone());
            *x = rotary::turned(call.builder, x, [&cos, &sin], places, beside, width)?;
        }
    }
    let k = cached(call.builder, past_k, &k, &lengths)?;
    let v = cached(call.builder, past_v, &v, &lengths)?;
    let mut form = Form::of_scale(match call.float("scale", 0.0) {
        0.0 => scale_of(&q),
        scale => scale,
    });
    form.side_by_side = true;
    form.softcap = call.float("softcap", 0.0).max(0.0);
    form.window = window(call);
    // All entries of a first call begin at key 0, others end with their last token.
    let from = if lengths.is_first { Counts::Start } else { Counts::End };
    form.counts = Some((lengths.totals.clone(), from));
    if let Some(bias) = call.optional(10) {
        form.mask = Some(scores::full_width(call.builder, &bias, lengths.present)?);
    }
    form.sink = match call.optional(11) {
        Some(sink) => Some(call.builder.reshape(&sink, &[1, heads, 1, 1])?),
        None if call.int("smooth_softmax", 0) == 1 => {
            let zero = call.builder.float(0.0);
            Some(call.builder.reshape(&zero, &[1, 1, 1, 1])?)
        }
        None => None,
    };
    let (result, _) = attend(call.builder, [&q, &k, &v], &form)?;
    Ok(vec![join_heads(call.builder, &result)?, k, v])
}

/// Forms that would give another answer than the file means.
fn refuse(call: &Call<'_>) -> Result<(), OpError> {
    let quantised = |name: &str| !matches!(call.text(name, "NONE").as_str(), "NONE" | "");
    let unsupported = [
        (quantised("k_quant_type") || quantised("v_quant_type"), "a quantised cache"),
        (call.optional(12).is_some() || call.optional(13).is_some(), "a quantised cache"),
        (call.optional(16).is_some(), "input 16, the lengths of queries"),
        (call.flag("sliding_window_cache", false), "a cache that slides"),
        (wants(call, 3) || call.int("qk_output", 0) != 0, "the output of scores"),
    ];
    match unsupported.iter().find(|(is, _)| *is) {
        Some((_, what)) => Err(OpError::Unsupported((*what).to_owned())),
        None => Ok(()),
    }
}

/// The queries, keys and values by head; without keys the queries hold all three.
fn projected(call: &mut Call<'_>, heads: usize, kv_heads: usize) -> Result<[Operand; 3], OpError> {
    let q = call.input(0)?;
    let (key, value) = (call.optional(1), call.optional(2));
    if let (Some(key), Some(value)) = (key, value) {
        return Ok([
            split_heads(call.builder, &q, heads)?,
            split_heads(call.builder, &key, kv_heads)?,
            split_heads(call.builder, &value, kv_heads)?,
        ]);
    }
    let all = heads.saturating_add(kv_heads.saturating_mul(2));
    let rows = split_heads(call.builder, &q, all)?;
    Ok([
        call.builder.slice(&rows, 1, 0, 1, heads)?,
        call.builder.slice(&rows, 1, heads, 1, kv_heads)?,
        call.builder.slice(&rows, 1, heads + kv_heads, 1, kv_heads)?,
    ])
}

fn lengths(
    call: &mut Call<'_>,
    batch: usize,
    length: usize,
    held: usize,
) -> Result<Lengths, OpError> {
    let last = call.input(5)?;
    if last.layout.elements() != batch || last.scalar() != Scalar::I32 {
        let given = format!("{} {}", last.dtype, Shape::from(last.shape()));
        return Err(OpError::mismatch("input 5", format!("{batch} integers"), given));
    }
    let last = call.builder.reshape(&last, &[batch])?;
    let total = call.known_ints(6)?.first().copied();
    let total = sizes(&[total.ok_or_else(|| OpError::Missing("input 6".to_owned()))?])?[0];
    let is_first = total == length;
    let mut formula = Formula::new(&[Scalar::I32]);
    let one = formula.int(1);
    formula.add(0, one);
    let totals = call.builder.pointwise(&formula.0, std::slice::from_ref(&last), DType::I64)?;
    let mut formula = Formula::new(&[Scalar::I32]);
    let taken = formula.int(super::past_of(length)?);
    if is_first {
        formula.sub(0, 0);
    } else {
        formula.sub(0, taken);
    }
    let pasts = call.builder.pointwise(&formula.0, std::slice::from_ref(&totals), DType::I64)?;
    Ok(Lengths { totals, pasts, is_first, present: held.max(total) })
}

/// `[batch, length]`: where each token stands.
fn positions(call: &mut Call<'_>, lengths: &Lengths, length: usize) -> Result<Operand, OpError> {
    if let Some(given) = call.optional(9) {
        return Ok(given);
    }
    rotary::following(call.builder, &lengths.pasts, length)
}

/// The past, then `x`, within as many rows as the present holds; 0 behind that.
fn cached(
    builder: &mut Builder,
    past: Option<Operand>,
    x: &Operand,
    lengths: &Lengths,
) -> Result<Operand, OpError> {
    let mut shape = x.shape();
    let held = past.as_ref().map_or(0, |past| past.shape().get(2).copied().unwrap_or(0));
    if let Some(past) = &past {
        let mut fits = shape.clone();
        fits[2] = held;
        if past.shape() != fits || past.dtype != x.dtype {
            let given = format!("{} {}", past.dtype, Shape::from(past.shape()));
            let expected = format!("{} {}", x.dtype, Shape::from(fits));
            return Err(OpError::mismatch("the past", expected, given));
        }
    }
    if lengths.is_first && shape[2] == lengths.present {
        return Ok(x.clone());
    }
    shape[2] = lengths.present - held;
    let zero = builder.float(0.0);
    let zero = Builder::retyped(&zero, x.dtype);
    let empty = builder.expand(&zero, &shape)?;
    let whole = match past {
        Some(past) => builder.concat(&[past, empty], 2)?,
        None => empty,
    };
    if x.shape()[2] > lengths.present {
        let given = Shape::from(x.shape());
        return Err(OpError::mismatch(
            "the key",
            format!("at most {} rows", lengths.present),
            given,
        ));
    }
    written(builder, &whole, x, 2, &lengths.pasts, Rest::Zero)
}

/// Which keys a query sees, counted from the key where it stands.
fn window(call: &Call<'_>) -> Window {
    match call.int("local_window_size", -1) {
        size @ 1.. => {
            let size = i32::try_from(size).unwrap_or(i32::MAX);
            Window { first: Some(1 - size), last: Some(0) }
        }
        _ if call.flag("causal", true) => Window::causal(0),
        _ => Window::ALL,
    }
}

/// `x [batch, heads, length, d]` with every row normalised by its root mean square.
fn normed(
    builder: &mut Builder,
    x: &Operand,
    weight: &Operand,
    epsilon: f32,
) -> Result<Operand, OpError> {
    let width = x.shape()[3];
    if weight.shape() != [width] || weight.scalar() != Scalar::F32 {
        let given = Shape::from(weight.shape());
        return Err(OpError::mismatch("the weight of a norm", format!("{width} floats"), given));
    }
    rows_of::rows(builder, norm::Kind::Rms, x, width, epsilon, [Some(weight.clone()), None])
}
