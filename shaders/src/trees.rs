//! `out[n, k] = fold over t of weight(leaf of tree t that x[n] falls into, k)`: an ensemble of
//! decision trees.
//!
//! Source: `TreeEnsemble` (ai.onnx.ml 5), `TreeEnsembleRegressor`, `TreeEnsembleClassifier`
//! (ai.onnx.ml 3). One invocation walks all trees for one row and one target, in their order, so
//! that a sum is the same in every run.

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::kernel::{Caps, Dispatch, Needs, Unsupported};

const NAME: &str = "trees";

/// Words per node, see [`Spec`].
pub const NODE_WORDS: usize = 6;

/// What the leaves of the trees are folded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of ONNX's `aggregate_function`")]
pub enum Fold {
    Sum,
    Min,
    Max,
}

/// How a node compares its feature `x` with its value `v`; what holds goes left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of ONNX's `nodes_modes`")]
pub enum Mode {
    Leaf = 0,
    Leq = 1,
    Lt = 2,
    Gte = 3,
    Gt = 4,
    Eq = 5,
    Neq = 6,
}

/// Set in the mode of a node: a NaN goes left.
pub const NAN_LEFT: u32 = 16;

/// What to compute.
///
/// Bindings: x `[rows, features]` (`F32`), the nodes (`I32`, [`NODE_WORDS`] each: mode, feature,
/// the bits of the value, left, right, 0; of a leaf: mode, 0, 0, its first weight, the end of its
/// weights, 0), the roots `[trees]` (`I32`), the targets of the weights (`I32`), the weights
/// (`F32`), the output `[rows, targets]` (`F32`). A target that no leaf has a weight for is 0.
///
/// Left and right name nodes; from every root no more than `nodes` steps lead to a leaf.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// How leaves are folded.
    pub fold: Fold,
    /// The rows of x.
    pub rows: u32,
    /// The features of a row.
    pub features: u32,
    /// The number of nodes of all trees.
    pub nodes: u32,
    /// The number of trees.
    pub trees: u32,
    /// The number of weights of all leaves.
    pub weights: u32,
    /// The results of a row.
    pub targets: u32,
    /// At most so many nodes and weights are looked at for one result.
    pub turns: u32,
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let mut composer = Composer::new(NAME, format!("{:?}", spec.fold));
    composer.source(include_str!("trees.wgsl"));
    let merge = match spec.fold {
        Fold::Sum => "a + b",
        Fold::Min => "min(a, b)",
        Fold::Max => "max(a, b)",
    };
    composer.text(&format!("fn merge(a: f32, b: f32) -> f32 {{\n    return {merge};\n}}\n"));
    let total = u64::from(spec.rows) * u64::from(spec.targets);
    let count = u32::try_from(total)
        .map_err(|_| Unsupported::new(NAME, format!("{total} results are too many")))?;
    composer.u32("count", count).u32("features", spec.features).u32("targets", spec.targets);
    composer.u32("nodes", spec.nodes).u32("trees", spec.trees).u32("weights", spec.weights);
    composer.constant("WIDTH", 64).constant("NODE_WORDS", NODE_WORDS as u32);
    composer.constant("NAN_LEFT", NAN_LEFT);
    composer.read("x", "f32").read("nodes", "i32").read("roots", "i32");
    composer.read("leaf_targets", "i32").read("leaf_weights", "f32").write("result", "f32");
    composer.turns(spec.turns.into());
    let groups = total.div_ceil(64);
    Ok(vec![composer.finish("walk_trees", 64, groups, Needs::default(), caps)?])
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
/// Where the inputs are not those of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let (x, nodes, roots) = (inputs[0].f32(), inputs[1].i32(), inputs[2].i32());
    let (targets, weights) = (inputs[3].i32(), inputs[4].f32());
    let mut out = Vec::new();
    for row in 0..spec.rows as usize {
        let features = &x[row * spec.features as usize..][..spec.features as usize];
        for target in 0..spec.targets as i32 {
            let mut total: Option<f32> = None;
            for &root in roots {
                let [first, end] = leaf(nodes, root, features);
                for weight in first..end {
                    if targets[weight] == target {
                        let value = weights[weight];
                        total = Some(match (total, spec.fold) {
                            (None, _) => value,
                            (Some(total), Fold::Sum) => total + value,
                            (Some(total), Fold::Min) => total.min(value),
                            (Some(total), Fold::Max) => total.max(value),
                        });
                    }
                }
            }
            out.push(total.unwrap_or(0.0));
        }
    }
    Data::F32(out)
}

/// The weights of the leaf that a row falls into.
fn leaf(nodes: &[i32], root: i32, features: &[f32]) -> [usize; 2] {
    let mut at = root as usize;
    loop {
        let node = &nodes[at * NODE_WORDS..][..NODE_WORDS];
        let (mode, value) = (node[0] as u32, f32::from_bits(node[2].cast_unsigned()));
        let x = features.get(node[1] as usize).copied().unwrap_or(0.0);
        let holds = match mode & 15 {
            0 => return [node[3] as usize, node[4] as usize],
            1 => x <= value,
            2 => x < value,
            3 => x >= value,
            4 => x > value,
            5 => x == value,
            _ => x != value,
        };
        let goes_left = if x.is_nan() { mode & NAN_LEFT != 0 || mode & 15 == 6 } else { holds };
        at = if goes_left { node[3] } else { node[4] } as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn reference_matches_a_table() {
        let spec = Spec {
            fold: Fold::Sum,
            rows: 3,
            features: 2,
            nodes: 5,
            trees: 2,
            weights: 4,
            targets: 2,
            turns: 8,
        };
        let two = 2.0f32.to_bits().cast_signed();
        // Tree 0: x[1] <= 2 (NaN too) ? node 1 : node 2. Tree 1: the leaf that is node 3.
        let nodes = vec![
            1 | NAN_LEFT.cast_signed(),
            1,
            two,
            1,
            2,
            0,
            0,
            0,
            0,
            0,
            1,
            0,
            0,
            0,
            0,
            1,
            3,
            0,
            0,
            0,
            0,
            3,
            4,
            0,
            0,
            0,
            0,
            4,
            4,
            0,
        ];
        let inputs = [
            Data::F32(vec![9.0, 2.0, 9.0, 2.5, 9.0, f32::NAN]),
            Data::I32(nodes),
            Data::I32(vec![0, 3]),
            Data::I32(vec![0, 0, 1, 1]),
            Data::F32(vec![10.0, 20.0, 30.0, 0.5]),
        ];
        let given = reference(&spec, &inputs);
        assert_eq!(given.f32(), [10.0, 0.5, 20.0, 30.5, 10.0, 0.5]);
        let most = Spec { fold: Fold::Max, ..spec };
        assert_eq!(reference(&most, &inputs).f32(), [10.0, 0.5, 20.0, 30.0, 10.0, 0.5]);
    }

    #[test]
    fn every_variant_is_valid() {
        for fold in [Fold::Sum, Fold::Min, Fold::Max] {
            let (rows, features, nodes, trees, weights, targets) = (3, 4, 9, 2, 5, 2);
            let turns = 16;
            let spec = Spec { fold, rows, features, nodes, trees, weights, targets, turns };
            check::variants(|caps| variants(&spec, caps));
        }
    }
}
