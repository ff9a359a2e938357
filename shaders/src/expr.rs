//! Element-wise arithmetic as data: what pointwise kernels and epilogues compute per element.
//!
//! An [`Expr`] is printed as WGSL, and evaluated on the CPU as its own reference. Registers are
//! numbered from the inputs on; each instruction adds one.

use crate::kernel::Scalar;

/// A register of an [`Expr`]: inputs first, then one per instruction.
pub type Reg = usize;

/// One operand, one result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the ONNX operators")]
pub enum Unary {
    Abs, Neg, Sqrt, Exp, Log, Reciprocal, Floor, Ceil, Round, Sign,
    Sin, Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Tanh, Asinh, Acosh, Atanh,
    Erf, Sigmoid, Softplus, Relu, Not, BitNot, IsNan, IsInf,
}

/// Two operands of one type, one result; comparisons and logic give `U32` 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the ONNX operators")]
pub enum Binary {
    Add, Sub, Mul, Div, Pow, Min, Max,
    /// Remainder with the sign of the divisor (Python's `%`).
    Mod,
    /// Remainder with the sign of the dividend (C's `fmod`).
    Fmod,
    Equal, Less, LessOrEqual, Greater, GreaterOrEqual,
    And, Or, Xor, BitAnd, BitOr, BitXor, ShiftLeft, ShiftRight,
}

/// One step of an [`Expr`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Instr {
    /// A constant; `f32` constants may be NaN or infinite.
    Const(Scalar, f64),
    /// `op a`.
    Unary(Unary, Reg),
    /// `a op b`.
    Binary(Binary, Reg, Reg),
    /// `cond != 0 ? a : b`.
    Select(Reg, Reg, Reg),
    /// A conversion; float to integer truncates and saturates, to `U32` from `Bool` use is `!= 0`.
    Cast(Scalar, Reg),
}

/// A directed acyclic graph of element-wise operations with one result.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// The types of the inputs, which are registers `0..inputs.len()`.
    pub inputs: Vec<Scalar>,
    /// The instructions, in order.
    pub instrs: Vec<Instr>,
    /// The register that is the result.
    pub output: Reg,
}
