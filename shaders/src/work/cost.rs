//! What a step costs at least, whatever the kernel: the two axes of a roofline.

use super::Work;
use crate::attention::{Mask, MaskView};
use crate::conv;
use crate::expr::{Expr, Instr};
use crate::gather::{self, Table};
use crate::gemm::{self, Epilogue, Weights};
use crate::layout::{Matrix, View};
use crate::{attention, embed, linear_attention, norm, recurrent};

/// The arithmetic and the traffic of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Operations on elements; a multiply-add is two, a function such as `exp` one.
    pub flops: u64,
    /// Bytes that must move: each element that is read counts once, and each that is written.
    pub bytes: u64,
}

impl Work {
    /// What it costs where the buffers that it binds have these sizes in bytes, in the order of
    /// the kernel's bindings.
    pub fn cost(&self, buffers: &[u64]) -> Cost {
        let moved = |(binding, &bytes): (usize, &u64)| match self.touched(binding) {
            Some(elements) => bytes.min(elements.saturating_mul(4)),
            None => bytes,
        };
        Cost { flops: self.flops(), bytes: buffers.iter().enumerate().map(moved).sum() }
    }

    /// The operations that it takes, to the leading terms.
    fn flops(&self) -> u64 {
        match self {
            Self::Attention(spec) => {
                let pairs =
                    product(&[spec.batch, spec.heads]) * spec.window.pairs(spec.queries, spec.keys);
                // A product with each key and each value, then scale, mask, largest, exp, sum.
                pairs * (2 * (u64::from(spec.head_dim) + u64::from(spec.value_dim)) + 5)
            }
            Self::Conv(spec) => {
                let pixels =
                    product(&[spec.batch, spec.channels_out]) * product(&spec.windows.output);
                let taps = product(&[spec.channels_in / spec.groups.max(1)])
                    * product(&spec.windows.kernel);
                pixels * (2 * taps + operations(&spec.epilogue.expr))
            }
            Self::ConvLast(spec) => {
                let pixels =
                    product(&[spec.batch, spec.channels_out]) * product(&spec.windows.output);
                let channels = if spec.depthwise { 1 } else { spec.channels_in };
                let taps = product(&[channels]) * product(&spec.windows.kernel);
                pixels * (2 * taps + operations(&spec.epilogue.expr))
            }
            Self::Det(spec) => product(&[spec.count, spec.n, spec.n, spec.n]) * 2 / 3,
            Self::Dot(spec) => {
                product(&[spec.m, spec.n])
                    * (2 * u64::from(spec.k) + operations(&spec.epilogue.expr))
            }
            Self::Embed(spec) => {
                let norm = if spec.norm.is_some() { NORM } else { 0 };
                product(&[spec.count, spec.cols]) * (operations(&spec.expr) + norm)
            }
            Self::Fold(spec) => {
                product(&[spec.planes]) * product(&spec.windows) * product(&spec.kernel)
            }
            Self::Gather(spec) => match spec.table {
                Table::Plain(_) | Table::PackedF16 | Table::PackedBf16 => 0,
                Table::PackedI8 => product(&[spec.outer, spec.count, spec.inner]),
            },
            Self::Gemm(spec) => cells(spec) * of_cell(spec),
            Self::Normed(spec) => cells(&spec.product) * (of_cell(&spec.product) + NORM),
            Self::LinearAttention(spec) => tokens(spec),
            Self::Lrn(spec) => {
                product(&[spec.batch, spec.channels, spec.inner]) * (2 * u64::from(spec.size) + 3)
            }
            Self::Norm(spec) => product(&[spec.rows, spec.cols]) * NORM,
            Self::Pointwise(spec) => product(&spec.shape) * operations(&spec.expr),
            Self::Pool(spec) => {
                let planes = product(&[spec.planes, spec.inner]);
                planes * product(&spec.output) * product(&spec.kernel)
            }
            Self::Recurrent(spec) => steps(spec),
            Self::Reduce(spec) => product(&[spec.outer, spec.reduced, spec.inner]),
            Self::Resample(spec) => product(&[spec.outer, spec.count, spec.inner, spec.taps]) * 2,
            // Linear between four neighbours.
            Self::Roi(spec) => product(&[spec.rois, spec.channels]) * product(&spec.output) * 8,
            Self::Sample(spec) => {
                let neighbours = 1 << (2 * spec.axes.min(3));
                product(&[spec.planes, spec.points]) * neighbours
            }
            Self::Scan(spec) => product(&[spec.outer, spec.len, spec.inner]),
            Self::Scatter(spec) => product(&[spec.count, spec.inner]),
            // The largest value, the difference, exp, the sum, the share.
            Self::Softmax(spec) => product(&[spec.outer, spec.len, spec.inner]) * 5,
            Self::Sort(spec) => product(&[spec.outer, spec.len, spec.inner]),
            Self::Trees(spec) => product(&[spec.rows, spec.targets, spec.turns]),
        }
    }

