//! Elements of another type.

use gw_shaders::expr::{Binary, Narrow, Power, Reg, Unary};
use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Tensor};

use super::{Call, Table};
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::net::{Operand, scalar};

pub(super) const OPS: Table = &[("BitCast", bit_cast), ("Cast", cast), ("CastLike", cast)];

/// How values that a narrow float type lacks are rounded to it.
#[derive(Clone, Copy)]
pub(super) struct Rounding {
    /// What is too large becomes the largest number.
    pub(super) saturate: bool,
    /// For `FLOAT8E8M0`.
    pub(super) power: Power,
}

impl Default for Rounding {
    fn default() -> Self {
        Self { saturate: true, power: Power::Up }
    }
}

/// `Cast` (ONNX 25) and `CastLike`.
fn cast(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let to = match call.dtype("to")? {
        Some(dtype) => dtype,
        None => call.input(1)?.dtype,
    };
    let power = match call.text("round_mode", "up").as_str() {
        "up" => Power::Up,
        "down" => Power::Down,
        "nearest" => Power::Nearest,
        other => return Err(OpError::Unsupported(format!("round_mode `{other}`"))),
    };
    let rounding = Rounding { saturate: call.flag("saturate", true), power };
    Ok(vec![convert_rounding(call.builder, &x, to, rounding)?])
}

/// `x` as `to`: floats are truncated to integers, integers wrap, everything but zero is true.
pub(super) fn convert(builder: &mut Builder, x: &Operand, to: DType) -> Result<Operand, OpError> {
    convert_rounding(builder, x, to, Rounding::default())
}

/// As [`convert`].
pub(super) fn convert_rounding(
    builder: &mut Builder,
    x: &Operand,
    to: DType,
    rounding: Rounding,
) -> Result<Operand, OpError> {
    let (from, target) = (x.scalar(), scalar(to));
    let narrow = narrowing(x.dtype, to, rounding);
    if from == target && narrow.is_none() && (target != Scalar::I32 || fits(x.dtype, to)) {
        return Ok(Builder::retyped(x, to));
    }
    let mut formula = Formula::new(&[from]);
    let value = if from == target { 0 } else { formula.cast(target, 0) };
    match narrow {
        Some(narrow) => {
            formula.un(Unary::Narrow(narrow), value);
        }
        None => {
            wrap(&mut formula, value, to);
        }
    }
    builder.pointwise(&formula.0, std::slice::from_ref(x), to)
}

/// What rounds values of `from` to the float type `to`; `None` where it has all of them.
///
/// `f32` stands for `f64` on a device, and has all integers that a device may have computed as
/// floats.
pub(super) fn narrowing(from: DType, to: DType, rounding: Rounding) -> Option<Narrow> {
    let is_small = from.bits() < 16;
    let Rounding { saturate, power } = rounding;
    match to {
        to if to == from => None,
        DType::Bf16 if is_small => None,
        DType::Bf16 => Some(Narrow::Bf16),
        // 2^127 is beyond its range.
        DType::F16 if is_small && from != DType::F8E8m0 => None,
        DType::F16 => Some(Narrow::F16),
        DType::F8E4m3 => Some(Narrow::F8E4m3 { saturate }),
        DType::F8E4m3Fnuz => Some(Narrow::F8E4m3Fnuz { saturate }),
        DType::F8E5m2 => Some(Narrow::F8E5m2 { saturate }),
        DType::F8E5m2Fnuz => Some(Narrow::F8E5m2Fnuz { saturate }),
        DType::F8E8m0 => Some(Narrow::F8E8m0 { saturate, round: power }),
        DType::F4E2m1 => Some(Narrow::F4E2m1),
        _ => None,
    }
}

/// The bits of an integer type, and whether one is a sign; devices hold all wide ones in 32.
pub(super) fn width(dtype: DType) -> Option<(u32, bool)> {
    match dtype {
        DType::I2 => Some((2, true)),
        DType::U2 => Some((2, false)),
        DType::I4 => Some((4, true)),
        DType::U4 => Some((4, false)),
        DType::I8 => Some((8, true)),
        DType::U8 => Some((8, false)),
        DType::I16 => Some((16, true)),
        DType::U16 => Some((16, false)),
        _ => None,
    }
}

/// Whether `to` has every integer that `from` has, as far as a device tells them apart.
fn fits(from: DType, to: DType) -> bool {
    match (width(from), width(to)) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some((from, true)), Some((to, signed))) => signed && from <= to,
        (Some((from, false)), Some((to, signed))) => from + u32::from(signed) <= to,
    }
}

/// Wraps a register to the range of a narrow integer type.
pub(super) fn wrap(formula: &mut Formula, value: Reg, dtype: DType) -> Reg {
    let Some((bits, signed)) = width(dtype) else {
        formula.0.output = value;
        return value;
    };
    let mask = formula.int((1 << bits) - 1);
    let low = formula.bin(Binary::BitAnd, value, mask);
    if !signed {
        return low;
    }
    let sign = formula.int(1 << (bits - 1));
    let flipped = formula.bin(Binary::BitXor, low, sign);
    formula.sub(flipped, sign)
}

/// Integers that a device computed in 32 bits, wrapped to their own type.
pub(super) fn wrapped(builder: &mut Builder, x: &Operand) -> Result<Operand, OpError> {
    match width(x.dtype) {
        Some(_) => convert(builder, &Builder::retyped(x, DType::I32), x.dtype),
        None => Ok(x.clone()),
    }
}

/// `BitCast` (ONNX 26): the same bits as a type of the same width.
fn bit_cast(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let to = call.dtype("to")?.ok_or_else(|| OpError::Missing("to".to_owned()))?;
    let from = x.dtype;
    if from.bits() != to.bits() {
        let expected = format!("a type of {} bits, as {from}", from.bits());
        return Err(OpError::mismatch("to", expected, to));
    }
    if to.bits() >= 8
        && let Some(data) = call.builder.data(&x)?
    {
        let data = Tensor::new(to, data.shape().clone(), data.bytes().clone())?;
        return Ok(vec![call.builder.constant(data)]);
    }
    let is_integer = |dtype: DType| !dtype.is_float();
    let mut formula = Formula::new(&[x.scalar()]);
    match (from, to) {
        (from, to) if from == to => return Ok(vec![x]),
        // What a device holds of 64 bits is a number, not its bits.
        (from, to) if from.bits() == 64 => {
            return Err(OpError::Unsupported(format!("the bits of {from} as {to}")));
        }
        (from, to) if is_integer(from) && is_integer(to) => {
            return Ok(vec![convert(call.builder, &x, to)?]);
        }
        (DType::F32, DType::I32 | DType::U32) | (DType::I32 | DType::U32, DType::F32) => {
            formula.un(Unary::Bits, 0);
        }
        (DType::Bf16, DType::I16 | DType::U16) => {
            let rounded = formula.un(Unary::Narrow(Narrow::Bf16), 0);
            let bits = formula.un(Unary::Bits, rounded);
            let places = formula.int(16);
            let high = formula.bin(Binary::ShiftRight, bits, places);
            wrap(&mut formula, high, to);
        }
        (DType::I16 | DType::U16, DType::Bf16) => {
            let places = formula.int(16);
            let bits = formula.bin(Binary::ShiftLeft, 0, places);
            formula.un(Unary::Bits, bits);
        }
        (from, to) => return Err(OpError::Unsupported(format!("the bits of {from} as {to}"))),
    }
    Ok(vec![call.builder.pointwise(&formula.0, &[x], to)?])
}
