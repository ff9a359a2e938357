//! Activations: functions of one float, with parameters.

use gw_shaders::expr::{Binary, Reg, Unary};

use super::{Call, Table};
use super::{convert, elementwise};
use crate::error::OpError;
use crate::net::Operand;
use crate::net::formula::Formula;

pub(super) const OPS: Table = &[
    ("Celu", celu),
    ("Clip", clip),
    ("Elu", elu),
    ("Gelu", gelu),
    ("HardSigmoid", hard_sigmoid),
    ("HardSwish", hard_swish),
    ("LeakyRelu", leaky_relu),
    ("Mish", mish),
    ("PRelu", prelu),
    ("Selu", selu),
    ("Shrink", shrink),
    ("Softsign", softsign),
    ("SwiGLU", swiglu),
    ("Swish", swish),
    ("ThresholdedRelu", thresholded_relu),
    ("com.microsoft.BiasGelu", bias_gelu),
    ("com.microsoft.FastGelu", fast_gelu),
    ("com.microsoft.Gelu", gelu),
];

pub(super) fn one_float(call: &mut Call<'_>, formula: &Formula) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let dtype = x.dtype;
    if !dtype.is_float() {
        return Err(OpError::Type { what: "input 0".to_owned(), given: dtype });
    }
    Ok(vec![call.builder.pointwise(&formula.0, &[x], dtype)?])
}

/// `min(max(x, low), high)`; either bound may be left out.
fn clip(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let mut x = call.input(0)?;
    let bound = |call: &mut Call<'_>, name: &str, index: usize| {
        let given = call.has(name);
        let value = call.float(name, 0.0);
        if given { Some(call.builder.float(value)) } else { call.optional(index) }
    };
    for (name, index, op) in [("min", 1, Binary::Max), ("max", 2, Binary::Min)] {
        if let Some(limit) = bound(call, name, index) {
            x = elementwise::apply(call.builder, op, &x, &limit)?;
        }
    }
    Ok(vec![x])
}

/// `x` where it is positive, else `below(x)`.
pub(super) fn piecewise(formula: &mut Formula, below: Reg) -> Reg {
    let zero = formula.c(0.0);
    let is_positive = formula.bin(Binary::Greater, 0, zero);
    formula.select(is_positive, 0, below)
}

/// `scale * (exp(x) - 1)`.
pub(super) fn scaled_expm1(formula: &mut Formula, x: Reg, scale: f32) -> Reg {
    let power = formula.un(Unary::Exp, x);
    let one = formula.c(1.0);
    let less_one = formula.sub(power, one);
    let scale = formula.c(scale);
    formula.mul(scale, less_one)
}

/// `Shrink` (ONNX 9): what is within `lambd` of zero becomes zero, the rest comes nearer by
/// `bias`. Integers are computed as floats.
fn shrink(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let (lambd, bias) = (call.float("lambd", 0.5), call.float("bias", 0.0));
    let mut formula = Formula::floats(1);
    let (low, high) = (formula.c(-lambd), formula.c(lambd));
    let (bias, zero) = (formula.c(bias), formula.c(0.0));
    let is_below = formula.bin(Binary::Less, 0, low);
    let is_above = formula.bin(Binary::Greater, 0, high);
    let (raised, lowered) = (formula.add(0, bias), formula.sub(0, bias));
    let inside = formula.select(is_above, lowered, zero);
    formula.select(is_below, raised, inside);
    let float = call.builder.as_float(&x)?;
    let result = call.builder.pointwise(&formula.0, std::slice::from_ref(&float), float.dtype)?;
    Ok(vec![convert::convert(call.builder, &result, x.dtype)?])
}

fn elu(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let mut formula = Formula::floats(1);
    let below = scaled_expm1(&mut formula, 0, call.float("alpha", 1.0));
    piecewise(&mut formula, below);
    one_float(call, &formula)
}

fn celu(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let alpha = call.float("alpha", 1.0);
    let mut formula = Formula::floats(1);
    let divisor = formula.c(alpha);
    let scaled = formula.bin(Binary::Div, 0, divisor);
    let below = scaled_expm1(&mut formula, scaled, alpha);
    piecewise(&mut formula, below);
    one_float(call, &formula)
}

fn selu(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    // The defaults are those of the paper (arXiv 1706.02515), as ONNX prints them.
    let alpha = call.float("alpha", 1.673_263_2);
    let gamma = call.float("gamma", 1.050_701);
    let mut formula = Formula::floats(1);
    let below = scaled_expm1(&mut formula, 0, alpha);
    let value = piecewise(&mut formula, below);
    let gamma = formula.c(gamma);
    formula.mul(gamma, value);
    one_float(call, &formula)
}

fn leaky_relu(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let mut formula = Formula::floats(1);
    let slope = formula.c(call.float("alpha", 0.01));
    let below = formula.mul(slope, 0);
    piecewise(&mut formula, below);
    one_float(call, &formula)
}

fn prelu(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, slope) = (call.input(0)?, call.input(1)?);
    let dtype = x.dtype;
    let mut formula = Formula::floats(2);
    let below = formula.mul(1, 0);
    piecewise(&mut formula, below);
    Ok(vec![call.builder.pointwise(&formula.0, &[x, slope], dtype)?])
}

