//! Where an operand lies in its buffer, in elements.

/// An operand with one stride per axis of the kernel's shape; stride 0 repeats, a negative one
/// walks backwards from `offset`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The element that index zero on every axis names.
    pub offset: u32,
    /// Elements from one index to the next, outermost axis first.
    pub strides: Vec<i32>,
}

impl View {
    /// The whole of a buffer that holds `shape` in row-major order.
    pub fn dense(shape: &[u32]) -> Self {
        let mut strides = vec![0; shape.len()];
        let mut step = 1u32;
        for (stride, &size) in strides.iter_mut().zip(shape).rev() {
            *stride = step.cast_signed();
            step = step.saturating_mul(size.max(1));
        }
        Self { offset: 0, strides }
    }

    /// A row-major buffer of shape `from`, repeated to `to` by the rules of ONNX: axes are
    /// aligned at the end, and an axis of size one repeats.
    ///
    /// The caller has checked that the shapes are compatible.
    pub fn broadcast(from: &[u32], to: &[u32]) -> Self {
        let dense = Self::dense(from);
        let missing = to.len().saturating_sub(from.len());
        let strides = (0..to.len())
            .map(|axis| match axis.checked_sub(missing) {
                Some(own) if from[own] != 1 => dense.strides[own],
                _ => 0,
            })
            .collect();
        Self { offset: 0, strides }
    }

    /// The element at `index`.
    pub fn at(&self, index: &[u32]) -> usize {
        let moved: i64 = self
            .strides
            .iter()
            .zip(index)
            .map(|(&stride, &position)| i64::from(stride) * i64::from(position))
            .sum();
        usize::try_from(i64::from(self.offset) + moved).expect("a view stays inside its buffer")
    }
}

/// A batch of matrices: two batch axes, rows, columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Matrix {
    /// The first element.
    pub offset: u32,
    /// Elements from one matrix to the next, per batch axis; 0 repeats.
    pub batch: [i32; 2],
    /// Elements from one row to the next.
    pub row: i32,
    /// Elements from one column to the next.
    pub col: i32,
}

impl Matrix {
    /// Row-major matrices of `rows` by `cols`, one after another over `batch`.
    pub const fn dense(batch: [u32; 2], rows: u32, cols: u32) -> Self {
        let _ = batch[0];
        let area = rows.wrapping_mul(cols);
        Self {
            offset: 0,
            batch: [area.wrapping_mul(batch[1]).cast_signed(), area.cast_signed()],
            row: cols.cast_signed(),
            col: 1,
        }
    }

    /// One value per column, the same in every row and batch: a bias of a linear layer.
    pub const fn per_column() -> Self {
        Self { offset: 0, batch: [0, 0], row: 0, col: 1 }
    }

    /// One value in all.
    pub const fn scalar() -> Self {
        Self { offset: 0, batch: [0, 0], row: 0, col: 0 }
    }

    /// The same matrices with rows and columns swapped.
    #[must_use]
    pub const fn transposed(self) -> Self {
        Self { row: self.col, col: self.row, ..self }
    }

    /// The element at `(batch, row, col)`.
    pub fn at(&self, batch: [u32; 2], row: u32, col: u32) -> usize {
        let moved = i64::from(self.batch[0]) * i64::from(batch[0])
            + i64::from(self.batch[1]) * i64::from(batch[1])
            + i64::from(self.row) * i64::from(row)
            + i64::from(self.col) * i64::from(col);
        usize::try_from(i64::from(self.offset) + moved).expect("a matrix stays inside its buffer")
    }

    /// Whether four neighbouring columns are one aligned `vec4`.
    pub(crate) const fn is_wide(&self) -> bool {
        self.col == 1
            && self.offset.is_multiple_of(4)
            && self.batch[0] % 4 == 0
            && self.batch[1] % 4 == 0
            && self.row % 4 == 0
    }
}
