//! `ai.onnx.ml` on numbers: features are scaled, filled in and looked up.
//!
//! - [`linear`]: linear models and support vectors. [`trees`] and [`ensemble`]: decision trees.
//! - [`scores`]: from the sums of a model to labels and probabilities.

mod ensemble;
mod linear;
mod scores;
mod trees;

use gw_shaders::expr::{Binary, Unary};
use gw_shaders::kernel::Scalar;
use gw_shaders::reduce;
use gw_tensor::{DType, Shape, Tensor};

use super::gather::take;
use super::{Call, Table, elementwise, reduce as reduction, sizes};
use crate::error::OpError;
use crate::graph::Attr;
use crate::net::Operand;
use crate::net::builder::Builder;
use crate::net::formula::Formula;

pub(super) const OPS: Table = &[
    ("ai.onnx.ml.ArrayFeatureExtractor", array_feature_extractor),
    ("ai.onnx.ml.Binarizer", binarizer),
    ("ai.onnx.ml.FeatureVectorizer", feature_vectorizer),
    ("ai.onnx.ml.Imputer", imputer),
    ("ai.onnx.ml.LabelEncoder", label_encoder),
    ("ai.onnx.ml.LinearClassifier", linear::classifier),
    ("ai.onnx.ml.LinearRegressor", linear::regressor),
    ("ai.onnx.ml.Normalizer", normalizer),
    ("ai.onnx.ml.OneHotEncoder", one_hot_encoder),
    ("ai.onnx.ml.SVMRegressor", linear::support_vectors),
    ("ai.onnx.ml.Scaler", scaler),
    ("ai.onnx.ml.TreeEnsemble", trees::ensemble),
    ("ai.onnx.ml.TreeEnsembleClassifier", trees::classifier),
    ("ai.onnx.ml.TreeEnsembleRegressor", trees::regressor),
];

/// The floats of an attribute; none where it is not there.
fn floats(call: &Call<'_>, name: &str) -> Vec<f32> {
    match call.attr(name) {
        Some(Attr::Floats(values)) => values.clone(),
        _ => Vec::new(),
    }
}

/// Floats of a known shape as a constant.
fn constant(builder: &mut Builder, shape: &[usize], values: &[f32]) -> Result<Operand, OpError> {
    let tensor = Tensor::from_slice(shape, values)
        .map_err(|_| OpError::mismatch("an attribute", Shape::from(shape), values.len()))?;
    Ok(builder.constant(tensor))
}

/// Input 0 as `f32`: integers, half and double precision too.
fn features(call: &mut Call<'_>) -> Result<Operand, OpError> {
    let x = call.input(0)?;
    let x = call.builder.as_float(&x)?;
    Ok(Builder::retyped(&x, DType::F32))
}

/// Features as rows `[rows, features]`; one axis is one row.
fn rows(call: &mut Call<'_>) -> Result<Operand, OpError> {
    let x = features(call)?;
    match x.shape().as_slice() {
        &[count] => call.builder.reshape(&x, &[1, count]),
        [_, _] => Ok(x),
        other => {
            let given = Shape::from(other);
            Err(OpError::mismatch("input 0", "[rows, features]", given))
        }
    }
}

/// One value for all features or one for each, broadcast over the last axis.
fn per_feature(call: &mut Call<'_>, x: &Operand, values: &[f32]) -> Result<Operand, OpError> {
    let count = x.shape().last().copied().unwrap_or(1);
    if values.len() != 1 && values.len() != count {
        return Err(OpError::mismatch("an attribute", format!("1 or {count}"), values.len()));
    }
    constant(call.builder, &[values.len()], values)
}

/// `ArrayFeatureExtractor`: columns of the last axis.
fn array_feature_extractor(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, indices) = (call.input(0)?, call.input(1)?);
    let dims = x.shape();
    let (&last, before) =
        dims.split_last().ok_or_else(|| OpError::mismatch("input 0", "an axis", "none"))?;
    let count = indices.layout.elements();
    let lines = call.builder.reshape(&x, &[before.iter().product(), last, 1])?;
    let taken = take(call.builder, &lines, &indices)?;
    let mut target = if before.is_empty() { vec![1] } else { before.to_vec() };
    target.push(count);
    Ok(vec![call.builder.reshape(&taken, &target)?])
}

/// `Binarizer`: whether a feature is above the threshold.
fn binarizer(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let dtype = call.input(0)?.dtype;
    let x = features(call)?;
    let mut formula = Formula::floats(1);
    let threshold = formula.c(call.float("threshold", 0.0));
    let above = formula.bin(Binary::Greater, 0, threshold);
    formula.cast(Scalar::F32, above);
    let result = call.builder.pointwise(&formula.0, &[x], DType::F32)?;
    Ok(vec![elementwise::convert(call.builder, &result, dtype)?])
}

