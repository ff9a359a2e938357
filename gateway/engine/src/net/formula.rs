//! Writing element-wise expressions.

use gw_shaders::expr::{Binary, Expr, Instr, Reg, Unary};
use gw_shaders::kernel::Scalar;

use super::fold::Number;
use crate::error::OpError;

/// An [`Expr`] being written, with short names.
pub(crate) struct Formula(pub(crate) Expr);

impl Formula {
    pub(crate) fn new(inputs: &[Scalar]) -> Self {
        Self(Expr::new(inputs.to_vec()))
    }

    /// `count` float inputs.
    pub(crate) fn floats(count: usize) -> Self {
        Self(Expr::new(vec![Scalar::F32; count]))
    }

    /// A float constant.
    pub(crate) fn c(&mut self, value: f32) -> Reg {
        self.0.constant(Scalar::F32, value.into())
    }

    pub(crate) fn int(&mut self, value: i32) -> Reg {
        self.0.constant(Scalar::I32, value.into())
    }

    pub(crate) fn un(&mut self, op: Unary, a: Reg) -> Reg {
        self.0.push(Instr::Unary(op, a))
    }

    pub(crate) fn bin(&mut self, op: Binary, a: Reg, b: Reg) -> Reg {
        self.0.push(Instr::Binary(op, a, b))
    }

    pub(crate) fn add(&mut self, a: Reg, b: Reg) -> Reg {
        self.bin(Binary::Add, a, b)
    }

    pub(crate) fn sub(&mut self, a: Reg, b: Reg) -> Reg {
        self.bin(Binary::Sub, a, b)
    }

    pub(crate) fn mul(&mut self, a: Reg, b: Reg) -> Reg {
        self.bin(Binary::Mul, a, b)
    }

    pub(crate) fn select(&mut self, cond: Reg, a: Reg, b: Reg) -> Reg {
        self.0.push(Instr::Select(cond, a, b))
    }

    pub(crate) fn cast(&mut self, to: Scalar, a: Reg) -> Reg {
        self.0.push(Instr::Cast(to, a))
    }
}

/// Checks that a whole number which becomes part of `expr` in place of `input` fits 32 bits, where
/// arithmetic is done with it: as a bound or a choice, the nearest number that fits does as well.
pub(crate) fn check_width(expr: &Expr, input: Reg, value: Number) -> Result<(), OpError> {
    let Number::Int(value) = value else { return Ok(()) };
    let computes = |instr: &Instr| {
        use Binary::{Add, Div, Fmod, Mod, Mul, Pow, Sub};
        matches!(*instr, Instr::Binary(Add | Sub | Mul | Div | Pow | Mod | Fmod, a, b)
            if a == input || b == input)
    };
    if i32::try_from(value).is_err() && expr.instrs.iter().any(computes) {
        return Err(OpError::mismatch("a constant", "integers of 32 bits", value));
    }
    Ok(())
}

/// `expr` with some of its inputs taken from others: input `i` becomes input `map[i]` of
/// `inputs`, or a constant.
pub(crate) fn rename(expr: &Expr, inputs: Vec<Scalar>, map: &[Result<usize, f64>]) -> Expr {
    let mut renamed = Expr::new(inputs);
    let mut arguments = Vec::with_capacity(map.len());
    for (place, &scalar) in map.iter().zip(&expr.inputs) {
        arguments.push(match *place {
            Ok(input) => input,
            Err(value) => renamed.constant(scalar, value),
        });
    }
    renamed.inline(expr, &arguments);
    renamed
}

/// What an expression of one instruction does, apart from constants.
pub(crate) fn only_instr(expr: &Expr) -> Option<Instr> {
    let mut found = None;
    for instr in &expr.instrs {
        if !matches!(instr, Instr::Const(..)) && found.replace(*instr).is_some() {
            return None;
        }
    }
    found
}

/// The value of a register that holds a constant.
pub(crate) fn constant(expr: &Expr, register: Reg) -> Option<f64> {
    match expr.instrs.get(register.checked_sub(expr.inputs.len())?)? {
        Instr::Const(_, value) => Some(*value),
        _ => None,
    }
}

/// `expr` without instructions that its result does not need, and with equal ones once.
pub(crate) fn tidied(expr: &Expr) -> Expr {
    let own = expr.inputs.len();
    let mut needed = vec![false; own + expr.instrs.len()];
    needed[expr.output] = true;
    for (index, instr) in expr.instrs.iter().enumerate().rev() {
        if needed[own + index] {
            operands(*instr, |register| needed[register] = true);
        }
    }
    let mut tidy = Expr::new(expr.inputs.clone());
    let mut places: Vec<Reg> = (0..own).collect();
    for (index, instr) in expr.instrs.iter().enumerate() {
        if !needed[own + index] {
            places.push(Reg::MAX);
            continue;
        }
        let renamed = renamed(*instr, &places);
        let same = tidy.instrs.iter().position(|other| is_same(*other, renamed));
        places.push(match same {
            Some(known) => own + known,
            None => tidy.push(renamed),
        });
    }
    tidy.output = places[expr.output];
    tidy
}

fn operands(instr: Instr, mut each: impl FnMut(Reg)) {
    match instr {
        Instr::Const(..) => {}
        Instr::Unary(_, a) | Instr::Cast(_, a) => each(a),
        Instr::Binary(_, a, b) => [a, b].into_iter().for_each(each),
        Instr::Select(cond, a, b) => [cond, a, b].into_iter().for_each(each),
    }
}

fn renamed(instr: Instr, places: &[Reg]) -> Instr {
    match instr {
        Instr::Const(scalar, value) => Instr::Const(scalar, value),
        Instr::Unary(op, a) => Instr::Unary(op, places[a]),
        Instr::Binary(op, a, b) => Instr::Binary(op, places[a], places[b]),
        Instr::Select(cond, a, b) => Instr::Select(places[cond], places[a], places[b]),
        Instr::Cast(to, a) => Instr::Cast(to, places[a]),
    }
}

/// Equality that tells zeros apart and NaNs not.
fn is_same(a: Instr, b: Instr) -> bool {
    match (a, b) {
        (Instr::Const(x, a), Instr::Const(y, b)) => x == y && a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}
