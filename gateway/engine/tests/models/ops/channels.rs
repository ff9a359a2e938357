//! Convolutions with their channels side by side, and what lies between them.

use std::sync::Arc;

use gw_engine::{Interpreter, Model, PlanOptions};
use gw_tensor::Tensor;

use crate::onnx::{FLOAT, Onnx, Value};
use crate::run::{TOLERANCE, error, floats, fused_equals_plain, plan};

/// The kernels and variants of a plan, the variants up to their first number.
fn steps(model: &Model, inputs: &[(String, Tensor)]) -> Vec<String> {
    let plan = plan(model, inputs, PlanOptions::default());
    let name = |text: &str| text.trim_end_matches(|c: char| !c.is_alphabetic()).to_owned();
    let steps = plan.steps.iter().map(|step| &step.dispatch.kernel);
    steps.map(|kernel| name(&format!("{} {}", kernel.name, kernel.variant))).collect()
}

fn families(model: &Model, inputs: &[(String, Tensor)]) -> Vec<String> {
    let first = |step: &String| step.split(' ').next().unwrap().to_owned();
    steps(model, inputs).iter().map(first).collect()
}

/// The fused plan says what the plain one says, on the device and on the CPU.
fn agrees(file: &Onnx, inputs: &[(String, Tensor)]) {
    let on_cpu = |fuse| {
        let options = PlanOptions { fuse, ..PlanOptions::default() };
        Interpreter::new(Arc::new(file.model()), options).run(inputs).unwrap()
    };
    let (given, due) = (on_cpu(true), on_cpu(false));
    assert!(error(&given[0].1, &due[0].1) <= TOLERANCE);
    fused_equals_plain(file.model(), inputs);
}

/// A convolution that keeps the size of its input, and Relu.
fn convolution(file: Onnx, from: &str, to: &str, [out, channels, size, groups]: [i64; 4]) -> Onnx {
    let pads = Value::Ints(vec![size / 2; 4]);
    let inner = format!("{to} sums");
    file.weights(&format!("{to} w"), &[out, channels / groups, size, size])
        .weights(&format!("{to} b"), &[out])
        .node_with(
            "Conv",
            &[from, &format!("{to} w"), &format!("{to} b")],
            &inner,
            &[("pads", pads), ("group", Value::Int(groups))],
        )
        .node("Relu", &[&inner], to)
}

/// An inverted bottleneck with its residual, of 3 channels and then 8.
fn block(images: i64) -> Onnx {
    let mut file = Onnx::new(15).input("x", FLOAT, &[images, 3, 9, 7]);
    file = convolution(file, "x", "stem", [8, 3, 3, 1]);
    file = convolution(file, "stem", "wide", [24, 8, 1, 1]);
    file = convolution(file, "wide", "deep", [24, 24, 3, 24]);
    file = convolution(file, "deep", "thin", [8, 24, 1, 1]);
    file.node("Add", &["thin", "stem"], "sum")
}

#[test]
fn a_block_is_one_dispatch_per_convolution() {
    for images in [1, 2] {
        let inputs = [floats("x", &[images as usize, 3, 9, 7])];
        let model = convolution(block(images), "sum", "y", [5, 8, 3, 1]).output("y");
        let due = ["conv", "gemm", "conv", "gemm", "conv"];
        assert_eq!(families(&model.model(), &inputs), due, "{images} images");
        assert!(steps(&model.model(), &inputs)[2].starts_with("conv depthwise"));
        agrees(&model, &inputs);
    }
}

