//! One model on one device, without a queue.

use gw_inference::{DeviceChoice, Fault, InferenceConfig, InferenceError, LoadedModel};
use gw_tensor::{DType, Shape, Tensor};
use proptest::prelude::*;

use crate::onnx::{Onnx, Type, linear, linear_of, lookup};
use crate::{ModelFile, assert_close, devices, input, tensor};

fn only_output(model: &dyn LoadedModel, inputs: &[(String, Tensor)]) -> Tensor {
    let mut outputs = model.run(inputs).unwrap();
    assert_eq!(outputs.len(), 1);
    outputs.remove(0).1
}

#[test]
fn a_linear_layer_answers_on_every_device() {
    let file = ModelFile::new(linear().bytes());
    for device in devices() {
        let model = file.open_on(&device).unwrap();
        assert_eq!(model.device() == "cpu", device == DeviceChoice::Cpu);
        assert_eq!(model.signature().inputs[0].to_string(), "x: f32 [batch, 3]");
        assert_eq!(model.signature().outputs[0].to_string(), "y: f32 [batch, 2]");
        let x = [1.0, 2.0, 3.0, -1.0, 0.5, 0.25];
        let y = only_output(&*model, &[input("x", tensor(&[2, 3], &x))]);
        assert_eq!(y.shape().dims(), [2, 2]);
        assert_close(&y.to_vec().unwrap(), &linear_of(&x), 1e-5);
    }
}

#[test]
fn plans_are_kept_where_the_configuration_says() {
    let file = ModelFile::new(linear().bytes());
    for device in devices() {
        for plan_cache_bytes_max in [1 << 20, 0] {
            let kept = tempfile::tempdir().unwrap();
            let plan_cache_dir = Some(kept.path().join("plans"));
            let config =
                InferenceConfig { plan_cache_dir, plan_cache_bytes_max, ..Default::default() };
            file.open_with(&device, &config).unwrap().warm_up().unwrap();
            let is_kept = kept.path().join("plans").exists();
            assert_eq!(is_kept, plan_cache_bytes_max > 0, "{device:?} {config:?}");
        }
    }
}

#[test]
fn footprint_and_dispatches_are_told() {
    let file = ModelFile::new(linear().bytes());
    for device in devices() {
        let model = file.open_on(&device).unwrap();
        model.run(&[input("x", tensor(&[1, 3], &[0f32; 3]))]).unwrap();
        assert!(model.footprint().weight_bytes >= 32, "{:?}", model.footprint());
        let shapes = [("x".to_owned(), Shape::from([1, 3]))];
        let dispatches = model.dispatches(&shapes).unwrap();
        match device {
            DeviceChoice::Cpu => assert_eq!(dispatches, None),
            _ => assert!((1..=2).contains(&dispatches.unwrap()), "{dispatches:?}"),
        }
    }
}

#[test]
fn integers_and_booleans_come_back_as_the_model_declares_them() {
    let one = 1i64.to_le_bytes();
    let model = Onnx::new()
        .input("ids", Type::I64, "n")
        .output("next", Type::I64, "n")
        .output("same", Type::Bool, "n")
        .constant("one", Type::I64, &[], &one)
        .node("next = Add(ids, one)")
        .node("same = Equal(ids, one)");
    let file = ModelFile::new(model.bytes());
    for device in devices() {
        let model = file.open_on(&device).unwrap();
        let outputs = model.run(&[input("ids", tensor(&[3], &[-5i64, 1, 1 << 30]))]).unwrap();
        assert_eq!(outputs[0].0, "next");
        assert_eq!(outputs[0].1.to_vec::<i64>().unwrap(), [-4, 2, (1 << 30) + 1]);
        assert_eq!(outputs[1].1.dtype(), DType::Bool);
        assert_eq!(outputs[1].1.to_vec::<u8>().unwrap(), [0, 1, 0]);
    }
}

