//! Numbers stored as small integers or small floats, with scales and zero points.

use gw_shaders::expr::{Binary, Reg, Unary};
use gw_shaders::kernel::Scalar;
use gw_shaders::reduce;
use gw_tensor::{DType, Shape};

use super::convert::{Rounding, convert, narrowing, width};
use super::{Call, Table, axis};
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::net::{Kind, Operand};

pub(super) const OPS: Table = &[
    ("DequantizeLinear", dequantize_linear),
    ("DynamicQuantizeLinear", dynamic_quantize_linear),
    ("QuantizeLinear", quantize_linear),
    ("com.microsoft.DequantizeLinear", dequantize_linear),
    ("com.microsoft.QuantizeLinear", quantize_linear),
];

/// `QuantizeLinear` (ONNX 10 to 25).
fn quantize_linear(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, scale, zero) = (call.input(0)?, call.input(1)?, call.optional(2));
    let declared = named_type(call, "output_dtype")?;
    let dtype = zero.as_ref().map(|zero| zero.dtype).or(declared).unwrap_or(DType::U8);
    if declared.is_some_and(|declared| declared != dtype) {
        return Err(OpError::mismatch("output_dtype", dtype, declared.unwrap_or(dtype)));
    }
    // The type in which the quotient is computed.
    let precision = match named_type(call, "precision")? {
        Some(precision) => precision,
        None if scale.scalar() == Scalar::F32 => scale.dtype,
        None => DType::F32,
    };
    let (axis, block) = (call.int("axis", 1), call.int("block_size", 0));
    let dims = x.shape();
    let scale = spread(call.builder, &scale, &dims, axis, block, "input 1")?;
    let zero = match zero {
        Some(zero) => Some(spread(call.builder, &zero, &dims, axis, block, "input 2")?),
        None => None,
    };
    let rounding = Rounding { saturate: call.flag("saturate", true), ..Rounding::default() };
    let target = Target { dtype, precision, rounding };
    Ok(vec![target.quantize(call.builder, &x, &scale, zero.as_ref())?])
}

/// An element type that an attribute names; zero leaves it open.
fn named_type(call: &Call<'_>, name: &str) -> Result<Option<DType>, OpError> {
    if call.int(name, 0) == 0 { Ok(None) } else { call.dtype(name) }
}

/// What numbers are quantised to, and how.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) dtype: DType,
    /// The type of the quotient.
    pub(super) precision: DType,
    pub(super) rounding: Rounding,
}

impl Target {
    /// As every operator without attributes for it quantises.
    pub(super) fn of(dtype: DType) -> Self {
        Self { dtype, precision: DType::F32, rounding: Rounding::default() }
    }

    /// `saturate(round(x / scale) + zero)`, ties to even; the operands are broadcast.
    pub(super) fn quantize(
        self,
        builder: &mut Builder,
        x: &Operand,
        scale: &Operand,
        zero: Option<&Operand>,
    ) -> Result<Operand, OpError> {
        let x = convert(builder, x, DType::F32)?;
        let scale = convert(builder, scale, DType::F32)?;
        let mut inputs = vec![x, scale];
        inputs.extend(zero.cloned());
        let scalars: Vec<Scalar> = inputs.iter().map(Operand::scalar).collect();
        let mut formula = Formula::new(&scalars);
        let mut value = quotient(&mut formula, 0, 1);
        if let Some(narrow) = narrowing(DType::F32, self.precision, Rounding::default()) {
            value = formula.un(Unary::Narrow(narrow), value);
        }
        let zero = zero.map(|_| formula.cast(Scalar::F32, 2));
        self.finish(&mut formula, value, zero)?;
        builder.pointwise(&formula.0, &inputs, self.dtype)
    }