/// What reads another order than convolutions write is no reason for a copy.
#[test]
fn what_others_read_is_not_copied() {
    for images in [1, 2] {
        let inputs = [floats("x", &[images as usize, 3, 9, 7])];
        let due = ["conv", "gemm", "conv", "gemm"];
        let more = |last: &'static str| [&due[..], &[last]].concat();
        let output = block(images).output("sum");
        assert_eq!(families(&output.model(), &inputs), due);
        agrees(&output, &inputs);
        // A flattened image keeps its order, and so does what it was made of.
        let flat = block(images)
            .weights("w", &[8 * 63, 5])
            .node("Flatten", &["sum"], "flat")
            .node("MatMul", &["flat", "w"], "y")
            .output("y");
        assert_eq!(families(&flat.model(), &inputs), more("gemm"));
        agrees(&flat, &inputs);
        let scaled = block(images).node_with("LRN", &["sum"], "y", &[("size", Value::Int(3))]);
        assert_eq!(families(&scaled.output("y").model(), &inputs), more("lrn"));
        let grouped = convolution(block(images), "sum", "y", [6, 8, 3, 2]).output("y");
        assert_eq!(families(&grouped.model(), &inputs), more("conv"));
        agrees(&grouped, &inputs);
    }
}

#[test]
fn pools_and_means_take_channels_last() {
    for images in [1, 2] {
        let inputs = [floats("x", &[images as usize, 3, 9, 7])];
        let window = || [("kernel_shape", Value::Ints(vec![2, 3]))];
        let file = block(images).node_with("MaxPool", &["sum"], "most", &window()).node_with(
            "AveragePool",
            &["most"],
            "mean",
            &window(),
        );
        let file = convolution(file, "mean", "last", [6, 8, 3, 1])
            .node("GlobalAveragePool", &["last"], "y")
            .output("y");
        let due = ["conv", "gemm", "conv", "gemm", "pool", "pool", "conv", "reduce"];
        assert_eq!(families(&file.model(), &inputs), due);
        let steps = steps(&file.model(), &inputs);
        let pools = steps.iter().filter(|step| step.starts_with("pool"));
        assert_eq!(pools.filter(|step| step.ends_with("channels last")).count(), 2);
        agrees(&file, &inputs);
    }
}

/// Both halves are stored into their part of the joined tensor, the second at twice the size.
#[test]
fn joined_and_repeated_images_stay_channels_last() {
    for images in [1, 2] {
        let inputs = [floats("x", &[images as usize, 3, 9, 7])];
        let mut file = block(images).floats("scales", &[4], &[1.0, 1.0, 2.0, 2.0]).node_with(
            "Resize",
            &["sum", "", "scales"],
            "large",
            &[
                ("mode", Value::Text("nearest")),
                ("coordinate_transformation_mode", Value::Text("asymmetric")),
                ("nearest_mode", Value::Text("floor")),
            ],
        );
        file = convolution(file, "large", "a", [4, 8, 1, 1]);
        file = convolution(file, "large", "b", [12, 8, 3, 1]);
        file = file.node_with("Concat", &["a", "b"], "both", &[("axis", Value::Int(1))]);
        let model = convolution(file, "both", "y", [4, 16, 3, 1]).output("y");
        let due = ["conv", "gemm", "conv", "gemm", "pointwise", "gemm", "conv", "conv"];
        assert_eq!(families(&model.model(), &inputs), due);
        agrees(&model, &inputs);
    }
}

/// `x * hardsigmoid(conv(relu(conv(mean of x))))`.
#[test]
fn a_squeeze_and_excitation_takes_no_copy() {
    let inputs = [floats("x", &[1, 3, 9, 7])];
    let mut file = block(1).node("GlobalAveragePool", &["sum"], "mean");
    file = convolution(file, "mean", "less", [2, 8, 1, 1]);
    file = convolution(file, "less", "more", [8, 2, 1, 1])
        .node("HardSigmoid", &["more"], "gate")
        .node("Mul", &["sum", "gate"], "scaled");
    let model = convolution(file, "scaled", "y", [4, 8, 1, 1]).output("y");
    let due = ["conv", "gemm", "conv", "gemm", "reduce", "gemm", "gemm", "pointwise", "gemm"];
    assert_eq!(families(&model.model(), &inputs), due);
    agrees(&model, &inputs);
}
