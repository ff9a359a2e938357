//! Inputs: names, shapes, and what errors say of them.

use std::collections::BTreeMap;

use gw_engine::graph::Dim;
use gw_engine::{PlanError, PlanOptions};
use gw_shaders::kernel::Caps;
use gw_tensor::{DType, Shape};

use crate::onnx::{FLOAT, INT64, Onnx};
use crate::run::{floats, fused_equals_plain, kernels, plan};

fn linear() -> Onnx {
    Onnx::new(17)
        .input("x:0", FLOAT, &[-1, 8])
        .input("also n", FLOAT, &[-1, 1])
        .weights("w", &[8, 4])
        .node("MatMul", &["x:0", "w"], "a")
        .node("Add", &["a", "also n"], "y")
        .output("y")
}

fn error(file: &Onnx, given: &[(&str, &[usize])]) -> String {
    let shapes: BTreeMap<String, Shape> =
        given.iter().map(|(name, dims)| ((*name).to_owned(), Shape::from(*dims))).collect();
    let result = file.model().plan(&shapes, &Caps::minimal(), &PlanOptions::default());
    result.unwrap_err().to_string()
}

#[test]
fn the_signature_keeps_names_types_and_dimensions() {
    let model = linear().model();
    let input = &model.signature().inputs[0];
    assert_eq!((input.name.as_str(), input.dtype), ("x:0", DType::F32));
    assert_eq!(input.dims, Some(vec![Dim::Symbol("n".to_owned()), Dim::Fixed(8)]));
    assert_eq!(input.to_string(), "f32 [n, 8]");
}

#[test]
fn a_shape_that_does_not_fit_is_named_with_what_is_expected() {
    assert_eq!(
        error(&linear(), &[("x:0", &[2, 9]), ("also n", &[2, 1])]),
        "model test: input `x:0` expects f32 [n, 8], given [2, 9]"
    );
}

#[test]
fn one_name_has_one_size() {
    assert_eq!(
        error(&linear(), &[("x:0", &[2, 8]), ("also n", &[3, 1])]),
        "model test: input `also n` expects f32 [n, 1], given [3, 1]"
    );
}

#[test]
fn an_open_dimension_needs_a_shape() {
    assert_eq!(
        error(&linear(), &[("x:0", &[2, 8])]),
        "model test: input `also n` f32 [n, 1] needs a shape"
    );
}

#[test]
fn an_input_that_does_not_exist_is_refused_with_those_that_do() {
    assert_eq!(
        error(&linear(), &[("x", &[2, 8])]),
        "model test has no input `x`; its inputs are x:0, also n"
    );
}

#[test]
fn a_node_whose_inputs_do_not_fit_is_named() {
    let file = Onnx::new(17)
        .input("x", FLOAT, &[2, 3])
        .weights("w", &[4, 5])
        .node("MatMul", &["x", "w"], "y")
        .output("y");
    assert_eq!(
        error(&file, &[]),
        "model test: node `MatMul_0` (MatMul): input 1: expected 3 rows, as input 0 of shape \
         [2, 3] has columns, given [4, 5]"
    );
}

#[test]
fn a_shape_that_only_the_run_knows_is_an_error() {
    let file = Onnx::new(17)
        .input("x", FLOAT, &[6])
        .input("shape", INT64, &[2])
        .node("Reshape", &["x", "shape"], "y")
        .output("y");
    assert_eq!(
        error(&file, &[]),
        "model test: node `Reshape_0` (Reshape): input 1 depends on data that is known only \
         during the run; the value of input `shape` i64 [2] decides it"
    );
}

#[test]
fn an_input_that_is_an_output_is_copied() {
    let model = Onnx::new(17)
        .input("x", FLOAT, &[2, 3])
        .node("Transpose", &["x"], "y")
        .output("x")
        .output("y")
        .model();
    let inputs = [floats("x", &[2, 3])];
    assert_eq!(kernels(&plan(&model, &inputs, PlanOptions::default())), ["pointwise"; 2]);
    fused_equals_plain(model, &inputs);
}

#[test]
fn an_empty_batch_has_an_empty_answer() {
    let model = linear().model();
    let inputs = [floats("x:0", &[0, 8]), floats("also n", &[0, 1])];
    let plan = plan(&model, &inputs, PlanOptions::default());
    assert!(plan.steps.is_empty());
    assert_eq!(plan.outputs[0].shape.dims(), [0, 4]);
}

#[test]
fn pipelines_do_not_depend_on_the_bucket() {
    let model = linear().model();
    let sources = |rows: usize| {
        let inputs = [floats("x:0", &[rows, 8]), floats("also n", &[rows, 1])];
        let plan = plan(&model, &inputs, PlanOptions::default());
        plan.steps.iter().map(|step| step.dispatch.kernel.source.clone()).collect::<Vec<_>>()
    };
    assert_eq!(sources(64), sources(96));
}

#[test]
fn a_plan_error_says_which_model() {
    let result = linear().model().plan(&BTreeMap::new(), &Caps::minimal(), &PlanOptions::default());
    assert!(matches!(result, Err(PlanError::MissingShape { model, .. }) if model == "test"));
}