/// `Scaler`: `(x - offset) * scale`.
fn scaler(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = features(call)?;
    let (offset, scale) = (floats(call, "offset"), floats(call, "scale"));
    let offset = per_feature(call, &x, if offset.is_empty() { &[0.0] } else { &offset })?;
    let scale = per_feature(call, &x, if scale.is_empty() { &[1.0] } else { &scale })?;
    let mut formula = Formula::floats(3);
    let moved = formula.sub(0, 1);
    formula.mul(moved, 2);
    Ok(vec![call.builder.pointwise(&formula.0, &[x, offset, scale], DType::F32)?])
}

/// `Normalizer`: rows divided by their norm; a row whose norm is zero stays.
fn normalizer(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let shape = call.input(0)?.shape();
    let x = rows(call)?;
    let op = match call.text("norm", "MAX").as_str() {
        "MAX" => reduce::Op::Max,
        "L1" => reduce::Op::L1,
        "L2" => reduce::Op::L2,
        other => return Err(OpError::Unsupported(format!("norm `{other}`"))),
    };
    if x.layout.elements() == 0 {
        return Ok(vec![x]);
    }
    let norm = reduction::over(call.builder, op, &x, &[1], true, DType::F32)?;
    let mut formula = Formula::floats(2);
    let zero = formula.c(0.0);
    let is_zero = formula.bin(Binary::Equal, 1, zero);
    let divided = formula.bin(Binary::Div, 0, 1);
    formula.select(is_zero, 0, divided);
    let result = call.builder.pointwise(&formula.0, &[x, norm], DType::F32)?;
    Ok(vec![call.builder.reshape(&result, &shape)?])
}

/// `Imputer`: one value, or NaN, is replaced.
fn imputer(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let count = x.shape().last().copied().unwrap_or(1);
    let scalar = x.scalar();
    let (filled, is_missing) = if scalar == Scalar::F32 {
        let mut formula = Formula::floats(1);
        let replaced = call.float("replaced_value_float", 0.0);
        if replaced.is_nan() {
            formula.un(Unary::IsNan, 0);
        } else {
            let replaced = formula.c(replaced);
            formula.bin(Binary::Equal, 0, replaced);
        }
        let values = floats(call, "imputed_value_floats");
        (Tensor::from_slice([values.len()], &values)?, formula)
    } else {
        let mut formula = Formula::new(&[scalar]);
        let replaced = call.int("replaced_value_int64", 0);
        let replaced = i32::try_from(replaced)
            .map_err(|_| OpError::mismatch("replaced_value_int64", "an i32", replaced))?;
        let replaced = formula.int(replaced);
        formula.bin(Binary::Equal, 0, replaced);
        let values = call.ints("imputed_value_int64s").unwrap_or_default();
        (Tensor::from_slice([values.len()], &values)?, formula)
    };
    if filled.elements() != 1 && filled.elements() != count {
        let given = filled.elements();
        return Err(OpError::mismatch("imputed values", format!("1 or {count}"), given));
    }
    let (builder, dtype) = (&mut *call.builder, x.dtype);
    let is_missing = builder.pointwise(&is_missing.0, std::slice::from_ref(&x), DType::Bool)?;
    let filled = builder.constant(filled);
    let mut choice = Formula::new(&[Scalar::U32, scalar, scalar]);
    choice.select(0, 1, 2);
    Ok(vec![builder.pointwise(&choice.0, &[is_missing, filled, x], dtype)?])
}

/// `FeatureVectorizer`: the inputs side by side, each cut or filled up to its width.
fn feature_vectorizer(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let inputs = call.given();
    let widths = sizes(&call.ints("inputdimensions").unwrap_or_default())?;
    if widths.len() != inputs.len() || inputs.is_empty() {
        let given = widths.len();
        return Err(OpError::mismatch("inputdimensions", inputs.len(), given));
    }
    let mut parts = Vec::new();
    let mut count = None;
    for (x, width) in inputs.iter().zip(widths) {
        let x = call.builder.as_float(x)?;
        let x = Builder::retyped(&x, DType::F32);
        let dims = x.shape();
        let rows = if dims.len() > 1 { dims[0] } else { 1 };
        if *count.get_or_insert(rows) != rows {
            return Err(OpError::mismatch("rows", count.unwrap_or(0), rows));
        }
        let has = x.layout.elements() / rows.max(1);
        let x = call.builder.reshape(&x, &[rows, has])?;
        parts.push(call.builder.slice(&x, 1, 0, 1, has.min(width))?);
        if has < width {
            let zero = call.builder.float(0.0);
            parts.push(call.builder.expand(&zero, &[rows, width - has])?);
        }
    }
    Ok(vec![call.builder.concat(&parts, 1)?])
}

