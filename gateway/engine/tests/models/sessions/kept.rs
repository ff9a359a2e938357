//! Values on the device that decide what a run computes.

use std::sync::Arc;

use gw_engine::{Session, SessionOptions, Value};
use gw_tensor::Tensor;

use crate::device::open_unmapped;
use crate::onnx::{FLOAT, INT64, Onnx};

/// More elements than an input may have whose value is taken into the plan.
const LARGE: usize = 3000;

type Values = Vec<(String, Value)>;

fn named(name: &str, value: impl Into<Value>) -> (String, Value) {
    (name.to_owned(), value.into())
}

/// What a run of `file` gives for these inputs in host memory, and for the same on the device.
fn both(file: &Onnx, inputs: &[(&str, i32, Tensor)]) -> Option<[Vec<(String, Tensor)>; 2]> {
    let device = open_unmapped()?;
    let session = |file: &Onnx| {
        let model = Arc::new(file.model());
        Session::new(model, Arc::clone(&device), SessionOptions::default())
    };
    let ran = session(file);
    let host = inputs.iter().map(|(name, _, tensor)| ((*name).to_owned(), tensor.clone()));
    let host: Vec<_> = host.collect();
    let due = ran.run(&host).unwrap();
    let on_device: Values = inputs
        .iter()
        .map(|(name, dtype, tensor)| {
            let zeros = tensor.bytes().iter().map(|_| 0).collect::<Vec<u8>>();
            let zeros = Tensor::new(tensor.dtype(), tensor.shape().clone(), zeros).unwrap();
            let dims = [i64::try_from(tensor.elements()).unwrap()];
            let same = Onnx::new(17)
                .input("a", *dtype, &dims)
                .input("b", *dtype, &dims)
                .node("Add", &["a", "b"], "c")
                .output("c");
            let given = [named("a", tensor.clone()), named("b", zeros)];
            let mut kept = session(&same).run_values(&given, Some(0)).unwrap();
            let kept = kept.swap_remove(0).1;
            assert!(matches!(kept, Value::Device(_)), "{name} stays");
            named(name, kept)
        })
        .collect();
    let given = ran.run_values(&on_device, None).unwrap();
    let given = given.into_iter().map(|(name, value)| (name, value.into_host().unwrap()));
    Some([due, given.collect()])
}

#[test]
fn a_kept_shape_decides_a_run_as_one_from_the_host_does() {
    let file = Onnx::new(17)
        .input("x", FLOAT, &[-1])
        .input("shape", INT64, &[2])
        .node("Reshape", &["x", "shape"], "y")
        .output("y");
    let x = Tensor::from_slice([6], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let shape = Tensor::from_slice([2], &[2i64, 3]).unwrap();
    let Some([due, given]) = both(&file, &[("x", FLOAT, x), ("shape", INT64, shape)]) else {
        return;
    };
    assert_eq!(due[0].1.shape().dims(), [2, 3]);
    assert_eq!(given, due);
}

#[test]
fn a_value_that_is_computed_from_a_kept_tensor_decides_a_run() {
    let file = Onnx::new(17).input("x", FLOAT, &[-1]).node("NonZero", &["x"], "y").output("y");
    let values: Vec<f32> = (0u16..).take(LARGE).map(|i| f32::from(i % 7)).collect();
    let x = Tensor::from_slice([LARGE], &values).unwrap();
    let Some([due, given]) = both(&file, &[("x", FLOAT, x)]) else { return };
    assert!(due[0].1.elements() > LARGE / 2);
    assert_eq!(given, due);
}
