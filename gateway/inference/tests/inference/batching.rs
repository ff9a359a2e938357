//! Many callers of one model.

use std::sync::Arc;
use std::time::Duration;

use gw_inference::{Fault, InferenceConfig, InferenceError, Model, Models};
use gw_tensor::Tensor;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;

use crate::onnx::{Onnx, Type, linear, linear_of};
use crate::{ModelFile, assert_close, devices, far_future, input, tensor};

fn load(file: &ModelFile, device: &gw_inference::DeviceChoice) -> Arc<Model> {
    let models = Models::new(InferenceConfig::default(), &mut Registry::default());
    models.load(&file.spec("model", device)).unwrap()
}

/// The request of caller `n`: one to three rows that no other caller sends.
fn rows_of(n: usize) -> Vec<f32> {
    (0..(n % 3 + 1) * 3).map(|i| (n * 10 + i) as f32).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_get_their_own_rows_and_bad_requests_harm_nobody() {
    let file = ModelFile::new(linear().bytes());
    for device in devices() {
        let model = load(&file, &device);
        let mut callers = JoinSet::new();
        for n in 0..100 {
            let model = Arc::clone(&model);
            callers.spawn(async move {
                let x = match n % 10 {
                    3 => tensor(&[1, 4], &[0f32; 4]),
                    7 => tensor(&[1, 3], &[0i64; 3]),
                    _ => tensor(&[n % 3 + 1, 3], &rows_of(n)),
                };
                (n, model.infer(vec![input("x", x)], far_future()).await)
            });
        }
        let mut refused = 0;
        while let Some(done) = callers.join_next().await {
            let (n, result) = done.unwrap();
            match n % 10 {
                3 | 7 => {
                    assert_eq!(result.unwrap_err().fault(), Fault::Caller);
                    refused += 1;
                }
                _ => {
                    let answer = result.unwrap();
                    assert_eq!(&*answer.device, model.device());
                    let y: Vec<f32> = answer.outputs[0].1.to_vec().unwrap();
                    assert_close(&y, &linear_of(&rows_of(n)), 1e-2);
                }
            }
        }
        assert_eq!(refused, 20);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_fail_on_the_device_fail_only_their_own_request() {
    // What is looked up is computed, so no request can be checked before it runs.
    let table: Vec<f32> = (0u8..10).map(f32::from).collect();
    let onnx = Onnx::new()
        .input("ids", Type::I64, "batch sequence")
        .output("rows", Type::F32, "batch sequence 2")
        .floats("table", &[5, 2], &table)
        .constant("zero", Type::I64, &[], &0i64.to_le_bytes())
        .node("index = Add(ids, zero)")
        .node("rows = Gather(table, index)");
    let file = ModelFile::new(onnx.bytes());
    let model = load(&file, &gw_inference::DeviceChoice::Cpu);
    let mut callers = JoinSet::new();
    for n in 0..60i64 {
        let model = Arc::clone(&model);
        callers.spawn(async move {
            let ids = tensor(&[1, 1], &[n % 6]);
            (n, model.infer(vec![input("ids", ids)], far_future()).await)
        });
    }
    while let Some(done) = callers.join_next().await {
        let (n, result) = done.unwrap();
        let first = (n % 6) as f32 * 2.0;
        if n % 6 == 5 {
            assert!(matches!(result, Err(InferenceError::Run { .. })));
        } else {
            let rows: Vec<f32> = result.unwrap().outputs[0].1.to_vec().unwrap();
            assert_eq!(rows, [first, first + 1.0]);
        }
    }
}

/// Dynamic quantisation takes one scale from the whole tensor, so rows in one run would change
/// each other's answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_with_dynamic_quantisation_answers_each_request_as_if_alone() {
    let onnx = Onnx::new()
        .input("x", Type::F32, "batch 2")
        .output("y", Type::F32, "batch 2")
        .node("q, scale, zero = DynamicQuantizeLinear(x)")
        .node("y = DequantizeLinear(q, scale, zero)");
    let file = ModelFile::new(onnx.bytes());
    let model = load(&file, &gw_inference::DeviceChoice::Cpu);
    let x = |n: usize| tensor(&[1, 2], &[0.1f32, [1f32, 10.0, 100.0, 1000.0][n % 4]]);
    let mut callers = JoinSet::new();
    for n in 0..40 {
        let model = Arc::clone(&model);
        callers.spawn(async move {
            (n, model.infer(vec![input("x", x(n))], far_future()).await.unwrap())
        });
    }
    let alone = file.open_on(&gw_inference::DeviceChoice::Cpu).unwrap();
    while let Some(done) = callers.join_next().await {
        let (n, answer) = done.unwrap();
        let expected: Vec<(String, Tensor)> = alone.run(&[input("x", x(n))]).unwrap();
        assert_eq!(answer.outputs, expected);
        assert_eq!(answer.batch, 1);
    }
}

/// Its leading axis is time: what comes before decides each step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_whose_rows_depend_on_each_other_is_neither_joined_nor_cut() {
    let onnx = Onnx::new()
        .input("x", Type::F32, "time 2")
        .output("y", Type::F32, "time 2")
        .constant("axis", Type::I64, &[1], &0i64.to_le_bytes())
        .node("y = CumSum(x, axis)");
    let file = ModelFile::new(onnx.bytes());
    for device in devices() {
        let config = InferenceConfig { run_time: Duration::ZERO, ..InferenceConfig::default() };
        let models = Models::new(config, &mut Registry::default());
        let model = models.load(&file.spec("model", &device)).unwrap();
        let mut callers = JoinSet::new();
        for steps in [1usize, 100, 2, 50, 1, 1, 3, 100] {
            let model = Arc::clone(&model);
            callers.spawn(async move {
                let x = input("x", tensor(&[steps, 2], &vec![1f32; 2 * steps]));
                (steps, model.infer(vec![x], far_future()).await.unwrap())
            });
        }
        while let Some(answered) = callers.join_next().await {
            let (steps, answer) = answered.unwrap();
            let due: Vec<f32> = (1..=steps).flat_map(|step| [step as f32; 2]).collect();
            assert_eq!(answer.outputs[0].1.to_vec::<f32>().unwrap(), due);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_parts_of_a_long_request_give_what_one_run_gives() {
    let file = ModelFile::new(linear().bytes());
    for device in devices() {
        let config = InferenceConfig { run_time: Duration::ZERO, ..InferenceConfig::default() };
        let models = Models::new(config, &mut Registry::default());
        let model = models.load(&file.spec("model", &device)).unwrap();
        let x: Vec<f32> = (0..64 * 3).map(|i| i as f32).collect();
        let inputs = || vec![input("x", tensor(&[64, 3], &x))];
        let answer = model.infer(inputs(), far_future()).await.unwrap();
        assert_eq!(answer.batch, 1, "the last part is one row");
        let whole = file.open_on(&device).unwrap().run(&inputs()).unwrap();
        assert_eq!(answer.outputs[0].1.shape(), whole[0].1.shape());
        let floats = |tensor: &Tensor| tensor.to_vec::<f32>().unwrap();
        assert_close(&floats(&answer.outputs[0].1), &floats(&whole[0].1), 1e-3);
    }
}
