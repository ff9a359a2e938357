//! Products of matrices.
//!
//! One is split where the adapter cannot do it at once: by columns and by k where its weights are
//! larger than a binding, by k where a sum has too many turns. Each part of k adds to what the
//! parts before it left, and the last applies the epilogue.

use std::ops::Range;

use gw_shaders::expr::{Binary, Expr};
use gw_shaders::gemm::{self, Epilogue, Weights};
use gw_shaders::kernel::Scalar;
use gw_shaders::layout::Matrix;
use gw_shaders::work::Work;
use gw_shaders::{norm, normed};
use gw_tensor::DType;

use super::{Lowering, floats, halves, matrix, sizes, words};
use crate::error::OpError;
use crate::lower::parts::{Part, ranges};
use crate::net::{Gemm, Node, Operand};
use crate::plan::{BufferId, BufferKind};

/// A constant whose elements repeat this much is not written out to be packed.
const PACK_REPEATS_MAX: usize = 64;

/// The right-hand matrices of a product, `[.., k, n]`.
enum Right {
    /// One constant matrix `[k, n]`, which each part packs for itself, of floats.
    Floats(Operand),
    /// As [`Right::Floats`], of 16-bit floats.
    Halves(Operand),
    /// As [`Right::Floats`], of bytes, with the scales of their columns.
    Bytes(Operand, Operand),
    /// Constants that no binding holds together: each part writes its own out.
    Stacked(Operand),
    /// In one buffer.
    Strided(Matrix, BufferId),
}

/// The operands of a product that all its parts share.
struct Product<'a> {
    batch: [u32; 2],
    m: u32,
    /// Where the left-hand matrices lie.
    a: (Matrix, BufferId),
    right: Right,
    epilogue: Epilogue,
    /// The buffers of the epilogue's inputs.
    further: Vec<BufferId>,
    output: (Matrix, BufferId),
    node: &'a Node,
}