    /// `saturate(round(value) + zero)`, of float registers.
    pub(super) fn finish(
        self,
        formula: &mut Formula,
        value: Reg,
        zero: Option<Reg>,
    ) -> Result<Reg, OpError> {
        if let Some(narrow) = narrowing(DType::F32, self.dtype, self.rounding)
            && self.dtype.is_small_float()
        {
            let value = zero.map_or(value, |zero| formula.add(value, zero));
            return Ok(formula.un(Unary::Narrow(narrow), value));
        }
        let Some((bits, signed)) = width(self.dtype) else {
            return Err(OpError::Type { what: "the output".to_owned(), given: self.dtype });
        };
        let rounded = formula.un(Unary::Round, value);
        let moved = zero.map_or(rounded, |zero| formula.add(rounded, zero));
        let all = (1u32 << bits) as f32;
        let (least, most) = if signed { (-all / 2.0, all / 2.0 - 1.0) } else { (0.0, all - 1.0) };
        let (least, most) = (formula.c(least), formula.c(most));
        let above = formula.bin(Binary::Max, moved, least);
        let inside = formula.bin(Binary::Min, above, most);
        Ok(formula.cast(Scalar::I32, inside))
    }
}

/// `a / b`, exact where `f32` has the quotient: WGSL lets a quotient be off by 2.5 units, which
/// would break ties.
pub(super) fn quotient(formula: &mut Formula, a: Reg, b: Reg) -> Reg {
    let first = formula.bin(Binary::Div, a, b);
    let product = formula.mul(first, b);
    let rest = formula.sub(a, product);
    let lacking = formula.bin(Binary::Div, rest, b);
    let better = formula.add(first, lacking);
    // Elsewhere the correction is no better than what it corrects.
    let product = formula.mul(better, b);
    let exact = formula.bin(Binary::Equal, product, a);
    formula.select(exact, better, first)
}

/// A scale or zero point as `dims` broadcast it: one for all, one per index of `axis`, or one per
/// block of `block` along it.
fn spread(
    builder: &mut Builder,
    given: &Operand,
    dims: &[usize],
    at: i64,
    block: i64,
    what: &str,
) -> Result<Operand, OpError> {
    let shape = given.shape();
    if block == 0 {
        let mut target = vec![1; dims.len()];
        if given.layout.elements() != 1 {
            let at = axis(at, dims.len())?;
            target[at] = dims[at];
        }
        let wanted: usize = target.iter().product();
        if given.layout.elements() != wanted {
            return Err(OpError::mismatch(what, format!("{wanted} elements"), Shape::from(shape)));
        }
        return builder.reshape(given, &target);
    }
    let at = axis(at, dims.len())?;
    let block = usize::try_from(block).unwrap_or(0);
    let mut blocks = dims.to_vec();
    blocks[at] = dims[at].div_ceil(block.max(1));
    if block == 0 || shape != blocks {
        return Err(OpError::mismatch(what, Shape::from(blocks), Shape::from(shape)));
    }
    let count = blocks[at];
    blocks.insert(at + 1, 1);
    let split = builder.reshape(given, &blocks)?;
    blocks[at + 1] = block;
    let repeated = builder.expand(&split, &blocks)?;
    blocks.remove(at + 1);
    blocks[at] = count.saturating_mul(block);
    let joined = builder.reshape(&repeated, &blocks)?;
    // The last block may be cut off.
    builder.slice(&joined, at, 0, 1, dims[at])
}

/// `DequantizeLinear` (ONNX 10 to 25), in the form that `fuse::quantised` looks for.
fn dequantize_linear(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, scale, zero) = (call.input(0)?, call.input(1)?, call.optional(2));
    let dtype = named_type(call, "output_dtype")?.unwrap_or(scale.dtype);
    if !dtype.is_float() || scale.scalar() != Scalar::F32 {
        return Err(OpError::Type { what: "input 1".to_owned(), given: scale.dtype });
    }
    let (axis, block) = (call.int("axis", 1), call.int("block_size", 0));
    let dims = x.shape();
    let scale = spread(call.builder, &scale, &dims, axis, block, "input 1")?;
    let zero = match zero {
        Some(zero) => Some(spread(call.builder, &zero, &dims, axis, block, "input 2")?),
        None => None,
    };
    Ok(vec![dequantize(call.builder, &x, &scale, zero.as_ref(), dtype)?])
}

