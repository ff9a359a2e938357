//! Element by element: arithmetic, comparisons, logic and choices.

use gw_shaders::expr::{Binary, Unary};
use gw_shaders::kernel::Scalar;
use gw_tensor::DType;

pub(super) use super::convert::convert;
use super::convert::wrap;
use super::{Call, Table};
use crate::error::OpError;
use crate::net::Operand;
use crate::net::builder::Builder;
use crate::net::formula::Formula;

pub(super) const OPS: Table = &[
    ("Abs", unary),
    ("Acos", unary),
    ("Acosh", unary),
    ("Add", binary),
    ("And", binary),
    ("Asin", unary),
    ("Asinh", unary),
    ("Atan", unary),
    ("Atanh", unary),
    ("BitShift", bit_shift),
    ("BitwiseAnd", binary),
    ("BitwiseNot", unary),
    ("BitwiseOr", binary),
    ("BitwiseXor", binary),
    ("Ceil", unary),
    ("Cos", unary),
    ("Cosh", unary),
    ("Div", binary),
    ("Equal", binary),
    ("Erf", unary),
    ("Exp", unary),
    ("Floor", unary),
    ("Greater", binary),
    ("GreaterOrEqual", binary),
    ("IsInf", is_inf),
    ("IsNaN", unary),
    ("Less", binary),
    ("LessOrEqual", binary),
    ("Log", unary),
    ("Max", variadic),
    ("Mean", variadic),
    ("Min", variadic),
    ("Mod", modulo),
    ("Mul", binary),
    ("Neg", unary),
    ("Not", unary),
    ("Or", binary),
    ("Pow", pow),
    ("Reciprocal", unary),
    ("Relu", unary),
    ("Round", unary),
    ("Sigmoid", unary),
    ("Sign", unary),
    ("Sin", unary),
    ("Sinh", unary),
    ("Softplus", unary),
    ("Sqrt", unary),
    ("Sub", binary),
    ("Sum", variadic),
    ("Tan", unary),
    ("Tanh", unary),
    ("Where", choose),
    ("Xor", binary),
];

const UNARY: &[(&str, Unary)] = &[
    ("Abs", Unary::Abs),
    ("Acos", Unary::Acos),
    ("Acosh", Unary::Acosh),
    ("Asin", Unary::Asin),
    ("Asinh", Unary::Asinh),
    ("Atan", Unary::Atan),
    ("Atanh", Unary::Atanh),
    ("BitwiseNot", Unary::BitNot),
    ("Ceil", Unary::Ceil),
    ("Cos", Unary::Cos),
    ("Cosh", Unary::Cosh),
    ("Erf", Unary::Erf),
    ("Exp", Unary::Exp),
    ("Floor", Unary::Floor),
    ("IsNaN", Unary::IsNan),
    ("Log", Unary::Log),
    ("Neg", Unary::Neg),
    ("Not", Unary::Not),
    ("Reciprocal", Unary::Reciprocal),
    ("Relu", Unary::Relu),
    ("Round", Unary::Round),
    ("Sigmoid", Unary::Sigmoid),
    ("Sign", Unary::Sign),
    ("Sin", Unary::Sin),
    ("Sinh", Unary::Sinh),
    ("Softplus", Unary::Softplus),
    ("Sqrt", Unary::Sqrt),
    ("Tan", Unary::Tan),
    ("Tanh", Unary::Tanh),
];

const BINARY: &[(&str, Binary)] = &[
    ("Add", Binary::Add),
    ("And", Binary::And),
    ("BitwiseAnd", Binary::BitAnd),
    ("BitwiseOr", Binary::BitOr),
    ("BitwiseXor", Binary::BitXor),
    ("Div", Binary::Div),
    ("Equal", Binary::Equal),
    ("Greater", Binary::Greater),
    ("GreaterOrEqual", Binary::GreaterOrEqual),
    ("Less", Binary::Less),
    ("LessOrEqual", Binary::LessOrEqual),
    ("Max", Binary::Max),
    ("Mean", Binary::Add),
    ("Min", Binary::Min),
    ("Mul", Binary::Mul),
    ("Or", Binary::Or),
    ("Sub", Binary::Sub),
    ("Sum", Binary::Add),
    ("Xor", Binary::Xor),
];

fn find<T: Copy>(table: &[(&str, T)], op: &str) -> Result<T, OpError> {
    let found = table.iter().find(|(name, _)| *name == op);
    found.map(|(_, value)| *value).ok_or_else(|| OpError::Unsupported(op.to_owned()))
}