impl Lowering<'_> {
    pub(super) fn gemm(&mut self, kind: &Gemm, node: &Node) -> Result<(), OpError> {
        let together = rows_together(kind, node);
        let node = together.as_ref().unwrap_or(node);
        let [outer, inner, m, k] = sizes(&node.inputs[0])?;
        let [_, _, _, n] = sizes(&node.inputs[1])?;
        let a = self.matrix(&node.inputs[0])?;
        let right = self.right_side(kind, node)?;
        let mut further = Vec::new();
        let operands = &node.inputs[kind.operands()..];
        let epilogue = self.epilogue(&kind.epilogue, operands, &mut further)?;
        let output = matrix(&node.output.layout)?
            .ok_or_else(|| OpError::Unsupported("the layout of this output".to_owned()))?;
        let output = (output, self.buffer(node.output.tensor)?);
        let batch = [outer, inner];
        let [k_at_once, n_at_once] = self.at_once(&right, k, n)?;
        let product = Product { batch, m, a, right, epilogue, further, output, node };
        let mut steps = 0;
        for columns in ranges(n, n_at_once) {
            let mut before = None;
            for depth in ranges(k, k_at_once) {
                let last = depth.end == k;
                before = Some(self.part_of_product(&product, depth, &columns, before, last)?);
                steps += 1;
            }
        }
        self.split += steps - 1;
        Ok(())
    }

    /// A product whose rows are normalised in the same step.
    pub(super) fn normed(
        &mut self,
        kind: &Gemm,
        norm: norm::Form,
        node: &Node,
    ) -> Result<(), OpError> {
        let (weights, operands) = node.inputs.split_at(norm.operands());
        let mut bindings =
            weights.iter().map(|weight| self.dense(weight)).collect::<Result<Vec<_>, _>>()?;
        let unsupported = |reason: &str| OpError::Unsupported(reason.to_owned());
        let split = self.split;
        self.gemm(kind, &Node { inputs: operands.to_vec(), ..node.clone() })?;
        let step = self.plan.steps.pop().filter(|_| self.split == split);
        let step = step.ok_or_else(|| unsupported("rows of a product in parts"))?;
        let Some(Work::Gemm(product)) = step.work else { unreachable!("a product was lowered") };
        let spec = normed::Spec { product, norm };
        if !normed::pays(&spec, self.caps) {
            return Err(unsupported("so few or so many rows of a product at once"));
        }
        bindings.extend(step.bindings);
        let made = self.made(spec)?;
        self.step(made, bindings);
        Ok(())
    }

    /// One step: `depth` of k for `columns`, added to `before`, and where it left the result.
    fn part_of_product(
        &mut self,
        product: &Product<'_>,
        depth: Range<u32>,
        columns: &Range<u32>,
        before: Option<BufferId>,
        last: bool,
    ) -> Result<BufferId, OpError> {
        let Product { batch, m, .. } = *product;
        let (k, n) = (depth.end - depth.start, columns.end - columns.start);
        let (a, a_buffer) = product.a;
        let mut bindings = vec![a_buffer];
        let b = self.right_part(&product.right, &depth, columns, &mut bindings)?;
        let between = Matrix::dense(batch, m, n);
        let mut epilogue = Epilogue::identity();
        if let Some(buffer) = before {
            epilogue.expr = Expr::binary(Binary::Add, Scalar::F32);
            epilogue.inputs.push(between);
            bindings.push(buffer);
        }
        let (output, buffer) = if last {
            // The sum takes the place of the epilogue's first input.
            epilogue.expr = epilogue.expr.then(&product.epilogue.expr, 0);
            for matrix in &product.epilogue.inputs {
                epilogue.inputs.push(moved(*matrix, [0, columns.start])?);
            }
            bindings.extend(&product.further);
            (moved(product.output.0, [0, columns.start])?, product.output.1)
        } else {
            let name = &self.net.tensor(product.node.output.tensor).name;
            let name = format!("{name} of k up to {}", depth.end);
            let elements = [batch[0], batch[1], m, n].map(|size| size as usize);
            let elements = elements.into_iter().fold(1, usize::saturating_mul);
            (between, self.add_buffer(&name, BufferKind::Temporary, elements))
        };
        bindings.push(buffer);
        let a = moved(a, [0, depth.start])?;
        let spec = gemm::Spec { batch, m, n, k, a, b, output, epilogue };
        let made = self.made(spec)?;
        self.step(made, bindings);
        Ok(buffer)
    }

    /// What the right-hand side is: packed where it is a weight.
    fn right_side(&mut self, kind: &Gemm, node: &Node) -> Result<Right, OpError> {
        let b = &node.inputs[1];
        let one = b.layout.one_matrix().map(|layout| b.with_layout(layout));
        if kind.quantised {
            let weights =
                one.ok_or_else(|| OpError::Unsupported("a batch of weights".to_owned()))?;
            return Ok(Right::Bytes(weights, node.inputs[2].clone()));
        }
        let stored = self.net.tensor(b.tensor).shape.elements();
        let repeats = b.layout.elements() / stored.max(1);
        match one {
            Some(weights) if self.net.is_constant(b) && repeats <= PACK_REPEATS_MAX => {
                Ok(match self.as_halves(&weights) {
                    Some(halves) => Right::Halves(halves),
                    None => Right::Floats(weights),
                })
            }
            _ if self.net.is_constant(b) && self.is_too_large(b.tensor) => {
                let mut layout = b.layout.clone();
                for axis in [0, 1] {
                    let repeats = layout.strides().is_some_and(|strides| strides[axis] == 0);
                    if repeats && let Some(once) = layout.sliced(axis, 0, 1, 1) {
                        layout = once;
                    }
                }
                Ok(Right::Stacked(b.with_layout(layout)))
            }
            _ => {
                let (matrix, buffer) = self.matrix(b)?;
                Ok(Right::Strided(matrix, buffer))
            }
        }
    }

    /// How much of k and how many columns one step takes.
    fn at_once(&self, right: &Right, k: u32, n: u32) -> Result<[u32; 2], OpError> {
        let depth = gemm::k_at_once(self.caps);
        // Columns that lie together, and the bytes of one k of them; what is narrower than a word
        // is padded to four of k.
        let (tile, bytes, stored) = match right {
            Right::Strided(..) => return Ok([depth, n.max(1)]),
            Right::Floats(_) => (64, 64 * 4, k),
            Right::Halves(_) => (64, 64 * 2, k.next_multiple_of(4)),
            Right::Bytes(..) => (64, 64, k.next_multiple_of(4)),
            Right::Stacked(operand) => {
                let [outer, inner, ..] = sizes::<4>(operand)?;
                (4, 16 * u64::from(outer.max(1)) * u64::from(inner.max(1)), k)
            }
        };
        let limit = self.caps.binding_bytes;
        let held = u32::try_from(limit / bytes).unwrap_or(u32::MAX);
        let depth = if stored <= held.min(depth) { stored } else { held.min(depth) / 4 * 4 };
        if depth == 0 && k > 0 {
            let reason = format!("{} bytes of weights in bindings of {limit}", 4 * bytes);
            return Err(OpError::Unsupported(reason));
        }
        let columns = (limit / (bytes * u64::from(depth)).max(1)).saturating_mul(tile);
        Ok([depth, u32::try_from(columns).unwrap_or(u32::MAX)])
    }

    /// The right-hand matrix of one part.
    fn right_part(
        &mut self,
        right: &Right,
        depth: &Range<u32>,
        columns: &Range<u32>,
        bindings: &mut Vec<BufferId>,
    ) -> Result<Weights, OpError> {
        let (k, n) = (depth.end - depth.start, columns.end - columns.start);
        let shape = [k as usize, n as usize];
        match right {
            Right::Floats(weights) => {
                let part = [Part(0, depth.clone()), Part(1, columns.clone())];
                bindings.push(self.converted_part(weights, " packed", &part, |data| {
                    let floats = floats(&data.reshaped(shape)?)?;
                    Ok(words(gemm::pack_f32(&floats.as_slice::<f32>()?, k, n)))
                })?);
                Ok(Weights::PackedF32)
            }
            Right::Halves(weights) => {
                let part = [Part(0, depth.clone()), Part(1, columns.clone())];
                bindings.push(self.converted_part(weights, " packed halves", &part, |data| {
                    Ok(words(gemm::pack_halves(&halves(data), k, n)))
                })?);
                let is_brain = weights.dtype == DType::Bf16;
                Ok(if is_brain { Weights::PackedBf16 } else { Weights::PackedF16 })
            }
            Right::Bytes(weights, scales) => {
                let part = [Part(0, depth.clone()), Part(1, columns.clone())];
                bindings.push(self.converted_part(weights, " packed", &part, |data| {
                    let bytes = data.reshaped(shape)?;
                    let bytes = bytemuck::cast_slice::<u8, i8>(bytes.bytes());
                    Ok(words(gemm::pack_i8(bytes, k, n)))
                })?);
                bindings.push(self.dense_part(scales, Part(0, columns.clone()))?);
                let signed = weights.dtype == DType::I8;
                Ok(if signed { Weights::PackedI8 } else { Weights::PackedU8 })
            }
            Right::Stacked(weights) => {
                let part = [Part(2, depth.clone()), Part(3, columns.clone())];
                bindings.push(self.weight_part(weights, &part)?);
                let [outer, inner, ..] = sizes::<4>(weights)?;
                let mut matrix = Matrix::dense([outer, inner], k, n);
                for (stride, size) in matrix.batch.iter_mut().zip([outer, inner]) {
                    *stride = if size == 1 { 0 } else { *stride };
                }
                Ok(Weights::Strided(matrix))
            }
            Right::Strided(matrix, buffer) => {
                bindings.push(*buffer);
                Ok(Weights::Strided(moved(*matrix, [depth.start, columns.start])?))
            }
        }
    }
}

