//! Element-wise arithmetic as data: what pointwise kernels and epilogues compute per element.
//!
//! An [`Expr`] is printed as WGSL, and evaluated on the CPU as its own reference. Registers are
//! numbered from the inputs on; each instruction adds one.

use crate::kernel::Scalar;

mod columns;
mod eval;
mod narrow;
mod print;

pub use eval::Value;
pub use narrow::{Narrow, Power};

/// The functions that printed expressions call.
pub(crate) const LIBRARY: &str =
    concat!(include_str!("expr.wgsl"), include_str!("expr/print.wgsl"));

/// A register of an [`Expr`]: inputs first, then one per instruction.
pub type Reg = usize;

/// One operand, one result.
#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the ONNX operators")]
pub enum Unary {
    Abs, Neg, Sqrt, Exp, Log, Reciprocal, Floor, Ceil, Round, Sign,
    Sin, Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Tanh, Asinh, Acosh, Atanh,
    Erf, Sigmoid, Softplus, Relu, Not, BitNot, IsNan, IsInf,
    /// The bits of a float as an integer, or the float of these bits.
    Bits,
    /// The nearest value of a narrower float type.
    Narrow(Narrow),
}

impl Unary {
    /// Every operation, but those that [`Narrow::ALL`] lists.
    #[rustfmt::skip]
    pub const ALL: [Self; 31] = [
        Self::Abs, Self::Neg, Self::Sqrt, Self::Exp, Self::Log, Self::Reciprocal, Self::Floor,
        Self::Ceil, Self::Round, Self::Sign, Self::Sin, Self::Cos, Self::Tan, Self::Asin,
        Self::Acos, Self::Atan, Self::Sinh, Self::Cosh, Self::Tanh, Self::Asinh, Self::Acosh,
        Self::Atanh, Self::Erf, Self::Sigmoid, Self::Softplus, Self::Relu, Self::Not,
        Self::BitNot, Self::IsNan, Self::IsInf, Self::Bits,
    ];

    /// The type of the result, where the operation takes `scalar`.
    pub const fn result(self, scalar: Scalar) -> Option<Scalar> {
        match (self, scalar) {
            (Self::Not, _) | (Self::IsNan | Self::IsInf, Scalar::F32) => Some(Scalar::U32),
            (Self::Bits, Scalar::F32) => Some(Scalar::I32),
            (Self::Bits, Scalar::I32) => Some(Scalar::F32),
            (Self::BitNot, Scalar::F32) | (Self::Neg, Scalar::U32) => None,
            (Self::BitNot | Self::Abs | Self::Sign | Self::Relu | Self::Neg, _) => Some(scalar),
            (Self::IsNan | Self::IsInf, _) | (_, Scalar::I32 | Scalar::U32) => None,
            (_, Scalar::F32) => Some(Scalar::F32),
        }
    }
}

/// Two operands of one type, one result; comparisons and logic give `U32` 0 or 1.
#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the ONNX operators")]
pub enum Binary {
    Add, Sub, Mul,
    /// Integers truncate; division by zero gives the dividend.
    Div,
    /// Integers wrap.
    Pow,
    Min, Max,
    /// Remainder with the sign of the divisor (Python's `%`).
    Mod,
    /// Remainder with the sign of the dividend (C's `fmod`).
    Fmod,
    Equal, Less, LessOrEqual, Greater, GreaterOrEqual,
    And, Or, Xor, BitAnd, BitOr, BitXor, ShiftLeft, ShiftRight,
}

impl Binary {
    /// Every operation.
    #[rustfmt::skip]
    pub const ALL: [Self; 22] = [
        Self::Add, Self::Sub, Self::Mul, Self::Div, Self::Pow, Self::Min, Self::Max, Self::Mod,
        Self::Fmod, Self::Equal, Self::Less, Self::LessOrEqual, Self::Greater,
        Self::GreaterOrEqual, Self::And, Self::Or, Self::Xor, Self::BitAnd, Self::BitOr,
        Self::BitXor, Self::ShiftLeft, Self::ShiftRight,
    ];

    /// The type of the result, where the operation takes two of `scalar`.
    pub const fn result(self, scalar: Scalar) -> Option<Scalar> {
        match (self, scalar) {
            (
                Self::Equal
                | Self::Less
                | Self::LessOrEqual
                | Self::Greater
                | Self::GreaterOrEqual
                | Self::And
                | Self::Or
                | Self::Xor,
                _,
            ) => Some(Scalar::U32),
            (
                Self::BitAnd | Self::BitOr | Self::BitXor | Self::ShiftLeft | Self::ShiftRight,
                Scalar::F32,
            ) => None,
            _ => Some(scalar),
        }
    }
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
    /// A conversion. Float to `I32` truncates and saturates; to `U32`, which holds booleans, it
    /// is `!= 0`.
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

/// What is wrong with an [`Expr`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExprError {
    /// An operand is a later register or none at all.
    #[error("register {register} is not known at instruction {at}")]
    UnknownRegister {
        /// The register named.
        register: Reg,
        /// The instruction that names it; the number of instructions for the output.
        at: usize,
    },
    /// An operation does not exist for its operands' types.
    #[error("{operation} does not take {operands}")]
    Types {
        /// The operation.
        operation: String,
        /// The types given.
        operands: String,
    },
}

