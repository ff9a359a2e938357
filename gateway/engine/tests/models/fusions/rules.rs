//! Every fusion: what the plan becomes, and that it still says the same.

use gw_engine::plan::BufferKind;
use gw_engine::{Model, PlanOptions, WeightMode};
use gw_tensor::Tensor;

use crate::onnx::{FLOAT, INT64, Onnx, Value};
use crate::run::{floats, fused_equals_plain, kernels, plan};

fn fused(model: &Model, inputs: &[(String, Tensor)]) -> Vec<&'static str> {
    kernels(&plan(model, inputs, PlanOptions::default()))
}

fn plain(model: &Model, inputs: &[(String, Tensor)]) -> Vec<&'static str> {
    kernels(&plan(model, inputs, PlanOptions { fuse: false, ..PlanOptions::default() }))
}

#[test]
fn an_element_wise_chain_is_one_dispatch() {
    // The GELU that exporters write out, between two transposes.
    let model = Onnx::new(17)
        .input("x", FLOAT, &[2, 3, 4])
        .floats("root", &[], &[std::f32::consts::SQRT_2])
        .floats("one", &[], &[1.0])
        .floats("half", &[], &[0.5])
        .node("Transpose", &["x"], "t")
        .node("Div", &["t", "root"], "a")
        .node("Erf", &["a"], "b")
        .node("Add", &["b", "one"], "c")
        .node("Mul", &["t", "c"], "d")
        .node("Mul", &["d", "half"], "e")
        .node("Transpose", &["e"], "y")
        .output("y")
        .model();
    let inputs = [floats("x", &[2, 3, 4])];
    assert_eq!(fused(&model, &inputs), ["pointwise"; 2], "the last transposes for the output");
    assert_eq!(plain(&model, &inputs).len(), 6);
    fused_equals_plain(model, &inputs);
}

#[test]
fn a_linear_layer_is_one_dispatch_with_its_bias_activation_and_residual() {
    let model = Onnx::new(17)
        .input("x", FLOAT, &[2, 5, 16])
        .weights("w", &[16, 16])
        .weights("b", &[16])
        .node("MatMul", &["x", "w"], "a")
        .node("Add", &["b", "a"], "c")
        .node("Relu", &["c"], "d")
        .node("Add", &["x", "d"], "y")
        .output("y")
        .model();
    let inputs = [floats("x", &[2, 5, 16])];
    assert_eq!(fused(&model, &inputs), ["gemm"]);
    fused_equals_plain(model, &inputs);
}

#[test]
fn a_result_that_others_read_is_kept() {
    let model = Onnx::new(17)
        .input("x", FLOAT, &[3, 8])
        .weights("w", &[8, 8])
        .node("MatMul", &["x", "w"], "a")
        .node("Relu", &["a"], "y")
        .output("a")
        .output("y")
        .model();
    let inputs = [floats("x", &[3, 8])];
    assert_eq!(fused(&model, &inputs), ["gemm", "pointwise"]);
    fused_equals_plain(model, &inputs);
}

/// `x * (f32(bytes) * scale)`, 40 columns, one scale per column.
fn quantised(rows: i64) -> Onnx {
    let bytes: Vec<i8> = (0..rows * 40).map(|at| ((at * 37 + 11) % 255 - 127) as i8).collect();
    Onnx::new(17)
        .input("x", FLOAT, &[-1, rows])
        .bytes("q", &[rows, 40], &bytes)
        .weights("scale", &[1, 40])
        .node_with("Cast", &["q"], "f", &[("to", Value::Int(FLOAT.into()))])
        .node("Mul", &["f", "scale"], "w")
        .node("MatMul", &["x", "w"], "y")
        .output("y")
}

#[test]
fn quantised_weights_stay_bytes_unless_asked() {
    // Beyond what is folded at once.
    let model = quantised(2000).model();
    let inputs = [floats("x", &[3, 2000])];
    let weight_bytes = |weights| {
        let plan = plan(&model, &inputs, PlanOptions { weights, ..PlanOptions::default() });
        assert_eq!(kernels(&plan), ["gemm"]);
        let is_weight = |kind: &BufferKind| matches!(kind, BufferKind::Weight { .. });
        plan.buffers.iter().filter(|b| is_weight(&b.kind)).map(|b| b.bytes).sum::<u64>()
    };
    assert!(weight_bytes(WeightMode::Int8) < 2000 * 70);
    assert!(weight_bytes(WeightMode::F32) > 2000 * 160);
    fused_equals_plain(quantised(2000).model(), &inputs);
}

