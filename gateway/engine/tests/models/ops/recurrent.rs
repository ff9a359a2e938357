//! Layers with a state against ONNX Runtime.
//!
//! The values are those of ONNX Runtime 1.32 (`CPUExecutionProvider`) for one node with these
//! attributes, whose inputs are [`noise`] of their names.

use std::sync::Arc;

use gw_engine::PlanOptions;
use gw_engine::onnx::proto::{AttributeProto, TensorProto};
use gw_tensor::Tensor;

use crate::onnx::{FLOAT, Onnx, Value};
use crate::run::{error, floats, kernels, plan, run};

const INT32: i32 = 6;

/// Products of a few numbers below one, exponentials of drivers.
const TOLERANCE: f32 = 2e-5;

fn lengths(mut file: Onnx, values: &[i32]) -> Onnx {
    file.graph.initializer.push(TensorProto {
        name: "lengths".to_owned(),
        dims: vec![values.len() as i64],
        data_type: INT32,
        int32_data: values.to_vec(),
        ..TensorProto::default()
    });
    file
}

/// Gives the last node an attribute that [`Value`] lacks.
fn attribute(mut file: Onnx, proto: AttributeProto) -> Onnx {
    file.graph.node.last_mut().unwrap().attribute.push(proto);
    file
}

fn numbers(name: &str, floats: &[f32]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeProto::FLOATS,
        floats: floats.to_vec(),
        ..AttributeProto::default()
    }
}

fn check(file: &Onnx, due: &[(&[usize], &[f32])]) {
    let inputs = [floats("x", &[3, 2, 2])];
    let Some(given) = run(&Arc::new(file.model()), &inputs, PlanOptions::default()) else { return };
    for ((name, given), (dims, due)) in given.iter().zip(due) {
        let due = Tensor::from_slice(*dims, due).unwrap();
        let error = error(given, &due);
        assert!(error <= TOLERANCE, "{name} differs by {error}");
    }
}

#[test]
fn an_lstm_has_two_directions_with_their_own_activations_lengths_and_peepholes() {
    let inputs = ["x", "w", "r", "b", "lengths", "h0", "c0", "p"];
    let attributes = [("hidden_size", Value::Int(2)), ("direction", Value::Text("bidirectional"))];
    let file = Onnx::new(17)
        .input("x", FLOAT, &[3, 2, 2])
        .weights("w", &[2, 8, 2])
        .weights("r", &[2, 8, 2])
        .weights("b", &[2, 16])
        .weights("h0", &[2, 2, 2])
        .weights("c0", &[2, 2, 2])
        .weights("p", &[2, 6])
        .node_with("LSTM", &inputs, "y,yh,yc", &attributes)
        .output("y")
        .output("yh")
        .output("yc");
    let names = ["HardSigmoid", "Tanh", "Softsign", "Sigmoid", "ScaledTanh", "Tanh"];
    let file = attribute(
        lengths(file, &[3, 1]),
        AttributeProto {
            name: "activations".to_owned(),
            r#type: AttributeProto::STRINGS,
            strings: names.map(|name| name.as_bytes().to_vec()).to_vec(),
            ..AttributeProto::default()
        },
    );
    let file = attribute(file, numbers("activation_alpha", &[0.3, 1.2]));
    let file = attribute(file, numbers("activation_beta", &[0.4, 0.9]));
    let file = attribute(
        file,
        AttributeProto {
            name: "clip".to_owned(),
            r#type: AttributeProto::FLOAT,
            f: 0.8,
            ..AttributeProto::default()
        },
    );
    let y = [
        -0.067_257, 0.016_915, -0.130_783, 0.014_547, 0.142_363, 0.151_759, -0.040_601, 0.390_849,
        -0.100_140, 0.018_542, 0.0, 0.0, 0.128_204, 0.168_125, 0.0, 0.0, -0.122_688, -0.011_217,
        0.0, 0.0, -0.095_165, 0.225_431, 0.0, 0.0,
    ];
    let yh = [
        -0.122_688, -0.011_217, -0.130_783, 0.014_547, 0.142_363, 0.151_759, -0.040_601, 0.390_849,
    ];
    let yc = [
        -0.247_027, -0.075_389, -0.256_833, 0.100_009, 0.209_335, 0.223_602, -0.070_676, 0.642_307,
    ];
    check(&file, &[(&[3, 2, 2, 2], &y), (&[2, 2, 2], &yh), (&[2, 2, 2], &yc)]);
}

fn gru(linear_before_reset: i64, layout: i64) -> Onnx {
    let attributes = [
        ("hidden_size", Value::Int(2)),
        ("direction", Value::Text("reverse")),
        ("linear_before_reset", Value::Int(linear_before_reset)),
        ("layout", Value::Int(layout)),
    ];
    let x = if layout == 1 { [2, 3, 2] } else { [3, 2, 2] };
    let h0 = if layout == 1 { [2, 1, 2] } else { [1, 2, 2] };
    Onnx::new(17)
        .input("x", FLOAT, &x)
        .weights("w", &[1, 6, 2])
        .weights("r", &[1, 6, 2])
        .weights("b", &[1, 12])
        .weights("h0", &h0)
        .node_with("GRU", &["x", "w", "r", "b", "", "h0"], "y", &attributes)
        .output("y")
}

