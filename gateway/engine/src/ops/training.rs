//! Steps of optimisers (`ai.onnx.preview.training` 1): element-wise arithmetic on tensors of
//! parameters, their gradients and what is remembered of earlier steps.

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

/// The inputs of a formula: the rate, the count of updates, then one tensor of each group.
const RATE: Reg = 0;
const COUNT: Reg = 1;
const X: Reg = 2;
const G: Reg = 3;
const STATE: Reg = 4;
const SECOND: Reg = 5;

/// Computes `outputs` formulas for each tensor; the inputs after the first two are `groups`
/// groups of as many tensors, and so are the outputs.
fn each(call: &mut Call<'_>, groups: usize, formulas: &[Formula]) -> Result<Vec<Operand>, OpError> {
    let inputs = call.given();
    let count = inputs.len().saturating_sub(2) / groups;
    if count == 0 || inputs.len() != 2 + groups * count {
        let expected = format!("2 and {groups} for each tensor");
        return Err(OpError::mismatch("inputs", expected, inputs.len()));
    }
    let mut outputs = Vec::with_capacity(formulas.len() * count);
    for formula in formulas {
        for tensor in 0..count {
            let mut operands = inputs[..2].to_vec();
            operands.extend((0..groups).map(|group| inputs[2 + group * count + tensor].clone()));
            for operand in &mut operands[2..] {
                if !operand.dtype.is_float() {
                    let what = "a tensor".to_owned();
                    return Err(OpError::Type { what, given: operand.dtype });
                }
            }
            let (rate, steps) = (&operands[0], &operands[1]);
            if rate.scalar() != Scalar::F32 || steps.scalar() != Scalar::I32 {
                return Err(OpError::Type { what: "inputs 0 and 1".to_owned(), given: rate.dtype });
            }
            let target = operands[2].shape();
            for scalar in 0..2 {
                operands[scalar] = call.builder.reshape(&operands[scalar], &[])?;
            }
            if operands[2..].iter().any(|operand| operand.shape() != target) {
                return Err(OpError::mismatch("a tensor", "one shape", "several"));
            }
            let dtype = operands[2].dtype;
            outputs.push(call.builder.pointwise(&formula.0, &operands, dtype)?);
        }
    }
    Ok(outputs)
}

fn formula(groups: usize) -> Formula {
    let mut scalars = vec![Scalar::F32, Scalar::I32];
    scalars.extend(vec![Scalar::F32; groups]);
    Formula::new(&scalars)
}

/// `norm * x + g`: the gradient with that of the penalty on large parameters.
fn gradient(formula: &mut Formula, norm: f32) -> Reg {
    let norm = formula.c(norm);
    let penalty = formula.mul(norm, X);
    formula.add(penalty, G)
}

/// `share * state + (more) * gradient`.
fn blended(formula: &mut Formula, state: Reg, share: f32, gradient: Reg, more: Reg) -> Reg {
    let share = formula.c(share);
    let kept = formula.mul(share, state);
    let added = formula.mul(more, gradient);
    formula.add(kept, added)
}

fn adagrad(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let norm = call.float("norm_coefficient", 0.0);
    let (decay, epsilon) = (call.float("decay_factor", 0.0), call.float("epsilon", 1e-6));
    let squares = |formula: &mut Formula| {
        let gradient = gradient(formula, norm);
        let square = formula.mul(gradient, gradient);
        (gradient, formula.add(STATE, square))
    };
    let mut state = formula(3);
    squares(&mut state);
    let mut x = formula(3);
    let (gradient, sum) = squares(&mut x);
    let root = x.un(Unary::Sqrt, sum);
    let epsilon = x.c(epsilon);
    let adapted = x.add(root, epsilon);
    let (one, decay) = (x.c(1.0), x.c(decay));
    let steps = x.cast(Scalar::F32, COUNT);
    let decayed = x.mul(steps, decay);
    let slower = x.add(one, decayed);
    let rate = x.bin(Binary::Div, RATE, slower);
    let step = x.mul(rate, gradient);
    let step = x.bin(Binary::Div, step, adapted);
    x.sub(X, step);
    each(call, 3, &[x, state])
}

fn adam(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (alpha, beta) = (call.float("alpha", 0.9), call.float("beta", 0.999));
    let norm = call.float("norm_coefficient", 0.0);
    let post = call.float("norm_coefficient_post", 0.0);
    let epsilon = call.float("epsilon", 1e-6);
    let first = |formula: &mut Formula| {
        let gradient = gradient(formula, norm);
        let more = formula.c(1.0 - alpha);
        blended(formula, STATE, alpha, gradient, more)
    };
    let second = |formula: &mut Formula| {
        let gradient = gradient(formula, norm);
        let square = formula.mul(gradient, gradient);
        let more = formula.c(1.0 - beta);
        blended(formula, SECOND, beta, square, more)
    };
    let (mut mean, mut square, mut x) = (formula(4), formula(4), formula(4));
    first(&mut mean);
    second(&mut square);
    let moved = first(&mut x);
    let spread = second(&mut x);
    let root = x.un(Unary::Sqrt, spread);
    let epsilon = x.c(epsilon);
    let root = x.add(root, epsilon);
    // What the first steps lack, because the state starts from zero.
    let (one, zero, steps) = (x.c(1.0), x.int(0), x.cast(Scalar::F32, COUNT));
    let (alpha, beta) = (x.c(alpha), x.c(beta));
    let lacks = |x: &mut Formula, share: Reg| {
        let power = x.bin(Binary::Pow, share, steps);
        x.sub(one, power)
    };
    let square_lacks = lacks(&mut x, beta);
    let square_lacks = x.un(Unary::Sqrt, square_lacks);
    let mean_lacks = lacks(&mut x, alpha);
    let raised = x.mul(RATE, square_lacks);
    let raised = x.bin(Binary::Div, raised, mean_lacks);
    let has_steps = x.bin(Binary::Greater, COUNT, zero);
    let rate = x.select(has_steps, raised, RATE);
    let step = x.mul(rate, moved);
    let step = x.bin(Binary::Div, step, root);
    let next = x.sub(X, step);
    let shrink = x.c(1.0 - post);
    x.mul(shrink, next);
    each(call, 4, &[x, mean, square])
}

fn momentum(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (alpha, beta) = (call.float("alpha", 0.0), call.float("beta", 0.0));
    let norm = call.float("norm_coefficient", 0.0);
    let is_nesterov = match call.text("mode", "standard").as_str() {
        "standard" => false,
        "nesterov" => true,
        other => return Err(OpError::Unsupported(format!("mode `{other}`"))),
    };
    let moved = |formula: &mut Formula| {
        let gradient = gradient(formula, norm);
        let (one, zero, beta) = (formula.c(1.0), formula.int(0), formula.c(beta));
        let has_steps = formula.bin(Binary::Greater, COUNT, zero);
        let more = formula.select(has_steps, beta, one);
        (gradient, blended(formula, STATE, alpha, gradient, more))
    };
    let (mut state, mut x) = (formula(3), formula(3));
    moved(&mut state);
    let (gradient, velocity) = moved(&mut x);
    let direction = if is_nesterov {
        let alpha = x.c(alpha);
        let ahead = x.mul(alpha, velocity);
        x.add(gradient, ahead)
    } else {
        velocity
    };
    let step = x.mul(RATE, direction);
    x.sub(X, step);
    each(call, 3, &[x, state])
}