/// One product instead of a batch, where all have one right-hand side and their rows lie one
/// after another: tiles then reach over batch entries.
fn rows_together(kind: &Gemm, node: &Node) -> Option<Node> {
    let &[outer, inner, m, _] = node.output.shape().as_slice() else { return None };
    if outer * inner == 1 {
        return None;
    }
    let b = node.inputs[1].layout.one_matrix()?;
    let mut merged = node.clone();
    let others = merged.inputs.iter_mut().enumerate();
    let others = others.filter(|(at, _)| *at == 0 || *at >= kind.operands());
    for operand in others.map(|(_, operand)| operand).chain([&mut merged.output]) {
        let columns = *operand.shape().last()?;
        operand.layout = operand.layout.reshaped(&[1, 1, outer * inner * m, columns])?;
        operand.layout.strides()?;
    }
    let [k, n] = *b.shape().as_slice() else { return None };
    merged.inputs[1].layout = b.expanded(&[1, 1, k, n]);
    Some(merged)
}

/// The same matrices from a row and a column on.
pub(super) fn moved(matrix: Matrix, [row, col]: [u32; 2]) -> Result<Matrix, OpError> {
    let step = i64::from(matrix.row) * i64::from(row) + i64::from(matrix.col) * i64::from(col);
    let offset = u32::try_from(i64::from(matrix.offset) + step)
        .map_err(|_| OpError::mismatch("an offset", "less than 2^32", step))?;
    Ok(Matrix { offset, ..matrix })
}
