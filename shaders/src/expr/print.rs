//! Expressions as WGSL.

use std::fmt::Write as _;

use super::{Binary, Expr, ExprError, Instr, Reg, Unary};
use crate::kernel::Scalar;

impl Expr {
    /// `fn name(r0: …, r1: …) -> … { … }`, which calls functions of `expr.wgsl`.
    ///
    /// # Errors
    /// As [`Expr::types`].
    pub fn wgsl(&self, name: &str) -> Result<String, ExprError> {
        let types = self.types()?;
        let parameters: Vec<String> = self
            .inputs
            .iter()
            .enumerate()
            .map(|(register, scalar)| format!("r{register}: {}", scalar.wgsl()))
            .collect();
        let result = types[self.output].wgsl();
        let mut out = format!("fn {name}({}) -> {result} {{\n", parameters.join(", "));
        for (index, instr) in self.instrs.iter().enumerate() {
            let register = self.inputs.len() + index;
            // Constants are variables so that no compiler evaluates with them and refuses what
            // overflows.
            let keyword = if matches!(instr, Instr::Const(..)) { "var" } else { "let" };
            let value = self.value(*instr, &types);
            writeln!(out, "    {keyword} r{register} = {value};").expect("a string takes any text");
        }
        writeln!(out, "    return r{};\n}}", self.output).expect("a string takes any text");
        Ok(out)
    }

    fn value(&self, instr: Instr, types: &[Scalar]) -> String {
        match instr {
            Instr::Const(scalar, value) => constant(scalar, value),
            Instr::Unary(op, a) => unary(op, types[a], a),
            Instr::Binary(Binary::Pow, a, b) if types[a] == Scalar::F32 => {
                match self.constant_of(b) {
                    Some(2.0) => format!("r{a} * r{a}"),
                    Some(3.0) => format!("r{a} * r{a} * r{a}"),
                    Some(0.5) => format!("sqrt(r{a})"),
                    _ => format!("pow_f32(r{a}, r{b})"),
                }
            }
            Instr::Binary(op, a, b) => binary(op, types[a], a, b),
            Instr::Select(cond, a, b) => {
                format!("select(r{b}, r{a}, {})", truth(types[cond], cond))
            }
            Instr::Cast(to, a) => match (to, types[a]) {
                (to, from) if to == from => format!("r{a}"),
                (Scalar::U32, from) => format!("u32({})", truth(from, a)),
                (Scalar::I32, Scalar::F32) => format!("to_i32(r{a})"),
                (to, _) => format!("{}(r{a})", to.wgsl()),
            },
        }
    }

    fn constant_of(&self, register: Reg) -> Option<f64> {
        match self.instrs.get(register.checked_sub(self.inputs.len())?)? {
            Instr::Const(_, value) => Some(*value),
            _ => None,
        }
    }
}

/// Whether a register is not zero; NaN is not.
fn truth(scalar: Scalar, register: Reg) -> String {
    match scalar {
        Scalar::F32 => format!("is_true(r{register})"),
        _ => format!("(r{register} != {}(0))", scalar.wgsl()),
    }
}

fn constant(scalar: Scalar, value: f64) -> String {
    match scalar {
        Scalar::F32 => {
            let value = value as f32;
            if value.is_normal() || value == 0.0 && value.is_sign_positive() {
                format!("{value:?}f")
            } else {
                // WGSL has no literal for NaN and the infinities.
                format!("from_bits({:#x}u)", value.to_bits())
            }
        }
        Scalar::I32 => format!("i32({})", value as i32),
        Scalar::U32 => format!("{}u", value as u32),
    }
}

