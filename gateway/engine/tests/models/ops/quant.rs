//! Small integers, small floats, and what multiplies them.
//!
//! Where a comment says so, values are those of ONNX Runtime 1.32 (`CPUExecutionProvider`);
//! others are worked by hand.

use std::sync::Arc;

use bytes::Bytes;
use gw_engine::PlanOptions;
use gw_engine::onnx::proto::TensorProto;
use gw_engine::plan::BufferKind;
use gw_tensor::{DType, Tensor};

use crate::onnx::{FLOAT, INT8, INT64, Onnx, Value};
use crate::run::{error, floats, kernels, plan, run};

const UINT8: i32 = 2;
const INT32: i32 = 6;
const FLOAT16: i32 = 10;
const F8E4M3FN: i64 = 17;
const INT4: i32 = 22;

fn raw(mut file: Onnx, name: &str, dtype: i32, dims: &[i64], data: &[u8]) -> Onnx {
    file.graph.initializer.push(TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: dtype,
        raw_data: Bytes::copy_from_slice(data),
        ..TensorProto::default()
    });
    file
}

/// Sets the domain of the last node.
fn microsoft(mut file: Onnx) -> Onnx {
    "com.microsoft".clone_into(&mut file.graph.node.last_mut().unwrap().domain);
    file
}

fn answers(file: &Onnx, inputs: &[(&str, Tensor)]) -> Option<Vec<Tensor>> {
    let inputs: Vec<(String, Tensor)> =
        inputs.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
    let outputs = run(&Arc::new(file.model()), &inputs, PlanOptions::default())?;
    Some(outputs.into_iter().map(|(_, tensor)| tensor).collect())
}

fn cast(from: i32, to: &[i64]) -> Onnx {
    let mut file = Onnx::new(24).input("x", from, &[-1]);
    let mut last = "x".to_owned();
    for (index, &to) in to.iter().enumerate() {
        let next = format!("y{index}");
        let attributes = [("to", Value::Int(to)), ("saturate", Value::Int(0))];
        file = file.node_with("Cast", &[last.as_str()], &next, &attributes);
        next.clone_into(&mut last);
    }
    file.output(&last)
}

#[test]
fn a_cast_to_a_narrow_float_rounds_also_on_the_way() {
    let x = Tensor::from_slice([4], &[2049f32, -0.1, 1e6, 464.0]).unwrap();
    let there_and_back = |to: i64| answers(&cast(FLOAT, &[to, 1]), &[("x", x.clone())]);
    let Some(half) = there_and_back(10) else { return };
    let due = [2048.0, -0.099_975_586, f32::INFINITY, 464.0];
    assert_eq!(half[0].to_vec::<f32>().unwrap(), due);
    let brain = there_and_back(16).unwrap();
    assert_eq!(brain[0].to_vec::<f32>().unwrap(), [2048.0, -0.100_097_656, 999_424.0, 464.0]);
    let small = there_and_back(F8E4M3FN).unwrap()[0].to_vec::<f32>().unwrap();
    assert!(small[0].is_nan() && small[2].is_nan(), "{small:?}");
    assert_eq!([small[1], small[3]], [-0.101_562_5, 448.0]);
}

#[test]
fn a_signed_byte_becomes_an_unsigned_one_before_it_becomes_a_float() {
    let x = Tensor::from_slice([3], &[-1i8, 5, -128]).unwrap();
    let Some(given) = answers(&cast(INT8, &[2, 1]), &[("x", x)]) else { return };
    assert_eq!(given[0].to_vec::<f32>().unwrap(), [255.0, 5.0, 128.0]);
}

#[test]
fn a_cast_from_a_half_costs_nothing() {
    let file = Onnx::new(17)
        .input("x", FLOAT16, &[8])
        .node_with("Cast", &["x"], "wide", &[("to", Value::Int(1))])
        .node("Relu", &["wide"], "y")
        .output("y");
    let x = Tensor::new(DType::F16, [8], vec![0; 16]).unwrap();
    let plan = plan(&file.model(), &[("x".to_owned(), x)], PlanOptions::default());
    assert_eq!(kernels(&plan), ["pointwise"], "{plan}");
}

#[test]
fn nibbles_of_a_file_are_dequantised() {
    // 1, -1, 7, -8, 0: five elements in three bytes.
    let file = raw(Onnx::new(21), "x", INT4, &[5], &[0xf1, 0x87, 0x00])
        .floats("scale", &[], &[0.5])
        .node("DequantizeLinear", &["x", "scale"], "y")
        .output("y");
    let given = crate::run::constants(&file.model());
    assert_eq!(given[0].to_vec::<f32>().unwrap(), [0.5, -0.5, 3.5, -4.0, 0.0]);
    let short = raw(Onnx::new(21), "x", INT4, &[5], &[0xf1, 0x87]);
    let error = gw_engine::Model::parse(short.output("x").file(), "test").unwrap_err();
    assert!(format!("{error}").contains("take 3 bytes, not 2"), "{error}");
}

