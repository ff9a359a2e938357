//! Scans, sorting, scattering, trees and determinants.

use gw_shaders::data::Data;
use gw_shaders::kernel::Scalar;
use gw_shaders::{det, scan, scatter, sort, trees};

use crate::harness::{Random, Tolerance, agree};

#[test]
fn scans_agree() {
    let mut random = Random::new(3);
    // Around the 64 elements of a tile, and with rows that lie apart.
    for (outer, len, inner) in
        [(1, 1, 1), (2, 5, 3), (1, 63, 1), (3, 64, 2), (1, 65, 1), (2, 200, 5), (1, 0, 3)]
    {
        let size = (outer * len * inner) as usize;
        let floats = random.floats(size);
        let integers = Data::I32(random.integers(size, 7).iter().map(|x| x - 3).collect());
        for (op, exclusive, reverse) in [
            (scan::Op::Sum, false, false),
            (scan::Op::Sum, true, false),
            (scan::Op::Sum, false, true),
            (scan::Op::Prod, true, true),
            (scan::Op::Prod, false, false),
        ] {
            for x in [floats.clone(), integers.clone()] {
                let scalar = x.scalar();
                let spec = scan::Spec { op, scalar, exclusive, reverse, outer, len, inner };
                let expected = scan::reference(&spec, std::slice::from_ref(&x));
                // Tiles add in another order; 200 values below 1 lose less than 200 roundings.
                let tolerance = Tolerance::of(1e-5, 2e-5);
                agree(|caps| scan::variants(&spec, caps), &[x], &[expected], tolerance);
            }
        }
    }
}

#[test]
fn every_pass_of_a_sort_agrees() {
    let mut random = Random::new(4);
    let block = sort::BLOCK;
    for (outer, len, inner, keep) in [
        (1, 1, 1, 1),
        (2, 7, 3, 4),
        (1, block, 1, block),
        (2, block + 1, 2, 3),
        (1, 2 * block + 5, 1, 2 * block + 5),
        (3, 5 * block + 1, 2, block + 7),
        (1, 9 * block, 3, 1),
    ] {
        let size = (outer * len * inner) as usize;
        // Few values, so that many are equal.
        let small = random.integers(size, 9);
        let special = [f32::NAN, -0.0, 0.0, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN];
        let floats: Vec<f32> = small
            .iter()
            .enumerate()
            .map(|(at, &x)| if x == 0 { special[at % special.len()] } else { x as f32 - 5.0 })
            .collect();
        let bits = small.iter().map(|&x| x.cast_unsigned() % 2).collect();
        let integers = small.iter().map(|&x| (x - 4) * 500_000_000).collect();
        for x in [Data::F32(floats), Data::I32(integers), Data::U32(bits)] {
            for largest in [true, false] {
                let scalar = x.scalar();
                let spec = sort::Spec { scalar, largest, outer, len, inner, keep, run: 0 };
                let mut inputs = vec![x.clone()];
                for pass in sort::passes(&spec) {
                    let expected = sort::reference(&pass, &inputs);
                    let result = [expected.clone()];
                    agree(|caps| sort::variants(&pass, caps), &inputs, &result, Tolerance::EXACT);
                    inputs = vec![x.clone(), expected];
                }
            }
        }
    }
}

#[test]
fn scattered_rows_agree() {
    let mut random = Random::new(5);
    for (rows, inner, count) in [(1, 1, 1), (5, 3, 9), (64, 1, 65), (3, 7, 2), (40, 5, 200)] {
        let size = (rows * inner) as usize;
        let updates = (count * inner) as usize;
        // From one before the first to one after the last.
        let positions: Vec<i32> =
            random.integers(count as usize, rows + 2).iter().map(|position| position - 1).collect();
        let mut order: Vec<i32> = (0..count.cast_signed()).collect();
        order.sort_by_key(|&update| positions[usize::try_from(update).unwrap()]);
        let [positions, order] = [Data::I32(positions), Data::I32(order)];
        let pairs = [
            (random.floats(size), random.floats(updates)),
            (Data::I32(random.integers(size, 1000)), Data::I32(random.integers(updates, 1000))),
        ];
        for (data, updates) in pairs {
            for op in [
                scatter::Op::Replace,
                scatter::Op::Add,
                scatter::Op::Mul,
                scatter::Op::Max,
                scatter::Op::Min,
            ] {
                let scalar = data.scalar();
                let spec = scatter::Spec { op, scalar, rows, inner, count };
                let inputs = [data.clone(), positions.clone(), order.clone(), updates.clone()];
                let expected = scatter::reference(&spec, &inputs);
                // Updates are taken in the same order as by the reference.
                agree(
                    |caps| scatter::variants(&spec, caps),
                    &inputs,
                    &[expected],
                    Tolerance::EXACT,
                );
            }
        }
    }
    let spec = scatter::Spec {
        op: scatter::Op::Replace,
        scalar: Scalar::U32,
        rows: 2,
        inner: 1,
        count: 2,
    };
    let inputs = [
        Data::U32(vec![0, 1]),
        Data::I32(vec![1, 0]),
        Data::I32(vec![1, 0]),
        Data::U32(vec![0, 1]),
    ];
    let expected = scatter::reference(&spec, &inputs);
    agree(|caps| scatter::variants(&spec, caps), &inputs, &[expected], Tolerance::EXACT);
}

