//! `ai.onnx.ml`: small models with results worked by hand, or of ONNX Runtime 1.32 where a case
//! says so.

use std::sync::Arc;

use gw_engine::PlanOptions;
use gw_shaders::kernel::Caps;
use gw_tensor::Tensor;

use crate::onnx::{FLOAT, INT64, Onnx, Value};
use crate::run::{run, shapes};

fn outputs(file: &Onnx, x: &(String, Tensor)) -> Option<Vec<Tensor>> {
    let outputs = run(&Arc::new(file.model()), std::slice::from_ref(x), PlanOptions::default())?;
    Some(outputs.into_iter().map(|(_, tensor)| tensor).collect())
}

fn floats(dims: &[usize], data: &[f32]) -> (String, Tensor) {
    ("x".to_owned(), Tensor::from_slice(dims, data).unwrap())
}

fn close(given: &Tensor, due: &[f32]) {
    let given = given.to_vec::<f32>().unwrap();
    assert_eq!(given.len(), due.len());
    for (given, due) in given.iter().zip(due) {
        assert!((given - due).abs() <= 1e-6, "{given} where {due} is due");
    }
}

/// One tree: `x[1] <= 0.5`, or NaN, leads to leaf 1, else to leaf 2.
fn tree(kind: &'static str, further: &[(&'static str, Value)]) -> Onnx {
    let ints = |values: &[i64]| Value::Ints(values.to_vec());
    let mut attributes = vec![
        ("nodes_treeids", ints(&[0, 0, 0])),
        ("nodes_nodeids", ints(&[0, 1, 2])),
        ("nodes_featureids", ints(&[1, 0, 0])),
        ("nodes_modes", Value::Texts(vec!["BRANCH_LEQ", "LEAF", "LEAF"])),
        ("nodes_values", Value::Floats(vec![0.5, 0.0, 0.0])),
        ("nodes_truenodeids", ints(&[1, 0, 0])),
        ("nodes_falsenodeids", ints(&[2, 0, 0])),
        ("nodes_missing_value_tracks_true", ints(&[1, 0, 0])),
    ];
    attributes.extend_from_slice(further);
    let file = Onnx::new(18).input("x", FLOAT, &[-1, 2]);
    match kind {
        "TreeEnsembleRegressor" => {
            file.node_with("ai.onnx.ml.TreeEnsembleRegressor", &["x"], "y", &attributes).output("y")
        }
        _ => file
            .node_with("ai.onnx.ml.TreeEnsembleClassifier", &["x"], "label,scores", &attributes)
            .output("label")
            .output("scores"),
    }
}

fn rows() -> (String, Tensor) {
    floats(&[4, 2], &[9.0, 0.5, 9.0, 0.75, 9.0, f32::NAN, 9.0, -1.0])
}

#[test]
fn a_row_falls_to_its_leaf_and_nan_to_where_the_node_says() {
    let ints = |values: &[i64]| Value::Ints(values.to_vec());
    let file = tree(
        "TreeEnsembleRegressor",
        &[
            ("n_targets", Value::Int(2)),
            ("target_treeids", ints(&[0, 0, 0])),
            ("target_nodeids", ints(&[1, 2, 2])),
            ("target_ids", ints(&[0, 0, 1])),
            ("target_weights", Value::Floats(vec![1.0, 2.0, 4.0])),
            ("base_values", Value::Floats(vec![0.5, 0.25])),
        ],
    );
    let Some(given) = outputs(&file, &rows()) else { return };
    close(&given[0], &[1.5, 0.25, 2.5, 4.25, 1.5, 0.25, 1.5, 0.25]);
}

#[test]
fn one_score_decides_between_two_labels() {
    let ints = |values: &[i64]| Value::Ints(values.to_vec());
    let classes = |post: &'static str, weights: &[f32]| {
        tree(
            "TreeEnsembleClassifier",
            &[
                ("class_treeids", ints(&[0, 0])),
                ("class_nodeids", ints(&[1, 2])),
                ("class_ids", ints(&[0, 0])),
                ("class_weights", Value::Floats(weights.to_vec())),
                ("classlabels_int64s", ints(&[4, 6])),
                ("post_transform", Value::Text(post)),
            ],
        )
    };
    // As ONNX Runtime: shares are told apart at one half, sums at zero.
    let Some(given) = outputs(&classes("NONE", &[0.7, 0.2]), &rows()) else { return };
    assert_eq!(given[0].to_vec::<i64>().unwrap(), [6, 4, 6, 6]);
    close(&given[1], &[0.3, 0.7, 0.8, 0.2, 0.3, 0.7, 0.3, 0.7]);
    let given = outputs(&classes("LOGISTIC", &[-0.7, 0.2]), &rows()).unwrap();
    assert_eq!(given[0].to_vec::<i64>().unwrap(), [4, 6, 4, 4]);
    let (low, high) = ([0.668_187_74, 0.331_812_26], [0.450_166_05, 0.549_833_95]);
    close(&given[1], [low, high, low, low].as_flattened());
}

