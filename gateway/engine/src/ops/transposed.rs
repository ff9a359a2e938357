//! Windows the other way round: each element is spread over a window, and what overlaps is added.

use gw_shaders::kernel::Scalar;
use gw_shaders::scatter::Op;
use gw_tensor::Shape;

use super::pad::{self, Fill};
use super::window::{
    Axis, biased, expect_floats, expect_kernel, groups, halves, innermost, list, window,
};
use super::{Call, Table, scatter, sizes};
use crate::error::OpError;
use crate::net::builder::{Builder, check_size};
use crate::net::{Kind, Operand};

pub(super) const OPS: Table =
    &[("Col2Im", col2im), ("ConvTranspose", conv_transpose), ("MaxUnpool", max_unpool)];

/// Places along an axis are `u32` in the kernel, with room for the reach of a window.
const REACH_MAX: usize = 1 << 30;

/// An axis that is read by windows: `input` is their number, `output` the size of the result.
#[derive(Clone, Copy)]
struct Spread {
    axis: Axis,
    output: usize,
}

/// `x [planes, taps …, windows …]` to `[planes, …]`, over up to three axes.
fn fold(
    builder: &mut Builder,
    x: &Operand,
    planes: usize,
    spreads: &[Spread],
) -> Result<Operand, OpError> {
    let axes: Vec<Axis> = spreads.iter().map(|spread| spread.axis).collect();
    let axes: [Axis; 3] = innermost("a window", &axes)?;
    let mut target = vec![1; 3 - spreads.len()];
    target.extend(spreads.iter().map(|spread| spread.output));
    target.insert(0, planes);
    for (axis, &output) in axes.iter().zip(&target[1..]) {
        let reach = axis.input.saturating_mul(axis.stride).saturating_add(axis.span());
        let reach = reach.max(output.saturating_add(axis.pad_begin));
        if reach > REACH_MAX {
            let given = format!("{reach} elements");
            return Err(OpError::mismatch("window", format!("at most {REACH_MAX}"), given));
        }
    }
    let mut taps = vec![planes];
    taps.extend(axes.iter().map(|axis| axis.kernel));
    taps.extend(axes.iter().map(|axis| axis.input));
    let (x, dtype) = (builder.reshape(x, &taps)?, x.dtype);
    builder.emit(Kind::Fold(window(&axes)?), vec![x], &target, dtype)
}

/// `Col2Im` (ONNX 18): x `[n, c * taps, windows]`, the sizes of the image and of the window.
fn col2im(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let x = call.input(0)?;
    expect_floats(&[&x])?;
    let image = sizes(&call.known_ints(1)?)?;
    let kernel = sizes(&call.known_ints(2)?)?;
    let rank = image.len();
    if kernel.len() != rank || rank == 0 || kernel.contains(&0) {
        return Err(OpError::mismatch("input 2", format!("{rank} sizes"), format!("{kernel:?}")));
    }
    let strides = list(call, "strides", rank, 1)?;
    let dilations = list(call, "dilations", rank, 1)?;
    let pads = list(call, "pads", 2 * rank, 0)?;
    let mut spreads = Vec::with_capacity(rank);
    for at in 0..rank {
        let mut axis = Axis {
            input: image[at],
            kernel: kernel[at],
            stride: strides[at],
            dilation: dilations[at],
            pad_begin: pads[at],
            pad_end: pads[rank + at],
        };
        axis.input = axis.output(false)?;
        spreads.push(Spread { axis, output: image[at] });
    }
    let dims = x.shape();
    let taps = check_size(&kernel)?;
    let windows = spreads.iter().map(|spread| spread.axis.input).fold(1, usize::saturating_mul);
    let fits = dims.len() == 3 && dims[1].is_multiple_of(taps) && dims[2] == windows;
    if !fits {
        let expected = format!("[n, a multiple of {taps}, {windows}]");
        return Err(OpError::mismatch("input 0", expected, Shape::from(dims)));
    }
    let (n, channels) = (dims[0], dims[1] / taps);
    let mut target = vec![n, channels];
    target.extend(&image);
    check_size(&target)?;
    let result = fold(call.builder, &x, n * channels, &spreads)?;
    Ok(vec![call.builder.reshape(&result, &target)?])
}