/// Which of `keys` each element of `x` equals, on a new last axis.
fn matches(call: &mut Call<'_>, x: &Operand, keys: &Tensor) -> Result<Operand, OpError> {
    let count = keys.elements();
    let mut shape = x.shape();
    shape.push(1);
    let builder = &mut *call.builder;
    let keys = builder.constant(keys.reshaped([count])?);
    if keys.scalar() != x.scalar() {
        return Err(OpError::Type { what: "input 0".to_owned(), given: x.dtype });
    }
    let x = builder.reshape(x, &shape)?;
    let mut formula = Formula::new(&[x.scalar(), x.scalar()]);
    let equal = formula.bin(Binary::Equal, 0, 1);
    if x.scalar() == Scalar::F32 {
        let (a, b) = (formula.un(Unary::IsNan, 0), formula.un(Unary::IsNan, 1));
        let both = formula.bin(Binary::And, a, b);
        formula.bin(Binary::Or, equal, both);
    }
    builder.pointwise(&formula.0, &[x, keys], DType::Bool)
}

/// The numbers of an attribute that has one name per type.
fn typed(call: &Call<'_>, kind: &str) -> Result<Tensor, OpError> {
    if call.has(&format!("{kind}_strings")) {
        return Err(OpError::Unsupported(format!("{kind} that are strings")));
    }
    if let Some(tensor) = call.tensor(&format!("{kind}_tensor")) {
        return Ok(tensor.clone());
    }
    match call.ints(&format!("{kind}_int64s")) {
        Some(values) => Ok(Tensor::from_slice([values.len()], &values)?),
        None => {
            let values = floats(call, &format!("{kind}_floats"));
            Ok(Tensor::from_slice([values.len()], &values)?)
        }
    }
}

/// `LabelEncoder` (ai.onnx.ml 4) from numbers to numbers.
fn label_encoder(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let (keys, values) = (typed(call, "keys")?, typed(call, "values")?);
    let count = keys.elements();
    if values.elements() != count || count == 0 {
        return Err(OpError::mismatch("values", format!("{count}, at least 1"), values.elements()));
    }
    let default = match (call.tensor("default_tensor"), values.dtype()) {
        (Some(tensor), _) if tensor.elements() == 1 => tensor.reshaped(Shape::default())?,
        (_, DType::I64) => Tensor::from_slice(Shape::default(), &[call.int("default_int64", -1)])?,
        (_, DType::F32) => {
            Tensor::from_slice(Shape::default(), &[call.float("default_float", -0.0)])?
        }
        (_, other) => return Err(OpError::Type { what: "values".to_owned(), given: other }),
    };
    if default.dtype() != values.dtype() {
        return Err(OpError::mismatch("the default", values.dtype(), default.dtype()));
    }
    let matches = matches(call, &x, &keys)?;
    let builder = &mut *call.builder;
    let (axis, dtype) = (x.shape().len(), values.dtype());
    let first = reduce::Op::ArgMax { last: false };
    let place = reduction::over(builder, first, &matches, &[axis], false, DType::I64)?;
    let known = reduction::over(builder, reduce::Op::Max, &matches, &[axis], false, DType::Bool)?;
    let values = builder.constant(values.reshaped([1, count, 1])?);
    let found = take(builder, &values, &place)?;
    let found = builder.reshape(&found, &x.shape())?;
    let default = builder.constant(default);
    let mut formula = Formula::new(&[Scalar::U32, found.scalar(), found.scalar()]);
    formula.select(0, 1, 2);
    Ok(vec![builder.pointwise(&formula.0, &[known, found, default], dtype)?])
}

/// `OneHotEncoder` of integers: a new last axis with one at the category of each; an unknown one
/// has zeros only.
fn one_hot_encoder(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    if call.has("cats_strings") {
        return Err(OpError::Unsupported("categories that are strings".to_owned()));
    }
    let categories = call.ints("cats_int64s").unwrap_or_default();
    let categories = Tensor::from_slice([categories.len()], &categories)?;
    let x = elementwise::convert(call.builder, &x, DType::I64)?;
    let matches = matches(call, &x, &categories)?;
    Ok(vec![elementwise::convert(call.builder, &matches, DType::F32)?])
}
