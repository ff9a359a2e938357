//! Operators that carry a state from token to token.

use gw_shaders::expr::{Expr, Unary};
use gw_shaders::kernel::Scalar;
use gw_shaders::linear_attention::{Beta, Decay, Spec};
use gw_tensor::Shape;

use super::count;
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::net::{Conv, Kind, Operand, Window};
use crate::ops::{Call, narrow};

/// Inputs: q, k, v, the past state, decay, beta; outputs: the results, the state (ONNX 27).
pub(super) fn linear(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (q, k, v) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let (heads, kv_heads) = (count(call, "q_num_heads")?, count(call, "kv_num_heads")?);
    let past = call.optional(3);
    if call.int("state_window", 0) != 0 {
        return Err(OpError::Unsupported("a window of states".to_owned()));
    }
    let (decay, beta) = rule(call)?;
    let shape = q.shape();
    let &[batch, length, wide] = shape.as_slice() else {
        return Err(OpError::mismatch("input 0", "3 axes", Shape::from(shape)));
    };
    let values = v.shape().last().copied().unwrap_or(0);
    if heads % kv_heads != 0 || wide % heads != 0 || wide == 0 || values % kv_heads != 0 {
        let expected = format!("{heads} heads over {kv_heads} key-value heads");
        return Err(OpError::mismatch("input 0", expected, Shape::from(shape)));
    }
    let (d, e, group) = (wide / heads, values / kv_heads, heads / kv_heads);
    expect("input 1", &k, &[batch, length, kv_heads * d])?;
    expect("input 2", &v, &[batch, length, values])?;
    let state = [batch, kv_heads, d, e];
    if let Some(past) = &past {
        expect("input 3", past, &state)?;
    }
    let by_head = |x: &Operand| x.shape().last() == Some(&kv_heads);
    let decays = match &decay {
        None => Decay::None,
        Some(decay) if by_head(decay) => Decay::Head,
        Some(_) => Decay::Key,
    };
    let betas = match &beta {
        None => Beta::None,
        Some(beta) if by_head(beta) => Beta::Head,
        Some(_) => Beta::Token,
    };
    if let Some(decay) = &decay {
        let size = if decays == Decay::Head { kv_heads } else { kv_heads * d };
        expect("input 4", decay, &[batch, length, size])?;
    }
    if let Some(beta) = &beta {
        let size = if betas == Beta::Head { kv_heads } else { 1 };
        expect("input 5", beta, &[batch, length, size])?;
    }
    let scale = call.float("scale", 0.0);
    let spec = Spec {
        batch: narrow(batch)?,
        length: narrow(length)?,
        kv_heads: narrow(kv_heads)?,
        group: narrow(group)?,
        key_dim: narrow(d)?,
        value_dim: narrow(e)?,
        scale: if scale == 0.0 { 1.0 / (d as f32).sqrt() } else { scale },
        past: past.is_some(),
        decay: decays,
        beta: betas,
        part: [0, narrow(length)?],
    };
    let (states, results) = (state.iter().product::<usize>(), batch * length * heads * e);
    let (dtype, kept) = (q.dtype, past.as_ref().map_or(q.dtype, |past| past.dtype));
    let inputs = [Some(q), Some(k), Some(v), past, decay, beta].into_iter().flatten().collect();
    let all = call.builder.emit(Kind::LinearAttention(spec), inputs, &[states + results], dtype)?;
    let result = call.builder.slice(&all, 0, states, 1, results)?;
    let after = call.builder.slice(&all, 0, 0, 1, states)?;
    let result = call.builder.reshape(&result, &[batch, length, heads * e])?;
    let after = call.builder.reshape(&after, &state)?;
    Ok(vec![result, Builder::retyped(&after, kept)])
}

/// The decay and the beta: there is each that the rule asks for, and no other.
fn rule(call: &Call<'_>) -> Result<(Option<Operand>, Option<Operand>), OpError> {
    let (fades, corrects) = match call.text("update_rule", "gated_delta").as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(OpError::Unsupported(format!("update rule `{other}`"))),
    };
    let (decay, beta) = (call.optional(4), call.optional(5));
    for (name, given, due) in [("decay", &decay, fades), ("beta", &beta, corrects)] {
        match (given.is_some(), due) {
            (true, false) => return Err(OpError::mismatch(name, "none under this rule", "one")),
            (false, true) => return Err(OpError::Missing(name.to_owned())),
            _ => {}
        }
    }
    Ok((decay, beta))
}

