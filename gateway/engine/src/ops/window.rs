//! Convolution and pooling: a window that moves over one or two axes.

use gw_shaders::expr::Expr;
use gw_shaders::kernel::Scalar;
use gw_shaders::pool;
use gw_tensor::{DType, Shape};

use super::{Call, Table, narrow};
use crate::error::OpError;
use crate::net::formula::Formula;
use crate::net::{Conv, Kind, Operand, Window};

pub(super) const OPS: Table = &[("AveragePool", pool), ("Conv", conv), ("MaxPool", pool)];

/// One axis of a window.
#[derive(Clone, Copy)]
struct Axis {
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad_begin: usize,
    pad_end: usize,
}

impl Axis {
    /// The axis that a one-dimensional window does not have.
    const ABSENT: Self =
        Self { input: 1, kernel: 1, stride: 1, dilation: 1, pad_begin: 0, pad_end: 0 };

    /// The extent of the window with its gaps.
    fn span(&self) -> usize {
        (self.kernel - 1).saturating_mul(self.dilation).saturating_add(1)
    }

    fn output(&self, ceil: bool) -> Result<usize, OpError> {
        let padded = self.input.saturating_add(self.pad_begin).saturating_add(self.pad_end);
        let Some(room) = padded.checked_sub(self.span()) else {
            let given = format!("a window of {}", self.span());
            return Err(OpError::mismatch("window", format!("at most {padded}"), given));
        };
        let steps = if ceil { room.div_ceil(self.stride) } else { room / self.stride };
        // A last window that would start behind the input is left out, as everywhere but in the
        // first versions of the operator.
        let starts_inside = steps.saturating_mul(self.stride) < self.input + self.pad_begin;
        Ok(if ceil && !starts_inside { steps } else { steps + 1 })
    }
}

/// The window that the node's attributes describe, over the axes of `x` after the second.
fn axes(call: &Call<'_>, x: &Operand, kernel: &[usize]) -> Result<[Axis; 2], OpError> {
    let inputs = x.shape();
    let inputs = inputs.get(2..).unwrap_or(&[]);
    let rank = kernel.len();
    if inputs.len() != rank || !(1..=2).contains(&rank) {
        let given = Shape::from(x.shape());
        return Err(OpError::mismatch("input 0", "[n, c, w] or [n, c, h, w]", given));
    }
    let list = |name: &str, count: usize, default: usize| -> Result<Vec<usize>, OpError> {
        let given = call.ints(name).filter(|given| !given.is_empty());
        let values = match given {
            Some(given) => super::sizes(&given)?,
            None => vec![default; count],
        };
        match values.len() == count && (default == 0 || values.iter().all(|&value| value > 0)) {
            true => Ok(values),
            false => Err(OpError::mismatch(name, format!("{count} sizes"), format!("{values:?}"))),
        }
    };
    let strides = list("strides", rank, 1)?;
    let dilations = list("dilations", rank, 1)?;
    let pads = list("pads", 2 * rank, 0)?;
    let mut axes = [Axis::ABSENT; 2];
    for index in 0..rank {
        let mut axis = Axis {
            input: inputs[index],
            kernel: kernel[index],
            stride: strides[index],
            dilation: dilations[index],
            pad_begin: pads[index],
            pad_end: pads[rank + index],
        };
        if axis.kernel == 0 {
            return Err(OpError::mismatch("kernel_shape", "at least 1", 0));
        }
        auto_pad(&mut axis, &call.text("auto_pad", "NOTSET"))?;
        axes[2 - rank + index] = axis;
    }
    Ok(axes)
}

fn auto_pad(axis: &mut Axis, mode: &str) -> Result<(), OpError> {
    match mode {
        "NOTSET" | "" => {}
        "VALID" => (axis.pad_begin, axis.pad_end) = (0, 0),
        "SAME_UPPER" | "SAME_LOWER" => {
            let steps = axis.input.div_ceil(axis.stride).saturating_sub(1);
            let covered = steps.saturating_mul(axis.stride).saturating_add(axis.span());
            let pads = covered.saturating_sub(axis.input);
            let (less, more) = (pads / 2, pads - pads / 2);
            (axis.pad_begin, axis.pad_end) =
                if mode == "SAME_UPPER" { (less, more) } else { (more, less) };
        }
        other => return Err(OpError::Unsupported(format!("auto_pad `{other}`"))),
    }
    Ok(())
}

