//! `out[i] = det(x[i])`: elimination with the largest pivot of each column.
//!
//! Source: `Det` (ONNX 22). A workgroup holds one matrix in its memory.

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::kernel::{Caps, Dispatch, Needs, Unsupported};

const NAME: &str = "det";

/// The largest matrix: with less than the 16 KiB that every adapter has per workgroup.
pub const SIZE_MAX: u32 = 60;

const LANES: u32 = 64;

/// What to compute.
///
/// Bindings: x `[count, n, n]`, the output `[count]`, both `F32`.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The number of matrices.
    pub count: u32,
    /// Rows and columns of each.
    pub n: u32,
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    if spec.n > SIZE_MAX {
        let reason = format!("matrices of {} rows, where {SIZE_MAX} are the most", spec.n);
        return Err(Unsupported::new(NAME, reason));
    }
    let mut composer = Composer::new(NAME, "matrix per workgroup");
    composer.source(include_str!("det.wgsl"));
    composer.constant("LANES", LANES).constant("CELLS", SIZE_MAX * SIZE_MAX);
    composer.u32("n", spec.n).read("x", "f32").write("result", "f32");
    let needs = Needs { workgroup_bytes: 4 * SIZE_MAX * SIZE_MAX, ..Needs::default() };
    let groups = u64::from(spec.count);
    Ok(vec![composer.finish("det_matrix", LANES, groups, needs, caps)?])
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

/// What the output holds.
///
/// # Panics
/// Where the input is not that of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let n = spec.n as usize;
    let matrices = inputs[0].f32();
    let det = |index: usize| {
        let start = index * n * n;
        let mut cells: Vec<f64> =
            matrices[start..start + n * n].iter().map(|&cell| f64::from(cell)).collect();
        let mut det = 1.0;
        for k in 0..n {
            let size = |row: usize| cells[row * n + k].abs();
            let pivot = (k..n).fold(k, |best, row| if size(row) > size(best) { row } else { best });
            if pivot != k {
                (0..n).for_each(|column| cells.swap(pivot * n + column, k * n + column));
                det = -det;
            }
            let head = cells[k * n + k];
            det *= head;
            if head == 0.0 {
                break;
            }
            for row in k + 1..n {
                let factor = cells[row * n + k] / head;
                for column in k..n {
                    cells[row * n + column] -= factor * cells[k * n + column];
                }
            }
        }
        det as f32
    };
    Data::F32((0..spec.count as usize).map(det).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn reference_matches_a_table() {
        let x = Data::F32(vec![0.0, 2.0, 3.0, 4.0, 1.0, 2.0, 2.0, 4.0]);
        assert_eq!(reference(&Spec { count: 2, n: 2 }, &[x]).f32(), [-6.0, 0.0]);
        let x = Data::F32(vec![2.0, 0.0, 1.0, 1.0, 3.0, 2.0, 1.0, 1.0, 1.0]);
        assert_eq!(reference(&Spec { count: 1, n: 3 }, &[x]).f32(), [0.0]);
    }

    #[test]
    fn every_variant_is_valid() {
        check::variants(|caps| variants(&Spec { count: 3, n: 5 }, caps));
        assert!(dispatch(&Spec { count: 1, n: SIZE_MAX + 1 }, &Caps::minimal()).is_err());
    }
}
