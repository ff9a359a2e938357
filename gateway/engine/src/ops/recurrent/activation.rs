//! The activations that a layer with a state names.

use gw_shaders::expr::{Binary, Expr, Unary};

use super::Call;
use crate::error::OpError;
use crate::graph::Attr;
use crate::net::formula::Formula;

/// The activations of all directions, one direction after the other.
pub(super) fn all(
    call: &Call<'_>,
    directions: usize,
    defaults: &[&str],
) -> Result<Vec<Expr>, OpError> {
    let names: Vec<String> = match call.attr("activations") {
        Some(Attr::Strings(names)) if !names.is_empty() => {
            names.iter().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect()
        }
        _ => defaults.repeat(directions).into_iter().map(str::to_owned).collect(),
    };
    let wanted = defaults.len() * directions;
    if names.len() != wanted {
        return Err(OpError::mismatch("activations", format!("{wanted} names"), names.len()));
    }
    let floats = |name: &str| match call.attr(name) {
        Some(Attr::Floats(values)) => values.clone(),
        _ => Vec::new(),
    };
    let mut alphas = floats("activation_alpha").into_iter();
    let mut betas = floats("activation_beta").into_iter();
    names.iter().map(|name| one(name, &mut alphas, &mut betas)).collect()
}

/// One activation; those with parameters take the next ones. Where ONNX and ONNX Runtime do not
/// agree on what a parameter is by default, it must be given.
fn one(
    name: &str,
    alphas: &mut impl Iterator<Item = f32>,
    betas: &mut impl Iterator<Item = f32>,
) -> Result<Expr, OpError> {
    let missing = |what: &str| OpError::Missing(format!("{what} of the activation `{name}`"));
    let mut formula = Formula::floats(1);
    let zero = formula.c(0.0);
    match name {
        "tanh" => formula.un(Unary::Tanh, 0),
        "sigmoid" => formula.un(Unary::Sigmoid, 0),
        "relu" => formula.un(Unary::Relu, 0),
        "softplus" => formula.un(Unary::Softplus, 0),
        "softsign" => {
            let (size, one) = (formula.un(Unary::Abs, 0), formula.c(1.0));
            let divisor = formula.add(one, size);
            formula.bin(Binary::Div, 0, divisor)
        }
        "affine" => {
            let slope = formula.c(alphas.next().ok_or_else(|| missing("activation_alpha"))?);
            let offset = formula.c(betas.next().ok_or_else(|| missing("activation_beta"))?);
            let scaled = formula.mul(slope, 0);
            formula.add(scaled, offset)
        }
        "scaledtanh" => {
            let scale = formula.c(alphas.next().ok_or_else(|| missing("activation_alpha"))?);
            let inner = formula.c(betas.next().ok_or_else(|| missing("activation_beta"))?);
            let scaled = formula.mul(inner, 0);
            let value = formula.un(Unary::Tanh, scaled);
            formula.mul(scale, value)
        }
        "hardsigmoid" => {
            let slope = formula.c(alphas.next().unwrap_or(0.2));
            let offset = formula.c(betas.next().unwrap_or(0.5));
            let scaled = formula.mul(slope, 0);
            let line = formula.add(scaled, offset);
            let above = formula.bin(Binary::Max, line, zero);
            let one = formula.c(1.0);
            formula.bin(Binary::Min, above, one)
        }
        "leakyrelu" | "elu" | "thresholdedrelu" => {
            let threshold = name == "thresholdedrelu";
            let alpha = match alphas.next() {
                Some(alpha) => alpha,
                None if threshold => return Err(missing("activation_alpha")),
                None if name == "elu" => 1.0,
                None => 0.01,
            };
            let alpha = formula.c(alpha);
            let below = match name {
                "leakyrelu" => formula.mul(alpha, 0),
                "elu" => {
                    let (power, one) = (formula.un(Unary::Exp, 0), formula.c(1.0));
                    let less_one = formula.sub(power, one);
                    formula.mul(alpha, less_one)
                }
                _ => zero,
            };
            let bound = if threshold { alpha } else { zero };
            let keeps = formula.bin(Binary::Greater, 0, bound);
            formula.select(keeps, 0, below)
        }
        other => return Err(OpError::Unsupported(format!("the activation `{other}`"))),
    };
    Ok(formula.0)
}
