//! Weights that take fewer than four bytes stay so on the device.

use std::sync::Arc;

use gw_engine::plan::BufferKind;
use gw_engine::{Model, PlanOptions};
use gw_tensor::Tensor;
use half::{bf16, f16};

use crate::onnx::{BFLOAT16, FLOAT, FLOAT16, INT64, Onnx, Value, noise};
use crate::run::{floats, fused_equals_plain, kernels, plan, run};

/// Bytes of all weights, and of those whose names begin so.
fn weight_bytes(model: &Model, inputs: &[(String, Tensor)], prefix: &str) -> [u64; 2] {
    let plan = plan(model, inputs, PlanOptions::default());
    let weights = plan.buffers.iter().filter(|b| matches!(b.kind, BufferKind::Weight { .. }));
    let mut bytes = [0; 2];
    for weight in weights {
        bytes[0] += weight.bytes;
        bytes[1] += if weight.name.starts_with(prefix) { weight.bytes } else { 0 };
    }
    bytes
}

/// The model with weights of a type says on the device, bit by bit, what it says with the same
/// values as floats.
fn says_the_same(of: impl Fn(i32) -> Onnx, dtype: i32, inputs: &[(String, Tensor)]) {
    let [narrow, wide] = [dtype, FLOAT].map(|dtype| Arc::new(of(dtype).model()));
    let options = PlanOptions::default();
    let Some(given) = run(&narrow, inputs, options) else { return };
    assert_eq!(given, run(&wide, inputs, options).unwrap());
}

/// Random weights of a type, or as floats the values that `narrow` has.
fn rounded(file: Onnx, name: &str, narrow: i32, dtype: i32, dims: &[i64]) -> Onnx {
    let values = noise(name, dims.iter().product::<i64>() as usize);
    let round = |&value: &f32| match narrow {
        FLOAT16 => f16::from_f32(value).to_f32(),
        _ => bf16::from_f32(value).to_f32(),
    };
    match dtype {
        FLOAT => file.floats(name, dims, &values.iter().map(round).collect::<Vec<_>>()),
        _ => file.halves(name, dtype, dims, &values),
    }
}

const TO_FLOAT: (&str, Value) = ("to", Value::Int(FLOAT as i64));

/// Three products of one input, as the query, key and value of an attention; weights are cast.
fn siblings(narrow: i32, dtype: i32) -> Onnx {
    let mut file = Onnx::new(17).input("x", FLOAT, &[1, 5, 36]);
    for name in ["q weights", "k weights", "v weights"] {
        let (cast, product) = (format!("{name} cast"), format!("{} product", &name[..1]));
        file = rounded(file, name, narrow, dtype, &[36, 40])
            .node_with("Cast", &[name], &cast, &[TO_FLOAT])
            .node("MatMul", &["x", &cast], &product);
    }
    file.node_with("Transpose", &["k product"], "k", &[("perm", Value::Ints(vec![0, 2, 1]))])
        .node("MatMul", &["q product", "k"], "s")
        .node("MatMul", &["s", "v product"], "y")
        .output("y")
}

#[test]
fn products_with_halves_keep_them() {
    let inputs = [floats("x", &[1, 5, 36])];
    for dtype in [FLOAT16, BFLOAT16] {
        let model = siblings(dtype, dtype).model();
        let of = |dtype_of_file| siblings(dtype, dtype_of_file);
        assert_eq!(kernels(&plan(&model, &inputs, PlanOptions::default())), ["gemm"; 3]);
        // 120 columns in two tiles of 64, 36 rows, two bytes each.
        assert_eq!(weight_bytes(&model, &inputs, "q")[0], 128 * 36 * 2);
        assert_eq!(weight_bytes(&of(FLOAT).model(), &inputs, "q")[0], 128 * 36 * 4);
        says_the_same(of, dtype, &inputs);
        fused_equals_plain(model, &inputs);
    }
}

fn table(narrow: i32, dtype: i32, columns: i64) -> Onnx {
    let file = Onnx::new(17).input("ids", INT64, &[2, 3]);
    rounded(file, "table", narrow, dtype, &[50, columns])
        .node("Gather", &["table", "ids"], "rows")
        .node_with("Cast", &["rows"], "y", &[TO_FLOAT])
        .output("y")
}

