//! Expressions on the CPU: the reference of what is printed.

use super::{Binary, Expr, Instr, Unary};
use crate::kernel::Scalar;

/// One element.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are those of `Scalar`")]
pub enum Value {
    F32(f32),
    I32(i32),
    U32(u32),
}

impl Value {
    /// `value` as this type: rounded, or truncated and saturated.
    pub const fn new(scalar: Scalar, value: f64) -> Self {
        match scalar {
            Scalar::F32 => Self::F32(value as f32),
            Scalar::I32 => Self::I32(value as i32),
            Scalar::U32 => Self::U32(value as u32),
        }
    }

    pub(super) const fn is_true(self) -> bool {
        match self {
            Self::F32(value) => value != 0.0,
            Self::I32(value) => value != 0,
            Self::U32(value) => value != 0,
        }
    }
}

impl Expr {
    /// The result for these inputs.
    ///
    /// # Panics
    /// Where the inputs are not those that [`Expr::types`] accepts.
    pub fn eval(&self, inputs: &[Value]) -> Value {
        let mut registers = inputs.to_vec();
        for instr in &self.instrs {
            let value = match *instr {
                Instr::Const(scalar, value) => Value::new(scalar, value),
                Instr::Unary(op, a) => unary(op, registers[a]),
                Instr::Binary(op, a, b) => binary(op, registers[a], registers[b]),
                Instr::Select(cond, a, b) => {
                    registers[if registers[cond].is_true() { a } else { b }]
                }
                Instr::Cast(to, a) => cast(to, registers[a]),
            };
            registers.push(value);
        }
        registers[self.output]
    }
}

pub(super) fn cast(to: Scalar, value: Value) -> Value {
    match (to, value) {
        (Scalar::U32, Value::U32(_)) => value,
        (Scalar::U32, _) => Value::U32(u32::from(value.is_true())),
        (Scalar::I32, Value::U32(bits)) => Value::I32(bits.cast_signed()),
        (_, Value::F32(number)) => Value::new(to, f64::from(number)),
        (_, Value::I32(number)) => Value::new(to, f64::from(number)),
        (_, Value::U32(number)) => Value::new(to, f64::from(number)),
    }
}

pub(super) fn unary(op: Unary, value: Value) -> Value {
    match (op, value) {
        (Unary::Not, value) => Value::U32(u32::from(!value.is_true())),
        (Unary::IsNan, Value::F32(x)) => Value::U32(u32::from(x.is_nan())),
        (Unary::IsInf, Value::F32(x)) => Value::U32(u32::from(x.is_infinite())),
        (Unary::Bits, Value::F32(x)) => Value::I32(x.to_bits().cast_signed()),
        (Unary::Bits, Value::I32(x)) => Value::F32(f32::from_bits(x.cast_unsigned())),
        (Unary::Narrow(narrow), Value::F32(x)) => Value::F32(narrow.round(x)),
        (_, Value::F32(x)) => Value::F32(unary_float(op, f64::from(x)) as f32),
        (Unary::BitNot, Value::I32(x)) => Value::I32(!x),
        (Unary::BitNot, Value::U32(x)) => Value::U32(!x),
        (Unary::Abs, Value::I32(x)) => Value::I32(x.wrapping_abs()),
        (Unary::Neg, Value::I32(x)) => Value::I32(x.wrapping_neg()),
        (Unary::Sign, Value::I32(x)) => Value::I32(x.signum()),
        (Unary::Relu, Value::I32(x)) => Value::I32(x.max(0)),
        (Unary::Sign, Value::U32(x)) => Value::U32(x.min(1)),
        (Unary::Abs | Unary::Relu, Value::U32(_)) => value,
        _ => panic!("{op:?} of {value:?}"),
    }
}

