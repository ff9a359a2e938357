//! Planes that are read at points which data name, and the grids of such points.

use gw_shaders::roi::Kind as Region;
use gw_shaders::sample::{Mode, Padding, Units};
use gw_tensor::{Shape, Tensor};

use super::window::{Axis, axes, biased, expect_floats, expect_kernel, groups};
use super::{Call, Table, expect_rank, narrow, sizes};
use crate::error::OpError;
use crate::net::builder::{Builder, check_size};
use crate::net::formula::Formula;
use crate::net::{Kind, Operand};

pub(super) const OPS: Table = &[
    ("AffineGrid", affine_grid),
    ("DeformConv", deform_conv),
    ("GridSample", grid_sample),
    ("MaxRoiPool", max_roi_pool),
    ("RoiAlign", roi_align),
];

/// Coordinates of one axis, at most, that are written out.
const PLACES_MAX: usize = 1 << 24;

/// `GridSample` (ONNX 16, 20, 22): x `[n, c, …]` and a grid `[n, …, axes]`, over up to three axes.
fn grid_sample(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, grid) = (call.input(0)?, call.input(1)?);
    expect_floats(&[&x, &grid])?;
    let (dims, points) = (x.shape(), grid.shape());
    let rank = dims.len().saturating_sub(2);
    if !(1..=3).contains(&rank) {
        let given = Shape::from(dims);
        return Err(OpError::mismatch("input 0", "one to three axes after two", given));
    }
    if points.len() != dims.len() || points[0] != dims[0] || points[rank + 1] != rank {
        let expected = format!("[{}, …, {rank}]", dims[0]);
        return Err(OpError::mismatch("input 1", expected, Shape::from(points)));
    }
    let mode = match call.text("mode", "linear").as_str() {
        "linear" | "bilinear" => Mode::Linear,
        "cubic" | "bicubic" => Mode::Cubic,
        "nearest" => Mode::Nearest,
        other => return Err(OpError::Unsupported(format!("mode `{other}`"))),
    };
    let padding = match call.text("padding_mode", "zeros").as_str() {
        "zeros" => Padding::Zeros,
        "border" => Padding::Border,
        "reflection" => Padding::Reflection,
        other => return Err(OpError::Unsupported(format!("padding_mode `{other}`"))),
    };
    let units = if call.flag("align_corners", false) { Units::Corners } else { Units::Halves };
    let mut target = dims[..2].to_vec();
    target.extend(&points[1..=rank]);
    let count = check_size(&points[1..=rank])?;
    let grid = call.builder.reshape(&grid, &[dims[0], count, rank])?;
    let kind = Kind::Sample { mode, padding, units };
    let result = sampled(call.builder, &x, &grid, kind)?;
    Ok(vec![call.builder.reshape(&result, &target)?])
}

/// `x [n, c, …]` at `points [sets, count, axes]`, as `[n * c, count]`.
fn sampled(
    builder: &mut Builder,
    x: &Operand,
    points: &Operand,
    kind: Kind,
) -> Result<Operand, OpError> {
    let dims = x.shape();
    let planes = dims[0].saturating_mul(dims[1]);
    let mut flat = vec![1; 5 - dims.len()];
    flat.extend(&dims[2..]);
    flat.insert(0, planes);
    let flat = builder.reshape(x, &flat)?;
    let count = points.shape()[1];
    builder.emit(kind, vec![flat, points.clone()], &[planes, count], x.dtype)
}

/// The places -1 to 1 of `size` elements, along axis `at` of `rank`.
fn coordinates(
    builder: &mut Builder,
    [at, rank, size]: [usize; 3],
    align_corners: bool,
) -> Result<Operand, OpError> {
    let mut shape = vec![1; rank];
    shape[at] = size;
    if size > PLACES_MAX {
        return Err(OpError::mismatch("a grid", format!("at most {PLACES_MAX}"), size));
    }
    let (size, last) = (size as f64, size as f64 - 1.0);
    let place = |index: f64| match align_corners {
        false => (2.0 * index + 1.0) / size - 1.0,
        true if last > 0.0 => 2.0 * index / last - 1.0,
        // One element has no corners; PyTorch, where the operator comes from, takes the middle.
        true => 0.0,
    };
    #[expect(clippy::cast_possible_truncation, reason = "devices hold single precision")]
    let places: Vec<f32> = (0..shape[at]).map(|index| place(index as f64) as f32).collect();
    Ok(builder.constant(Tensor::from_slice(shape, &places)?))
}

