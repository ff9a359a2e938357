//! Ensembles of decision trees as a table of nodes, from the columns that a model writes.

use std::collections::HashMap;

use gw_shaders::trees::{Fold, Mode, NAN_LEFT, NODE_WORDS};
use gw_tensor::{DType, Tensor};

use super::super::{Call, sizes};
use super::floats;
use crate::error::OpError;
use crate::graph::Attr;
use crate::net::builder::Builder;
use crate::net::fold::{self, Number};
use crate::net::{Kind, Operand};

/// Nodes of one ensemble.
const NODES_MAX: usize = 1 << 24;

/// What a leaf adds to a target.
pub(super) type Weight = (usize, f64);

enum Node {
    Leaf(Vec<Weight>),
    Branch { mode: Mode, nan_left: bool, feature: usize, value: f64, left: usize, right: usize },
}

/// Trees whose nodes name each other by their places.
#[derive(Default)]
pub(super) struct Ensemble {
    nodes: Vec<Node>,
    pub(super) roots: Vec<usize>,
}

/// The numbers of an attribute, which may be a tensor in double precision.
pub(super) fn numbers(call: &Call<'_>, name: &str) -> Vec<f64> {
    match call.tensor(&format!("{name}_as_tensor")).or_else(|| call.tensor(name)) {
        Some(tensor) => fold::numbers(tensor).into_iter().map(Number::float).collect(),
        None => floats(call, name).into_iter().map(f64::from).collect(),
    }
}

fn column(call: &Call<'_>, name: &str, count: usize) -> Result<Vec<usize>, OpError> {
    let column = sizes(&call.ints(name).unwrap_or_default())?;
    match column.len() == count {
        true => Ok(column),
        false => Err(OpError::mismatch(name, format!("{count} numbers"), column.len())),
    }
}

/// The form of ai.onnx.ml 1 to 4: nodes by tree and number, weights by node. `kind` is `class` or
/// `target`.
pub(super) fn by_numbers(call: &Call<'_>, kind: &str) -> Result<Ensemble, OpError> {
    let modes: Vec<String> = match call.attr("nodes_modes") {
        Some(Attr::Strings(modes)) => {
            modes.iter().map(|mode| String::from_utf8_lossy(mode).into_owned()).collect()
        }
        _ => Vec::new(),
    };
    let count = modes.len();
    let read = |name: &str| column(call, name, count);
    let (trees, ids) = (read("nodes_treeids")?, read("nodes_nodeids")?);
    let (features, left) = (read("nodes_featureids")?, read("nodes_truenodeids")?);
    let right = read("nodes_falsenodeids")?;
    let values = numbers(call, "nodes_values");
    if values.len() != count || count > NODES_MAX {
        return Err(OpError::mismatch("nodes_values", format!("{count} numbers"), values.len()));
    }
    let nan_left = call.ints("nodes_missing_value_tracks_true").unwrap_or_default();
    let mut places = HashMap::with_capacity(count);
    for (place, key) in trees.iter().zip(&ids).enumerate() {
        if places.insert(key, place).is_some() {
            return Err(OpError::mismatch("nodes_nodeids", "each node once", format!("{key:?}")));
        }
    }
    let place = |tree: &usize, id: &usize| {
        places.get(&(tree, id)).copied().ok_or_else(|| {
            OpError::mismatch("a node", "one of its tree", format!("{id} of tree {tree}"))
        })
    };
    let mut weights: HashMap<usize, Vec<Weight>> = HashMap::new();
    let given = numbers(call, &format!("{kind}_weights"));
    let weight = |name: &str| column(call, &format!("{kind}_{name}"), given.len());
    let (weight_trees, weight_nodes) = (weight("treeids")?, weight("nodeids")?);
    let targets = weight("ids")?;
    for (index, &value) in given.iter().enumerate() {
        let leaf = place(&weight_trees[index], &weight_nodes[index])?;
        weights.entry(leaf).or_default().push((targets[index], value));
    }
    let mut ensemble = Ensemble::default();
    let mut has_parent = vec![false; count];
    for (index, mode) in modes.iter().enumerate() {
        let Some(mode) = mode_of(mode)? else {
            let weights = weights.remove(&index).unwrap_or_default();
            ensemble.nodes.push(Node::Leaf(weights));
            continue;
        };
        let tree = &trees[index];
        let (left, right) = (place(tree, &left[index])?, place(tree, &right[index])?);
        has_parent[left] = true;
        has_parent[right] = true;
        ensemble.nodes.push(Node::Branch {
            mode,
            nan_left: nan_left.get(index).is_some_and(|&flag| flag != 0),
            feature: features[index],
            value: values[index],
            left,
            right,
        });
    }
    ensemble.roots = (0..count).filter(|&index| !has_parent[index]).collect();
    Ok(ensemble)
}