fn unary_float(op: Unary, x: f64) -> f64 {
    match op {
        Unary::Abs => x.abs(),
        Unary::Neg => -x,
        Unary::Sqrt => x.sqrt(),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Reciprocal => 1.0 / x,
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round_ties_even(),
        Unary::Sign if x == 0.0 || x.is_nan() => x,
        Unary::Sign => x.signum(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Tan => x.tan(),
        Unary::Asin => x.asin(),
        Unary::Acos => x.acos(),
        Unary::Atan => x.atan(),
        Unary::Sinh => x.sinh(),
        Unary::Cosh => x.cosh(),
        Unary::Tanh => x.tanh(),
        Unary::Asinh => x.asinh(),
        Unary::Acosh => x.acosh(),
        Unary::Atanh => x.atanh(),
        Unary::Erf => erf(x),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Unary::Relu if x.is_nan() => x,
        Unary::Relu => x.max(0.0),
        Unary::Not | Unary::BitNot | Unary::IsNan | Unary::IsInf | Unary::Bits => {
            panic!("{op:?} of a float")
        }
        Unary::Narrow(_) => panic!("{op:?} is of f32"),
    }
}

/// The error function: its Taylor series near zero, the continued fraction of its complement
/// (Abramowitz and Stegun 7.1.14) further out.
fn erf(x: f64) -> f64 {
    let size = x.abs();
    if size < 2.5 {
        let (mut sum, mut term) = (x, x);
        for n in 1..80 {
            let n = f64::from(n);
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
            if term.abs() < f64::EPSILON * sum.abs() {
                break;
            }
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    if size > 6.0 || x.is_nan() {
        return if x.is_nan() { x } else { x.signum() };
    }
    let fraction = (1..100).rev().fold(size, |below, n| size + f64::from(n) / 2.0 / below);
    x.signum() * (1.0 - (-x * x).exp() / (fraction * std::f64::consts::PI.sqrt()))
}

pub(super) fn binary(op: Binary, a: Value, b: Value) -> Value {
    let flag = |is: bool| Value::U32(u32::from(is));
    match op {
        Binary::And => return flag(a.is_true() && b.is_true()),
        Binary::Or => return flag(a.is_true() || b.is_true()),
        Binary::Xor => return flag(a.is_true() != b.is_true()),
        _ => {}
    }
    match (a, b) {
        (Value::F32(x), Value::F32(y)) => compared(op, &x, &y)
            .map_or_else(|| Value::F32(binary_float(op, f64::from(x), f64::from(y)) as f32), flag),
        (Value::I32(x), Value::I32(y)) => {
            compared(op, &x, &y).map_or_else(|| Value::I32(binary_signed(op, x, y)), flag)
        }
        (Value::U32(x), Value::U32(y)) => {
            compared(op, &x, &y).map_or_else(|| Value::U32(binary_unsigned(op, x, y)), flag)
        }
        _ => panic!("{op:?} of {a:?} and {b:?}"),
    }
}

fn compared<T: PartialOrd>(op: Binary, a: &T, b: &T) -> Option<bool> {
    match op {
        Binary::Equal => Some(a == b),
        Binary::Less => Some(a < b),
        Binary::LessOrEqual => Some(a <= b),
        Binary::Greater => Some(a > b),
        Binary::GreaterOrEqual => Some(a >= b),
        _ => None,
    }
}

fn binary_float(op: Binary, a: f64, b: f64) -> f64 {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Pow => a.powf(b),
        Binary::Min | Binary::Max if a.is_nan() || b.is_nan() => f64::NAN,
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        Binary::Fmod => a % b,
        Binary::Mod => {
            let rest = a % b;
            if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
        }
        _ => panic!("{op:?} of floats"),
    }
}

fn binary_signed(op: Binary, a: i32, b: i32) -> i32 {
    match op {
        Binary::Add => a.wrapping_add(b),
        Binary::Sub => a.wrapping_sub(b),
        Binary::Mul => a.wrapping_mul(b),
        Binary::Div if b == 0 => a,
        Binary::Div => a.wrapping_div(b),
        Binary::Pow if b < 0 => match a {
            1 => 1,
            -1 if b % 2 == 0 => 1,
            -1 => -1,
            _ => 0,
        },
        Binary::Pow => a.wrapping_pow(b.unsigned_abs()),
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        Binary::Mod | Binary::Fmod if b == 0 => 0,
        Binary::Fmod => a.wrapping_rem(b),
        Binary::Mod => {
            let rest = a.wrapping_rem(b);
            if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
        }
        Binary::BitAnd => a & b,
        Binary::BitOr => a | b,
        Binary::BitXor => a ^ b,
        Binary::ShiftLeft => a.checked_shl(b.cast_unsigned()).unwrap_or(0),
        Binary::ShiftRight => a >> b.cast_unsigned().min(31),
        _ => panic!("{op:?} of integers"),
    }
}

fn binary_unsigned(op: Binary, a: u32, b: u32) -> u32 {
    match op {
        Binary::Add => a.wrapping_add(b),
        Binary::Sub => a.wrapping_sub(b),
        Binary::Mul => a.wrapping_mul(b),
        Binary::Div => a.checked_div(b).unwrap_or(a),
        Binary::Pow => a.wrapping_pow(b),
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        Binary::Mod | Binary::Fmod => a.checked_rem(b).unwrap_or(0),
        Binary::BitAnd => a & b,
        Binary::BitOr => a | b,
        Binary::BitXor => a ^ b,
        Binary::ShiftLeft => a.checked_shl(b).unwrap_or(0),
        Binary::ShiftRight => a.checked_shr(b).unwrap_or(0),
        _ => panic!("{op:?} of unsigned integers"),
    }
}