/// Rows of a table of 5,000 rows of 20 bytes, each with a scale, at the places `ids [2, 3]`.
pub(crate) fn rows_of_bytes() -> Onnx {
    let bytes: Vec<i8> = (0..5000 * 20).map(|at| ((at * 41 + 5) % 255 - 127) as i8).collect();
    Onnx::new(17)
        .input("ids", INT64, &[2, 3])
        .bytes("q", &[5000, 20], &bytes)
        .weights("scale", &[5000, 1])
        .node_with("Cast", &["q"], "f", &[("to", Value::Int(FLOAT.into()))])
        .node("Mul", &["f", "scale"], "table")
        .node("Gather", &["table", "ids"], "y")
        .output("y")
}

#[test]
fn a_quantised_table_stays_bytes() {
    let model = rows_of_bytes().model();
    let ids = Tensor::from_slice([2, 3], &[0i64, 4999, 17, 3, 2048, 17]).unwrap();
    let inputs = [("ids".to_owned(), ids)];
    let plan = plan(&model, &inputs, PlanOptions::default());
    assert!(plan.steps[0].dispatch.kernel.variant.contains("i8"));
    fused_equals_plain(model, &inputs);
}

/// Self-attention of two entries with three heads of four, as exporters write it; `scores` adds
/// the nodes from `scores` to `masked`.
fn attention(scores: impl Fn(Onnx) -> Onnx, guard: bool) -> Model {
    let mut file = Onnx::new(17)
        .input("x", FLOAT, &[2, 5, 12])
        .input("mask", FLOAT, &[2, 1, 1, 5])
        .ints("apart", &[2, 5, 3, 4])
        .ints("together", &[2, 5, 12])
        .floats("root", &[], &[2.0])
        .floats("low", &[], &[f32::NEG_INFINITY])
        .floats("zero", &[], &[0.0]);
    for name in ["q", "k", "v"] {
        let (weights, bias) = (format!("{name} weights"), format!("{name} bias"));
        let (a, b, c) = (format!("{name}0"), format!("{name}1"), format!("{name}2"));
        file = file
            .weights(&weights, &[12, 12])
            .weights(&bias, &[12])
            .node("MatMul", &["x", &weights], &a)
            .node("Add", &[&a, &bias], &b)
            .node("Reshape", &[&b, "apart"], &c);
        let perm = if name == "k" { vec![0, 2, 3, 1] } else { vec![0, 2, 1, 3] };
        file = file.node_with("Transpose", &[&c], name, &[("perm", Value::Ints(perm))]);
    }
    file =
        scores(file.node("MatMul", &["q", "k"], "scores")).node("Softmax", &["masked"], "softmax");
    let read = if guard { "guarded" } else { "softmax" };
    if guard {
        file = file.node("IsNaN", &["softmax"], "nan").node(
            "Where",
            &["nan", "zero", "softmax"],
            "guarded",
        );
    }
    file.node("MatMul", &[read, "v"], "heads")
        .node_with("Transpose", &["heads"], "turned", &[("perm", Value::Ints(vec![0, 2, 1, 3]))])
        .node("Reshape", &["turned", "together"], "rows")
        .weights("o", &[12, 12])
        .node("MatMul", &["rows", "o"], "y")
        .output("y")
        .model()
}

fn attention_inputs(hidden: f32) -> [(String, Tensor); 2] {
    // The second entry sees two keys only.
    let mask: Vec<f32> = (0..10).map(|at| if at >= 7 { hidden } else { 0.0 }).collect();
    let mask = Tensor::from_slice([2, 1, 1, 5], &mask).unwrap();
    [floats("x", &[2, 5, 12]), ("mask".to_owned(), mask)]
}

#[test]
fn attention_is_one_product_for_all_weights_and_one_pass() {
    let model = attention(
        |file| {
            file.node("Div", &["scores", "root"], "scaled").node(
                "Add",
                &["scaled", "mask"],
                "masked",
            )
        },
        false,
    );
    let inputs = attention_inputs(-10_000.0);
    assert_eq!(fused(&model, &inputs), ["gemm", "attention", "gemm"]);
    fused_equals_plain(model, &inputs);
}

#[test]
fn a_mask_that_chooses_minus_infinity_is_added() {
    let model = attention(
        |file| {
            file.node("Less", &["mask", "zero"], "hidden").node(
                "Where",
                &["hidden", "low", "scores"],
                "masked",
            )
        },
        false,
    );
    let inputs = attention_inputs(-1.0);
    assert_eq!(fused(&model, &inputs), ["gemm", "attention", "gemm"]);
    fused_equals_plain(model, &inputs);
}