#[test]
fn a_byte_tensor_serves_as_a_boolean_input() {
    let model = Onnx::new()
        .input("mask", Type::Bool, "n")
        .output("not", Type::Bool, "n")
        .node("not = Not(mask)");
    let file = ModelFile::new(model.bytes());
    let model = file.open_on(&DeviceChoice::Cpu).unwrap();
    let not = only_output(&*model, &[input("mask", tensor(&[3], &[0u8, 1, 7]))]);
    assert_eq!(not.dtype(), DType::Bool);
    assert_eq!(not.to_vec::<u8>().unwrap(), [1, 0, 0]);
}

#[test]
fn other_float_types_are_computed_in_f32_on_the_cpu() {
    let double = |kind| {
        let model = Onnx::new().input("x", kind, "n").output("y", kind, "n");
        ModelFile::new(model.node("y = Add(x, x)").bytes())
    };
    let half = half::f16::from_f32(1.5);
    let file = double(Type::F16);
    let model = file.open_on(&DeviceChoice::Cpu).unwrap();
    let y = only_output(&*model, &[input("x", tensor(&[1], &[half]))]);
    assert_eq!(y.to_vec::<half::f16>().unwrap(), [half::f16::from_f32(3.0)]);

    let file = double(Type::F64);
    let model = file.open_on(&DeviceChoice::Cpu).unwrap();
    let y = only_output(&*model, &[input("x", tensor(&[1], &[0.25f64]))]);
    assert_eq!(y.to_vec::<f64>().unwrap(), [0.5]);
}

#[test]
fn small_integers_pass_through_the_cpu_unchanged() {
    for (kind, x) in [
        (Type::U8, tensor(&[2], &[0u8, 255])),
        (Type::I8, tensor(&[2], &[-128i8, 127])),
        (Type::I32, tensor(&[2], &[i32::MIN, i32::MAX])),
    ] {
        let model = Onnx::new().input("x", kind, "n").output("y", kind, "n");
        let file = ModelFile::new(model.node("y = Identity(x)").bytes());
        let model = file.open_on(&DeviceChoice::Cpu).unwrap();
        assert_eq!(only_output(&*model, &[input("x", x.clone())]), x);
    }
}

#[test]
fn an_operator_that_a_device_lacks_is_named_at_load() {
    let model = Onnx::new()
        .input("x", Type::F32, "n")
        .output("y", Type::F32, "n")
        .node("y = Frobnicate(x)");
    let file = ModelFile::new(model.bytes());
    for device in devices() {
        let error = file.open_on(&device).err().unwrap();
        assert_eq!(error.fault(), Fault::Operator);
        let InferenceError::Unsupported { model, op, node, .. } = &error else {
            panic!("{device}: {error}")
        };
        assert_eq!((&**model, &**op, &**node), ("model.onnx", "Frobnicate", "node_y"), "{error}");
    }
}

#[test]
fn an_index_past_the_table_is_the_callers_fault_on_every_device() {
    let file = ModelFile::new(lookup().bytes());
    for device in devices() {
        let model = file.open_on(&device).unwrap();
        let rows = |ids: &[i64]| model.run(&[input("ids", tensor(&[1, ids.len()], ids))]);
        let good = rows(&[4, 0, -1, -5]).unwrap().remove(0).1;
        assert_eq!(good.to_vec::<f32>().unwrap(), [8.0, 9.0, 0.0, 1.0, 8.0, 9.0, 0.0, 1.0]);
        for (ids, told) in [([0, 5], 5), ([0, -6], -6)] {
            let error = rows(&ids).unwrap_err();
            assert_eq!(error.fault(), Fault::Caller);
            assert_eq!(
                error.to_string(),
                format!(
                    "model model.onnx: input \"ids\" holds {told} at index 1, but the table that \
                     it is looked up in takes -5 to 4"
                )
            );
        }
    }
}

