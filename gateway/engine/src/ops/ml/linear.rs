//! Linear models and support vectors: products with constant matrices.

use gw_shaders::expr::{Binary, Unary};
use gw_shaders::reduce;
use gw_tensor::DType;

use super::super::{Call, elementwise, matmul, reduce as reduction, sizes};
use super::scores::{Post, Second, labels, of_largest, of_two, two_columns};
use super::{constant, floats, rows};
use crate::error::OpError;
use crate::net::Operand;
use crate::net::builder::Builder;
use crate::net::formula::Formula;

/// `x [rows, features]` times the rows of `coefficients`, plus `intercepts`.
fn sums(
    call: &mut Call<'_>,
    x: &Operand,
    targets: usize,
    coefficients: &[f32],
    intercepts: &[f32],
) -> Result<Operand, OpError> {
    let features = x.shape()[1];
    let weights = constant(call.builder, &[targets, features], coefficients)?;
    let weights = Builder::transpose(&weights, &[1, 0]);
    let product = matmul::product(call.builder, x, &weights)?;
    if intercepts.is_empty() {
        return Ok(product);
    }
    let intercepts = constant(call.builder, &[targets], intercepts)?;
    elementwise::apply(call.builder, Binary::Add, &product, &intercepts)
}

/// `LinearRegressor`.
pub(super) fn regressor(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = rows(call)?;
    let targets = sizes(&[call.int("targets", 1)])?[0];
    let (coefficients, intercepts) = (floats(call, "coefficients"), floats(call, "intercepts"));
    let result = sums(call, &x, targets, &coefficients, &intercepts)?;
    Ok(vec![Post::of(call)?.apply(call.builder, &result)?])
}

/// `LinearClassifier`.
pub(super) fn classifier(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = rows(call)?;
    let post = Post::of(call)?;
    let (names, classes) = labels(call, "classlabels_ints")?;
    let (coefficients, intercepts) = (floats(call, "coefficients"), floats(call, "intercepts"));
    let features = x.shape()[1].max(1);
    let targets = match intercepts.len() {
        0 => coefficients.len() / features,
        given => given,
    };
    let result = sums(call, &x, targets, &coefficients, &intercepts)?;
    if targets == 1 && classes == 2 {
        let label = match names.as_deref() {
            Some(&[negative, positive]) => {
                of_two(call.builder, &result, 0.0, [negative, positive])?
            }
            _ => result.clone(),
        };
        let scores = match post {
            Post::Logistic => {
                let pair = two_columns(call.builder, &result, Second::Negative)?;
                post.apply(call.builder, &pair)?
            }
            Post::Probit => {
                return Err(OpError::Unsupported("PROBIT of one score of two".to_owned()));
            }
            _ => two_columns(call.builder, &result, Second::Complement)?,
        };
        return Ok(vec![label, scores]);
    }
    if targets != classes || targets < 2 {
        return Err(OpError::mismatch("class labels", targets, classes));
    }
    let label = match names {
        Some(names) => of_largest(call.builder, &result, &names)?,
        None => result.clone(),
    };
    Ok(vec![label, post.apply(call.builder, &result)?])
}

/// `SVMRegressor`: a sum of kernels around support vectors, or a linear model without them.
pub(super) fn support_vectors(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = rows(call)?;
    let features = x.shape()[1];
    let count = sizes(&[call.int("n_supports", 0)])?[0];
    let (coefficients, rho) = (floats(call, "coefficients"), floats(call, "rho"));
    let rho = rho.get(..1).unwrap_or(&[]).to_vec();
    let result = if count == 0 {
        sums(call, &x, 1, &coefficients, &rho)?
    } else {
        let vectors = floats(call, "support_vectors");
        let vectors = constant(call.builder, &[count, features], &vectors)?;
        let kernels = kernels(call, &x, &vectors)?;
        sums(call, &kernels, 1, &coefficients, &rho)?
    };
    if call.flag("one_class", false) {
        let mut formula = Formula::floats(1);
        let (zero, one, less) = (formula.c(0.0), formula.c(1.0), formula.c(-1.0));
        let inside = formula.bin(Binary::Greater, 0, zero);
        formula.select(inside, one, less);
        return Ok(vec![call.builder.pointwise(&formula.0, &[result], DType::F32)?]);
    }
    match Post::of(call)? {
        Post::None => Ok(vec![result]),
        other => Err(OpError::Unsupported(format!("{other:?} of a regression"))),
    }
}

/// The kernel of each row of `x` with each of `vectors [count, features]`: `[rows, count]`.
fn kernels(call: &mut Call<'_>, x: &Operand, vectors: &Operand) -> Result<Operand, OpError> {
    let given = floats(call, "kernel_params");
    let parameter = |index: usize, default: f32| given.get(index).copied().unwrap_or(default);
    let (gamma, shift, degree) = (parameter(0, 0.0), parameter(1, 0.0), parameter(2, 0.0));
    let name = call.text("kernel_type", "LINEAR");
    let builder = &mut *call.builder;
    if name == "RBF" {
        let dims = [x.shape()[0], vectors.shape()[0], x.shape()[1]];
        let a = builder.reshape(x, &[dims[0], 1, dims[2]])?;
        let b = builder.reshape(vectors, &[1, dims[1], dims[2]])?;
        let apart = elementwise::apply(builder, Binary::Sub, &a, &b)?;
        let op = reduce::Op::SumSquare;
        let distance = reduction::over(builder, op, &apart, &[2], false, DType::F32)?;
        let mut formula = Formula::floats(1);
        let gamma = formula.c(-gamma);
        let scaled = formula.mul(gamma, 0);
        formula.un(Unary::Exp, scaled);
        return builder.pointwise(&formula.0, &[distance], DType::F32);
    }
    let products = matmul::product(builder, x, &Builder::transpose(vectors, &[1, 0]))?;
    let mut formula = Formula::floats(1);
    let (gamma, shift, degree) = (formula.c(gamma), formula.c(shift), formula.c(degree));
    let scaled = formula.mul(gamma, 0);
    let moved = formula.add(scaled, shift);
    match name.as_str() {
        "LINEAR" => return Ok(products),
        "POLY" => formula.bin(Binary::Pow, moved, degree),
        "SIGMOID" => formula.un(Unary::Tanh, moved),
        other => return Err(OpError::Unsupported(format!("kernel_type `{other}`"))),
    };
    builder.pointwise(&formula.0, &[products], DType::F32)
}