#[test]
fn rows_without_a_key_give_zeros_where_the_model_says_so() {
    let model = attention(|file| file.node("Add", &["mask", "scores"], "masked"), true);
    let mut inputs = attention_inputs(f32::NEG_INFINITY);
    inputs[1].1 = Tensor::from_slice([2, 1, 1, 5], &[f32::NEG_INFINITY; 10]).unwrap();
    assert_eq!(fused(&model, &inputs), ["gemm", "attention", "gemm"]);
    fused_equals_plain(model, &inputs);
}

#[test]
fn scores_that_are_asked_for_are_not_fused_away() {
    let mut file = Onnx::new(17)
        .input("q", FLOAT, &[1, 2, 5, 4])
        .input("k", FLOAT, &[1, 2, 4, 5])
        .input("v", FLOAT, &[1, 2, 5, 4])
        .node("MatMul", &["q", "k"], "scores")
        .node("Softmax", &["scores"], "softmax")
        .node("MatMul", &["softmax", "v"], "y")
        .output("y");
    let inputs =
        [floats("q", &[1, 2, 5, 4]), floats("k", &[1, 2, 4, 5]), floats("v", &[1, 2, 5, 4])];
    // Keys lie across the rows that the kernel reads: the copy costs what the fusion saves.
    assert_eq!(fused(&file.model(), &inputs), ["gemm", "softmax", "gemm"]);
    file = file.output("softmax");
    assert_eq!(fused(&file.model(), &inputs), ["gemm", "softmax", "gemm"]);
    fused_equals_plain(file.model(), &inputs);
}

/// `x [2, 3, 16]` with the mean taken off, over its deviation, in seven nodes: `normed`.
pub(crate) fn layer_norm(file: Onnx) -> Onnx {
    let last = [("axes", Value::Ints(vec![-1]))];
    file.input("x", FLOAT, &[2, 3, 16])
        .floats("two", &[], &[2.0])
        .floats("eps", &[], &[1e-5])
        .node_with("ReduceMean", &["x"], "mean", &last)
        .node("Sub", &["x", "mean"], "d")
        .node("Pow", &["d", "two"], "square")
        .node_with("ReduceMean", &["square"], "variance", &last)
        .node("Add", &["variance", "eps"], "sum")
        .node("Sqrt", &["sum"], "deviation")
        .node("Div", &["d", "deviation"], "normed")
}

#[test]
fn a_layer_norm_that_is_written_out_is_one_dispatch() {
    let model = layer_norm(Onnx::new(13))
        .weights("scale", &[16])
        .weights("bias", &[16])
        .node("Mul", &["normed", "scale"], "scaled")
        .node("Add", &["scaled", "bias"], "y")
        .output("y")
        .model();
    let inputs = [floats("x", &[2, 3, 16])];
    assert_eq!(fused(&model, &inputs), ["norm"]);
    fused_equals_plain(model, &inputs);
}

#[test]
fn a_residual_block_is_one_dispatch_per_convolution() {
    let pads = [("pads", Value::Ints(vec![1, 1, 1, 1]))];
    let mut file = Onnx::new(15).input("x", FLOAT, &[2, 6, 9, 7]);
    for (name, from) in [("a", "x"), ("b", "a relu")] {
        let part = |part: &str| format!("{name} {part}");
        let variance: Vec<f32> = (1..=6).map(|at| at as f32 * 0.3).collect();
        file = file
            .weights(&part("w"), &[6, 6, 3, 3])
            .weights(&part("c"), &[6])
            .weights(&part("scale"), &[6])
            .weights(&part("bias"), &[6])
            .weights(&part("mean"), &[6])
            .floats(&part("variance"), &[6], &variance)
            .node_with("Conv", &[from, &part("w"), &part("c")], &part("conv"), &pads)
            .node(
                "BatchNormalization",
                &[&part("conv"), &part("scale"), &part("bias"), &part("mean"), &part("variance")],
                name,
            );
        if name == "a" {
            file = file.node("Relu", &["a"], "a relu");
        }
    }
    let model = file.node("Add", &["b", "x"], "sum").node("Relu", &["sum"], "y").output("y");
    let inputs = [floats("x", &[2, 6, 9, 7])];
    assert_eq!(fused(&model.model(), &inputs), ["conv", "conv"]);
    fused_equals_plain(model.model(), &inputs);
}