/// What stands between an input and the table, and how many entries the table has.
#[test]
fn the_table_of_an_input_is_found_behind_what_only_moves_its_elements() {
    let table: Vec<f32> = (0u8..10).map(f32::from).collect();
    let entries = |moved: &str, gather: &str| {
        let axes = 0i64.to_le_bytes();
        let onnx = Onnx::new()
            .input("ids", Type::I64, "n")
            .output("y", Type::F32, "a b c")
            .floats("table", &[5, 2], &table)
            .floats("small", &[3, 2], &table[..6])
            .constant("axes", Type::I64, &[1], &axes)
            .node(moved);
        let onnx = gather.split("; ").fold(onnx, Onnx::node);
        let model = ModelFile::new(onnx.bytes()).open_on(&DeviceChoice::Cpu).unwrap();
        model.signature().inputs[0].entries
    };
    let squeezed = "moved = Unsqueeze(ids, axes)";
    assert_eq!(entries(squeezed, "y = Gather(table, moved)"), Some(5));
    let both = "a = Gather(table, moved); b = Gather(small, moved); y = Add(a, b)";
    assert_eq!(entries(squeezed, both), Some(3), "the smaller one");
    assert_eq!(entries(squeezed, "t = Identity(table); y = Gather(t, moved)"), Some(5));
    assert_eq!(entries(squeezed, "t = Neg(table); y = Gather(t, moved)"), None);
    assert_eq!(entries("moved = Add(ids, axes)", "y = Gather(table, moved)"), None);
}

#[test]
fn inputs_that_do_not_fit_never_reach_a_device() {
    let file = ModelFile::new(linear().bytes());
    for device in devices() {
        let model = file.open_on(&device).unwrap();
        let error = model.run(&[input("x", tensor(&[1, 4], &[0f32; 4]))]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "model model.onnx: input \"x\" takes the shape [batch, 3], not [1, 4]"
        );
    }
}

#[test]
fn a_file_that_is_missing_or_no_model_is_a_clear_error() {
    let missing = ModelFile::new(Vec::new());
    std::fs::remove_file(missing.dir.path().join("model.onnx")).unwrap();
    for file in [missing, ModelFile::new(Vec::new()), ModelFile::new(b"<html>404</html>".to_vec())]
    {
        for device in devices() {
            let error = file.open_on(&device).err().unwrap();
            assert!(matches!(error, InferenceError::Load { .. }), "{error}");
            assert!(
                error.to_string().starts_with("model model.onnx cannot be loaded: "),
                "{error}"
            );
        }
    }
}

#[test]
fn a_model_loads_from_a_store_that_keeps_no_suffix() {
    let file = ModelFile::new(linear().bytes());
    let blob = file.dir.path().join("0123abcd");
    std::fs::write(&blob, &file.bytes).unwrap();
    let config = gw_inference::InferenceConfig::default();
    let model = gw_inference::open_model(&blob, &DeviceChoice::Cpu, &config).unwrap();
    let y = only_output(&*model, &[input("x", tensor(&[1, 3], &[1f32, 1.0, 1.0]))]);
    assert_close(&y.to_vec().unwrap(), &[9.5, 11.5], 1e-6);
}

#[test]
fn a_truncated_file_is_refused_at_every_length() {
    let bytes = linear().bytes();
    for length in 0..bytes.len() {
        let file = ModelFile::new(bytes[..length].to_vec());
        let error = file.open_on(&DeviceChoice::Cpu).err().unwrap();
        assert!(matches!(error, InferenceError::Load { .. }), "cut at {length}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Flipped bits can yield another valid model; it must load and run or fail, never abort.
    #[test]
    fn a_damaged_file_never_takes_the_process_down(at in 0usize..2000, bit in 0u8..8) {
        let mut bytes = linear().bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let file = ModelFile::new(bytes);
        if let Ok(model) = file.open_on(&DeviceChoice::Cpu) {
            let _ = model.run(&[input("x", tensor(&[1, 3], &[1f32, 2.0, 3.0]))]);
        }
    }
}