/// The place of the node that comes next.
fn next_node(nodes: &[i32]) -> i32 {
    i32::try_from(nodes.len() / trees::NODE_WORDS).expect("these trees are small")
}

/// A full tree of `depth` levels below its root, whose modes take turns.
fn full_tree(
    random: &mut Random,
    depth: u32,
    features: u32,
    nodes: &mut Vec<i32>,
    leaves: &mut i32,
) {
    let place = nodes.len();
    nodes.resize(place + trees::NODE_WORDS, 0);
    if depth == 0 {
        nodes[place + 3] = *leaves;
        nodes[place + 4] = *leaves + 2;
        *leaves += 2;
        return;
    }
    let flag = if random.below(2) == 1 { trees::NAN_LEFT.cast_signed() } else { 0 };
    nodes[place] = (1 + random.below(6).cast_signed()) | flag;
    nodes[place + 1] = random.below(features).cast_signed();
    let value = random.below(5) as f32 - 2.0;
    nodes[place + 2] = value.to_bits().cast_signed();
    for side in [3, 4] {
        nodes[place + side] = next_node(nodes);
        full_tree(random, depth - 1, features, nodes, leaves);
    }
}

#[test]
fn trees_agree() {
    let mut random = Random::new(6);
    for (rows, features, count, depth, targets) in
        [(1, 1, 1, 0, 1), (65, 4, 3, 4, 1), (7, 3, 20, 6, 3), (9, 2, 2, 1, 8)]
    {
        let (mut nodes, mut roots, mut leaves) = (Vec::new(), Vec::new(), 0);
        for _ in 0..count {
            roots.push(next_node(&nodes));
            full_tree(&mut random, depth, features, &mut nodes, &mut leaves);
        }
        // Whole numbers, so that equality is met; every seventh is NaN.
        let x: Vec<f32> = random
            .integers((rows * features) as usize, 7)
            .iter()
            .map(|&x| if x == 6 { f32::NAN } else { x as f32 - 3.0 })
            .collect();
        let weights = u32::try_from(leaves).unwrap();
        let inputs = [
            Data::F32(x),
            Data::I32(nodes.clone()),
            Data::I32(roots),
            Data::I32(random.integers(weights as usize, targets + 1)),
            random.floats(weights as usize),
        ];
        for fold in [trees::Fold::Sum, trees::Fold::Min, trees::Fold::Max] {
            let (nodes, trees) = (next_node(&nodes).cast_unsigned(), count);
            let turns = trees * (depth + 4);
            let spec = trees::Spec { fold, rows, features, nodes, trees, weights, targets, turns };
            let expected = trees::reference(&spec, &inputs);
            // The same order of additions.
            agree(|caps| trees::variants(&spec, caps), &inputs, &[expected], Tolerance::EXACT);
        }
    }
}

#[test]
fn determinants_agree() {
    let mut random = Random::new(7);
    for (count, n) in [(1, 1), (5, 2), (3, 7), (2, 16), (1, det::SIZE_MAX)] {
        let x = random.floats((count * n * n) as usize);
        let spec = det::Spec { count, n };
        let expected = det::reference(&spec, std::slice::from_ref(&x));
        // Each of n steps rounds what the next divides by; the reference is in double precision.
        let tolerance = Tolerance::of(1e-3, 1e-5);
        agree(|caps| det::variants(&spec, caps), &[x], &[expected], tolerance);
    }
    // The first pivot is zero.
    let x = Data::F32(vec![0.0, 2.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 3.0]);
    let spec = det::Spec { count: 1, n: 3 };
    let expected = Data::F32(vec![-6.0]);
    agree(|caps| det::variants(&spec, caps), &[x], &[expected], Tolerance::EXACT);
}