/// The axes of a `ConvTranspose`: padding as the attributes say it, and the size of the result.
fn spreads(call: &Call<'_>, dims: &[usize], kernel: &[usize]) -> Result<Vec<Spread>, OpError> {
    let rank = kernel.len();
    let strides = list(call, "strides", rank, 1)?;
    let dilations = list(call, "dilations", rank, 1)?;
    let pads = list(call, "pads", 2 * rank, 0)?;
    let extra = list(call, "output_padding", rank, 0)?;
    let asked = match call.ints("output_shape").filter(|given| !given.is_empty()) {
        // Some exporters write the batch and the channels too.
        Some(given) if given.len() == rank + 2 => Some(sizes(&given[2..])?),
        Some(_) => Some(list(call, "output_shape", rank, 0)?),
        None => None,
    };
    let mode = call.text("auto_pad", "NOTSET");
    let is_same = matches!(mode.as_str(), "SAME_UPPER" | "SAME_LOWER");
    if !is_same && !matches!(mode.as_str(), "NOTSET" | "" | "VALID") {
        return Err(OpError::Unsupported(format!("auto_pad `{mode}`")));
    }
    let mut spreads = Vec::with_capacity(rank);
    for at in 0..rank {
        let mut axis = Axis {
            input: dims[at],
            kernel: kernel[at],
            stride: strides[at],
            dilation: dilations[at],
            pad_begin: pads[at],
            pad_end: pads[rank + at],
        };
        if axis.kernel == 0 {
            return Err(OpError::mismatch("input 1", "a window with elements", 0));
        }
        if mode == "VALID" {
            (axis.pad_begin, axis.pad_end) = (0, 0);
        }
        let steps = axis.input.saturating_sub(1).saturating_mul(axis.stride);
        let covered = steps.saturating_add(axis.span()).saturating_add(extra[at]);
        let wanted = match &asked {
            Some(asked) => Some(asked[at]),
            None if is_same => Some(axis.input.saturating_mul(axis.stride)),
            None => None,
        };
        let output = match wanted {
            Some(output) => {
                // Elements that no window covers come last; with padding that depends on the size
                // ONNX does not say where they are.
                if is_same && output > covered {
                    let given = format!("{output} elements for {covered} that windows cover");
                    return Err(OpError::mismatch("the output", "no more", given));
                }
                let pads = covered.saturating_sub(output);
                (axis.pad_begin, axis.pad_end) = halves(pads, mode == "SAME_UPPER");
                output
            }
            None => {
                let pads = axis.pad_begin.saturating_add(axis.pad_end);
                let given = format!("{pads} for {covered} elements");
                covered
                    .checked_sub(pads)
                    .ok_or_else(|| OpError::mismatch("pads", "within the output", given))?
            }
        };
        spreads.push(Spread { axis, output });
    }
    Ok(spreads)
}

/// `ConvTranspose` (ONNX 1, 11, 22): x `[n, c, …]`, weights `[c, out / groups, …]`. One matrix
/// product makes what every element adds to its window, and the windows are folded.
fn conv_transpose(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, weights) = (call.input(0)?, call.input(1)?);
    expect_floats(&[&x, &weights])?;
    let (dims, shape) = (x.shape(), weights.shape());
    let rank = dims.len().saturating_sub(2);
    if rank == 0 || shape.len() != dims.len() || shape[0] != dims[1] {
        let expected = format!("weights for {}", Shape::from(dims));
        return Err(OpError::mismatch("input 1", expected, Shape::from(shape)));
    }
    let kernel = &shape[2..];
    expect_kernel(call, kernel)?;
    let spreads = spreads(call, &dims[2..], kernel)?;
    let (n, channels) = (dims[0], dims[1]);
    let groups = groups(call, "group", channels)?;
    let out = shape[1].saturating_mul(groups);
    let mut target = vec![n, out];
    target.extend(spreads.iter().map(|spread| spread.output));
    if check_size(&target)? == 0 {
        return Ok(vec![call.builder.empty(&target, x.dtype)?]);
    }
    let taps = shape[1].saturating_mul(check_size(kernel)?);
    let windows = check_size(&dims[2..])?;
    let per_group = channels / groups;
    let b = call.builder.reshape(&x, &[n, groups, per_group, windows])?;
    let a = call.builder.reshape(&weights, &[1, groups, per_group, taps])?;
    let a = Builder::transpose(&a, &[0, 1, 3, 2]);
    let columns = super::matmul::product(call.builder, &a, &b)?;
    let columns = Builder::retyped(&columns, x.dtype);
    let is_tiling = spreads.iter().all(|Spread { axis, output }| {
        axis.kernel == axis.stride
            && (axis.dilation == 1 || axis.kernel == 1)
            && axis.pad_begin == 0
            && *output == axis.input * axis.stride
    });
    let mut result = if is_tiling {
        tiled(call.builder, &columns, n * out, &spreads)?
    } else {
        fold(call.builder, &columns, n * out, &spreads)?
    };
    result = call.builder.reshape(&result, &target)?;
    if let Some(bias) = call.optional(2) {
        let mut along = vec![1; rank];
        along.insert(0, out);
        let bias = call.builder.reshape(&bias, &along)?;
        result = biased(call.builder, &result, &bias)?;
    }
    Ok(vec![result])
}