fn unary(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let op = find(UNARY, &call.node.op)?;
    let x = call.input(0)?;
    let result = op.result(x.scalar());
    let result = result.ok_or(OpError::Type { what: "input 0".to_owned(), given: x.dtype })?;
    let dtype = if result == Scalar::U32 { DType::Bool } else { x.dtype };
    let mut formula = Formula::new(&[x.scalar()]);
    let value = formula.un(op, 0);
    wrap(&mut formula, value, dtype);
    Ok(vec![call.builder.pointwise(&formula.0, &[x], dtype)?])
}

fn binary(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let op = find(BINARY, &call.node.op)?;
    let (a, b) = (call.input(0)?, call.input(1)?);
    Ok(vec![apply(call.builder, op, &a, &b)?])
}

/// `a op b`, which have one type.
pub(super) fn apply(
    builder: &mut Builder,
    op: Binary,
    a: &Operand,
    b: &Operand,
) -> Result<Operand, OpError> {
    if a.dtype != b.dtype {
        return Err(OpError::mismatch("the type of input 1", a.dtype, b.dtype));
    }
    let result = op.result(a.scalar());
    let result = result.ok_or(OpError::Type { what: "input 0".to_owned(), given: a.dtype })?;
    let dtype = if result == Scalar::U32 { DType::Bool } else { a.dtype };
    let mut formula = Formula::new(&[a.scalar(), b.scalar()]);
    let value = formula.bin(op, 0, 1);
    wrap(&mut formula, value, dtype);
    builder.pointwise(&formula.0, &[a.clone(), b.clone()], dtype)
}

fn variadic(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let op = find(BINARY, &call.node.op)?;
    let inputs = call.given();
    let mut result = call.input(0)?;
    for input in &inputs[1..] {
        result = apply(call.builder, op, &result, input)?;
    }
    if call.node.op == "Mean" {
        let mut formula = Formula::floats(1);
        let share = formula.c(1.0 / inputs.len() as f32);
        formula.mul(0, share);
        result = call.builder.pointwise(&formula.0, &[result.clone()], result.dtype)?;
    }
    Ok(vec![result])
}

fn modulo(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let op = if call.flag("fmod", false) { Binary::Fmod } else { Binary::Mod };
    let (a, b) = (call.input(0)?, call.input(1)?);
    Ok(vec![apply(call.builder, op, &a, &b)?])
}

fn bit_shift(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let op = match call.text("direction", "").as_str() {
        "LEFT" => Binary::ShiftLeft,
        _ => Binary::ShiftRight,
    };
    let (a, b) = (call.input(0)?, call.input(1)?);
    Ok(vec![apply(call.builder, op, &a, &b)?])
}

/// The base decides the type of the result.
fn pow(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (base, exponent) = (call.input(0)?, call.input(1)?);
    if base.scalar() == exponent.scalar() {
        let exponent = Builder::retyped(&exponent, base.dtype);
        return Ok(vec![apply(call.builder, Binary::Pow, &base, &exponent)?]);
    }
    let (x, y) = (call.builder.as_float(&base)?, call.builder.as_float(&exponent)?);
    let y = Builder::retyped(&y, x.dtype);
    let result = apply(call.builder, Binary::Pow, &x, &y)?;
    Ok(vec![convert(call.builder, &result, base.dtype)?])
}

fn is_inf(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let mut formula = Formula::floats(1);
    let infinite = formula.un(Unary::IsInf, 0);
    let zero = formula.c(0.0);
    let wanted = match (call.flag("detect_negative", true), call.flag("detect_positive", true)) {
        (true, true) => infinite,
        (true, false) => {
            let negative = formula.bin(Binary::Less, 0, zero);
            formula.bin(Binary::And, infinite, negative)
        }
        (false, true) => {
            let positive = formula.bin(Binary::Greater, 0, zero);
            formula.bin(Binary::And, infinite, positive)
        }
        (false, false) => formula.bin(Binary::Xor, infinite, infinite),
    };
    formula.0.output = wanted;
    Ok(vec![call.builder.pointwise(&formula.0, &[x], DType::Bool)?])
}

fn choose(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (cond, a, b) = (call.input(0)?, call.input(1)?, call.input(2)?);
    if a.dtype != b.dtype {
        return Err(OpError::mismatch("the type of input 2", a.dtype, b.dtype));
    }
    let mut formula = Formula::new(&[cond.scalar(), a.scalar(), b.scalar()]);
    formula.select(0, 1, 2);
    let dtype = a.dtype;
    Ok(vec![call.builder.pointwise(&formula.0, &[cond, a, b], dtype)?])
}
