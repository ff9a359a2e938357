//! `out[b, m, :] = norm(epilogue(sum over k of a[b, m, k] * b[b, k, :], …))`, in f32.
//!
//! A workgroup computes whole rows, tile after tile, and then normalises them where it stored
//! them: no other dispatch reads what was not normalised. It adds up products as [`super`] does
//! and folds rows as [`crate::norm`] does, bit by bit, so that either may do a row's work.

use std::borrow::Borrow;

use super::{NAME, Shape, Way, check, ways};
use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::kernel::{Caps, Dispatch, Unsupported};
use crate::lanes::{Lanes, SHARING};
use crate::layout::Matrix;
use crate::{gemm, norm, operands};

/// What to compute.
///
/// Bindings: scale `[n]` and bias `[n]` where the norm has them, then those of the product.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The rows; their output is dense.
    pub product: gemm::Spec,
    /// How they are normalised.
    pub norm: norm::Form,
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// As [`gemm::variants`], and where rows are too long or do not follow each other.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let product = &spec.product;
    check(product)?;
    if !is_dense(product) {
        return Err(Unsupported::new(NAME, "normalised rows that lie apart"));
    }
    if !product.n.is_multiple_of(4) {
        return Err(Unsupported::new(NAME, "normalised rows that are not of whole vec4"));
    }
    let gemm::Spec { batch, m, n, k, .. } = *product;
    let Some((ways, lanes)) = open(Shape { batch, m, n, k }, caps) else {
        return Err(Unsupported::new(
            NAME,
            "normalised rows on an adapter without what shares them",
        ));
    };
    ways.into_iter().map(|way| compose(spec, way, lanes, caps)).collect()
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

/// Whether there are enough workgroups, and few enough that read all weights, for one dispatch to
/// take no longer than two.
pub fn pays(spec: &Spec, caps: &Caps) -> bool {
    let [outer, inner] = spec.product.batch.map(u64::from);
    let rows = u64::from(spec.product.m) * outer * inner;
    if caps.software { rows >= 64 } else { (32..=512).contains(&rows) }
}

/// Whether the rows of the output lie one after another; an axis of size one has any stride.
fn is_dense(product: &gemm::Spec) -> bool {
    let gemm::Spec { batch, m, n, output, .. } = *product;
    let due = Matrix::dense(batch, m, n);
    let axes = [
        (batch[0], output.batch[0], due.batch[0]),
        (batch[1], output.batch[1], due.batch[1]),
        (m, output.row, due.row),
        (n, output.col, due.col),
    ];
    output.offset == 0 && axes.iter().all(|&(size, stride, due)| size <= 1 || stride == due)
}

/// How a workgroup may go about its rows, and who shares one. On software adapters only subgroups
/// do: barriers cost more than a dispatch, and `SwiftShader`, whose subgroups are of 4, compiles a
/// loop around a tile for minutes.
fn open(shape: Shape, caps: &Caps) -> Option<(Vec<Way>, Lanes)> {
    let m = shape.m;
    if caps.software {
        let lanes = Lanes::subgroup(caps)?;
        let tile = |rows| Way::Subgroup { lanes: lanes.count(), rows, quads: 2 };
        let rows = if m <= 8 { 8 } else { 16 };
        let tallest = ways::tallest(shape, caps);
        return Some((tallest.into_iter().chain([rows]).map(tile).collect(), lanes));
    }
    // Few rows each, so that there are many workgroups.
    let rows = if m <= 256 { 4 } else { 8 };
    Some((vec![Way::Plain { lanes: SHARING, rows, quads: 1 }], Lanes::Together(SHARING)))
}

fn compose(spec: &Spec, way: Way, lanes: Lanes, caps: &Caps) -> Result<Dispatch, Unsupported> {
    let Spec { product, norm } = spec;
    let mut composer = Composer::new(NAME, format!("{}, rows normalised", way.name()));
    composer.source(include_str!("../gemm.wgsl")).source(include_str!("normed.wgsl"));
    composer.u32("m", product.m).u32("n", product.n).u32("k", product.k);
    composer.u32("inner_batch", product.batch[1].max(1));
    lanes.folds(&mut composer);
    norm::declare(&mut composer, *norm, product.n, lanes, "value_of_result");
    operands::a(&mut composer, product);
    operands::b(&mut composer, product);
    let scaled = gemm::is_scaled(product.b);
    operands::epilogue(&mut composer, product.n, &product.output, &product.epilogue, scaled)?;
    let mut needs = lanes.needs();
    let (_, size, rows, quads) = way.declare(&mut composer, &mut needs);
    let tiles = u64::from(product.n.div_ceil(4 * quads));
    let finished = u64::from(rows) * norm::turns(product.n).div_ceil(4 * u64::from(size));
    composer.turns(tiles * (way.turns(product.k) + 3) + finished);
    let [outer, inner] = product.batch.map(u64::from);
    let groups = u64::from(product.m.div_ceil(rows)).saturating_mul(outer * inner);
    composer.finish("whole_rows", size, groups, needs, caps)
}

/// What the output holds.
///
/// # Panics
/// Where the inputs are not those of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let (weights, operands) = inputs.split_at(spec.norm.operands());
    let rows = gemm::reference(&spec.product, operands);
    let [outer, inner] = spec.product.batch;
    let count = outer * inner * spec.product.m;
    let normed = norm::Spec { form: spec.norm, rows: count, cols: spec.product.n };
    norm::reference(&normed, &[weights, &[&rows]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;
    use crate::gemm::{Epilogue, Weights};

    fn spec(batch: [u32; 2], m: u32, n: u32, k: u32) -> Spec {
        let product = gemm::Spec {
            batch,
            m,
            n,
            k,
            a: Matrix::dense(batch, m, k),
            b: Weights::PackedF32,
            output: Matrix::dense(batch, m, n),
            epilogue: Epilogue::identity(),
        };
        let norm = norm::Form { kind: norm::Kind::Layer, eps: 0.0, scale: true, bias: true };
        Spec { product, norm }
    }

    #[test]
    fn reference_matches_a_table() {
        let weights = gemm::pack_f32(&[1.0, 0.0, 0.0, 2.0], 2, 2);
        let inputs = [vec![1.0, 2.0], vec![0.5, 0.0], vec![3.0, 0.5, 1.0, 4.0], weights];
        let given = reference(&spec([1, 1], 2, 2, 2), &inputs.map(Data::F32));
        // Rows (3, 1) and (1, 8), normalised to (1, -1) and (-1, 1).
        assert_eq!(given.f32(), [1.5, -2.0, -0.5, 2.0]);
    }

    #[test]
    fn every_variant_is_valid() {
        for (m, n, k) in [(1, 4, 1), (7, 12, 12), (17, 64, 5), (64, 384, 384), (512, 64, 4096)] {
            for b in [Weights::PackedF32, Weights::PackedI8, Weights::Blocks { bits: 4, block: 32 }]
            {
                let mut spec = spec([1, 2], m, n, k);
                spec.product.b = b;
                for caps in check::adapters() {
                    match variants(&spec, &caps) {
                        Ok(dispatches) => dispatches.iter().for_each(check::valid),
                        Err(_) => assert!(caps.software && caps.subgroup != Some((8, 8))),
                    }
                }
            }
        }
    }

    #[test]
    fn rows_that_lie_apart_are_refused() {
        let mut spec = spec([1, 1], 4, 8, 4);
        spec.product.output.row = 12;
        assert!(dispatch(&spec, &Caps::minimal()).is_err());
        // One row has no next.
        spec.product.m = 1;
        assert!(dispatch(&spec, &Caps::minimal()).is_ok());
    }
}
