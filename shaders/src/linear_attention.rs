//! `s = exp(g) s + k ⊗ b (v - sᵀ k)`, `out = scale * sᵀ q`, token after token.
//!
//! Each invocation takes one column of one head's state over all tokens. Sums are f32. Source:
//! `LinearAttention` (ONNX 27) in its four update rules.

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::kernel::{Caps, Dispatch, LOOP_TURNS_MAX, Needs, Unsupported};

const NAME: &str = "linear_attention";

/// How the state fades from token to token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Decay {
    /// It does not.
    #[default]
    None,
    /// By `exp` of `[batch, length, kv_heads]`.
    Head,
    /// By `exp` of `[batch, length, kv_heads, key_dim]`.
    Key,
}

/// What is written for a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Beta {
    /// The value.
    #[default]
    None,
    /// What the state lacks of it, times `[batch, length]`.
    Token,
    /// What the state lacks of it, times `[batch, length, kv_heads]`.
    Head,
}

/// What to compute.
///
/// Bindings: q `[batch, length, kv_heads, group, key_dim]`, k `[batch, length, kv_heads, key_dim]`,
/// v `[batch, length, kv_heads, value_dim]`, the past state `[batch, kv_heads, key_dim, value_dim]`
/// (where `past`), the decay, the beta (where there are any), the output: the state after the last
/// token, then `[batch, length, kv_heads, group, value_dim]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Batch entries.
    pub batch: u32,
    /// Tokens of each.
    pub length: u32,
    /// Heads that have a state.
    pub kv_heads: u32,
    /// Query heads that read each.
    pub group: u32,
    /// Rows of a state.
    pub key_dim: u32,
    /// Columns of a state.
    pub value_dim: u32,
    /// Multiplies each result.
    pub scale: f32,
    /// There is a state to begin with; else it is zero.
    pub past: bool,
    /// How the state fades.
    pub decay: Decay,
    /// What is written.
    pub beta: Beta,
    /// The tokens of this dispatch, from the first to before the last. Several dispatches one after
    /// another, each of at most [`Spec::tokens_at_once`], walk a long sequence in one output.
    pub part: [u32; 2],
}

impl Spec {
    /// Tokens that one dispatch may take: at least one.
    ///
    /// # Errors
    /// Where the loops of a single token are too long.
    pub fn tokens_at_once(&self) -> Result<u32, Unsupported> {
        // On llvmpipe a loop takes one turn more than it has rounds, an innermost one two.
        let rows = u64::from(self.key_dim) + 2;
        let token = 3 + 2 * rows + u64::from(self.group) * (rows + 1);
        match LOOP_TURNS_MAX.saturating_sub(rows + 2) / token {
            0 => Err(Unsupported::new(NAME, format!("states of {} rows", self.key_dim))),
            tokens => Ok(u32::try_from(tokens).unwrap_or(u32::MAX)),
        }
    }