impl Expr {
    /// No instruction yet; the result is input 0.
    pub const fn new(inputs: Vec<Scalar>) -> Self {
        Self { inputs, instrs: Vec::new(), output: 0 }
    }

    /// Its one input: a copy.
    pub fn identity(scalar: Scalar) -> Self {
        Self::new(vec![scalar])
    }

    /// `op x`.
    pub fn unary(op: Unary, scalar: Scalar) -> Self {
        let mut expr = Self::new(vec![scalar]);
        expr.push(Instr::Unary(op, 0));
        expr
    }

    /// `x op y`.
    pub fn binary(op: Binary, scalar: Scalar) -> Self {
        let mut expr = Self::new(vec![scalar, scalar]);
        expr.push(Instr::Binary(op, 0, 1));
        expr
    }

    /// Appends an instruction, which becomes the result.
    pub fn push(&mut self, instr: Instr) -> Reg {
        self.instrs.push(instr);
        self.output = self.inputs.len() + self.instrs.len() - 1;
        self.output
    }

    /// Appends a constant.
    pub fn constant(&mut self, scalar: Scalar, value: f64) -> Reg {
        self.push(Instr::Const(scalar, value))
    }

    /// Adds an input; registers of instructions move up by one.
    pub fn add_input(&mut self, scalar: Scalar) -> Reg {
        let added = self.inputs.len();
        let moved = |register: Reg| if register < added { register } else { register + 1 };
        for instr in &mut self.instrs {
            *instr = instr.map(moved);
        }
        self.output = moved(self.output);
        self.inputs.push(scalar);
        added
    }

    /// Appends the instructions of `other` with its inputs taken from `args`.
    ///
    /// # Panics
    /// Where `args` has fewer registers than `other` has inputs.
    pub fn inline(&mut self, other: &Self, args: &[Reg]) -> Reg {
        let base = self.inputs.len() + self.instrs.len();
        let own = other.inputs.len();
        let moved = |register: Reg| match register.checked_sub(own) {
            Some(instr) => base + instr,
            None => args[register],
        };
        self.instrs.extend(other.instrs.iter().map(|instr| instr.map(moved)));
        self.output = moved(other.output);
        self.output
    }

    /// `next` applied to this: the result takes the place of `next`'s input `slot`, and `next`'s
    /// other inputs follow this one's in order.
    #[must_use]
    pub fn then(&self, next: &Self, slot: usize) -> Self {
        let mut out = Self::new(self.inputs.clone());
        let first = out.inputs.len();
        let others = next.inputs.iter().enumerate().filter(|&(input, _)| input != slot);
        out.inputs.extend(others.map(|(_, &scalar)| scalar));
        let own: Vec<Reg> = (0..first).collect();
        let result = out.inline(self, &own);
        let args: Vec<Reg> = (0..next.inputs.len())
            .map(|input| match input.cmp(&slot) {
                std::cmp::Ordering::Less => first + input,
                std::cmp::Ordering::Equal => result,
                std::cmp::Ordering::Greater => first + input - 1,
            })
            .collect();
        out.inline(next, &args);
        out
    }

    /// Whether the result is input 0, untouched.
    pub const fn is_identity(&self) -> bool {
        self.instrs.is_empty() && self.output == 0
    }

    /// The type of every register.
    ///
    /// # Errors
    /// Where an operand is not known yet, or an operation does not take its operands.
    pub fn types(&self) -> Result<Vec<Scalar>, ExprError> {
        let mut types = self.inputs.clone();
        for (at, instr) in self.instrs.iter().enumerate() {
            let of = |register: Reg| {
                types.get(register).copied().ok_or(ExprError::UnknownRegister { register, at })
            };
            let result = match *instr {
                Instr::Const(scalar, _) => Some(scalar),
                Instr::Unary(op, a) => op.result(of(a)?),
                Instr::Binary(op, a, b) if of(a)? == of(b)? => op.result(of(a)?),
                Instr::Select(cond, a, b) => {
                    of(cond)?;
                    (of(a)? == of(b)?).then_some(of(a)?)
                }
                Instr::Cast(to, a) => of(a).map(|_| Some(to))?,
                Instr::Binary(..) => None,
            };
            let wrong = || ExprError::Types {
                operation: format!("{instr:?}"),
                operands: format!("{types:?}"),
            };
            let result = result.ok_or_else(wrong)?;
            types.push(result);
        }
        match types.get(self.output) {
            Some(_) => Ok(types),
            None => {
                Err(ExprError::UnknownRegister { register: self.output, at: self.instrs.len() })
            }
        }
    }

    /// The type of the result.
    ///
    /// # Errors
    /// As [`Expr::types`].
    pub fn result(&self) -> Result<Scalar, ExprError> {
        Ok(self.types()?[self.output])
    }
}

impl Instr {
    /// The same with its operands renamed.
    fn map(self, mut moved: impl FnMut(Reg) -> Reg) -> Self {
        match self {
            Self::Const(scalar, value) => Self::Const(scalar, value),
            Self::Unary(op, a) => Self::Unary(op, moved(a)),
            Self::Binary(op, a, b) => Self::Binary(op, moved(a), moved(b)),
            Self::Select(cond, a, b) => Self::Select(moved(cond), moved(a), moved(b)),
            Self::Cast(to, a) => Self::Cast(to, moved(a)),
        }
    }
}

#[cfg(test)]
mod tests;