/// Fails unless `x` is of floats and of this shape.
fn expect(what: &str, x: &Operand, shape: &[usize]) -> Result<(), OpError> {
    match x.shape() == shape && x.scalar() == Scalar::F32 {
        true => Ok(()),
        false => {
            let given = format!("{} {}", x.dtype, Shape::from(x.shape()));
            Err(OpError::mismatch(what, format!("floats {}", Shape::from(shape)), given))
        }
    }
}

/// Inputs: x, weights, bias, what came before x; outputs: the result, the end of what came
/// before and x (ONNX 27).
pub(super) fn causal_conv(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    plain(call)?;
    let (x, weights) = (call.input(0)?, call.input(1)?);
    let (shape, filter) = (x.shape(), weights.shape());
    let (&[batch, channels, length], Some(&size)) = (shape.as_slice(), filter.get(2)) else {
        return Err(OpError::mismatch("input 0", "3 axes", Shape::from(shape)));
    };
    if size == 0 {
        return Err(OpError::mismatch("input 1", "a kernel of at least 1", 0));
    }
    expect("input 0", &x, &shape)?;
    expect("input 1", &weights, &[channels, 1, size])?;
    let before = match call.optional(3) {
        Some(past) => past,
        None => {
            let zero = call.builder.float(0.0);
            let zero = Builder::retyped(&zero, x.dtype);
            call.builder.expand(&zero, &[batch, channels, size - 1])?
        }
    };
    expect("input 3", &before, &[batch, channels, size - 1])?;
    let all = call.builder.concat(&[before, x.clone()], 2)?;
    let after = call.builder.slice(&all, 2, length, 1, size - 1)?;
    let [one, wide] = [narrow(1)?, narrow(size)?];
    let window = Window {
        kernel: [one, wide],
        strides: [1, 1],
        dilations: [1, 1],
        pads_begin: [0, 0],
        pads_end: [0, 0],
    };
    let kind = Kind::Conv(Conv {
        quantised: false,
        groups: narrow(channels)?,
        window,
        epilogue: Expr::identity(Scalar::F32),
    });
    let all = call.builder.reshape(&all, &[batch, channels, 1, length + size - 1])?;
    let weights = call.builder.reshape(&weights, &[channels, 1, 1, size])?;
    let target = [batch, channels, 1, length];
    let mut result = call.builder.emit(kind, vec![all, weights], &target, x.dtype)?;
    if let Some(bias) = call.optional(2) {
        expect("input 2", &bias, &[channels])?;
        let bias = call.builder.reshape(&bias, &[channels, 1, 1])?;
        let mut formula = Formula::floats(2);
        formula.add(0, 1);
        result = call.builder.pointwise(&formula.0, &[result, bias], x.dtype)?;
    }
    match call.text("activation", "none").as_str() {
        "none" | "" => {}
        "silu" | "swish" => {
            let mut formula = Formula::floats(1);
            let gate = formula.un(Unary::Sigmoid, 0);
            formula.mul(0, gate);
            result = call.builder.pointwise(&formula.0, &[result], x.dtype)?;
        }
        other => return Err(OpError::Unsupported(format!("activation `{other}`"))),
    }
    Ok(vec![call.builder.reshape(&result, &shape)?, after])
}

/// Fails where an attribute that `com.microsoft` adds has not the value that ONNX means.
fn plain(call: &Call<'_>) -> Result<(), OpError> {
    let extended = [
        ("ndim", 1),
        ("dilation", 1),
        ("state_window", 0),
        ("channels_last", 0),
        ("state_length", 0),
        ("state_channels_last", -1),
        ("state_update_capacity", 0),
        ("input_channels", 0),
        ("input_channel_offset", 0),
    ];
    match extended.iter().find(|(name, usual)| call.int(name, *usual) != *usual) {
        Some((name, _)) => Err(OpError::Unsupported(format!("`{name}`"))),
        None => Ok(()),
    }
}
