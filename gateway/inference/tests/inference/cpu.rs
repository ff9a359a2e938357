//! Who runs a model on the CPU: rten, or the engine where rten cannot or is wrong.

use gw_inference::DeviceChoice;

use crate::onnx::{Onnx, Type};
use crate::{ModelFile, assert_close, devices, input, tensor};

/// Before version 13, Softmax is over all axes from its own on, the second by default; rten takes
/// the last.
#[test]
fn an_operator_that_rten_takes_for_another_is_right() {
    let old = Onnx::new()
        .opset(9)
        .input("x", Type::F32, "1 4 1 1")
        .output("y", Type::F32, "1 4 1 1")
        .node("y = Softmax(x)");
    let file = ModelFile::new(old.bytes());
    let x = [0.0, 1.0, 2.0, 3.0f32];
    let sum: f32 = x.iter().map(|x| x.exp()).sum();
    let due: Vec<f32> = x.iter().map(|x| x.exp() / sum).collect();
    for device in devices() {
        let model = file.open_on(&device).unwrap();
        for _ in 0..2 {
            let y = &model.run(&[input("x", tensor(&[1, 4, 1, 1], &x))]).unwrap()[0].1;
            assert_close(&y.to_vec().unwrap(), &due, 1e-6);
        }
    }
}

/// The same where no dimension is known before the first request, which then decides.
#[test]
fn the_first_request_decides_where_nothing_can_be_tried_before() {
    let old = Onnx::new()
        .opset(9)
        .input("x", Type::F32, "batch channels 1 1")
        .input("shape", Type::I64, "4")
        .output("y", Type::F32, "a b c d")
        .node("r = Reshape(x, shape)")
        .node("y = Softmax(r)");
    let file = ModelFile::new(old.bytes());
    let model = file.open_on(&DeviceChoice::Cpu).unwrap();
    let x = input("x", tensor(&[1, 2, 1, 1], &[0f32; 2]));
    // A request that no device can answer decides nothing.
    let wrong = input("shape", tensor(&[4], &[5i64, 1, 1, 1]));
    assert!(model.run(&[x.clone(), wrong]).is_err());
    for _ in 0..2 {
        let shape = input("shape", tensor(&[4], &[1i64, 2, 1, 1]));
        let y = &model.run(&[x.clone(), shape]).unwrap()[0].1;
        assert_close(&y.to_vec().unwrap(), &[0.5, 0.5], 1e-6);
    }
}

#[test]
fn an_operator_that_rten_lacks_runs() {
    let lrn = Onnx::new()
        .input("x", Type::F32, "1 3 1 1")
        .output("y", Type::F32, "1 3 1 1")
        .node_with("y = LRN(x)", &[("size", 3)]);
    let file = ModelFile::new(lrn.bytes());
    // `x / (1 + 0.0001 / 3 * the sum of the squares of three neighbours) ^ 0.75`.
    let squares = [1.0 + 1e4, 1.0 + 1e4 + 9.0, 1e4 + 9.0f32];
    let x = [1.0, 100.0, 3.0f32];
    let due: Vec<f32> =
        x.iter().zip(squares).map(|(x, sum)| x / (1.0 + 1e-4 / 3.0 * sum).powf(0.75)).collect();
    for device in devices() {
        let model = file.open_on(&device).unwrap();
        let y = &model.run(&[input("x", tensor(&[1, 3, 1, 1], &x))]).unwrap()[0].1;
        assert_close(&y.to_vec().unwrap(), &due, 1e-5);
        let held = model.footprint();
        assert_eq!(held.total() == held.weight_bytes, device == DeviceChoice::Cpu);
    }
}

#[test]
fn a_type_that_rten_lacks_runs() {
    let sum =
        Onnx::new().input("x", Type::U16, "n").output("y", Type::U16, "n").node("y = Add(x, x)");
    let file = ModelFile::new(sum.bytes());
    for device in devices() {
        let model = file.open_on(&device).unwrap();
        let y = &model.run(&[input("x", tensor(&[2], &[7u16, 30_000]))]).unwrap()[0].1;
        assert_eq!(y.to_vec::<u16>().unwrap(), [14, 60_000]);
    }
}

/// rten's exponential overflows there; a trial on small numbers does not tell.
#[test]
fn a_softplus_of_large_numbers_is_right() {
    let model =
        Onnx::new().input("x", Type::F32, "n").output("y", Type::F32, "n").node("y = Softplus(x)");
    let file = ModelFile::new(model.bytes());
    for device in devices() {
        let model = file.open_on(&device).unwrap();
        let y = &model.run(&[input("x", tensor(&[3], &[88f32, 89.0, 120.0]))]).unwrap()[0].1;
        assert_close(&y.to_vec().unwrap(), &[88.0, 89.0, 120.0], 1e-5);
    }
}

/// rten would make it, already when it loads the model, and abort.
#[test]
fn a_tensor_beyond_all_memory_is_an_error() {
    let shape: Vec<u8> = [i64::from(i32::MAX), 100].iter().flat_map(|d| d.to_le_bytes()).collect();
    let model = Onnx::new()
        .input("x", Type::F32, "n")
        .output("y", Type::F32, "a b")
        .constant("shape", Type::I64, &[2], &shape)
        .node("zeros = ConstantOfShape(shape)")
        .node("y = Add(zeros, x)");
    let file = ModelFile::new(model.bytes());
    for device in devices() {
        let run = file
            .open_on(&device)
            .and_then(|model| model.run(&[input("x", tensor(&[100], &[0f32; 100]))]));
        let error = run.unwrap_err().to_string();
        assert!(error.contains("larger than the limit"), "{error}");
    }
}
