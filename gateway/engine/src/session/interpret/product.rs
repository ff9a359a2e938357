//! Matrix products.

use std::borrow::Cow;

use gw_shaders::data::Data;
use gw_shaders::gemm::{self, Spec, Weights};
use gw_shaders::kernel::Scalar;
use gw_shaders::layout::Matrix;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use super::epilogue::{self, Sums};
use crate::plan::BufferId;

/// A product, with its right-hand matrix ready where it is a weight.
pub(super) struct Product {
    spec: Spec,
    /// One for all of the batch, or one for each of its entries.
    right: Vec<PackedBMatrix<f32>>,
    scales: Option<Vec<f32>>,
}

impl Product {
    /// `weights` are the bytes of the right-hand side, where they are known.
    pub(super) fn new(spec: &Spec, weights: Option<&[bytes::Bytes]>) -> Self {
        let mut product = Self { spec: spec.clone(), right: Vec::new(), scales: None };
        let Some(weights) = weights else { return product };
        let scalar = match spec.b {
            Weights::Strided(_) | Weights::PackedF32 => Scalar::F32,
            _ => Scalar::U32,
        };
        let b = Data::from_bytes(scalar, &weights[0]);
        let further = weights.get(1).map(|bytes| Data::from_bytes(Scalar::F32, bytes));
        match spec.b {
            Weights::Strided(matrix) => {
                product.right = entries(spec.batch, matrix.batch)
                    .map(|z| packed(&matrix, b.f32(), z, spec.k, spec.n))
                    .collect();
            }
            _ => {
                let operands: Vec<&Data> = std::iter::once(&b).chain(&further).collect();
                let dense = gemm::dense_weights(spec, &operands);
                let matrix = Matrix::dense([1, 1], spec.k, spec.n);
                product.right = vec![packed(&matrix, &dense, [0, 0], spec.k, spec.n)];
            }
        }
        if matches!(spec.b, Weights::PackedI8 | Weights::PackedU8) {
            product.scales = further.map(|scales| scales.f32().to_vec());
        }
        product
    }

    /// The buffers of the right-hand side, and what follows it.
    pub(super) fn weights(read: &[BufferId]) -> &[BufferId] {
        read.get(1..).unwrap_or_default()
    }

    /// How many buffers the right-hand side takes.
    pub(super) fn weight_buffers(spec: &Spec) -> usize {
        match spec.b {
            Weights::PackedI8 | Weights::PackedU8 | Weights::Blocks { .. } => 2,
            _ => 1,
        }
    }

    /// What a product with ready weights still reads.
    pub(super) fn reads(&self, read: &[BufferId]) -> Vec<BufferId> {
        let weights = Self::weight_buffers(&self.spec);
        read.iter().take(1).chain(read.iter().skip(1 + weights)).copied().collect()
    }

    pub(super) fn weight_bytes(&self) -> u64 {
        let matrix = |right: &PackedBMatrix<f32>| 4 * right.rows() as u64 * right.cols() as u64;
        self.right.iter().map(matrix).sum()
    }

    /// `b` is the right-hand side where it is not ready.
    pub(super) fn run(&self, a: &Data, b: Option<&Data>, further: &[&Data], out: &mut Data) {
        let Data::F32(out) = out else { unreachable!("products are floats") };
        let Spec { batch, m, n, k, .. } = self.spec;
        let shared = match self.spec.b {
            Weights::Strided(matrix) => matrix.batch == [0, 0],
            _ => true,
        };
        let mut own = None;
        let mut sums = vec![0.0; m as usize * n as usize];
        for (index, z) in entries(batch, [1, 1]).enumerate() {
            let right = match (self.right.as_slice(), b) {
                ([one], _) => one,
                ([], Some(b)) => {
                    let Weights::Strided(matrix) = self.spec.b else {
                        unreachable!("packed right-hand sides are weights")
                    };
                    if !shared {
                        own = None;
                    }
                    own.get_or_insert_with(|| packed(&matrix, b.f32(), z, k, n))
                }
                (several, _) => &several[index % several.len()],
            };
            let a = dense(&self.spec.a, a.f32(), z, m, k);
            multiply(&a, [m as usize, k as usize], right, &mut sums);
            if let Some(scales) = &self.scales {
                for row in sums.chunks_exact_mut(scales.len().max(1)) {
                    row.iter_mut().zip(scales).for_each(|(sum, scale)| *sum *= scale);
                }
            }
            let sums = Sums { values: &sums, batch: z, first_column: 0, columns: n as usize };
            epilogue::store(&sums, &self.spec.epilogue, further, &self.spec.output, out);
        }
    }
}

/// The entries of a batch that differ: an axis along which a matrix repeats has one.
fn entries(batch: [u32; 2], strides: [i32; 2]) -> impl Iterator<Item = [u32; 2]> {
    let repeats = strides == [0, 0];
    let [outer, inner] = if repeats { batch.map(|size| size.min(1)) } else { batch };
    (0..outer).flat_map(move |outer| (0..inner).map(move |inner| [outer, inner]))
}

fn packed(matrix: &Matrix, data: &[f32], z: [u32; 2], k: u32, n: u32) -> PackedBMatrix<f32> {
    let gemm = GemmExecutor::<f32>::default();
    if k == 0 || n == 0 {
        // Nothing is read of it.
        return gemm.prepack_b(view(&[0.0], [1, 1]));
    }
    let is_transposed = matrix.row == 1 && matrix.col != 1;
    if is_transposed {
        let columns = dense(&matrix.transposed(), data, z, n, k);
        return gemm.prepack_b(view(&columns, [n as usize, k as usize]).transposed());
    }
    gemm.prepack_b(view(&dense(matrix, data, z, k, n), [k as usize, n as usize]))
}

/// `sums = a * b`, with `a [m, k]` dense. The packed form adds up every column in one order.
pub(super) fn multiply(a: &[f32], [m, k]: [usize; 2], b: &PackedBMatrix<f32>, sums: &mut [f32]) {
    if k == 0 || sums.is_empty() {
        sums.fill(0.0);
        return;
    }
    let gemm = GemmExecutor::<f32>::default();
    let a = GemmInputA::Unpacked(view(a, [m, k]));
    let done = gemm.gemm(sums, a, GemmInputB::Packed(b), GemmOptions::default());
    done.expect("the sizes are those of the spec");
}

pub(super) fn view(data: &[f32], shape: [usize; 2]) -> NdTensorView<'_, f32, 2> {
    NdTensorView::from_data(shape, &data[..shape[0] * shape[1]])
}

/// One matrix, row by row.
fn dense<'a>(
    matrix: &Matrix,
    data: &'a [f32],
    z: [u32; 2],
    rows: u32,
    cols: u32,
) -> Cow<'a, [f32]> {
    let count = rows as usize * cols as usize;
    if count == 0 {
        return Cow::Borrowed(&[]);
    }
    let is_dense =
        (matrix.col == 1 || cols == 1) && (matrix.row == cols.cast_signed() || rows == 1);
    if is_dense {
        let first = matrix.at(z, 0, 0);
        return Cow::Borrowed(&data[first..first + count]);
    }
    let mut values = Vec::with_capacity(count);
    for row in 0..rows {
        if matrix.col == 1 {
            let first = matrix.at(z, row, 0);
            values.extend_from_slice(&data[first..first + cols as usize]);
        } else {
            values.extend((0..cols).map(|col| data[matrix.at(z, row, col)]));
        }
    }
    Cow::Owned(values)
}
