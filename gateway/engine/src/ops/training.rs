//! Steps of optimisers (`ai.onnx.preview.training` 1).
//!
//! Inputs: the rate, the number of updates so far, then for all tensors their values, gradients
//! and states, a kind after the other; outputs: the new values, then the new states.

use gw_shaders::expr::{Binary, Reg, Unary};
use gw_shaders::kernel::Scalar;

use super::{Call, Table};
use crate::error::OpError;
use crate::net::Operand;
use crate::net::formula::Formula;

pub(super) const OPS: Table = &[
    ("ai.onnx.preview.training.Adagrad", adagrad),
    ("ai.onnx.preview.training.Adam", adam),
    ("ai.onnx.preview.training.Momentum", momentum),
];

/// The registers of one tensor's step; floats but for the count, which is cast.
const RATE: Reg = 0;
const COUNT: Reg = 1;
const VALUE: Reg = 2;
const GRADIENT: Reg = 3;
const STATE: Reg = 4;

/// Writes one result of a step.
type Step<'a> = &'a dyn Fn(&Call<'_>, &mut Formula);

/// A step of every tensor: `steps` write the new value and the new states, one formula each.
fn each(call: &mut Call<'_>, states: usize, steps: &[Step<'_>]) -> Result<Vec<Operand>, OpError> {
    let (rate, count) = (call.input(0)?, call.input(1)?);
    let kinds = states + 2;
    let rest = call.node.inputs.len() - 2;
    if rest == 0 || !rest.is_multiple_of(kinds) {
        let expected = format!("{kinds} inputs for each tensor");
        return Err(OpError::mismatch("inputs", expected, rest));
    }
    let tensors = rest / kinds;
    let count = call.builder.as_float(&count)?;
    let mut outputs = Vec::with_capacity(steps.len() * tensors);
    for step in steps {
        for tensor in 0..tensors {
            let mut inputs = vec![rate.clone(), count.clone()];
            for kind in 0..kinds {
                inputs.push(call.input(2 + kind * tensors + tensor)?);
            }
            for (index, input) in inputs.iter().enumerate() {
                let fits = index < 2 && input.layout.elements() == 1
                    || index >= 2 && input.shape() == inputs[VALUE].shape();
                if input.scalar() != Scalar::F32 || !fits {
                    let what = format!("input {index} of a tensor");
                    return Err(OpError::mismatch(what, "floats of one shape", input.dtype));
                }
            }
            for scalar in &mut inputs[..2] {
                *scalar = call.builder.reshape(scalar, &[])?;
            }
            let mut formula = Formula::floats(inputs.len());
            step(call, &mut formula);
            let dtype = inputs[VALUE].dtype;
            outputs.push(call.builder.pointwise(&formula.0, &inputs, dtype)?);
        }
    }
    Ok(outputs)
}

/// `norm_coefficient * x + gradient`.
fn regularised(call: &Call<'_>, formula: &mut Formula) -> Reg {
    let weight = formula.c(call.float("norm_coefficient", 0.0));
    let pull = formula.mul(weight, VALUE);
    formula.add(pull, GRADIENT)
}

/// `keep * state + take * x`.
fn mixed(formula: &mut Formula, state: Reg, keep: f32, take: f32, x: Reg) -> Reg {
    let keep = formula.c(keep);
    let kept = formula.mul(keep, state);
    let take = formula.c(take);
    let taken = formula.mul(take, x);
    formula.add(kept, taken)
}

fn adagrad(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let squares = |call: &Call<'_>, formula: &mut Formula| {
        let gradient = regularised(call, formula);
        let square = formula.mul(gradient, gradient);
        formula.add(STATE, square);
    };
    let value = |call: &Call<'_>, formula: &mut Formula| {
        let gradient = regularised(call, formula);
        let square = formula.mul(gradient, gradient);
        let sum = formula.add(STATE, square);
        let root = formula.un(Unary::Sqrt, sum);
        let least = formula.c(call.float("epsilon", 1e-6));
        let divisor = formula.add(root, least);
        let decay = formula.c(call.float("decay_factor", 0.0));
        let age = formula.mul(COUNT, decay);
        let one = formula.c(1.0);
        let age = formula.add(one, age);
        let rate = formula.bin(Binary::Div, RATE, age);
        let step = formula.mul(rate, gradient);
        let step = formula.bin(Binary::Div, step, divisor);
        formula.sub(VALUE, step);
    };
    each(call, 1, &[&value, &squares])
}