#[test]
fn tables_of_halves_keep_them() {
    let ids = Tensor::from_slice([2, 3], &[0i64, 49, 17, -3, 20, 17]).unwrap();
    let inputs = [("ids".to_owned(), ids)];
    for (dtype, columns) in [(FLOAT16, 20), (FLOAT16, 7), (BFLOAT16, 20), (BFLOAT16, 9)] {
        let of = |dtype_of_file| table(dtype, dtype_of_file, columns);
        let bytes = weight_bytes(&of(dtype).model(), &inputs, "table")[0];
        assert_eq!(bytes, 50 * columns.unsigned_abs().div_ceil(2) * 4);
        says_the_same(of, dtype, &inputs);
        fused_equals_plain(of(dtype).model(), &inputs);
    }
}

fn image(narrow: i32, dtype: i32) -> Onnx {
    let file = Onnx::new(17).input("x", FLOAT, &[1, 8, 9, 9]);
    let file = rounded(file, "wide", narrow, dtype, &[12, 8, 3, 3]);
    rounded(file, "each", narrow, dtype, &[12, 1, 3, 3])
        .node_with("Cast", &["wide"], "w", &[TO_FLOAT])
        .node_with("Cast", &["each"], "e", &[TO_FLOAT])
        .node("Conv", &["x", "w"], "a")
        .node_with("Conv", &["a", "e"], "y", &[("group", Value::Int(12))])
        .output("y")
}

#[test]
fn filters_of_halves_keep_them_but_for_depthwise_ones() {
    let inputs = [floats("x", &[1, 8, 9, 9])];
    let of = |dtype| image(FLOAT16, dtype);
    let model = of(FLOAT16).model();
    assert_eq!(weight_bytes(&model, &inputs, "wide"), [64 * 72 * 2 + 9 * 12 * 4, 64 * 72 * 2]);
    says_the_same(of, FLOAT16, &inputs);
    fused_equals_plain(model, &inputs);
}

/// A convolution with bytes and a scale for each of `out` channels, and a bias and an activation.
fn quantised(out: i64, channels: i64, side: i64, groups: i64) -> Onnx {
    let dims = [out, channels / groups, side, side];
    let count = dims.iter().product::<i64>();
    let bytes: Vec<i8> = (0..count).map(|at| ((at * 37 + 11) % 255 - 127) as i8).collect();
    let scales: Vec<f32> = (0..out).map(|at| 0.01 + 0.001 * (at % 9) as f32).collect();
    Onnx::new(17)
        .input("x", FLOAT, &[2, channels, 6, 7])
        .bytes("bytes", &dims, &bytes)
        .bytes("zeros", &[out], &vec![0; out as usize])
        .floats("scale", &[out], &scales)
        .weights("bias", &[out])
        .node_with(
            "DequantizeLinear",
            &["bytes", "scale", "zeros"],
            "w",
            &[("axis", Value::Int(0))],
        )
        .node_with("Conv", &["x", "w", "bias"], "a", &[("group", Value::Int(groups))])
        .node("Relu", &["a"], "y")
        .output("y")
}

#[test]
fn filters_of_bytes_stay_bytes() {
    // Small constants are folded at once.
    for (out, channels, side) in [(130, 180, 3), (300, 260, 1)] {
        let model = quantised(out, channels, side, 1).model();
        let inputs = [floats("x", &[2, channels as usize, 6, 7])];
        let family = if side == 1 { "gemm" } else { "conv" };
        assert_eq!(kernels(&plan(&model, &inputs, PlanOptions::default()))[0], family);
        let stored =
            (channels * side * side * out.unsigned_abs().next_multiple_of(64) as i64) as u64;
        assert_eq!(weight_bytes(&model, &inputs, "bytes")[1], stored);
        fused_equals_plain(model, &inputs);
    }
    let model = quantised(256, 1200, 1, 4).model();
    let inputs = [floats("x", &[2, 1200, 6, 7])];
    assert!(weight_bytes(&model, &inputs, "")[0] > 4 * 256 * 300, "groups have floats");
    fused_equals_plain(model, &inputs);
}