    /// The elements of a binding that are read or written, counted once; `None` for all of them.
    fn touched(&self, binding: usize) -> Option<u64> {
        match self {
            Self::Pointwise(spec) => {
                let view = spec.inputs.get(binding).unwrap_or(&spec.output);
                Some(seen(view, &spec.shape))
            }
            Self::Gemm(spec) => product_touched(spec, binding),
            Self::Dot(spec) => {
                let operand = match binding {
                    0 => return Some(matrix(&spec.a, [1, 1], spec.m, spec.k)),
                    1 => return None,
                    _ => spec.epilogue.inputs.get(binding - 2).unwrap_or(&spec.output),
                };
                Some(matrix(operand, [1, 1], spec.m, spec.n))
            }
            Self::Conv(spec) => (binding == 0).then(|| image(spec)),
            Self::ConvLast(spec) => image_touched(spec, binding),
            Self::Attention(spec) => Some(rows_touched(spec, binding)),
            Self::Gather(spec) => gathered(spec, binding),
            Self::Embed(spec) => embedded(spec, binding),
            Self::Normed(spec) => {
                let weights = spec.norm.operands();
                product_touched(&spec.product, binding.checked_sub(weights)?)
            }
            _ => None,
        }
    }
}

/// Operations per element of a norm: the sum, the squares of what differs from the mean, and the
/// result.
const NORM: u64 = 7;

/// Sums of a product.
fn cells(spec: &gemm::Spec) -> u64 {
    product(&spec.batch) * product(&[spec.m, spec.n])
}

/// Operations of each.
fn of_cell(spec: &gemm::Spec) -> u64 {
    2 * u64::from(spec.k) + operations(&spec.epilogue.expr)
}

/// Of a table only the rows that indices name.
fn embedded(spec: &embed::Spec, binding: usize) -> Option<u64> {
    let weights = spec.norm.map_or(0, norm::Form::operands);
    let rows = u64::from(spec.count);
    let mut at = weights;
    for input in &spec.inputs {
        let bindings = match input {
            embed::Rows::Table { table: Table::PackedI8, .. } => 3,
            embed::Rows::Table { .. } => 2,
            embed::Rows::Dense { .. } => 1,
        };
        if (at..at + bindings).contains(&binding) {
            let row = match (input, binding - at) {
                (embed::Rows::Table { table, .. }, 0) => table.row_words(spec.cols),
                (embed::Rows::Table { table: Table::PackedI8, .. }, 1) => 1,
                (_, 0) => spec.cols,
                _ => return None,
            };
            return Some(rows * u64::from(row));
        }
        at += bindings;
    }
    None
}

fn product(sizes: &[u32]) -> u64 {
    sizes.iter().fold(1, |product, &size| product.saturating_mul(size.into()))
}

/// Instructions that compute something.
fn operations(expr: &Expr) -> u64 {
    expr.instrs.iter().filter(|instr| !matches!(instr, Instr::Const(..))).count() as u64
}