/// `AffineGrid` (ONNX 20): theta `[n, axes, axes + 1]`, and the sizes `[n, c, …]`.
fn affine_grid(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let theta = call.input(0)?;
    expect_floats(&[&theta])?;
    let size = sizes(&call.known_ints(1)?)?;
    let rank = size.len().saturating_sub(2);
    if !(1..=3).contains(&rank) || theta.shape() != [size[0], rank, rank + 1] {
        let expected = format!("[n, axes, axes + 1] for {}", Shape::from(size));
        return Err(OpError::mismatch("input 0", expected, Shape::from(theta.shape())));
    }
    let align_corners = call.flag("align_corners", false);
    let spatial = &size[2..];
    let mut formula = Formula::floats(2 * rank + 1);
    let mut inputs = Vec::with_capacity(2 * rank + 1);
    let mut column = vec![size[0]];
    column.extend(vec![1; rank]);
    column.push(rank);
    for at in 0..=rank {
        let part = call.builder.slice(&theta, 2, at, 1, 1)?;
        inputs.push(call.builder.reshape(&part, &column)?);
    }
    let mut sum = rank;
    for at in 0..rank {
        // The first column is that of the innermost axis.
        let axis = rank - 1 - at;
        let along = [1 + axis, rank + 2, spatial[axis]];
        inputs.push(coordinates(call.builder, along, align_corners)?);
        let product = formula.mul(at, rank + 1 + at);
        sum = formula.add(sum, product);
    }
    Ok(vec![call.builder.pointwise(&formula.0, &inputs, theta.dtype)?])
}

/// `DeformConv` (ONNX 19, 22): x is sampled where each tap of each window lies, and a matrix
/// product joins the taps.
fn deform_conv(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, weights, offset) = (call.input(0)?, call.input(1)?, call.input(2)?);
    expect_floats(&[&x, &weights, &offset])?;
    let (dims, shape) = (x.shape(), weights.shape());
    if dims.len() != 4 || shape.len() != 4 {
        return Err(OpError::Unsupported(format!("a deformed window in {}", Shape::from(dims))));
    }
    let kernel = &shape[2..];
    expect_kernel(call, kernel)?;
    let window = axes(call, &x, kernel)?;
    let (n, c, out) = (dims[0], dims[1], shape[0]);
    let (groups, sets) = (groups(call, "group", c)?, groups(call, "offset_group", c)?);
    if shape[1].checked_mul(groups) != Some(c) || out % groups != 0 {
        let expected = format!("weights for {c} channels in {groups} groups");
        return Err(OpError::mismatch("input 1", expected, Shape::from(shape)));
    }
    let [oh, ow] = [window[0].output(false)?, window[1].output(false)?];
    let taps = check_size(kernel)?;
    let wanted = [n, sets.saturating_mul(taps).saturating_mul(2), oh, ow];
    if offset.shape() != wanted {
        let given = Shape::from(offset.shape());
        return Err(OpError::mismatch("input 2", Shape::from(wanted), given));
    }
    let points = taps.saturating_mul(oh).saturating_mul(ow);
    let places = deformed(call.builder, &offset, &window, [n, sets, oh, ow])?;
    let places = call.builder.reshape(&places, &[n * sets, points, 2])?;
    let kind = Kind::Sample { mode: Mode::Linear, padding: Padding::Zeros, units: Units::Elements };
    let mut columns = sampled(call.builder, &x, &places, kind)?;
    if let Some(mask) = call.optional(4) {
        let mask = call.builder.reshape(&mask, &[n, sets, 1, points])?;
        let whole = call.builder.reshape(&columns, &[n, sets, c / sets, points])?;
        let mut formula = Formula::floats(2);
        formula.mul(0, 1);
        columns = call.builder.pointwise(&formula.0, &[whole, mask], x.dtype)?;
    }
    let per_group = shape[1].saturating_mul(taps);
    let columns = call.builder.reshape(&columns, &[n, groups, per_group, oh * ow])?;
    let filter = call.builder.reshape(&weights, &[1, groups, out / groups, per_group])?;
    let result = super::matmul::product(call.builder, &filter, &columns)?;
    let mut result = call.builder.reshape(&result, &[n, out, oh, ow])?;
    if let Some(bias) = call.optional(3) {
        let bias = call.builder.reshape(&bias, &[out, 1, 1])?;
        result = biased(call.builder, &result, &bias)?;
    }
    Ok(vec![Builder::retyped(&result, x.dtype)])
}