/// Windows that lie side by side are a view: each axis is windows by taps.
fn tiled(
    builder: &mut Builder,
    columns: &Operand,
    planes: usize,
    spreads: &[Spread],
) -> Result<Operand, OpError> {
    let rank = spreads.len();
    let mut apart = vec![planes];
    apart.extend(spreads.iter().map(|spread| spread.axis.kernel));
    apart.extend(spreads.iter().map(|spread| spread.axis.input));
    let mut perm = vec![0];
    perm.extend((1..=rank).flat_map(|at| [rank + at, at]));
    let apart = builder.reshape(columns, &apart)?;
    let mut merged = vec![planes];
    merged.extend(spreads.iter().map(|spread| spread.output));
    builder.reshape(&Builder::transpose(&apart, &perm), &merged)
}

/// `MaxUnpool` (ONNX 9, 11, 22): each element goes where `MaxPool` found it, the rest is zero. A
/// given shape adds zeros after the one that the window implies.
fn max_unpool(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, places) = (call.input(0)?, call.input(1)?);
    let dims = x.shape();
    if places.shape() != dims || places.scalar() != Scalar::I32 {
        let given = format!("{} of {}", Shape::from(places.shape()), places.dtype);
        let expected = format!("integers of shape {}", Shape::from(dims));
        return Err(OpError::mismatch("input 1", expected, given));
    }
    let kernel = call.ints("kernel_shape");
    let kernel = sizes(&kernel.ok_or_else(|| OpError::Missing("kernel_shape".to_owned()))?)?;
    let rank = kernel.len();
    if dims.len() != rank + 2 {
        let expected = format!("two axes and {rank} spatial ones");
        return Err(OpError::mismatch("input 0", expected, Shape::from(dims)));
    }
    let strides = list(call, "strides", rank, 1)?;
    let pads = list(call, "pads", 2 * rank, 0)?;
    let mut implied = dims[..2].to_vec();
    for at in 0..rank {
        let steps = dims[2 + at].saturating_sub(1).saturating_mul(strides[at]);
        let covered = steps.saturating_add(kernel[at]);
        let cut = pads[at].saturating_add(pads[rank + at]);
        let left = covered.checked_sub(cut);
        implied.push(left.ok_or_else(|| OpError::mismatch("pads", covered, cut))?);
    }
    let cells = check_size(&implied)?;
    let zero = Fill::Number(0.0);
    let flat = pad::filled(call.builder, &[cells, 1], x.dtype, &zero)?;
    let result = scatter::into_rows(call.builder, Op::Replace, &flat, &places, &x)?;
    let result = call.builder.reshape(&result, &implied)?;
    let Some(asked) = call.optional_ints(2)? else { return Ok(vec![result]) };
    let asked = sizes(&asked)?;
    let fits = asked.len() == implied.len()
        && asked.iter().zip(&implied).all(|(asked, implied)| asked >= implied);
    if !fits {
        let expected = format!("at least {}", Shape::from(implied));
        return Err(OpError::mismatch("input 2", expected, Shape::from(asked)));
    }
    let add: Vec<[usize; 2]> = asked.iter().zip(&implied).map(|(a, b)| [0, a - b]).collect();
    Ok(vec![pad::constant(call.builder, &result, &add, &zero)?])
}