fn unary(op: Unary, scalar: Scalar, a: Reg) -> String {
    let function = match op {
        Unary::Neg => return format!("-r{a}"),
        Unary::BitNot => return format!("~r{a}"),
        Unary::Not => return format!("u32(r{a} == {}(0))", scalar.wgsl()),
        Unary::Reciprocal => return format!("1.0f / r{a}"),
        Unary::Relu => return format!("max(r{a}, {}(0))", scalar.wgsl()),
        Unary::Sign if scalar == Scalar::U32 => return format!("min(r{a}, 1u)"),
        Unary::Abs => "abs",
        Unary::Sign => "sign",
        Unary::Sqrt => "sqrt",
        Unary::Exp => "exp",
        Unary::Log => "log_f32",
        Unary::Floor => "floor",
        Unary::Ceil => "ceil",
        Unary::Round => "round",
        Unary::Sin => "sin_f32",
        Unary::Cos => "cos_f32",
        Unary::Tan => "tan_f32",
        Unary::Asin => "asin_f32",
        Unary::Acos => "acos_f32",
        Unary::Atan => "atan",
        Unary::Sinh => "sinh_f32",
        Unary::Cosh => "cosh_f32",
        Unary::Tanh => "tanh_f32",
        Unary::Asinh => "asinh_f32",
        Unary::Acosh => "acosh_f32",
        Unary::Atanh => "atanh_f32",
        Unary::Erf => "erf_f32",
        Unary::Sigmoid => "sigmoid_f32",
        Unary::Softplus => "softplus_f32",
        Unary::Bits => return format!("bits_{}(r{a})", scalar.wgsl()),
        Unary::Narrow(narrow) => return narrow.wgsl(a),
        Unary::IsNan => return format!("u32(is_nan(r{a}))"),
        Unary::IsInf => return format!("u32(is_inf(r{a}))"),
    };
    format!("{function}(r{a})")
}

fn binary(op: Binary, scalar: Scalar, a: Reg, b: Reg) -> String {
    let kind = scalar.wgsl();
    let infix = |sign: &str| format!("r{a} {sign} r{b}");
    let compared = |sign: &str| format!("u32(r{a} {sign} r{b})");
    let logic = |sign: &str| format!("u32({} {sign} {})", truth(scalar, a), truth(scalar, b));
    match op {
        Binary::Add => infix("+"),
        Binary::Sub => infix("-"),
        Binary::Mul => infix("*"),
        Binary::Div if scalar != Scalar::F32 => format!("div_{kind}(r{a}, r{b})"),
        Binary::Div => infix("/"),
        Binary::Pow => format!("pow_{kind}(r{a}, r{b})"),
        Binary::Min if scalar == Scalar::F32 => format!("min_f32(r{a}, r{b})"),
        Binary::Max if scalar == Scalar::F32 => format!("max_f32(r{a}, r{b})"),
        Binary::Min => format!("min(r{a}, r{b})"),
        Binary::Max => format!("max(r{a}, r{b})"),
        Binary::Mod if scalar == Scalar::U32 => format!("rem_u32(r{a}, r{b})"),
        Binary::Mod => format!("mod_{kind}(r{a}, r{b})"),
        Binary::Fmod => format!("rem_{kind}(r{a}, r{b})"),
        Binary::Equal => compared("=="),
        Binary::Less => compared("<"),
        Binary::LessOrEqual => compared("<="),
        Binary::Greater => compared(">"),
        Binary::GreaterOrEqual => compared(">="),
        Binary::And => logic("&&"),
        Binary::Or => logic("||"),
        Binary::Xor => logic("!="),
        Binary::BitAnd => infix("&"),
        Binary::BitOr => infix("|"),
        Binary::BitXor => infix("^"),
        Binary::ShiftLeft => shift("<<", kind, a, b),
        // The sign fills up, whatever is shifted out.
        Binary::ShiftRight if scalar == Scalar::I32 => format!("r{a} >> min(u32(r{b}), 31u)"),
        Binary::ShiftRight => shift(">>", kind, a, b),
    }
}

/// A shift by 32 or more gives zero.
fn shift(sign: &str, kind: &str, a: Reg, b: Reg) -> String {
    format!("select({kind}(0), r{a} {sign} (u32(r{b}) & 31u), u32(r{b}) < 32u)")
}