/// Where each tap lies: `[n, sets, taps, oh, ow, 2]`, column first, from offsets that name rows
/// first.
fn deformed(
    builder: &mut Builder,
    offset: &Operand,
    window: &[Axis],
    [n, sets, oh, ow]: [usize; 4],
) -> Result<Operand, OpError> {
    let (rows, columns) = (&window[0], &window[1]);
    let taps = rows.kernel * columns.kernel;
    let offset = builder.reshape(offset, &[n, sets, taps, 2, oh, ow])?;
    let offset = Builder::transpose(&offset, &[0, 1, 2, 4, 5, 3]);
    let offset = builder.slice(&offset, 5, 1, -1, 2)?;
    let start = |axis: &Axis, at: usize| (at * axis.stride) as f32 - axis.pad_begin as f32;
    let tap = |index: usize| {
        let (row, column) = (index / columns.kernel, index % columns.kernel);
        [(column * columns.dilation) as f32, (row * rows.dilation) as f32]
    };
    let tables = [
        (vec![taps, 1, 1, 2], (0..taps).flat_map(tap).collect::<Vec<f32>>()),
        (vec![oh, 1, 2], (0..oh).flat_map(|at| [0.0, start(rows, at)]).collect()),
        (vec![1, ow, 2], (0..ow).flat_map(|at| [start(columns, at), 0.0]).collect()),
    ];
    let mut inputs = vec![offset.clone()];
    let mut formula = Formula::floats(4);
    let mut sum = 0;
    for (index, (shape, values)) in tables.into_iter().enumerate() {
        inputs.push(builder.constant(Tensor::from_slice(shape, &values)?));
        sum = formula.add(sum, index + 1);
    }
    builder.pointwise(&formula.0, &inputs, offset.dtype)
}

/// Regions of `x [n, c, h, w]`, whose bins are `output`.
fn regions(
    call: &mut Call<'_>,
    kind: Region,
    inputs: Vec<Operand>,
    output: [usize; 2],
) -> Result<Vec<Operand>, OpError> {
    let dims = inputs[0].shape();
    expect_rank("input 0", &dims, 4)?;
    let rois = inputs[1].shape();
    let columns = if kind == Region::Pool { 5 } else { 4 };
    if rois.len() != 2 || rois[1] != columns {
        let expected = format!("[regions, {columns}]");
        return Err(OpError::mismatch("input 1", expected, Shape::from(rois)));
    }
    for size in dims[2..].iter().chain(&output) {
        narrow(*size)?;
        if *size == 0 {
            return Err(OpError::mismatch("input 0", "planes and bins with elements", 0));
        }
    }
    let (dtype, target) = (inputs[0].dtype, [rois[0], dims[1], output[0], output[1]]);
    let scale = call.float("spatial_scale", 1.0);
    Ok(vec![call.builder.emit(Kind::Roi { kind, scale }, inputs, &target, dtype)?])
}

/// `RoiAlign` (ONNX 10, 16, 22).
fn roi_align(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, rois, batches) = (call.input(0)?, call.input(1)?, call.input(2)?);
    expect_floats(&[&x, &rois])?;
    let max = match call.text("mode", "avg").as_str() {
        "avg" => false,
        "max" => true,
        other => return Err(OpError::Unsupported(format!("mode `{other}`"))),
    };
    let default = if call.opset < 16 { "output_half_pixel" } else { "half_pixel" };
    let half_pixel = match call.text("coordinate_transformation_mode", default).as_str() {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => {
            let what = format!("coordinate_transformation_mode `{other}`");
            return Err(OpError::Unsupported(what));
        }
    };
    let output = sizes(&[call.int("output_height", 1), call.int("output_width", 1)])?;
    let ratio = narrow(sizes(&[call.int("sampling_ratio", 0)])?[0])?;
    if batches.shape() != [rois.shape().first().copied().unwrap_or(0)] {
        let given = Shape::from(batches.shape());
        return Err(OpError::mismatch("input 2", "one number per region", given));
    }
    if batches.scalar() != gw_shaders::kernel::Scalar::I32 {
        return Err(OpError::Type { what: "input 2".to_owned(), given: batches.dtype });
    }
    let kind = Region::Align { max, ratio, half_pixel };
    regions(call, kind, vec![x, rois, batches], [output[0], output[1]])
}

/// `MaxRoiPool` (ONNX 1, 22).
fn max_roi_pool(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let (x, rois) = (call.input(0)?, call.input(1)?);
    expect_floats(&[&x, &rois])?;
    let pooled = call.ints("pooled_shape");
    let pooled = sizes(&pooled.ok_or_else(|| OpError::Missing("pooled_shape".to_owned()))?)?;
    let &[height, width] = pooled.as_slice() else {
        return Err(OpError::mismatch("pooled_shape", "two sizes", format!("{pooled:?}")));
    };
    regions(call, Region::Pool, vec![x, rois], [height, width])
}
