//! Convolution, and what everything with a window shares: how one moves over spatial axes.

use gw_shaders::expr::Expr;
use gw_shaders::kernel::Scalar;
use gw_tensor::Shape;

use super::{Call, Table, narrow};
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::net::{Conv, Kind, Operand, Window};

pub(super) const OPS: Table = &[("Conv", conv)];

/// Places along an axis, padding and the reach of windows included, are `i32` in kernels.
const REACH_MAX: usize = 1 << 30;

/// One axis of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) input: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    pub(super) pad_begin: usize,
    pub(super) pad_end: usize,
}

impl Axis {
    /// The axis that a window of fewer dimensions does not have.
    pub(super) const ABSENT: Self =
        Self { input: 1, kernel: 1, stride: 1, dilation: 1, pad_begin: 0, pad_end: 0 };

    /// The extent of the window with its gaps.
    pub(super) fn span(&self) -> usize {
        (self.kernel - 1).saturating_mul(self.dilation).saturating_add(1)
    }

    pub(super) fn output(&self, ceil: bool) -> Result<usize, OpError> {
        let padded = self.input.saturating_add(self.pad_begin).saturating_add(self.pad_end);
        let reach = padded.saturating_add(self.span()).saturating_add(self.stride);
        if reach > REACH_MAX {
            let given = format!("{reach} elements");
            return Err(OpError::mismatch("window", format!("at most {REACH_MAX}"), given));
        }
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

/// Sizes that an attribute gives, one per axis or end; `default` where it is left out.
pub(super) fn list(
    call: &Call<'_>,
    name: &str,
    count: usize,
    default: usize,
) -> Result<Vec<usize>, OpError> {
    let values = match call.ints(name).filter(|given| !given.is_empty()) {
        Some(given) => super::sizes(&given)?,
        None => vec![default; count],
    };
    match values.len() == count && (default == 0 || values.iter().all(|&value| value > 0)) {
        true => Ok(values),
        false => Err(OpError::mismatch(name, format!("{count} sizes"), format!("{values:?}"))),
    }
}

/// The window that the node's attributes describe, over the axes of `x` after the second.
pub(super) fn axes(call: &Call<'_>, x: &Operand, kernel: &[usize]) -> Result<Vec<Axis>, OpError> {
    let inputs = x.shape();
    let inputs = inputs.get(2..).unwrap_or(&[]);
    let rank = kernel.len();
    if inputs.len() != rank || rank == 0 {
        let expected = format!("two axes and {} spatial ones", rank.max(1));
        return Err(OpError::mismatch("input 0", expected, Shape::from(x.shape())));
    }
    let strides = list(call, "strides", rank, 1)?;
    let dilations = list(call, "dilations", rank, 1)?;
    let pads = list(call, "pads", 2 * rank, 0)?;
    let mode = call.text("auto_pad", "NOTSET");
    let mut axes = Vec::with_capacity(rank);
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
        auto_pad(&mut axis, &mode)?;
        axes.push(axis);
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
            (axis.pad_begin, axis.pad_end) = halves(pads, mode == "SAME_UPPER");
        }
        other => return Err(OpError::Unsupported(format!("auto_pad `{other}`"))),
    }
    Ok(())
}

/// Padding shared between the two ends; `upper` gets an odd one.
pub(super) fn halves(pads: usize, upper: bool) -> (usize, usize) {
    let (less, more) = (pads / 2, pads - pads / 2);
    if upper { (less, more) } else { (more, less) }
}

/// The last `N` axes of a window; those in front that it does not have are of size one.
pub(super) fn innermost<const N: usize>(what: &str, axes: &[Axis]) -> Result<[Axis; N], OpError> {
    let mut all = [Axis::ABSENT; N];
    let Some(missing) = N.checked_sub(axes.len()) else {
        return Err(OpError::Unsupported(format!("{what} over {} axes", axes.len())));
    };
    all[missing..].copy_from_slice(axes);
    Ok(all)
}

pub(super) fn window<const N: usize>(axes: &[Axis; N]) -> Result<Window<N>, OpError> {
    let part = |part: fn(&Axis) -> usize| -> Result<[u32; N], OpError> {
        let mut sizes = [0; N];
        for (size, axis) in sizes.iter_mut().zip(axes) {
            *size = narrow(part(axis))?;
        }
        Ok(sizes)
    };
    Ok(Window {
        kernel: part(|axis| axis.kernel)?,
        strides: part(|axis| axis.stride)?,
        dilations: part(|axis| axis.dilation)?,
        pads_begin: part(|axis| axis.pad_begin)?,
        pads_end: part(|axis| axis.pad_end)?,
    })
}

/// Fails unless the kernel of the weights, where the node also states it, is what it states.
pub(super) fn expect_kernel(call: &Call<'_>, kernel: &[usize]) -> Result<(), OpError> {
    let stated = list(call, "kernel_shape", kernel.len(), 1)?;
    match call.ints("kernel_shape").is_none_or(|given| given.is_empty()) || stated == kernel {
        true => Ok(()),
        false => {
            let expected = format!("{kernel:?}, as the weights");
            Err(OpError::mismatch("kernel_shape", expected, format!("{stated:?}")))
        }
    }
}

/// The number of groups, which divides `channels`.
pub(super) fn groups(call: &Call<'_>, name: &str, channels: usize) -> Result<usize, OpError> {
    let given = call.int(name, 1);
    let groups = usize::try_from(given).ok().filter(|&groups| groups > 0);
    groups
        .filter(|groups| channels.is_multiple_of(*groups))
        .ok_or_else(|| OpError::mismatch(name, format!("a divisor of {channels} channels"), given))
}