#[test]
fn blocks_have_scales_of_their_own_and_ties_go_to_even() {
    let file = raw(Onnx::new(21), "zero", INT8, &[2, 2], &[0, 1, 2, 3])
        .input("x", FLOAT, &[2, 4])
        .floats("scale", &[2, 2], &[2.0, 1.0, 100.0, 0.01])
        .node_with(
            "QuantizeLinear",
            &["x", "scale", "zero"],
            "y",
            &[("axis", Value::Int(1)), ("block_size", Value::Int(2))],
        )
        .output("y");
    let x = [1f32, 3.0, 5.0, -7.0, 250.0, -2.5, 1000.0, -1000.0];
    let x = Tensor::from_slice([2, 4], &x).unwrap();
    let Some(given) = answers(&file, &[("x", x)]) else { return };
    // ONNX Runtime.
    assert_eq!(given[0].to_vec::<i8>().unwrap(), [0, 2, 6, -6, 4, 2, 127, -128]);
}

#[test]
fn whole_numbers_are_multiplied_exactly() {
    let file = Onnx::new(17)
        .input("a", INT64, &[2, 2])
        .input("b", INT64, &[2, 2])
        .node("MatMul", &["a", "b"], "y")
        .output("y");
    let a = Tensor::from_slice([2, 2], &[16_777_217i64, 1, -2, 3]).unwrap();
    let b = Tensor::from_slice([2, 2], &[1i64, 3, 0, -5]).unwrap();
    let Some(given) = answers(&file, &[("a", a), ("b", b)]) else { return };
    let due = [16_777_217i64, 3 * 16_777_217 - 5, -2, -6 - 15];
    assert_eq!(given[0].to_vec::<i64>().unwrap(), due);
}

/// A device has 32 bits: what is no bound is not brought nearer to it.
#[test]
fn a_constant_beyond_32_bits_is_refused_where_it_is_added_but_not_as_a_bound() {
    let file = |op: &str| {
        Onnx::new(17)
            .input("x", INT64, &[1])
            .ints("far", &[1 << 40])
            .node(op, &["x", "far"], "y")
            .output("y")
    };
    let error = crate::run::plan_error(&file("Add").model());
    assert!(error.contains("1099511627776"), "{error}");
    let x = Tensor::from_slice([1], &[7i64]).unwrap();
    let Some(given) = answers(&file("Min"), &[("x", x)]) else { return };
    assert_eq!(given[0].to_vec::<i64>().unwrap(), [7]);
}

#[test]
fn an_integer_sum_is_exact_beyond_what_floats_hold() {
    let file = Onnx::new(17)
        .input("a", UINT8, &[1, 2047])
        .input("b", UINT8, &[2047, 1])
        .node("MatMulInteger", &["a", "b"], "y")
        .output("y");
    let a = Tensor::from_slice([1, 2047], &[255u8; 2047]).unwrap();
    let b = a.reshaped([2047, 1]).unwrap();
    let Some(given) = answers(&file, &[("a", a), ("b", b)]) else { return };
    // 255 * 255 * 2047 has 27 bits, and the last is set.
    assert_eq!(given[0].to_vec::<i32>().unwrap(), [133_106_175]);
}

#[test]
fn integer_weights_stay_bytes_and_their_zero_points_are_taken_off() {
    let (k, n) = (1024usize, 128usize);
    let dims = [1024i64, 128];
    let bytes: Vec<u8> = (0..k * n).map(|at| (at * 37 % 251).to_le_bytes()[0]).collect();
    let zeros: Vec<u8> = (0..n).map(|column| (column * 5).to_le_bytes()[0]).collect();
    let file = raw(Onnx::new(17), "b", UINT8, &dims, &bytes);
    let file = raw(file, "b_zero", UINT8, &dims[1..], &zeros);
    let file = raw(file, "a_zero", UINT8, &[], &[7])
        .input("a", UINT8, &[2, dims[0]])
        .node("MatMulInteger", &["a", "b", "a_zero", "b_zero"], "y")
        .output("y");
    let a: Vec<u8> = (0..2 * k).map(|at| (at * 91).to_le_bytes()[0]).collect();
    let a = Tensor::from_slice([2, k], &a).unwrap();
    let plan = plan(&file.model(), &[("a".to_owned(), a.clone())], PlanOptions::default());
    let weights = |kind: &BufferKind| matches!(kind, BufferKind::Weight { .. });
    let held: u64 =
        plan.buffers.iter().filter(|buffer| weights(&buffer.kind)).map(|buffer| buffer.bytes).sum();
    // Scales and zero points come on top.
    assert!(held < 3 * bytes.len() as u64 / 2, "{held} bytes\n{plan}");
    let Some(given) = answers(&file, &[("a", a.clone())]) else { return };
    let given = given[0].to_vec::<i32>().unwrap();
    let a = a.to_vec::<u8>().unwrap();
    for (row, column) in [(0, 0), (1, 127), (1, 40)] {
        let product = |at: usize| {
            let a = i32::from(a[row * k + at]) - 7;
            a * (i32::from(bytes[at * n + column]) - i32::from(zeros[column]))
        };
        let due: i32 = (0..k).map(product).sum();
        assert_eq!(given[row * n + column], due, "row {row}, column {column}");
    }
}