fn thresholded_relu(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let mut formula = Formula::floats(1);
    let alpha = formula.c(call.float("alpha", 1.0));
    let zero = formula.c(0.0);
    let is_above = formula.bin(Binary::Greater, 0, alpha);
    formula.select(is_above, 0, zero);
    one_float(call, &formula)
}

/// `clamp(alpha * x + beta, 0, 1)`.
pub(super) fn hard_sigmoid_of(formula: &mut Formula, alpha: f32, beta: f32) -> Reg {
    let (alpha, beta) = (formula.c(alpha), formula.c(beta));
    let scaled = formula.mul(alpha, 0);
    let line = formula.add(scaled, beta);
    let zero = formula.c(0.0);
    let low = formula.bin(Binary::Max, line, zero);
    let one = formula.c(1.0);
    formula.bin(Binary::Min, low, one)
}

fn hard_sigmoid(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let mut formula = Formula::floats(1);
    hard_sigmoid_of(&mut formula, call.float("alpha", 0.2), call.float("beta", 0.5));
    one_float(call, &formula)
}

fn hard_swish(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let mut formula = Formula::floats(1);
    let gate = hard_sigmoid_of(&mut formula, 1.0 / 6.0, 0.5);
    formula.mul(0, gate);
    one_float(call, &formula)
}

fn softsign(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let mut formula = Formula::floats(1);
    let size = formula.un(Unary::Abs, 0);
    let one = formula.c(1.0);
    let divisor = formula.add(one, size);
    formula.bin(Binary::Div, 0, divisor);
    one_float(call, &formula)
}

fn swish(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let mut formula = Formula::floats(1);
    let alpha = formula.c(call.float("alpha", 1.0));
    let scaled = formula.mul(alpha, 0);
    let gate = formula.un(Unary::Sigmoid, scaled);
    formula.mul(0, gate);
    one_float(call, &formula)
}

/// `a * sigmoid(alpha * a) * b` (ONNX 28): the gate and what it lets through, of one shape.
fn swiglu(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (gate, value) = (call.input(0)?, call.input(1)?);
    for (what, x) in [("input 0", &gate), ("input 1", &value)] {
        if !x.dtype.is_float() {
            return Err(OpError::Type { what: what.to_owned(), given: x.dtype });
        }
    }
    if gate.shape() != value.shape() || gate.dtype != value.dtype {
        let given = gw_tensor::Shape::from(value.shape());
        return Err(OpError::mismatch("input 1", gw_tensor::Shape::from(gate.shape()), given));
    }
    let mut formula = Formula::floats(2);
    let alpha = formula.c(call.float("alpha", 1.0));
    let scaled = formula.mul(alpha, 0);
    let open = formula.un(Unary::Sigmoid, scaled);
    let swish = formula.mul(0, open);
    formula.mul(swish, 1);
    let dtype = gate.dtype;
    Ok(vec![call.builder.pointwise(&formula.0, &[gate, value], dtype)?])
}

fn mish(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let mut formula = Formula::floats(1);
    let soft = formula.un(Unary::Softplus, 0);
    let gate = formula.un(Unary::Tanh, soft);
    formula.mul(0, gate);
    one_float(call, &formula)
}

/// `x / 2 * (1 + erf(x / sqrt 2))`, or its approximation by `tanh`.
pub(super) fn gelu_of(formula: &mut Formula, x: Reg, tanh: bool) -> Reg {
    let inner = if tanh {
        let cubic = formula.c(0.044_715);
        let square = formula.mul(x, x);
        let cube = formula.mul(square, x);
        let small = formula.mul(cubic, cube);
        let sum = formula.add(x, small);
        // The square root of 2 / pi.
        let scale = formula.c(0.797_884_6);
        let scaled = formula.mul(scale, sum);
        formula.un(Unary::Tanh, scaled)
    } else {
        let scale = formula.c(std::f32::consts::FRAC_1_SQRT_2);
        let scaled = formula.mul(x, scale);
        formula.un(Unary::Erf, scaled)
    };
    let one = formula.c(1.0);
    let gate = formula.add(one, inner);
    let half = formula.c(0.5);
    let half = formula.mul(half, x);
    formula.mul(half, gate)
}

fn gelu(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let mut formula = Formula::floats(1);
    gelu_of(&mut formula, 0, call.text("approximate", "none") == "tanh");
    one_float(call, &formula)
}

fn bias_gelu(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    biased(call, false)
}

fn fast_gelu(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    biased(call, true)
}

fn biased(call: &mut Call<'_>, tanh: bool) -> Result<Vec<Operand>, OpError> {
    let inputs = call.given();
    let dtype = call.input(0)?.dtype;
    let mut formula = Formula::floats(inputs.len());
    let x = if inputs.len() > 1 { formula.add(0, 1) } else { 0 };
    gelu_of(&mut formula, x, tanh);
    Ok(vec![call.builder.pointwise(&formula.0, &inputs, dtype)?])
}