/// Fails unless all are floats.
pub(super) fn expect_floats(inputs: &[&Operand]) -> Result<(), OpError> {
    for (index, operand) in inputs.iter().enumerate() {
        if operand.scalar() != Scalar::F32 {
            let what = format!("input {index}");
            return Err(OpError::Type { what, given: operand.dtype });
        }
    }
    Ok(())
}

/// `Conv` (ONNX 1, 11, 22): `x [n, c, …]`, weights `[out, c / groups, …]`.
pub(super) fn conv(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, weights) = (call.input(0)?, call.input(1)?);
    expect_floats(&[&x, &weights])?;
    let shape = weights.shape();
    let kernel = shape.get(2..).unwrap_or(&[]);
    let axes = axes(call, &x, kernel)?;
    expect_kernel(call, kernel)?;
    let (channels, out) = (x.shape()[1], shape[0]);
    let groups = groups(call, "group", channels)?;
    if shape[1].checked_mul(groups) != Some(channels) || out % groups != 0 {
        let expected = format!("weights for {channels} channels in {groups} groups");
        return Err(OpError::mismatch("input 1", expected, Shape::from(shape)));
    }
    let bias = call.optional(2);
    let bias = match bias {
        Some(bias) => Some(call.builder.reshape(&bias, &[out, 1, 1])?),
        None => None,
    };
    let convolution = Convolution { groups, bias: bias.as_ref() };
    Ok(vec![convolution.over(call.builder, &x, &weights, &axes)?])
}

/// What all axes of a convolution share.
struct Convolution<'a> {
    groups: usize,
    /// `[out, 1, 1]`.
    bias: Option<&'a Operand>,
}

impl Convolution<'_> {
    /// `x [n, c, …]` and `weights [out, c / groups, …]` to `[n, out, …]`.
    fn over(
        &self,
        builder: &mut Builder,
        x: &Operand,
        weights: &Operand,
        axes: &[Axis],
    ) -> Result<Operand, OpError> {
        let [first, rest @ ..] = axes else { return Ok(x.clone()) };
        if rest.len() < 2 {
            return self.plane(builder, x, weights, axes);
        }
        // The first axis of three: its windows join the batch, what they hold the channels.
        let count = first.output(false)?;
        let dims = x.shape();
        let mut pads = vec![[0; 2]; dims.len()];
        pads[2] = [first.pad_begin, first.pad_end];
        let x = super::pad::constant(builder, x, &pads, &super::pad::Fill::Number(0.0))?;
        let kernel = [first.kernel, first.dilation];
        let x = builder.windows(&x, 2, [count, first.stride], kernel)?;
        let mut perm: Vec<usize> = (0..=dims.len()).collect();
        perm[1..4].copy_from_slice(&[2, 1, 3]);
        let x = Builder::transpose(&x, &perm);
        let mut merged = vec![dims[0].saturating_mul(count), dims[1].saturating_mul(first.kernel)];
        merged.extend(&dims[3..]);
        let mut x = builder.reshape(&x, &merged)?;
        if rest.len() > 2 {
            // A view of views would have more strides than a kernel takes.
            x = builder.copy(&x)?;
        }
        let mut shape = weights.shape();
        let depth = shape.remove(2);
        shape[1] = shape[1].saturating_mul(depth);
        let weights = builder.reshape(weights, &shape)?;
        let result = self.over(builder, &x, &weights, rest)?;
        let mut apart = result.shape();
        apart.splice(..1, [dims[0], count]);
        let result = builder.reshape(&result, &apart)?;
        let mut perm: Vec<usize> = (0..apart.len()).collect();
        perm.swap(1, 2);
        Ok(Builder::transpose(&result, &perm))
    }

    /// One or two axes.
    fn plane(
        &self,
        builder: &mut Builder,
        x: &Operand,
        weights: &Operand,
        axes: &[Axis],
    ) -> Result<Operand, OpError> {
        let (dims, shape) = (x.shape(), weights.shape());
        let (n, c, out) = (dims[0], dims[1], shape[0]);
        let pair: [Axis; 2] = innermost("a convolution", axes)?;
        let sizes = [pair[0].output(false)?, pair[1].output(false)?];
        let x2 = builder.reshape(x, &[n, c, pair[0].input, pair[1].input])?;
        let filter = [out, shape[1], pair[0].kernel, pair[1].kernel];
        let weights = builder.reshape(weights, &filter)?;
        let kind = Kind::Conv(Conv {
            quantised: false,
            groups: narrow(self.groups)?,
            window: window(&pair)?,
            epilogue: Expr::identity(Scalar::F32),
        });
        let target = [n, out, sizes[0], sizes[1]];
        let mut result = builder.emit(kind, vec![x2, weights], &target, x.dtype)?;
        if let Some(bias) = self.bias {
            result = biased(builder, &result, bias)?;
        }
        if axes.len() == 1 {
            return builder.reshape(&result, &[n, out, sizes[1]]);
        }
        Ok(result)
    }
}

/// The sum of `x` and a bias that broadcasts to it.
pub(super) fn biased(
    builder: &mut Builder,
    x: &Operand,
    bias: &Operand,
) -> Result<Operand, OpError> {
    let mut formula = Formula::floats(2);
    formula.add(0, 1);
    builder.pointwise(&formula.0, &[x.clone(), bias.clone()], x.dtype)
}