/// `None` for a leaf.
fn mode_of(mode: &str) -> Result<Option<Mode>, OpError> {
    Ok(Some(match mode {
        "LEAF" => return Ok(None),
        "BRANCH_LEQ" => Mode::Leq,
        "BRANCH_LT" => Mode::Lt,
        "BRANCH_GTE" => Mode::Gte,
        "BRANCH_GT" => Mode::Gt,
        "BRANCH_EQ" => Mode::Eq,
        "BRANCH_NEQ" => Mode::Neq,
        other => return Err(OpError::Unsupported(format!("node mode `{other}`"))),
    }))
}

/// The form of ai.onnx.ml 5: nodes and leaves by their places. A node that asks for membership
/// becomes a chain that asks for each member.
pub(super) fn by_places(call: &Call<'_>) -> Result<Ensemble, OpError> {
    let modes: Vec<i64> = match call.tensor("nodes_modes") {
        Some(tensor) => fold::numbers(tensor).into_iter().map(Number::int).collect(),
        None => return Err(OpError::Missing("nodes_modes".to_owned())),
    };
    let count = modes.len();
    let read = |name: &str| column(call, name, count);
    let (features, left, right) =
        (read("nodes_featureids")?, read("nodes_truenodeids")?, read("nodes_falsenodeids")?);
    let (left_leaf, right_leaf) = (read("nodes_trueleafs")?, read("nodes_falseleafs")?);
    let (splits, weights) = (numbers(call, "nodes_splits"), numbers(call, "leaf_weights"));
    let targets = column(call, "leaf_targetids", weights.len())?;
    if splits.len() != count || count > NODES_MAX {
        return Err(OpError::mismatch("nodes_splits", format!("{count} numbers"), splits.len()));
    }
    let nan_left = call.ints("nodes_missing_value_tracks_true").unwrap_or_default();
    let members = numbers(call, "membership_values");
    let mut sets = members.split(|value| value.is_nan());
    let mut ensemble = Ensemble::default();
    for (&target, &weight) in targets.iter().zip(&weights) {
        ensemble.nodes.push(Node::Leaf(vec![(target, weight)]));
    }
    let (leaves, mut extra) = (weights.len(), Vec::new());
    let child = |is_leaf: usize, place: usize| match is_leaf {
        0 if place < count => Ok(leaves + place),
        1.. if place < leaves => Ok(place),
        _ => Err(OpError::mismatch("a child", format!("{count} nodes, {leaves} leaves"), place)),
    };
    for index in 0..count {
        let left = child(left_leaf[index], left[index])?;
        let right = child(right_leaf[index], right[index])?;
        let (feature, nan_left) =
            (features[index], nan_left.get(index).is_some_and(|&flag| flag != 0));
        let branch =
            |mode, value, right| Node::Branch { mode, nan_left, feature, value, left, right };
        let mode = match modes[index] {
            0 => Mode::Leq,
            1 => Mode::Lt,
            2 => Mode::Gte,
            3 => Mode::Gt,
            4 => Mode::Eq,
            5 => Mode::Neq,
            6 => {
                let set = sets.next().unwrap_or(&[]);
                let (&first, others) = set
                    .split_first()
                    .ok_or_else(|| OpError::Missing("membership_values".to_owned()))?;
                // Every link but the last leads to the next, behind all nodes.
                let link = |extra: &Vec<Node>| leaves + count + extra.len();
                let next = if others.is_empty() { right } else { link(&extra) };
                ensemble.nodes.push(branch(Mode::Eq, first, next));
                for (place, &value) in others.iter().enumerate() {
                    let is_last = place + 1 == others.len();
                    let next = if is_last { right } else { link(&extra) + 1 };
                    extra.push(branch(Mode::Eq, value, next));
                }
                continue;
            }
            other => return Err(OpError::Unsupported(format!("node mode {other}"))),
        };
        ensemble.nodes.push(branch(mode, splits[index], right));
    }
    ensemble.nodes.append(&mut extra);
    for root in sizes(&call.ints("tree_roots").unwrap_or_default())? {
        ensemble.roots.push(child(0, root)?);
    }
    Ok(ensemble)
}

