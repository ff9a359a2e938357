//! The operators over ensembles of decision trees.

use gw_shaders::expr::Binary;
use gw_shaders::trees::Fold;
use gw_tensor::DType;

use super::super::{Call, elementwise, sizes};
use super::ensemble::{by_numbers, by_places, nearest, numbers};
use super::scores::{Post, Second, labels, of_largest, of_two, two_columns};
use super::{constant, rows};
use crate::error::OpError;
use crate::net::Operand;
use crate::net::builder::Builder;
use crate::net::formula::Formula;

/// `aggregate_function`: how leaves are folded, and whether by the number of trees.
fn aggregate(name: &str) -> Result<(Fold, bool), OpError> {
    Ok(match name {
        "SUM" | "1" => (Fold::Sum, false),
        "AVERAGE" | "0" => (Fold::Sum, true),
        "MIN" | "2" => (Fold::Min, false),
        "MAX" | "3" => (Fold::Max, false),
        other => return Err(OpError::Unsupported(format!("aggregate_function `{other}`"))),
    })
}

fn divided(builder: &mut Builder, x: &Operand, count: usize) -> Result<Operand, OpError> {
    let mut formula = Formula::floats(1);
    let count = formula.c(count as f32);
    formula.bin(Binary::Div, 0, count);
    builder.pointwise(&formula.0, std::slice::from_ref(x), DType::F32)
}

/// Adds `base_values`, one for each target or one for all.
fn based(call: &mut Call<'_>, x: &Operand, targets: usize) -> Result<Operand, OpError> {
    let base: Vec<f32> = numbers(call, "base_values").into_iter().map(nearest).collect();
    if base.is_empty() {
        return Ok(x.clone());
    }
    let base = constant(call.builder, &[targets], &base)?;
    elementwise::apply(call.builder, Binary::Add, x, &base)
}

/// `TreeEnsembleRegressor` (ai.onnx.ml 3).
pub(super) fn regressor(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = rows(call)?;
    let targets = sizes(&[call.int("n_targets", 1)])?[0];
    let (fold, is_average) = aggregate(&call.text("aggregate_function", "SUM"))?;
    let ensemble = by_numbers(call, "target")?;
    ensemble.check(x.shape()[1], targets)?;
    let is_double = call.input(0)?.dtype == DType::F64;
    let mut result = ensemble.walk(call.builder, &x, fold, targets, is_double)?;
    if is_average {
        result = divided(call.builder, &result, ensemble.roots.len())?;
    }
    let result = based(call, &result, targets)?;
    Ok(vec![Post::of(call)?.apply(call.builder, &result)?])
}

/// `TreeEnsemble` (ai.onnx.ml 5).
pub(super) fn ensemble(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let dtype = call.input(0)?.dtype;
    let x = rows(call)?;
    let targets = sizes(&[call.int("n_targets", 1)])?[0];
    let (fold, is_average) = aggregate(&call.int("aggregate_function", 1).to_string())?;
    let ensemble = by_places(call)?;
    ensemble.check(x.shape()[1], targets)?;
    let is_double = call.input(0)?.dtype == DType::F64;
    let mut result = ensemble.walk(call.builder, &x, fold, targets, is_double)?;
    if is_average {
        result = divided(call.builder, &result, ensemble.roots.len())?;
    }
    let post = Post::of_number(call.int("post_transform", 0))?;
    let result = post.apply(call.builder, &result)?;
    Ok(vec![elementwise::convert(call.builder, &result, dtype)?])
}

/// `TreeEnsembleClassifier` (ai.onnx.ml 3).
pub(super) fn classifier(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = rows(call)?;
    let post = Post::of(call)?;
    let (names, classes) = labels(call, "classlabels_int64s")?;
    let ensemble = by_numbers(call, "class")?;
    ensemble.check(x.shape()[1], classes)?;
    let is_double = call.input(0)?.dtype == DType::F64;
    let sums = ensemble.walk(call.builder, &x, Fold::Sum, classes, is_double)?;
    let has = |class: usize| ensemble.weights().any(|(to, _)| *to == class);
    let (has_first, has_second) = (has(0), has(1));
    // Shares of one are told apart at one half, sums at zero.
    let is_share = ensemble.weights().all(|(_, weight)| *weight >= 0.0);
    let threshold = if is_share { 0.5 } else { 0.0 };
    let base = numbers(call, "base_values").len();
    let builder = &mut *call.builder;
    match (classes, has_first, has_second, base) {
        (0 | 1, ..) => Err(OpError::Unsupported(format!("{classes} classes"))),
        // One score for two classes.
        (2, true, false, 0 | 1) => {
            let score = builder.slice(&sums, 1, 0, 1, 1)?;
            let score = based(call, &score, 1)?;
            let label = of_one_score(call.builder, &score, threshold, names.as_deref())?;
            let scores = match post {
                Post::Probit => return Err(OpError::Unsupported("PROBIT of one score".to_owned())),
                Post::Logistic => {
                    let pair = two_columns(call.builder, &score, Second::Negative)?;
                    post.apply(call.builder, &pair)?
                }
                _ if is_share => two_columns(call.builder, &score, Second::Complement)?,
                _ => two_columns(call.builder, &score, Second::Negative)?,
            };
            Ok(vec![label, scores])
        }
        (2, false, true, 0) => {
            let score = builder.slice(&sums, 1, 1, 1, 1)?;
            let label = of_one_score(builder, &score, threshold, names.as_deref())?;
            Ok(vec![label, post.apply(builder, &sums)?])
        }
        (2, _, _, 1..) => {
            Err(OpError::Unsupported(format!("{base} base values of these two classes")))
        }
        _ => {
            let scores = based(call, &sums, classes)?;
            let label = match names {
                Some(names) => of_largest(call.builder, &scores, &names)?,
                None => scores.clone(),
            };
            Ok(vec![label, post.apply(call.builder, &scores)?])
        }
    }
}

/// The label where one score decides; the score where the labels are strings.
fn of_one_score(
    builder: &mut Builder,
    score: &Operand,
    threshold: f32,
    names: Option<&[i64]>,
) -> Result<Operand, OpError> {
    match names {
        Some(&[negative, positive]) => of_two(builder, score, threshold, [negative, positive]),
        _ => Ok(score.clone()),
    }
}