#[test]
fn a_gru_resets_before_or_after_the_product() {
    let before = [
        0.234_474, -0.535_634, 0.234_307, -0.165_001, 0.109_919, -0.505_329, -0.523_758,
        -0.156_649, -0.302_200, 0.233_054, -0.590_967, -0.020_988,
    ];
    let after = [
        -0.122_621, -0.570_427, 0.025_283, -0.111_341, -0.192_360, -0.535_726, -0.680_386,
        -0.130_202, -0.553_850, 0.202_311, -0.642_736, -0.017_955,
    ];
    check(&gru(0, 0), &[(&[3, 1, 2, 2], &before)]);
    check(&gru(1, 0), &[(&[3, 1, 2, 2], &after)]);
}

#[test]
fn the_batch_may_come_first() {
    let x = crate::onnx::noise("x", 12);
    let turned: Vec<f32> = [0, 4, 8, 2, 6, 10].iter().flat_map(|&at| [x[at], x[at + 1]]).collect();
    let given = [("x".to_owned(), Tensor::from_slice([3, 2, 2], &x).unwrap())];
    let first = [("x".to_owned(), Tensor::from_slice([2, 3, 2], &turned).unwrap())];
    let options = PlanOptions::default();
    let Some(due) = run(&Arc::new(gru(0, 0).model()), &given, options) else { return };
    let given = run(&Arc::new(gru(0, 1).model()), &first, options).unwrap();
    let (due, given) = (due[0].1.to_vec::<f32>().unwrap(), given[0].1.to_vec::<f32>().unwrap());
    for entry in 0..2 {
        for step in 0..3 {
            let (at, from) = ((entry * 3 + step) * 2, (step * 2 + entry) * 2);
            assert_eq!(given[at..at + 2], due[from..from + 2], "entry {entry}, step {step}");
        }
    }
}

#[test]
fn an_rnn_without_a_step_has_no_state() {
    let file = Onnx::new(17)
        .input("x", FLOAT, &[3, 2, 2])
        .weights("w", &[1, 2, 2])
        .weights("r", &[1, 2, 2])
        .weights("h0", &[1, 2, 2])
        .node("RNN", &["x", "w", "r", "", "lengths", "h0"], "y,yh")
        .output("y")
        .output("yh");
    let y = [-0.204_840, -0.800_028, 0.0, 0.0, 0.695_977, 0.012_318, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let yh = [0.695_977, 0.012_318, 0.0, 0.0];
    check(&lengths(file, &[2, 0]), &[(&[3, 1, 2, 2], &y), (&[1, 2, 2], &yh)]);
}

#[test]
fn a_long_sequence_is_walked_in_parts() {
    // A running sum: h = 1 * (x + h) + 0.
    let steps = 30_000u16;
    let file = Onnx::new(17)
        .input("x", FLOAT, &[steps.into(), 1, 1])
        .floats("w", &[1, 1, 1], &[1.0])
        .floats("r", &[1, 1, 1], &[1.0])
        .node("RNN", &["x", "w", "r"], "y,yh")
        .output("y")
        .output("yh");
    let file = attribute(
        file,
        AttributeProto {
            name: "activations".to_owned(),
            r#type: AttributeProto::STRINGS,
            strings: vec![b"Affine".to_vec()],
            ..AttributeProto::default()
        },
    );
    let file = attribute(file, numbers("activation_alpha", &[1.0]));
    let file = attribute(file, numbers("activation_beta", &[0.0]));
    let ones = vec![1f32; steps.into()];
    let x = [("x".to_owned(), Tensor::from_slice([ones.len(), 1, 1], &ones).unwrap())];
    let parts = kernels(&plan(&file.model(), &x, PlanOptions::default()));
    assert!(parts.iter().filter(|&&kernel| kernel == "recurrent").count() > 1, "{parts:?}");
    let Some(given) = run(&Arc::new(file.model()), &x, PlanOptions::default()) else { return };
    let sums = given[0].1.to_vec::<f32>().unwrap();
    assert!((1u16..).zip(&sums).all(|(due, &given)| given == f32::from(due)));
    assert_eq!(given[1].1.to_vec::<f32>().unwrap(), [f32::from(steps)]);
}

#[test]
fn a_layer_is_one_product_and_one_walk() {
    let plan = plan(&gru(0, 0).model(), &[floats("x", &[3, 2, 2])], PlanOptions::default());
    assert_eq!(kernels(&plan), ["gemm", "recurrent"], "{plan}");
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let file = Onnx::new(17)
        .input("x", FLOAT, &[3, 2, 2])
        .weights("w", &[1, 4, 2])
        .weights("r", &[1, 2, 2])
        .node("RNN", &["x", "w", "r"], "y")
        .output("y");
    let shapes = crate::run::shapes(&[floats("x", &[3, 2, 2])]);
    let caps = gw_shaders::kernel::Caps::minimal();
    let error = file.model().plan(&shapes, &caps, &PlanOptions::default()).unwrap_err();
    let text = format!("{error}");
    assert!(text.contains("the weights"), "{text}");
}
