//! One small graph per fusion: how many dispatches it becomes, and that it still says the same.

use gw_engine::PlanOptions;
use gw_engine::plan::BufferKind;
use gw_tensor::Tensor;

use crate::onnx::{FLOAT, INT64, Onnx, Value};
use crate::run::{floats, fused_equals_plain, kernels, plan};

pub(crate) fn becomes(name: &str, file: &Onnx, inputs: &[(String, Tensor)], due: &[&str]) {
    let model = file.model();
    let given = kernels(&plan(&model, inputs, PlanOptions::default()));
    assert_eq!(given, due, "{name}");
    fused_equals_plain(model, inputs);
}

/// Constants that activations are written with.
fn with_numbers(mut file: Onnx) -> Onnx {
    let numbers = [
        ("0", 0.0),
        ("0.5", 0.5),
        ("1", 1.0),
        ("3", 3.0),
        ("6", 6.0),
        ("1.702", 1.702),
        ("0.044715", 0.044_715),
        ("root 2", std::f32::consts::SQRT_2),
        ("root 2/pi", 0.797_884_6),
    ];
    for (name, number) in numbers {
        file = file.floats(name, &[], &[number]);
    }
    file
}

/// From `a` to `b`.
type Activation = (&'static str, fn(Onnx) -> Onnx);

const ACTIVATIONS: [Activation; 14] = [
    ("relu", |file| file.node("Relu", &["a"], "b")),
    ("leaky relu", |file| file.node("LeakyRelu", &["a"], "b")),
    ("a slope per channel", |file| file.node("PRelu", &["a", "slope"], "b")),
    ("clip", |file| file.node("Clip", &["a", "0", "6"], "b")),
    ("silu", |file| file.node("Sigmoid", &["a"], "s").node("Mul", &["a", "s"], "b")),
    ("hard sigmoid", |file| file.node("HardSigmoid", &["a"], "b")),
    ("hard swish", |file| file.node("HardSwish", &["a"], "b")),
    ("hard swish, written out", |file| {
        file.node("Add", &["a", "3"], "s")
            .node("Clip", &["s", "0", "6"], "c")
            .node("Mul", &["a", "c"], "m")
            .node("Div", &["m", "6"], "b")
    }),
    ("mish", |file| file.node("Mish", &["a"], "b")),
    ("mish, written out", |file| {
        file.node("Softplus", &["a"], "s").node("Tanh", &["s"], "t").node("Mul", &["a", "t"], "b")
    }),
    ("gelu", |file| file.node("Gelu", &["a"], "b")),
    ("gelu by erf", |file| {
        file.node("Div", &["a", "root 2"], "d")
            .node("Erf", &["d"], "e")
            .node("Add", &["e", "1"], "s")
            .node("Mul", &["a", "s"], "m")
            .node("Mul", &["m", "0.5"], "b")
    }),
    ("gelu by tanh", |file| {
        file.node("Pow", &["a", "3"], "p")
            .node("Mul", &["p", "0.044715"], "q")
            .node("Add", &["a", "q"], "r")
            .node("Mul", &["r", "root 2/pi"], "s")
            .node("Tanh", &["s"], "t")
            .node("Add", &["t", "1"], "u")
            .node("Mul", &["a", "u"], "m")
            .node("Mul", &["m", "0.5"], "b")
    }),
    ("gelu by sigmoid", |file| {
        file.node("Mul", &["a", "1.702"], "m").node("Sigmoid", &["m"], "s").node(
            "Mul",
            &["a", "s"],
            "b",
        )
    }),
];

#[test]
fn bias_activation_and_residual_are_part_of_their_product() {
    for (name, activation) in ACTIVATIONS {
        let file = with_numbers(Onnx::new(20))
            .input("x", FLOAT, &[2, 5, 16])
            .weights("w", &[16, 16])
            .weights("bias", &[16])
            .weights("slope", &[16])
            .node("MatMul", &["x", "w"], "product")
            .node("Add", &["product", "bias"], "a");
        let file = activation(file).node("Add", &["b", "x"], "y").output("y");
        becomes(name, &file, &[floats("x", &[2, 5, 16])], &["gemm"]);
    }
}

#[test]
fn bias_activation_and_residual_are_part_of_their_convolution() {
    for (name, activation) in ACTIVATIONS {
        let pads = [("pads", Value::Ints(vec![1; 4]))];
        let file = with_numbers(Onnx::new(20))
            .input("x", FLOAT, &[2, 4, 6, 7])
            .weights("w", &[4, 4, 3, 3])
            .weights("bias", &[4])
            .weights("slope", &[4, 1, 1])
            .node_with("Conv", &["x", "w", "bias"], "a", &pads);
        let file = activation(file).node("Add", &["x", "b"], "y").output("y");
        becomes(name, &file, &[floats("x", &[2, 4, 6, 7])], &["conv"]);
    }
}

#[test]
fn a_gate_is_applied_by_the_product_beside_it() {
    let file = Onnx::new(20)
        .input("x", FLOAT, &[1, 5, 16])
        .weights("gate", &[16, 32])
        .weights("up", &[16, 32])
        .weights("down", &[32, 16])
        .node("MatMul", &["x", "gate"], "a")
        .node("Sigmoid", &["a"], "s")
        .node("Mul", &["a", "s"], "silu")
        .node("MatMul", &["x", "up"], "b")
        .node("Mul", &["silu", "b"], "h")
        .node("MatMul", &["h", "down"], "y")
        .output("y");
    becomes("swiglu", &file, &[floats("x", &[1, 5, 16])], &["gemm"; 3]);
}

#[test]
fn zeros_around_the_input_of_a_convolution_are_its_padding() {
    let file = Onnx::new(13)
        .input("x", FLOAT, &[1, 3, 6, 7])
        .weights("w", &[4, 3, 3, 3])
        .weights("w2", &[2, 4, 3, 3])
        .ints("pads", &[0, 0, 1, 2, 0, 0, 0, 3])
        .node("Conv", &["x", "w"], "a")
        .node("Relu", &["a"], "b")
        .node("Pad", &["b", "pads"], "c")
        .node_with("Conv", &["c", "w2"], "y", &[("pads", Value::Ints(vec![1, 0, 0, 0]))])
        .output("y");
    becomes("two axes", &file, &[floats("x", &[1, 3, 6, 7])], &["conv", "conv"]);
    let file = Onnx::new(13)
        .input("x", FLOAT, &[2, 3, 9])
        .weights("w", &[4, 3, 3])
        .ints("pads", &[0, 0, 2, 0, 0, 1])
        .node("Pad", &["x", "pads"], "a")
        .node("Conv", &["a", "w"], "y")
        .output("y");
    becomes("one axis", &file, &[floats("x", &[2, 3, 9])], &["conv"]);
    // Channels of zeros are no padding, nor is any other number.
    for (pads, value) in [([0, 1, 1, 0, 0, 1], 0.0), ([0, 0, 2, 0, 0, 1], 0.5)] {
        let file = Onnx::new(13)
            .input("x", FLOAT, &[2, 3, 9])
            .weights("w", &[4, 3 + pads[1], 3])
            .ints("pads", &pads)
            .floats("value", &[], &[value])
            .node("Pad", &["x", "pads", "value"], "a")
            .node("Conv", &["a", "w"], "y")
            .output("y");
        let due = ["pointwise", "pointwise", "conv"];
        becomes("no padding", &file, &[floats("x", &[2, 3, 9])], &due);
    }
}

/// `1 / sqrt(mean of the square of what + eps)`, from `what` to `root` and to `inverse`.
fn mean_square(file: Onnx, what: &str) -> Onnx {
    file.floats("two", &[], &[2.0])
        .floats("eps", &[], &[1e-5])
        .node("Pow", &[what, "two"], "square")
        .node_with("ReduceMean", &["square"], "mean square", &[("axes", Value::Ints(vec![-1]))])
        .node("Add", &["mean square", "eps"], "sum")
        .node("Sqrt", &["sum"], "root")
}

#[test]
fn normalisations_that_are_written_out_are_one_dispatch() {
    type End = fn(Onnx, &str) -> Onnx;
    let ends: [(&str, End); 4] =
        [
            ("a quotient", |file, what| file.node("Div", &[what, "root"], "normed")),
            ("a reciprocal", |file, what| {
                file.node("Reciprocal", &["root"], "i").node("Mul", &[what, "i"], "normed")
            }),
            ("one over it", |file, what| {
                file.floats("one", &[], &[1.0]).node("Div", &["one", "root"], "i").node(
                    "Mul",
                    &["i", what],
                    "normed",
                )
            }),
            ("a power", |file, what| {
                file.floats("minus half", &[], &[-0.5])
                    .node("Pow", &["sum", "minus half"], "i")
                    .node("Mul", &[what, "i"], "normed")
            }),
        ];
    let inputs = [floats("x", &[2, 3, 16])];
    for (name, end) in ends {
        let file = Onnx::new(13).input("x", FLOAT, &[2, 3, 16]).weights("scale", &[16]);
        let rms = end(mean_square(file.clone(), "x"), "x")
            .node("Mul", &["scale", "normed"], "y")
            .output("y");
        becomes(name, &rms, &inputs, &["norm"]);
        let file = file
            .weights("bias", &[16])
            .node_with("ReduceMean", &["x"], "mean", &[("axes", Value::Ints(vec![-1]))])
            .node("Sub", &["x", "mean"], "d");
        let layer = end(mean_square(file, "d"), "d")
            .node("Mul", &["normed", "scale"], "scaled")
            .node("Add", &["bias", "scaled"], "y")
            .output("y");
        becomes(name, &layer, &inputs, &["norm"]);
    }
}

#[test]
fn a_masked_mean_of_unit_length_takes_few_dispatches() {
    // As sentence embeddings end.
    let file = Onnx::new(13)
        .input("hidden", FLOAT, &[2, 6, 16])
        .input("mask", INT64, &[2, 6])
        .ints("last", &[-1])
        .ints("tokens", &[1])
        .ints("shape", &[2, 6, 16])
        .floats("least", &[], &[1e-9])
        .node("Unsqueeze", &["mask", "last"], "column")
        .node("Expand", &["column", "shape"], "wide")
        .node_with("Cast", &["wide"], "weights", &[("to", Value::Int(FLOAT.into()))])
        .node("Mul", &["hidden", "weights"], "masked")
        .node_with("ReduceSum", &["masked", "tokens"], "sum", &[("keepdims", Value::Int(0))])
        .node_with("ReduceSum", &["weights", "tokens"], "count", &[("keepdims", Value::Int(0))])
        .node("Clip", &["count", "least"], "some")
        .node("Div", &["sum", "some"], "mean")
        .node_with("ReduceL2", &["mean"], "length", &[("axes", Value::Ints(vec![-1]))])
        .node("Clip", &["length", "least"], "positive")
        .node("Div", &["mean", "positive"], "y")
        .output("y");
    let mask = Tensor::from_slice([2, 6], &[1i64, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0]).unwrap();
    let inputs = [floats("hidden", &[2, 6, 16]), ("mask".to_owned(), mask)];
    let due = ["pointwise", "reduce", "gemm", "reduce", "pointwise"];
    becomes("a masked mean", &file, &inputs, &due);
}

/// A layer with a state of 16 units over 8 columns.
fn layer(op: &str, steps: i64, attributes: &[(&str, Value)]) -> Onnx {
    let gates = match op {
        "LSTM" => 4,
        "GRU" => 3,
        _ => 1,
    };
    let attributes = [&[("hidden_size", Value::Int(16))], attributes].concat();
    Onnx::new(17)
        .input("x", FLOAT, &[steps, 2, 8])
        .weights("w", &[1, gates * 16, 8])
        .weights("r", &[1, gates * 16, 16])
        .weights("b", &[1, gates * 32])
        .node_with(op, &["x", "w", "r", "b"], "y", &attributes)
        .output("y")
}

/// An operator, its steps, its attributes, and the families that run it.
type Case<'a> = (&'a str, i64, &'a [(&'a str, Value)], &'a [&'a str]);

