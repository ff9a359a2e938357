//! Work of more turns than a software adapter takes in one dispatch.

use std::sync::Arc;

use gw_engine::PlanOptions;
use gw_shaders::kernel::Caps;
use gw_tensor::Tensor;

use crate::onnx::{FLOAT, Onnx, Value, noise};
use crate::run::{error, floats, run, shapes};

/// Sums that are longer than the turns that a software adapter takes in one dispatch.
#[test]
fn a_long_sum_is_added_up_in_parts() {
    let k = 600_001;
    let file = Onnx::new(17)
        .input("x", FLOAT, &[2, k])
        .input("w", FLOAT, &[k, 3])
        .weights("b", &[3])
        .node("MatMul", &["x", "w"], "a")
        .node("Add", &["a", "b"], "s")
        .node("Relu", &["s"], "y")
        .output("y");
    let k = usize::try_from(k).unwrap();
    let inputs = [floats("x", &[2, k]), floats("w", &[k, 3])];
    let Some(given) = run(&Arc::new(file.model()), &inputs, PlanOptions::default()) else { return };
    let (x, w) = (noise("x", 2 * k), noise("w", 3 * k));
    let bias = noise("b", 3);
    let due: Vec<f32> = (0..6)
        .map(|at| {
            let (row, column) = (at / 3, at % 3);
            let terms = (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(w[i * 3 + column]));
            (terms.sum::<f64>() as f32 + bias[column]).max(0.0)
        })
        .collect();
    let error = error(&given[0].1, &Tensor::from_slice([2, 3], &due).unwrap());
    assert!(error <= 1e-4, "differs by {error}");
}

#[test]
fn a_tree_that_is_too_deep_is_refused_on_a_software_adapter() {
    // Every node leads to the next, and to a leaf of its own.
    let plan = |depth: i64| {
        let ints = |numbers: Vec<i64>| Value::Ints(numbers);
        let count = 2 * depth + 1;
        let size = usize::try_from(count).unwrap();
        let modes = (0..count).map(|node| if node < depth { "BRANCH_LEQ" } else { "LEAF" });
        let next = |branch: i64, offset: i64| if branch < depth { branch + offset } else { 0 };
        let attributes = [
            ("n_targets", Value::Int(1)),
            ("nodes_treeids", ints(vec![0; size])),
            ("nodes_nodeids", ints((0..count).collect())),
            ("nodes_featureids", ints(vec![0; size])),
            ("nodes_modes", Value::Texts(modes.collect())),
            ("nodes_values", Value::Floats(vec![0.5; size])),
            ("nodes_truenodeids", ints((0..count).map(|node| next(node, 1)).collect())),
            ("nodes_falsenodeids", ints((0..count).map(|node| next(node, depth + 1)).collect())),
            ("target_treeids", ints(vec![0])),
            ("target_nodeids", ints(vec![depth])),
            ("target_ids", ints(vec![0])),
            ("target_weights", Value::Floats(vec![1.0])),
        ];
        let file = Onnx::new(18)
            .input("x", FLOAT, &[2, 1])
            .node_with("ai.onnx.ml.TreeEnsembleRegressor", &["x"], "y", &attributes)
            .output("y");
        let caps = Caps { software: true, ..Caps::minimal() };
        file.model().plan(&shapes(&[floats("x", &[2, 1])]), &caps, &PlanOptions::default())
    };
    assert!(plan(59_000).is_ok());
    let reason = plan(60_000).unwrap_err().to_string();
    assert!(reason.contains("where a software adapter takes 60000"), "{reason}");
}