#[test]
fn a_tree_that_never_ends_is_refused() {
    let ints = |values: &[i64]| Value::Ints(values.to_vec());
    let attributes = [
        ("nodes_treeids", ints(&[0, 0, 0])),
        ("nodes_nodeids", ints(&[0, 1, 2])),
        ("nodes_featureids", ints(&[0, 0, 0])),
        ("nodes_modes", Value::Texts(vec!["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT"])),
        ("nodes_values", Value::Floats(vec![0.5, 0.0, 0.0])),
        ("nodes_truenodeids", ints(&[1, 2, 1])),
        ("nodes_falsenodeids", ints(&[2, 2, 1])),
    ];
    let file = Onnx::new(18)
        .input("x", FLOAT, &[1, 1])
        .node_with("ai.onnx.ml.TreeEnsembleRegressor", &["x"], "y", &attributes)
        .output("y");
    let x = [floats(&[1, 1], &[0.0])];
    let plan = file.model().plan(&shapes(&x), &Caps::minimal(), &PlanOptions::default());
    let error = plan.unwrap_err().to_string();
    assert!(error.contains("nodes without a cycle"), "{error}");
}

#[test]
fn features_are_scaled_filled_in_and_looked_up() {
    let file = Onnx::new(18)
        .input("x", FLOAT, &[2, 2])
        .node_with(
            "ai.onnx.ml.Imputer",
            &["x"],
            "filled",
            &[
                ("imputed_value_floats", Value::Floats(vec![1.0, 2.0])),
                ("replaced_value_float", Value::Float(f32::NAN)),
            ],
        )
        .node_with(
            "ai.onnx.ml.Scaler",
            &["filled"],
            "y",
            &[("offset", Value::Floats(vec![1.0, 0.0])), ("scale", Value::Floats(vec![2.0]))],
        )
        .output("y");
    let x = floats(&[2, 2], &[f32::NAN, 3.0, 5.0, f32::NAN]);
    let Some(given) = outputs(&file, &x) else { return };
    close(&given[0], &[0.0, 6.0, 8.0, 4.0]);
    let file = Onnx::new(18)
        .input("x", INT64, &[3])
        .node_with(
            "ai.onnx.ml.LabelEncoder",
            &["x"],
            "y",
            &[
                ("keys_int64s", Value::Ints(vec![7, -1])),
                ("values_floats", Value::Floats(vec![0.5, 1.5])),
                ("default_float", Value::Float(9.0)),
            ],
        )
        .output("y");
    let x = ("x".to_owned(), Tensor::from_slice([3], &[-1i64, 2, 7]).unwrap());
    close(&outputs(&file, &x).unwrap()[0], &[1.5, 9.0, 0.5]);
}

#[test]
fn a_support_vector_machine_is_a_sum_of_kernels() {
    let file = Onnx::new(18)
        .input("x", FLOAT, &[1, 2])
        .node_with(
            "ai.onnx.ml.SVMRegressor",
            &["x"],
            "y",
            &[
                ("n_supports", Value::Int(2)),
                ("support_vectors", Value::Floats(vec![1.0, 0.0, 0.0, 2.0])),
                ("coefficients", Value::Floats(vec![2.0, -1.0])),
                ("rho", Value::Floats(vec![0.25])),
                ("kernel_params", Value::Floats(vec![0.5, 0.0, 0.0])),
                ("kernel_type", Value::Text("RBF")),
            ],
        )
        .output("y");
    // Squared distances 0 and 5: 2 - exp(-2.5) + 0.25.
    let Some(given) = outputs(&file, &floats(&[1, 2], &[1.0, 0.0])) else { return };
    close(&given[0], &[2.25 - 0.082_085]);
}