/// Elements that a view of `shape` names; an axis of stride 0 names the same ones again.
fn seen(view: &View, shape: &[u32]) -> u64 {
    let axes = shape.iter().zip(&view.strides);
    axes.filter(|(_, stride)| **stride != 0).map(|(&size, _)| u64::from(size)).product()
}

fn matrix(matrix: &Matrix, batch: [u32; 2], rows: u32, cols: u32) -> u64 {
    let [first, second] = matrix.batch;
    let strides = vec![first, second, matrix.row, matrix.col];
    seen(&View { offset: 0, strides }, &[batch[0], batch[1], rows, cols])
}

fn product_touched(spec: &gemm::Spec, binding: usize) -> Option<u64> {
    let gemm::Spec { batch, m, n, k, .. } = *spec;
    let further = match spec.b {
        Weights::PackedI8 | Weights::PackedU8 | Weights::Blocks { .. } => 3,
        _ => 2,
    };
    match binding {
        0 => Some(matrix(&spec.a, batch, m, k)),
        1 => match &spec.b {
            Weights::Strided(b) => Some(matrix(b, batch, k, n)),
            _ => None,
        },
        _ if binding < further => None,
        _ => {
            let Epilogue { inputs, .. } = &spec.epilogue;
            let operand = inputs.get(binding - further).unwrap_or(&spec.output);
            Some(matrix(operand, batch, m, n))
        }
    }
}

/// Pixels of the image that windows cover, at most.
fn image(spec: &conv::Spec) -> u64 {
    let covered = |axis: usize| {
        spec.windows.input[axis].min(spec.windows.output[axis] * spec.windows.kernel[axis])
    };
    product(&[spec.batch, spec.channels_in, covered(0), covered(1)])
}

fn image_touched(spec: &conv::last::Spec, binding: usize) -> Option<u64> {
    let pixels = spec.windows.output[0].saturating_mul(spec.windows.output[1]);
    let further = if gemm::is_scaled(spec.filters) { 3 } else { 2 };
    match binding {
        0 => Some(seen(
            &spec.x,
            &[spec.batch, spec.windows.input[0], spec.windows.input[1], spec.channels_in],
        )),
        _ if binding < further => None,
        _ => {
            let operand = spec.epilogue.inputs.get(binding - further).unwrap_or(&spec.result);
            // Rows of all images have one stride where they are together.
            let (entries, rows) = if spec.together {
                (1, spec.batch.saturating_mul(pixels))
            } else {
                (spec.batch, pixels)
            };
            Some(matrix(operand, [entries, 1], rows, spec.channels_out))
        }
    }
}

fn rows_touched(spec: &attention::Spec, binding: usize) -> u64 {
    let attention::Spec { batch, heads, kv_heads, queries, keys, head_dim, value_dim, .. } = *spec;
    let mask = |view: &MaskView| {
        let strides = vec![view.batch, view.head, view.query, view.key];
        seen(&View { offset: 0, strides }, &[batch, heads, queries, keys])
    };
    let last = 3 + usize::from(spec.mask != Mask::None) + usize::from(spec.counts.is_some());
    match (binding, &spec.mask) {
        (0, _) => product(&[batch, heads, queries, head_dim]),
        (1, _) => product(&[batch, kv_heads, keys, head_dim]),
        (2, _) => product(&[batch, kv_heads, keys, value_dim]),
        (3, Mask::Additive(view) | Mask::Boolean(view)) => mask(view),
        _ if binding == last => product(&[batch, heads, queries, value_dim]),
        _ => batch.into(),
    }
}

fn gathered(spec: &gather::Spec, binding: usize) -> Option<u64> {
    let rows = product(&[spec.outer, spec.count]);
    match (binding, spec.table) {
        (0, table) => Some(rows * u64::from(table.row_words(spec.inner))),
        (1, Table::PackedI8) => Some(rows),
        _ => None,
    }
}

