//! From the sums of a model to labels and probabilities, as ONNX Runtime has it where the
//! specification is silent.

use gw_shaders::expr::{Binary, Unary};
use gw_shaders::kernel::Scalar;
use gw_shaders::reduce;
use gw_tensor::DType;

use super::super::gather::take;
use super::super::{Call, reduce as reduction};
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::net::{Kind, Operand};

/// `post_transform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Post {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl Post {
    pub(super) fn of(call: &Call<'_>) -> Result<Self, OpError> {
        Ok(match call.text("post_transform", "NONE").as_str() {
            "NONE" => Self::None,
            "SOFTMAX" => Self::Softmax,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            other => return Err(OpError::Unsupported(format!("post_transform `{other}`"))),
        })
    }

    /// The numbers of `TreeEnsemble`.
    pub(super) fn of_number(number: i64) -> Result<Self, OpError> {
        Ok(match number {
            0 => Self::None,
            1 => Self::Softmax,
            2 => Self::Logistic,
            3 => Self::SoftmaxZero,
            4 => Self::Probit,
            other => return Err(OpError::Unsupported(format!("post_transform {other}"))),
        })
    }

    /// Applies to `x [rows, targets]`.
    pub(super) fn apply(self, builder: &mut Builder, x: &Operand) -> Result<Operand, OpError> {
        match self {
            Self::None => Ok(x.clone()),
            Self::Logistic => {
                let mut formula = Formula::floats(1);
                formula.un(Unary::Sigmoid, 0);
                builder.pointwise(&formula.0, std::slice::from_ref(x), DType::F32)
            }
            Self::Probit => builder.pointwise(&probit().0, std::slice::from_ref(x), DType::F32),
            Self::Softmax => {
                let dims = x.shape();
                let rows = [dims[0], dims[1], 1];
                let flat = builder.reshape(x, &rows)?;
                let kind = Kind::Softmax { log: false };
                let result = builder.emit(kind, vec![flat], &rows, DType::F32)?;
                builder.reshape(&result, &dims)
            }
            Self::SoftmaxZero => softmax_zero(builder, x),
        }
    }
}

/// The inverse of the normal distribution, with the approximation of Winitzki that ONNX Runtime
/// uses for the inverse of the error function.
fn probit() -> Formula {
    let mut f = Formula::floats(1);
    let (one, two, zero) = (f.c(1.0), f.c(2.0), f.c(0.0));
    let double = f.mul(two, 0);
    let x = f.sub(double, one);
    let (below, above) = (f.sub(one, x), f.add(one, x));
    let product = f.mul(below, above);
    let log = f.un(Unary::Log, product);
    let (half, shift, factor) =
        (f.c(0.5), f.c(2.0 / (std::f32::consts::PI * 0.147)), f.c(1.0 / 0.147));
    let halved = f.mul(half, log);
    let v = f.add(shift, halved);
    let square = f.mul(v, v);
    let scaled = f.mul(factor, log);
    let rest = f.sub(square, scaled);
    let root = f.un(Unary::Sqrt, rest);
    let difference = f.sub(root, v);
    let size = f.un(Unary::Sqrt, difference);
    let is_negative = f.bin(Binary::Less, x, zero);
    let negated = f.un(Unary::Neg, size);
    let signed = f.select(is_negative, negated, size);
    let scale = f.c(std::f32::consts::SQRT_2);
    f.mul(scale, signed);
    f
}

/// Softmax over what is not zero; what is stays next to it.
fn softmax_zero(builder: &mut Builder, x: &Operand) -> Result<Operand, OpError> {
    if x.layout.elements() == 0 {
        return Ok(x.clone());
    }
    let largest = reduction::over(builder, reduce::Op::Max, x, &[1], true, DType::F32)?;
    let exponential = |f: &mut Formula| {
        let (size, least) = (f.un(Unary::Abs, 0), f.c(1e-7));
        let counts = f.bin(Binary::Greater, size, least);
        let moved = f.sub(0, 1);
        (counts, f.un(Unary::Exp, moved))
    };
    let mut parts = Formula::floats(2);
    let (counts, power) = exponential(&mut parts);
    let zero = parts.c(0.0);
    parts.select(counts, power, zero);
    let both = [x.clone(), largest.clone()];
    let parts = builder.pointwise(&parts.0, &both, DType::F32)?;
    let sum = reduction::over(builder, reduce::Op::Sum, &parts, &[1], true, DType::F32)?;
    let mut result = Formula::floats(3);
    let (counts, power) = exponential(&mut result);
    let negated = result.un(Unary::Neg, 1);
    let base = result.un(Unary::Exp, negated);
    let small = result.mul(0, base);
    let part = result.select(counts, power, small);
    result.bin(Binary::Div, part, 2);
    builder.pointwise(&result.0, &[x.clone(), largest, sum], DType::F32)
}

/// How one score of a model of two classes becomes two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    /// The first is what the other lacks to one.
    Complement,
    /// The first is the other's negative.
    Negative,
}

/// `x [rows, 1]` as two columns.
pub(super) fn two_columns(
    builder: &mut Builder,
    x: &Operand,
    second: Second,
) -> Result<Operand, OpError> {
    let mut formula = Formula::floats(1);
    match second {
        Second::Complement => {
            let one = formula.c(1.0);
            formula.sub(one, 0);
        }
        Second::Negative => {
            formula.un(Unary::Neg, 0);
        }
    }
    let other = builder.pointwise(&formula.0, std::slice::from_ref(x), DType::F32)?;
    builder.concat(&[other, x.clone()], 1)
}

/// The integer labels of the classes; `None` where they are strings that nobody asks for.
pub(super) fn labels(call: &Call<'_>, name: &str) -> Result<(Option<Vec<i64>>, usize), OpError> {
    if let Some(labels) = call.ints(name).filter(|labels| !labels.is_empty()) {
        let count = labels.len();
        return Ok((Some(labels), count));
    }
    let strings = match call.attr("classlabels_strings") {
        Some(crate::graph::Attr::Strings(strings)) => strings.len(),
        _ => 0,
    };
    match call.node.outputs.first() {
        Some(Some(_)) => Err(OpError::Unsupported("labels that are strings".to_owned())),
        _ => Ok((None, strings)),
    }
}

/// The label of the first largest of `scores [rows, classes]`.
pub(super) fn of_largest(
    builder: &mut Builder,
    scores: &Operand,
    labels: &[i64],
) -> Result<Operand, OpError> {
    let rows = scores.shape()[0];
    if rows == 0 {
        return builder.empty(&[0], DType::I64);
    }
    let first = reduce::Op::ArgMax { last: false };
    let place = reduction::over(builder, first, scores, &[1], false, DType::I64)?;
    let labels = builder.ints(&[1, labels.len(), 1], labels)?;
    let taken = take(builder, &labels, &place)?;
    builder.reshape(&taken, &[rows])
}

/// One of two labels: the second where `score [rows, 1]` is above `threshold`.
pub(super) fn of_two(
    builder: &mut Builder,
    score: &Operand,
    threshold: f32,
    labels: [i64; 2],
) -> Result<Operand, OpError> {
    let rows = score.shape()[0];
    let score = builder.reshape(score, &[rows])?;
    let mut formula = Formula::new(&[Scalar::F32, Scalar::I32, Scalar::I32]);
    let threshold = formula.c(threshold);
    let above = formula.bin(Binary::Greater, 0, threshold);
    formula.select(above, 2, 1);
    let [negative, positive] = [builder.ints(&[], &labels[..1])?, builder.ints(&[], &labels[1..])?];
    builder.pointwise(&formula.0, &[score, negative, positive], DType::I64)
}