#[test]
fn a_product_stores_into_its_part_of_a_joined_tensor() {
    let model = Onnx::new(17)
        .input("x", FLOAT, &[4, 8])
        .input("z", FLOAT, &[4, 8])
        .weights("w", &[8, 8])
        .node("MatMul", &["x", "w"], "a")
        .node("Relu", &["a"], "b")
        .node_with("Concat", &["b", "z"], "y", &[("axis", Value::Int(1))])
        .output("y")
        .model();
    let inputs = [floats("x", &[4, 8]), floats("z", &[4, 8])];
    assert_eq!(fused(&model, &inputs), ["gemm", "pointwise"]);
    fused_equals_plain(model, &inputs);
}

/// Rows of `[m, 24]` by a product with a bias and a residual, normalised.
fn normalised(m: i64, read_before: bool) -> Model {
    let file = Onnx::new(17)
        .input("x", FLOAT, &[m, 24])
        .weights("w", &[24, 24])
        .weights("b", &[24])
        .weights("scale", &[24])
        .weights("shift", &[24])
        .node("MatMul", &["x", "w"], "a")
        .node("Add", &["a", "b"], "c")
        .node("Add", &["c", "x"], "d")
        .node("LayerNormalization", &["d", "scale", "shift"], "y")
        .output("y");
    if read_before { file.output("d").model() } else { file.model() }
}

#[test]
fn a_product_normalises_its_rows_where_that_pays() {
    for (m, due) in [(100, &["gemm"][..]), (8, &["gemm", "norm"])] {
        let inputs = [floats("x", &[m, 24])];
        let model = normalised(m as i64, false);
        assert_eq!(fused(&model, &inputs), due);
        fused_equals_plain(model, &inputs);
    }
    // What others read is stored as it is.
    let inputs = [floats("x", &[100, 24])];
    assert_eq!(fused(&normalised(100, true), &inputs), ["gemm", "norm"]);
    fused_equals_plain(normalised(100, true), &inputs);
}

#[test]
fn embeddings_are_one_dispatch_with_their_positions_and_norm() {
    let model = |norm: bool| {
        let file = Onnx::new(17)
            .input("ids", INT64, &[3, 4])
            .input("types", INT64, &[3, 4])
            .weights("words", &[50, 24])
            .weights("kinds", &[2, 24])
            .weights("places", &[1, 4, 24])
            .weights("scale", &[24])
            .weights("shift", &[24])
            .node("Gather", &["words", "ids"], "a")
            .node("Gather", &["kinds", "types"], "b")
            .node("Add", &["a", "b"], "c")
            .node("Add", &["c", "places"], "d");
        if norm {
            file.node("LayerNormalization", &["d", "scale", "shift"], "y").output("y").model()
        } else {
            file.output("d").model()
        }
    };
    let numbers = |values: &[i64; 12]| Tensor::from_slice([3, 4], values).unwrap();
    let inputs = [
        ("ids".to_owned(), numbers(&[0, 49, 7, 7, 1, 2, 3, 4, 48, 20, 11, 5])),
        ("types".to_owned(), numbers(&[0, 1, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1])),
    ];
    for norm in [true, false] {
        assert_eq!(fused(&model(norm), &inputs), ["embed"]);
        fused_equals_plain(model(norm), &inputs);
    }
}

#[test]
fn the_mask_of_a_key_is_made_by_the_attention() {
    // `(1 - mask) * low`, and one that differs by query, which is made before.
    let padding = |file: Onnx| {
        file.floats("one", &[], &[1.0])
            .node("Sub", &["one", "mask"], "off")
            .floats("least", &[], &[f32::MIN])
            .node("Mul", &["off", "least"], "added")
    };
    let by_key = attention(|file| padding(file).node("Add", &["scores", "added"], "masked"), false);
    let mut inputs = attention_inputs(1.0);
    let mask = [1.0f32, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0];
    inputs[1].1 = Tensor::from_slice([2, 1, 1, 5], &mask).unwrap();
    assert_eq!(fused(&by_key, &inputs), ["gemm", "attention", "gemm"]);
    fused_equals_plain(by_key, &inputs);
    let by_query = attention(
        |file| {
            padding(file)
                .weights("bias", &[1, 1, 5, 5])
                .node("Add", &["added", "bias"], "both")
                .node("Add", &["scores", "both"], "masked")
        },
        false,
    );
    assert_eq!(fused(&by_query, &inputs), ["gemm", "pointwise", "attention", "gemm"]);
    fused_equals_plain(by_query, &inputs);
}