/// `(x - zero) * scale`; the operands are broadcast.
pub(super) fn dequantize(
    builder: &mut Builder,
    x: &Operand,
    scale: &Operand,
    zero: Option<&Operand>,
    dtype: DType,
) -> Result<Operand, OpError> {
    let centred = centred(builder, x, zero)?;
    let value = convert(builder, &centred, DType::F32)?;
    let mut formula = Formula::floats(2);
    formula.mul(0, 1);
    builder.pointwise(&formula.0, &[value, scale.clone()], dtype)
}

/// `x - zero` in the type that holds it: integers stay exact, and `x` itself is left alone where
/// there is nothing to take off.
pub(super) fn centred(
    builder: &mut Builder,
    x: &Operand,
    zero: Option<&Operand>,
) -> Result<Operand, OpError> {
    let Some(zero) = zero else { return Ok(x.clone()) };
    if zero.scalar() != x.scalar() {
        return Err(OpError::mismatch("the type of a zero point", x.dtype, zero.dtype));
    }
    if is_zero(builder, zero)? {
        return Ok(x.clone());
    }
    let mut formula = Formula::new(&[x.scalar(), x.scalar()]);
    formula.sub(0, 1);
    let wide = if x.scalar() == Scalar::F32 { DType::F32 } else { DType::I32 };
    builder.pointwise(&formula.0, &[x.clone(), zero.clone()], wide)
}

/// Whether a zero point is known and zero.
pub(super) fn is_zero(builder: &mut Builder, zero: &Operand) -> Result<bool, OpError> {
    let known = builder.data(zero)?;
    Ok(known.is_some_and(|zero| zero.bytes().iter().all(|&byte| byte == 0)))
}

/// `DynamicQuantizeLinear` (ONNX 11): y, its scale and its zero point.
fn dynamic_quantize_linear(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let (scale, zero) = dynamic_scale(call.builder, &x)?;
    let y = Target::of(DType::U8).quantize(call.builder, &x, &scale, Some(&zero))?;
    Ok(vec![y, scale, zero])
}

/// The scale and zero point that spread the range of `x`, and zero, over a `U8`.
pub(super) fn dynamic_scale(
    builder: &mut Builder,
    x: &Operand,
) -> Result<(Operand, Operand), OpError> {
    let elements = x.layout.elements();
    if elements == 0 {
        return Err(OpError::mismatch("input 0", "at least one element", Shape::from(x.shape())));
    }
    let flat = builder.reshape(x, &[1, elements, 1])?;
    let mut ends = Vec::with_capacity(2);
    for op in [reduce::Op::Min, reduce::Op::Max] {
        let end = builder.emit(Kind::Reduce(op), vec![flat.clone()], &[1, 1], DType::F32)?;
        ends.push(builder.reshape(&end, &[])?);
    }
    let mut formula = Formula::floats(2);
    let none = formula.c(0.0);
    let least = formula.bin(Binary::Min, 0, none);
    let most = formula.bin(Binary::Max, 1, none);
    let range = formula.sub(most, least);
    let steps = formula.c(255.0);
    let scale = quotient(&mut formula, range, steps);
    // Zeros alone have no range.
    let (is_flat, one) = (formula.bin(Binary::Equal, range, none), formula.c(1.0));
    formula.select(is_flat, one, scale);
    let scale = builder.pointwise(&formula.0, &ends, DType::F32)?;
    let mut formula = Formula::floats(2);
    let none = formula.c(0.0);
    let least = formula.bin(Binary::Min, 0, none);
    let negative = formula.un(Unary::Neg, least);
    let value = quotient(&mut formula, negative, 1);
    Target::of(DType::U8).finish(&mut formula, value, None)?;
    let zero = builder.pointwise(&formula.0, &[ends.swap_remove(0), scale.clone()], DType::U8)?;
    Ok((scale, zero))
}