/// A product of the state, and of x where that is inside, with what the cell has of gates, and some
/// ten operations per unit.
fn steps(spec: &recurrent::Spec) -> u64 {
    let walked = spec.part[1].saturating_sub(spec.part[0]);
    let units = product(&[walked, spec.batch, spec.directions, spec.hidden]);
    let width = spec.projection.map_or(0, |projection| projection.width);
    let terms = u64::from(spec.hidden) + u64::from(width);
    units * (2 * terms * u64::from(spec.cell.gates()) + 10)
}

/// Each token fades and writes a state and is read by each query head.
fn tokens(spec: &linear_attention::Spec) -> u64 {
    let walked = spec.part[1].saturating_sub(spec.part[0]);
    let cells = product(&[walked, spec.batch, spec.kv_heads, spec.key_dim, spec.value_dim]);
    cells * (3 + 2 * u64::from(spec.group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::{Binary, Unary};
    use crate::kernel::Scalar;
    use crate::pointwise;

    fn gemm(b: Weights, epilogue: Epilogue) -> Work {
        let a = Matrix::dense([1, 1], 4, 8);
        let output = Matrix::dense([1, 1], 4, 64);
        gemm::Spec { batch: [1, 1], m: 4, n: 64, k: 8, a, b, output, epilogue }.into()
    }

    #[test]
    fn a_product_is_two_operations_per_element_and_what_follows() {
        let bias = Epilogue {
            expr: Expr::binary(Binary::Add, Scalar::F32)
                .then(&Expr::unary(Unary::Relu, Scalar::F32), 0),
            inputs: vec![Matrix::per_column()],
        };
        // a is a part of a larger buffer; the bias is read once.
        let cost = gemm(Weights::PackedF32, bias).cost(&[4096, 2048, 256, 1024]);
        assert_eq!(cost.flops, 4 * 64 * (2 * 8 + 2));
        assert_eq!(cost.bytes, 4 * 8 * 4 + 2048 + 256 + 1024);
        // Bytes are packed, and their scales are a binding of their own.
        let cost = gemm(Weights::PackedI8, Epilogue::identity()).cost(&[128, 512, 256, 1024]);
        assert_eq!(cost.bytes, 128 + 512 + 256 + 1024);
    }

    #[test]
    fn what_is_repeated_counts_once() {
        let shape = vec![3, 5];
        let spec = pointwise::Spec {
            inputs: vec![View::dense(&shape), View::broadcast(&[5], &shape)],
            output: View::dense(&shape),
            expr: Expr::binary(Binary::Mul, Scalar::F32),
            shape,
        };
        let cost = Work::from(spec).cost(&[60, 20, 60]);
        assert_eq!(cost, Cost { flops: 15, bytes: 140 });
    }

    #[test]
    fn a_gather_moves_the_rows_that_it_takes() {
        let spec = gather::Spec {
            table: Table::Plain(Scalar::F32),
            outer: 1,
            axis: 30_000,
            part: [0, 30_000],
            inner: 384,
            count: 2,
        };
        let cost = Work::from(spec).cost(&[30_000 * 384 * 4, 8, 2 * 384 * 4]);
        assert_eq!(cost, Cost { flops: 0, bytes: 2 * (2 * 384 * 4) + 8 });
    }

    #[test]
    fn a_causal_query_sees_only_what_came_before() {
        let spec = attention::Spec {
            batch: 1,
            heads: 2,
            kv_heads: 1,
            queries: 3,
            keys: 3,
            head_dim: 4,
            value_dim: 4,
            scale: 1.0,
            q: attention::Rows::default(),
            k: attention::Rows::default(),
            v: attention::Rows::default(),
            output: attention::Rows::default(),
            mask: Mask::None,
            mask_expr: None,
            window: attention::Window::causal(0),
            counts: None,
            nan_to_zero: false,
        };
        let cost = Work::from(spec).cost(&[96, 48, 48, 96]);
        assert_eq!(cost.flops, 2 * (1 + 2 + 3) * (2 * 8 + 5));
        assert_eq!(cost.bytes, 96 + 48 + 48 + 96);
    }
}
