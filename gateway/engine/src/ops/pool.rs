//! Pooling: a window over up to three spatial axes becomes one number.

use gw_shaders::expr::{Binary, Unary};
use gw_shaders::kernel::Scalar;
use gw_shaders::pool::Kind as Pooling;
use gw_shaders::reduce::Op;
use gw_tensor::DType;

use super::window::{Axis, axes, expect_floats, innermost, window};
use super::{Call, Table};
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::net::{Kind, Operand};

pub(super) const OPS: Table =
    &[("AveragePool", average), ("GlobalLpPool", global_norm), ("LpPool", norm), ("MaxPool", max)];

/// The window of a pooling node, whose kernel is an attribute.
fn pool_axes(call: &Call<'_>, x: &Operand) -> Result<[Axis; 3], OpError> {
    let kernel = call.ints("kernel_shape");
    let kernel = super::sizes(&kernel.ok_or_else(|| OpError::Missing("kernel_shape".to_owned()))?)?;
    innermost("a pooling window", &axes(call, x, &kernel)?)
}

/// `x [n, c, …]` pooled, as `dtype`.
fn pooled(
    call: &mut Call<'_>,
    x: &Operand,
    kind: Pooling,
    dtype: DType,
) -> Result<Operand, OpError> {
    let axes = pool_axes(call, x)?;
    if let Some(op) = whole(kind, &axes) {
        let reduced: Vec<usize> = (2..x.shape().len()).collect();
        return super::reduce::over(call.builder, op, x, &reduced, true, dtype);
    }
    let ceil = call.flag("ceil_mode", false);
    let dims = x.shape();
    let planes = dims[0].saturating_mul(dims[1]);
    let mut sizes = [0; 3];
    for (size, axis) in sizes.iter_mut().zip(&axes) {
        *size = axis.output(ceil)?;
    }
    let [d, h, w] = [axes[0].input, axes[1].input, axes[2].input];
    let flat = call.builder.reshape(x, &[planes, d, h, w])?;
    let target = [planes, sizes[0], sizes[1], sizes[2]];
    let kind = Kind::Pool { kind, window: window(&axes)? };
    let result = call.builder.emit(kind, vec![flat], &target, dtype)?;
    let mut shape = dims[..2].to_vec();
    shape.extend(&sizes[5 - dims.len()..]);
    call.builder.reshape(&result, &shape)
}

/// What a window that covers all of x, and nothing else, does: many invocations can share it.
fn whole(kind: Pooling, axes: &[Axis]) -> Option<Op> {
    let covers = |axis: &Axis| {
        let pads = axis.pad_begin.saturating_add(axis.pad_end);
        axis.kernel == axis.input && axis.dilation == 1 && pads == 0
    };
    match kind {
        _ if !axes.iter().all(covers) => None,
        Pooling::Max { .. } => Some(Op::Max),
        Pooling::Average { .. } => Some(Op::Mean),
        Pooling::Lp { p: 1 } => Some(Op::L1),
        Pooling::Lp { p: 2 } => Some(Op::L2),
        Pooling::Lp { .. } | Pooling::MaxPlace { .. } => None,
    }
}

fn average(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    expect_floats(&[&x])?;
    let count_include_pad = call.flag("count_include_pad", false);
    Ok(vec![pooled(call, &x, Pooling::Average { count_include_pad }, x.dtype)?])
}

fn max(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    let lowest = match x.dtype {
        DType::F32 | DType::F16 | DType::Bf16 | DType::F64 => f32::NEG_INFINITY.to_bits(),
        DType::I8 => i32::from(i8::MIN).cast_unsigned(),
        DType::I16 => i32::from(i16::MIN).cast_unsigned(),
        DType::I32 | DType::I64 => i32::MIN.cast_unsigned(),
        DType::U8 | DType::U16 => 0,
        given => return Err(OpError::Type { what: "input 0".to_owned(), given }),
    };
    let scalar = x.scalar();
    let mut outputs = Vec::with_capacity(2);
    outputs.push(pooled(call, &x, Pooling::Max { scalar, lowest }, x.dtype)?);
    if call.node.outputs.get(1).is_some_and(Option::is_some) {
        let column_major = call.flag("storage_order", false);
        let kind = Pooling::MaxPlace { scalar, column_major };
        outputs.push(pooled(call, &x, kind, DType::I64)?);
    }
    Ok(outputs)
}

/// The power of a norm.
fn power(call: &Call<'_>) -> Result<u32, OpError> {
    let given = call.int("p", 2);
    let power = u32::try_from(given).ok().filter(|&power| power > 0);
    power.ok_or_else(|| OpError::mismatch("p", "at least 1", given))
}

fn norm(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    expect_floats(&[&x])?;
    let kind = Pooling::Lp { p: power(call)? };
    Ok(vec![pooled(call, &x, kind, x.dtype)?])
}

/// The norm over all axes after the second.
fn global_norm(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    expect_floats(&[&x])?;
    let reduced: Vec<usize> = (2..x.shape().len()).collect();
    let op = match power(call)? {
        1 => Op::L1,
        2 => Op::L2,
        p => {
            let powers = raised(call.builder, &x, p as f32)?;
            let sum = reduce(call.builder, Op::Sum, &powers, &reduced)?;
            return Ok(vec![raised(call.builder, &sum, 1.0 / p as f32)?]);
        }
    };
    Ok(vec![reduce(call.builder, op, &x, &reduced)?])
}

fn reduce(
    builder: &mut Builder,
    op: Op,
    x: &Operand,
    reduced: &[usize],
) -> Result<Operand, OpError> {
    super::reduce::over(builder, op, x, reduced, true, x.dtype)
}

/// The magnitude to the power of `p`.
fn raised(builder: &mut Builder, x: &Operand, p: f32) -> Result<Operand, OpError> {
    let mut formula = Formula::new(&[Scalar::F32]);
    let magnitude = formula.un(Unary::Abs, 0);
    let p = formula.c(p);
    formula.bin(Binary::Pow, magnitude, p);
    builder.pointwise(&formula.0, std::slice::from_ref(x), x.dtype)
}