impl Ensemble {
    /// Fails unless every walk ends at a leaf, and names what there is.
    pub(super) fn check(&self, features: usize, targets: usize) -> Result<(), OpError> {
        let wrong = |what: String, given: usize| Err(OpError::mismatch("a tree", what, given));
        // A node is left once all below it are; one that is met before that is part of a cycle.
        let (mut is_entered, mut is_left) =
            (vec![false; self.nodes.len()], vec![false; self.nodes.len()]);
        let mut open: Vec<(usize, bool)> = self.roots.iter().map(|&root| (root, false)).collect();
        while let Some((place, is_done)) = open.pop() {
            if is_done || is_left[place] {
                is_left[place] = true;
                continue;
            }
            if std::mem::replace(&mut is_entered[place], true) {
                return wrong("nodes without a cycle".to_owned(), place);
            }
            open.push((place, true));
            match &self.nodes[place] {
                Node::Leaf(weights) => {
                    if let Some((target, _)) = weights.iter().find(|(to, _)| *to >= targets) {
                        return wrong(format!("one of {targets} targets"), *target);
                    }
                }
                Node::Branch { feature, left, right, .. } => {
                    if *feature >= features {
                        return wrong(format!("one of {features} features"), *feature);
                    }
                    open.push((*left, false));
                    if left != right {
                        open.push((*right, false));
                    }
                }
            }
        }
        match self.roots.is_empty() {
            true => Err(OpError::Missing("the root of a tree".to_owned())),
            false => Ok(()),
        }
    }

    /// The nodes on the longest way through each tree and the weights of its largest leaf, over
    /// all trees. [`Ensemble::check`] has shown that every way ends.
    fn turns(&self) -> u32 {
        let mut turns = 0usize;
        for &root in &self.roots {
            let (mut level, mut most) = (vec![root], 0);
            while !level.is_empty() {
                turns = turns.saturating_add(1);
                let mut next = Vec::new();
                for place in level {
                    match &self.nodes[place] {
                        Node::Leaf(weights) => most = weights.len().max(most),
                        Node::Branch { left, right, .. } => next.extend([*left, *right]),
                    }
                }
                next.sort_unstable();
                next.dedup();
                level = next;
            }
            turns = turns.saturating_add(most + 1);
        }
        u32::try_from(turns).unwrap_or(u32::MAX)
    }

    pub(super) fn weights(&self) -> impl Iterator<Item = &Weight> {
        self.nodes.iter().flat_map(|node| match node {
            Node::Leaf(weights) => weights.as_slice(),
            Node::Branch { .. } => &[],
        })
    }

    /// The folded weights of each row: `[rows, targets]`.
    pub(super) fn walk(
        &self,
        builder: &mut Builder,
        x: &Operand,
        fold: Fold,
        targets: usize,
        is_double: bool,
    ) -> Result<Operand, OpError> {
        let int = |value: usize| {
            i32::try_from(value).map_err(|_| OpError::mismatch("a node", "an i32", value))
        };
        let mut words = Vec::with_capacity(self.nodes.len() * NODE_WORDS);
        let (mut to, mut weights): (Vec<i32>, Vec<f32>) = (Vec::new(), Vec::new());
        for node in &self.nodes {
            words.extend(match node {
                Node::Leaf(own) => {
                    let start = int(weights.len())?;
                    for &(target, weight) in own {
                        to.push(int(target)?);
                        weights.push(nearest(weight));
                    }
                    [Mode::Leaf as i32, 0, 0, start, int(weights.len())?, 0]
                }
                Node::Branch { mode, nan_left, feature, value, left, right } => {
                    let flag = if *nan_left { NAN_LEFT.cast_signed() } else { 0 };
                    // Features in double precision are rounded as their thresholds are.
                    let value = if is_double { nearest(*value) } else { threshold(*mode, *value) };
                    let value = value.to_bits().cast_signed();
                    [*mode as i32 | flag, int(*feature)?, value, int(*left)?, int(*right)?, 0]
                }
            });
        }
        if weights.is_empty() {
            // A buffer has an element; this one is of no target.
            to.push(-1);
            weights.push(0.0);
        }
        let roots = self.roots.iter().map(|&root| int(root)).collect::<Result<Vec<_>, _>>()?;
        let inputs = vec![
            x.clone(),
            builder.constant(Tensor::from_slice([self.nodes.len(), NODE_WORDS], &words)?),
            builder.constant(Tensor::from_slice([roots.len()], &roots)?),
            builder.constant(Tensor::from_slice([to.len()], &to)?),
            builder.constant(Tensor::from_slice([weights.len()], &weights)?),
        ];
        let turns = self.turns();
        builder.emit(Kind::Trees { fold, turns }, inputs, &[x.shape()[0], targets], DType::F32)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "devices compute in single precision")]
pub(super) fn nearest(value: f64) -> f32 {
    value as f32
}

/// The threshold in single precision that tells floats apart as the one in double does.
fn threshold(mode: Mode, value: f64) -> f32 {
    let rounded = nearest(value);
    match mode {
        // `x <= v` holds up to the last float that is not above `v`.
        Mode::Leq | Mode::Gt if f64::from(rounded) > value => rounded.next_down(),
        Mode::Lt | Mode::Gte if f64::from(rounded) < value => rounded.next_up(),
        _ => rounded,
    }
}