#[test]
fn a_layer_with_a_state_is_one_dispatch_for_few_steps() {
    let linear = [("linear_before_reset", Value::Int(1))];
    let cases: [Case<'_>; 6] = [
        ("LSTM", 1, &[], &["recurrent"]),
        ("LSTM", 3, &[], &["recurrent"]),
        ("LSTM", 30, &[], &["gemm", "recurrent"]),
        ("RNN", 2, &[], &["recurrent"]),
        ("GRU", 2, &linear, &["recurrent"]),
        ("GRU", 2, &[], &["gemm", "recurrent"]),
    ];
    for (op, steps, attributes, due) in cases {
        let inputs = [floats("x", &[usize::try_from(steps).unwrap(), 2, 8])];
        becomes(op, &layer(op, steps, attributes), &inputs, due);
    }
}

#[test]
fn a_state_that_goes_round_is_copied_nowhere() {
    let attributes = [("hidden_size", Value::Int(16))];
    let (joined, parts) = ([("axis", Value::Int(0))], [("axis", Value::Int(0))]);
    let file = Onnx::new(13)
        .input("x", FLOAT, &[1, 1, 8])
        .input("state", FLOAT, &[2, 1, 16])
        .weights("w", &[1, 64, 8])
        .weights("r", &[1, 64, 16])
        .weights("b", &[1, 128])
        .weights("out", &[16, 3])
        .node_with("Split", &["state"], "h,c", &parts)
        .node_with("LSTM", &["x", "w", "r", "b", "", "h", "c"], "all,last,cell", &attributes)
        .node_with("Concat", &["last", "cell"], "next", &joined)
        .node("Relu", &["last"], "active")
        .node("MatMul", &["active", "out"], "y")
        .output("y")
        .output("next");
    let inputs = [floats("x", &[1, 1, 8]), floats("state", &[2, 1, 16])];
    becomes("an lstm", &file, &inputs, &["recurrent", "gemm"]);
    // The states themselves are wanted too: nothing may change them.
    let inputs = [floats("x", &[1, 1, 8]), floats("state", &[2, 1, 16])];
    becomes("all states", &file.output("all"), &inputs, &["recurrent", "pointwise", "gemm"]);
}

#[test]
fn weights_in_bytes_are_expanded_inside_the_product() {
    let bytes: Vec<i8> = (0..2000 * 40).map(|at| ((at * 37 + 11) % 255 - 127) as i8).collect();
    for scales in [&[][..], &[40]] {
        let file = Onnx::new(13)
            .input("x", FLOAT, &[3, 2000])
            .bytes("q", &[2000, 40], &bytes)
            .weights("scale", scales)
            .node_with("DequantizeLinear", &["q", "scale"], "w", &[("axis", Value::Int(1))])
            .node("MatMul", &["x", "w"], "y")
            .output("y");
        let inputs = [floats("x", &[3, 2000])];
        becomes("bytes", &file, &inputs, &["gemm"]);
        let plan = plan(&file.model(), &inputs, PlanOptions::default());
        let is_weight = |kind: &BufferKind| matches!(kind, BufferKind::Weight { .. });
        let held: u64 = plan.buffers.iter().filter(|b| is_weight(&b.kind)).map(|b| b.bytes).sum();
        assert!(held < 2000 * 70, "{held} bytes");
    }
}