#[test]
fn a_quantised_convolution_pads_with_its_zero_point() {
    let x: Vec<u8> = (0..18i32).map(|at| (at * 29).to_le_bytes()[0]).collect();
    let weights: Vec<u8> = (0..16i32).map(|at| (at * 41 - 128).to_le_bytes()[0]).collect();
    let file = raw(Onnx::new(17), "xz", UINT8, &[], &[128]);
    let file = raw(file, "w", INT8, &[2, 2, 2, 2], &weights);
    let file = raw(file, "wz", INT8, &[2], &[0, 0]);
    let file = raw(file, "yz", UINT8, &[], &[100]);
    let bias: Vec<u8> = [200i32, -900].iter().flat_map(|value| value.to_le_bytes()).collect();
    let inputs = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "bias"];
    let file = raw(file, "bias", INT32, &[2], &bias)
        .input("x", UINT8, &[1, 2, 3, 3])
        .floats("xs", &[], &[0.03])
        .floats("ws", &[2], &[0.02, 0.01])
        .floats("ys", &[], &[1.7])
        .node_with("QLinearConv", &inputs, "y", &[("pads", Value::Ints(vec![1, 0, 0, 1]))])
        .output("y");
    let x = Tensor::from_slice([1, 2, 3, 3], &x).unwrap();
    let Some(given) = answers(&file, &[("x", x)]) else { return };
    // ONNX Runtime.
    let due =
        [100, 100, 99, 104, 103, 103, 100, 99, 102, 100, 100, 100, 101, 101, 99, 100, 100, 99];
    assert_eq!(given[0].to_vec::<u8>().unwrap(), due);
}

#[test]
fn a_range_decides_its_own_scale() {
    let file = Onnx::new(17)
        .input("x", FLOAT, &[6])
        .node("DynamicQuantizeLinear", &["x"], "y,scale,zero")
        .output("y")
        .output("scale")
        .output("zero");
    let x = Tensor::from_slice([6], &[0f32, 2.0, -3.0, -2.5, 1.34, 0.5]).unwrap();
    let Some(given) = answers(&file, &[("x", x)]) else { return };
    // ONNX Runtime.
    assert_eq!(given[0].to_vec::<u8>().unwrap(), [153, 255, 0, 26, 221, 179]);
    assert_eq!(given[1].to_vec::<f32>().unwrap(), [5.0 / 255.0]);
    assert_eq!(given[2].to_vec::<u8>().unwrap(), [153]);
}

fn nbits(zeros: bool) -> Onnx {
    let bytes: Vec<u8> = (0..48i32).map(|at| (at * 37).to_le_bytes()[0]).collect();
    let file = raw(Onnx::new(17), "b", UINT8, &[3, 2, 8], &bytes);
    let file = raw(file, "zeros", UINT8, &[3], &[0x21, 0x93, 0x47]);
    let attributes = [("K", 32), ("N", 3), ("bits", 4), ("block_size", 16)];
    let attributes = attributes.map(|(name, value)| (name, Value::Int(value)));
    let inputs: &[&str] = if zeros { &["a", "b", "s", "zeros"] } else { &["a", "b", "s"] };
    let file = file
        .input("a", FLOAT, &[2, 32])
        .floats("s", &[6], &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
        .node_with("MatMulNBits", inputs, "y", &attributes);
    microsoft(file).output("y")
}

#[test]
fn weights_of_four_bits_are_multiplied_as_they_are() {
    // ONNX Runtime.
    let cases = [
        (true, [-0.243_272_f32, 2.167_257, 0.141_757, -1.030_062, 4.180_249, 9.267_524]),
        (false, [4.480_207, 2.666_849, 8.511_787, -2.815_999, 3.099_552, 6.565_885]),
    ];
    for (zeros, due) in cases {
        let file = nbits(zeros);
        let a = floats("a", &[2, 32]);
        let plan = plan(&file.model(), std::slice::from_ref(&a), PlanOptions::default());
        assert_eq!(kernels(&plan), ["gemm"], "{plan}");
        let Some(given) = answers(&file, &[("a", a.1)]) else { return };
        let due = Tensor::from_slice([2, 3], &due).unwrap();
        let error = error(&given[0], &due);
        assert!(error <= 1e-5, "differs by {error}");
    }
}