fn window(axes: &[Axis; 2]) -> Result<Window, OpError> {
    let pair = |part: fn(&Axis) -> usize| -> Result<[u32; 2], OpError> {
        Ok([narrow(part(&axes[0]))?, narrow(part(&axes[1]))?])
    };
    Ok(Window {
        kernel: pair(|axis| axis.kernel)?,
        strides: pair(|axis| axis.stride)?,
        dilations: pair(|axis| axis.dilation)?,
        pads_begin: pair(|axis| axis.pad_begin)?,
        pads_end: pair(|axis| axis.pad_end)?,
    })
}

/// `[n, c, …]` with exactly two axes after the second.
fn planes(shape: &[usize]) -> [usize; 4] {
    match *shape {
        [n, c, w] => [n, c, 1, w],
        [n, c, h, w] => [n, c, h, w],
        _ => unreachable!("the rank is checked with the window"),
    }
}

pub(super) fn conv(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, weights) = (call.input(0)?, call.input(1)?);
    for (what, operand) in [("input 0", &x), ("input 1", &weights)] {
        if operand.scalar() != Scalar::F32 {
            return Err(OpError::Type { what: what.to_owned(), given: operand.dtype });
        }
    }
    let shape = weights.shape();
    let axes = axes(call, &x, shape.get(2..).unwrap_or(&[]))?;
    let [n, c, h, w] = planes(&x.shape());
    let [out, per_group, kh, kw] = planes(&shape);
    let groups = usize::try_from(call.int("group", 1)).unwrap_or(0);
    if groups == 0 || per_group.checked_mul(groups) != Some(c) || out % groups != 0 {
        let expected = format!("weights for {c} channels in {groups} groups");
        return Err(OpError::mismatch("input 1", expected, Shape::from(shape)));
    }
    let sizes = [axes[0].output(false)?, axes[1].output(false)?];
    let x2 = call.builder.reshape(&x, &[n, c, h, w])?;
    let weights = call.builder.reshape(&weights, &[out, per_group, kh, kw])?;
    let kind = Kind::Conv(Conv {
        groups: narrow(groups)?,
        window: window(&axes)?,
        epilogue: Expr::identity(Scalar::F32),
    });
    let target = [n, out, sizes[0], sizes[1]];
    let mut result = call.builder.emit(kind, vec![x2, weights], &target, x.dtype)?;
    if let Some(bias) = call.optional(2) {
        let bias = call.builder.reshape(&bias, &[out, 1, 1])?;
        let mut formula = Formula::floats(2);
        formula.add(0, 1);
        result = call.builder.pointwise(&formula.0, &[result, bias], x.dtype)?;
    }
    let target = if x.shape().len() == 3 { vec![n, out, sizes[1]] } else { target.to_vec() };
    Ok(vec![call.builder.reshape(&result, &target)?])
}

fn pool(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    if call.node.outputs.iter().skip(1).any(Option::is_some) {
        return Err(OpError::Unsupported("the indices of a maximum".to_owned()));
    }
    let x = call.input(0)?;
    if !matches!(x.dtype, DType::F32 | DType::F16 | DType::Bf16 | DType::F64) {
        return Err(OpError::Type { what: "input 0".to_owned(), given: x.dtype });
    }
    let kernel = call.ints("kernel_shape");
    let kernel = super::sizes(&kernel.ok_or_else(|| OpError::Missing("kernel_shape".to_owned()))?)?;
    let axes = axes(call, &x, &kernel)?;
    let [n, c, h, w] = planes(&x.shape());
    let ceil = call.flag("ceil_mode", false);
    let sizes = [axes[0].output(ceil)?, axes[1].output(ceil)?];
    let kind = match call.node.op.as_str() {
        "MaxPool" => pool::Kind::Max,
        _ => {
            let count_include_pad = call.flag("count_include_pad", false);
            pool::Kind::Average { count_include_pad }
        }
    };
    let kind = Kind::Pool { kind, window: window(&axes)? };
    let x2 = call.builder.reshape(&x, &[n, c, h, w])?;
    let target = [n, c, sizes[0], sizes[1]];
    let result = call.builder.emit(kind, vec![x2], &target, x.dtype)?;
    let target = if x.shape().len() == 3 { vec![n, c, sizes[1]] } else { target.to_vec() };
    Ok(vec![call.builder.reshape(&result, &target)?])
}