fn adam(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    // The states are the means of the gradient and of its square.
    let mean = |call: &Call<'_>, formula: &mut Formula| {
        let alpha = call.float("alpha", 0.9);
        let gradient = regularised(call, formula);
        mixed(formula, STATE, alpha, 1.0 - alpha, gradient)
    };
    let square = |call: &Call<'_>, formula: &mut Formula| {
        let beta = call.float("beta", 0.999);
        let gradient = regularised(call, formula);
        let square = formula.mul(gradient, gradient);
        mixed(formula, STATE + 1, beta, 1.0 - beta, square)
    };
    let value = |call: &Call<'_>, formula: &mut Formula| {
        let (new_mean, new_square) = (mean(call, formula), square(call, formula));
        let root = formula.un(Unary::Sqrt, new_square);
        let least = formula.c(call.float("epsilon", 1e-6));
        let divisor = formula.add(root, least);
        let one = formula.c(1.0);
        let mut left = |name: &str, default: f32| {
            let base = formula.c(call.float(name, default));
            let power = formula.bin(Binary::Pow, base, COUNT);
            formula.sub(one, power)
        };
        let (first, second) = (left("alpha", 0.9), left("beta", 0.999));
        let second = formula.un(Unary::Sqrt, second);
        let scaled = formula.mul(RATE, second);
        let scaled = formula.bin(Binary::Div, scaled, first);
        let zero = formula.c(0.0);
        let has_begun = formula.bin(Binary::Greater, COUNT, zero);
        let rate = formula.select(has_begun, scaled, RATE);
        let step = formula.mul(rate, new_mean);
        let step = formula.bin(Binary::Div, step, divisor);
        let moved = formula.sub(VALUE, step);
        let keep = formula.c(1.0 - call.float("norm_coefficient_post", 0.0));
        formula.mul(keep, moved);
    };
    let states: [Step<'_>; 2] = [
        &|call, formula| {
            mean(call, formula);
        },
        &|call, formula| {
            square(call, formula);
        },
    ];
    each(call, 2, &[&value, states[0], states[1]])
}

fn momentum(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let nesterov = match call.text("mode", "standard").as_str() {
        "standard" => false,
        "nesterov" => true,
        other => return Err(OpError::Unsupported(format!("mode `{other}`"))),
    };
    let speed = |call: &Call<'_>, formula: &mut Formula, gradient: Reg| {
        let zero = formula.c(0.0);
        let has_begun = formula.bin(Binary::Greater, COUNT, zero);
        let beta = formula.c(call.float("beta", 1.0));
        let one = formula.c(1.0);
        let beta = formula.select(has_begun, beta, one);
        let taken = formula.mul(beta, gradient);
        let alpha = formula.c(call.float("alpha", 1.0));
        let kept = formula.mul(alpha, STATE);
        formula.add(kept, taken)
    };
    let state = |call: &Call<'_>, formula: &mut Formula| {
        let gradient = regularised(call, formula);
        speed(call, formula, gradient);
    };
    let value = move |call: &Call<'_>, formula: &mut Formula| {
        let gradient = regularised(call, formula);
        let mut change = speed(call, formula, gradient);
        if nesterov {
            let alpha = formula.c(call.float("alpha", 1.0));
            let ahead = formula.mul(alpha, change);
            change = formula.add(gradient, ahead);
        }
        let step = formula.mul(RATE, change);
        formula.sub(VALUE, step);
    };
    each(call, 1, &[&value, &state])
}
