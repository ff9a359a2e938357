//! The recurrence in plain Rust.

use std::borrow::{Borrow, Cow};

use super::{Cell, Projection, Spec};
use crate::data::{Data, borrowed};
use crate::expr::{Expr, Value};

/// What the output holds after all parts.
///
/// # Panics
/// Where the inputs are not those of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let walk = Walk::new(spec, inputs);
    let [steps, batch, hidden] = [spec.steps, spec.batch, spec.hidden].map(|size| size as usize);
    let slab = spec.directions as usize * batch * hidden;
    let mut out = vec![0.0; (steps + spec.cell.further_rows() as usize) * slab];
    for group in 0..spec.directions as usize * batch {
        let (direction, entry) = (group / batch, group % batch);
        let own = group * hidden..(group + 1) * hidden;
        let mut state = walk.state[own.clone()].to_vec();
        let mut cell = walk.cell.map_or_else(Vec::new, |cell| cell[own.clone()].to_vec());
        let length = usize::try_from(walk.lengths[entry]).unwrap_or(0).min(steps);
        if length == 0 {
            continue;
        }
        for step in 0..length {
            let backwards = spec.reverse || direction == 1;
            let time = if backwards { length - 1 - step } else { step };
            state = walk.step([time, entry, direction], &state, &mut cell);
            out[time * slab + own.start..][..hidden].copy_from_slice(&state);
        }
        out[steps * slab + own.start..][..hidden].copy_from_slice(&state);
        if !cell.is_empty() {
            out[(steps + 1) * slab + own.start..][..hidden].copy_from_slice(&cell);
        }
    }
    for value in &mut out[..steps * slab] {
        *value = float(&spec.stored, *value);
    }
    Data::F32(out)
}

/// An expression from one float to one.
fn float(expr: &Expr, x: f32) -> f32 {
    match expr.eval(&[Value::F32(x)]) {
        Value::F32(value) => value,
        other => panic!("the expression gives a float, not {other:?}"),
    }
}

/// x as it is after the product with its weights.
fn projected(spec: &Spec, projection: Projection, inputs: &[&Data]) -> Vec<f32> {
    let (x, w) = (inputs[0].f32(), inputs[1].f32());
    let bias = projection.bias.then(|| inputs[2].f32());
    let columns = (spec.directions * spec.hidden * spec.cell.gates()) as usize;
    let width = projection.width as usize;
    let mut out = Vec::with_capacity((spec.steps * spec.batch) as usize * columns);
    for row in 0..(spec.steps * spec.batch) as usize {
        for column in 0..columns {
            let own = bias.map_or(0.0, |bias| f64::from(bias[column]));
            let term =
                |k: usize| f64::from(x[row * width + k]) * f64::from(w[k * columns + column]);
            out.push((own + (0..width).map(term).sum::<f64>()) as f32);
        }
    }
    out
}

/// The inputs of [`reference`] by name.
struct Walk<'a> {
    spec: &'a Spec,
    x: Cow<'a, [f32]>,
    r: &'a [f32],
    further: Option<&'a [f32]>,
    state: &'a [f32],
    cell: Option<&'a [f32]>,
    lengths: &'a [i32],
}

impl<'a> Walk<'a> {
    fn new(spec: &'a Spec, inputs: &[&'a Data]) -> Self {
        let further = matches!(
            spec.cell,
            Cell::Gru { linear_before_reset: true } | Cell::Lstm { peepholes: true, .. }
        );
        let is_lstm = matches!(spec.cell, Cell::Lstm { .. });
        let mut rest = inputs.iter().copied();
        let mut next = || rest.next().expect("the inputs are those of the spec");
        let mut x = Cow::Borrowed(next().f32());
        if let Some(projection) = spec.projection {
            x = projected(spec, projection, inputs).into();
            next();
            if projection.bias {
                next();
            }
        }
        let r = next().f32();
        let further = further.then(|| next().f32());
        let begins = spec.begins.map(|start| start as usize);
        let state = &next().f32()[begins[0]..];
        let cell = is_lstm.then(|| &next().f32()[begins[1]..]);
        Self { spec, x, r, further, state, cell, lengths: next().i32() }
    }

    /// f, g or h, of what may be clipped first.
    fn act(&self, which: usize, x: f64, clips: bool) -> f64 {
        let bound = self.spec.clip.filter(|_| clips).map(f64::from);
        let x = bound.map_or(x, |bound| x.clamp(-bound, bound));
        float(&self.spec.activations[which], x as f32).into()
    }

    /// The next state; `cell` is that of an LSTM.
    fn step(
        &self,
        [time, entry, direction]: [usize; 3],
        state: &[f32],
        cell: &mut [f32],
    ) -> Vec<f32> {
        let spec = self.spec;
        let (hidden, gates) = (spec.hidden as usize, spec.cell.gates() as usize);
        let (batch, directions) = (spec.batch as usize, spec.directions as usize);
        let from = ((time * batch + entry) * directions + direction) * hidden;
        let x = |gate: usize, unit: usize| f64::from(self.x[(from + unit) * gates + gate]);
        let sum = |gate: usize, unit: usize, state: &[f64]| -> f64 {
            let weight =
                |k: usize| self.r[((direction * hidden + k) * hidden + unit) * gates + gate];
            (0..hidden).map(|k| state[k] * f64::from(weight(k))).sum()
        };
        let further = |row: usize, unit: usize| {
            self.further.map_or(0.0, |data| f64::from(data[row * hidden + unit]))
        };
        let old: Vec<f64> = state.iter().map(|&value| value.into()).collect();
        let gate = |which: usize, gate: usize, unit: usize, more: f64| {
            self.act(which, x(gate, unit) + sum(gate, unit, &old) + more, true)
        };
        let reset: Vec<f64> = match spec.cell {
            Cell::Gru { .. } => (0..hidden).map(|unit| gate(0, 1, unit, 0.0)).collect(),
            _ => Vec::new(),
        };
        let next = |unit: usize| -> f64 {
            match spec.cell {
                Cell::Rnn => gate(0, 0, unit, 0.0),
                Cell::Gru { linear_before_reset } => {
                    let product = if linear_before_reset {
                        reset[unit] * (sum(2, unit, &old) + further(direction, unit))
                    } else {
                        let resets: Vec<f64> = (0..hidden).map(|k| reset[k] * old[k]).collect();
                        sum(2, unit, &resets)
                    };
                    let update = gate(0, 0, unit, 0.0);
                    let candidate = self.act(1, x(2, unit) + product, true);
                    (1.0 - update) * candidate + update * old[unit]
                }
                Cell::Lstm { input_forget, .. } => {
                    let before = f64::from(cell[unit]);
                    let peephole = |gate: usize| further(direction * 3 + gate, unit);
                    let input = gate(0, 0, unit, peephole(0) * before);
                    let own = gate(0, 2, unit, peephole(2) * before);
                    let forget = if input_forget { 1.0 - input } else { own };
                    forget * before + input * gate(1, 3, unit, 0.0)
                }
            }
        };
        let values: Vec<f64> = (0..hidden).map(next).collect();
        if !matches!(spec.cell, Cell::Lstm { .. }) {
            return values.into_iter().map(|value| value as f32).collect();
        }
        let output = |unit: usize| {
            let peephole = further(direction * 3 + 1, unit) * values[unit];
            (gate(0, 1, unit, peephole) * self.act(2, values[unit], false)) as f32
        };
        let state = (0..hidden).map(output).collect();
        for (cell, value) in cell.iter_mut().zip(&values) {
            *cell = *value as f32;
        }
        state
    }
}