    fn state(&self) -> u64 {
        u64::from(self.batch)
            * u64::from(self.kv_heads)
            * u64::from(self.key_dim)
            * u64::from(self.value_dim)
    }
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let columns = u64::from(spec.batch) * u64::from(spec.kv_heads) * u64::from(spec.value_dim);
    let read = u64::from(spec.batch) * u64::from(spec.length) * u64::from(spec.kv_heads);
    let read = read.saturating_mul(u64::from(spec.group.max(1)));
    let results = read.saturating_mul(u64::from(spec.value_dim.max(spec.key_dim)));
    // Every index is a u32 in the shader.
    if spec.state().saturating_add(results) > u64::from(u32::MAX) {
        return Err(Unsupported::new(NAME, "states and results of more than 2^32 elements"));
    }
    let [from, end] = spec.part;
    if from > end || end > spec.length || end - from > spec.tokens_at_once()? {
        return Err(Unsupported::new(NAME, format!("tokens {from} to {end} at once")));
    }
    let software = [8, 64];
    let widths = if caps.software { software } else { [64, 8] };
    widths.into_iter().map(|width| compose(spec, width, columns, caps)).collect()
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

fn compose(spec: &Spec, width: u32, columns: u64, caps: &Caps) -> Result<Dispatch, Unsupported> {
    let past = if spec.past { "past, " } else { "" };
    let variant = format!("{past}decay {:?}, beta {:?}, {width} wide", spec.decay, spec.beta);
    let mut composer = Composer::new(NAME, variant);
    composer.source(include_str!("linear_attention.wgsl")).constant("WIDTH", width);
    let fits = "the sum was checked";
    composer.u32("columns", u32::try_from(columns).expect(fits));
    composer.u32("results", u32::try_from(spec.state()).expect(fits));
    composer.u32("begin", spec.part[0]).u32("end", spec.part[1]);
    composer.u32("length", spec.length).u32("kv_heads", spec.kv_heads).u32("group", spec.group);
    composer.u32("key_dim", spec.key_dim).u32("value_dim", spec.value_dim);
    composer.f32("scale", spec.scale);
    composer.read("query", "f32").read("key", "f32").read("value", "f32");
    composer.hook("past_state", if spec.past { "state_given" } else { "state_none" });
    if spec.past {
        composer.read("past", "f32");
    }
    composer.hook(
        "keep",
        match spec.decay {
            Decay::None => "keep_all",
            Decay::Head => "keep_by_head",
            Decay::Key => "keep_by_key",
        },
    );
    if spec.decay != Decay::None {
        composer.read("decay", "f32");
    }
    composer.hook(
        "correct",
        match spec.beta {
            Beta::None => "correct_none",
            Beta::Token => "correct_by_token",
            Beta::Head => "correct_by_head",
        },
    );
    if spec.beta != Beta::None {
        composer.read("beta", "f32");
    }
    composer.write("result", "f32");
    let groups = columns.div_ceil(u64::from(width));
    composer.finish("attend_column", width, groups, Needs::default(), caps)
}

/// What the output holds after all parts.
///
/// # Panics
/// Where the inputs are not those of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let mut rest = inputs.iter().map(|data| data.f32());
    let mut next = |is: bool| if is { rest.next() } else { None };
    let need = "the operand is bound";
    let (q, k) = (next(true).expect(need), next(true).expect(need));
    let v = next(true).expect(need);
    let past = next(spec.past);
    let decay = next(spec.decay != Decay::None);
    let beta = next(spec.beta != Beta::None);
    let [length, heads, group] = [spec.length, spec.kv_heads, spec.group].map(|n| n as usize);
    let (rows, cols) = (spec.key_dim as usize, spec.value_dim as usize);
    let entries = spec.batch as usize;
    let mut states = Vec::new();
    let mut results = vec![0.0f32; entries * length * heads * group * cols];
    for head in 0..entries * heads {
        let start = head * rows * cols;
        let mut state: Vec<f64> = (0..rows * cols)
            .map(|cell| past.map_or(0.0, |past| f64::from(past[start + cell])))
            .collect();
        for token in (0..length).map(|t| head / heads * length + t) {
            let place = token * heads + head % heads;
            let key = |d: usize| f64::from(k[place * rows + d]);
            for (cell, state) in state.iter_mut().enumerate() {
                *state *= match (spec.decay, decay) {
                    (Decay::Head, Some(decay)) => f64::from(decay[place]).exp(),
                    (Decay::Key, Some(decay)) => f64::from(decay[place * rows + cell / cols]).exp(),
                    _ => 1.0,
                };
            }
            for column in 0..cols {
                let recalled: f64 = (0..rows).map(|d| state[d * cols + column] * key(d)).sum();
                let value = f64::from(v[place * cols + column]);
                let written = match (spec.beta, beta) {
                    (Beta::Token, Some(beta)) => f64::from(beta[token]) * (value - recalled),
                    (Beta::Head, Some(beta)) => f64::from(beta[place]) * (value - recalled),
                    _ => value,
                };
                for d in 0..rows {
                    state[d * cols + column] += key(d) * written;
                }
                for reader in place * group..(place + 1) * group {
                    let sum: f64 = (0..rows)
                        .map(|d| f64::from(q[reader * rows + d]) * state[d * cols + column])
                        .sum();
                    results[reader * cols + column] = (f64::from(spec.scale) * sum) as f32;
                }
            }
        }
        states.extend(state.into_iter().map(|value| value as f32));
    }
    states.extend(results);
    Data::F32(states)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    const SPEC: Spec = Spec {
        batch: 1,
        length: 2,
        kv_heads: 1,
        group: 1,
        key_dim: 2,
        value_dim: 1,
        scale: 1.0,
        past: false,
        decay: Decay::None,
        beta: Beta::None,
        part: [0, 2],
    };

    #[test]
    fn reference_matches_a_table() {
        let q = Data::F32(vec![1.0, 0.0, 1.0, 1.0]);
        let k = Data::F32(vec![1.0, 2.0, 0.0, 1.0]);
        let v = Data::F32(vec![3.0, 10.0]);
        // States: (3, 6), then (3, 6 + 10).
        let given = reference(&SPEC, &[q.clone(), k.clone(), v.clone()]);
        assert_eq!(given.f32(), [3.0, 16.0, 3.0, 19.0]);
        // The state (5, 0) is halved to (2.5, 0); a half of 3 - 2.5 is written. The state
        // (2.75, 0.5) is kept; a half of 10 - 0.5 is written.
        let spec = Spec { past: true, decay: Decay::Head, beta: Beta::Token, ..SPEC };
        let more = [
            Data::F32(vec![5.0, 0.0]),
            Data::F32(vec![0.5f32.ln(), 0.0]),
            Data::F32(vec![0.5, 0.5]),
        ];
        let given = reference(&spec, &[vec![q, k, v], more.to_vec()].concat());
        check::close(given.f32(), &[2.75, 5.25, 2.75, 8.0], 1e-6);
    }

    #[test]
    fn every_variant_is_valid() {
        for decay in [Decay::None, Decay::Head, Decay::Key] {
            for beta in [Beta::None, Beta::Token, Beta::Head] {
                for past in [false, true] {
                    let spec = Spec { past, decay, beta, ..SPEC };
                    check::variants(|caps| variants(&spec, caps));
                }
            }
        }
    }
}
