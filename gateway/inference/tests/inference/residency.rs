//! Who is in memory, and how requests fare with those who are not.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gw_artifact::ByteSize;
use gw_inference::{
    DeviceChoice, InferenceConfig, InferenceError, Model, ModelPolicy, ModelSpec, ModelState,
    ModelStatus,
};
use gw_tensor::Tensor;
use tokio::task::JoinSet;

use crate::node::Node;
use crate::onnx::{Onnx, Type};
use crate::{ModelFile, devices, far_future, input, tensor};

/// A model of 64 KiB whose answer is `first * x`.
fn table(first: f32) -> ModelFile {
    let mut values = vec![0f32; 1 << 14];
    values[0] = first;
    let onnx = Onnx::new()
        .input("x", Type::F32, "n 1")
        .output("y", Type::F32, "n 1")
        .floats("table", &[1, 1 << 14], &values)
        .constant("axes", Type::I64, &[1], &1i64.to_le_bytes())
        .node("rows = Mul(x, table)")
        .node("y = ReduceSum(rows, axes)");
    ModelFile::new(onnx.bytes())
}

fn one() -> Vec<(String, Tensor)> {
    vec![input("x", tensor(&[1, 1], &[1f32]))]
}

async fn answer(model: &Model) -> Result<f32, InferenceError> {
    let answer = model.infer(one(), far_future()).await?;
    Ok(answer.outputs[0].1.to_vec::<f32>().unwrap()[0])
}

fn status(node: &Node, name: &str) -> ModelStatus {
    node.models.list().into_iter().find(|status| status.name == name).unwrap()
}

/// Waits until it is so; a minute is for machines that do much else.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let late = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < late, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_to_a_cold_model_cause_one_load() {
    let file = table(42.0);
    for device in devices() {
        let config = InferenceConfig { queue_max: 1000, ..InferenceConfig::default() };
        let node = Node::of(config);
        let model = node.models.load(&file.spec("cold", &device)).unwrap();
        assert!(node.models.evict("cold").unwrap());
        until("it leaves", || node.models.resident().is_empty()).await;
        assert_eq!(status(&node, "cold").state, ModelState::Unloaded);
        let mut callers = JoinSet::new();
        for _ in 0..1000 {
            let model = Arc::clone(&model);
            callers.spawn(async move { answer(&model).await });
        }
        while let Some(answered) = callers.join_next().await {
            assert_eq!(answered.unwrap(), Ok(42.0));
        }
        let status = status(&node, "cold");
        assert_eq!((status.loads, status.evictions, status.waiting), (2, 1, 0));
        assert_eq!(node.metric("gw_model_evictions_total", "reason=\"asked\""), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_that_do_not_fit_together_take_turns_and_all_answer() {
    let files: Vec<ModelFile> = [1f32, 2.0, 3.0].into_iter().map(table).collect();
    for device in devices() {
        // Room for two of three.
        let room = {
            let node = Node::of(InferenceConfig::default());
            let model = node.models.load(&files[0].spec("a", &device)).unwrap();
            answer(&model).await.unwrap();
            model.footprint().total() * 5 / 2
        };
        let max = Some(ByteSize(room));
        let config =
            InferenceConfig { memory_max: max, gpu_memory_max: max, ..InferenceConfig::default() };
        let node = Arc::new(Node::of(config));
        let load =
            |(file, name): (&ModelFile, &str)| node.models.load(&file.spec(name, &device)).unwrap();
        let models: Vec<_> = files.iter().zip(["a", "b", "c"]).map(load).collect();
        let mut callers = JoinSet::new();
        for (n, model) in (0..60).map(|n| (n, Arc::clone(&models[n % 3]))) {
            callers.spawn(async move { (n, answer(&model).await) });
        }
        while let Some(answered) = callers.join_next().await {
            let (n, answered) = answered.unwrap();
            assert_eq!(answered, Ok(1.0 + (n % 3) as f32));
            let budget = &node.models.budgets()[0];
            assert_eq!(budget.max_bytes, Some(room));
        }
        until("the budget is kept", || node.models.budgets()[0].used_bytes <= room).await;
        assert!(node.models.resident().len() <= 2);
        assert!(node.metric("gw_model_evictions_total", "reason=\"room\"") >= 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_model_stays_and_another_is_told_that_there_is_no_room() {
    let (pinned, other) = (table(1.0), table(2.0));
    let probe = Node::of(InferenceConfig::default());
    let bytes = |file: &ModelFile| {
        let model = probe.models.load(&file.spec("m", &DeviceChoice::Cpu)).unwrap();
        model.footprint().total()
    };
    let room = bytes(&pinned) * 3 / 2;
    let config = InferenceConfig { memory_max: Some(ByteSize(room)), ..InferenceConfig::default() };
    let node = Node::of(config);
    let policy = ModelPolicy { pinned: true, ..ModelPolicy::default() };
    let spec = ModelSpec { policy, ..pinned.spec("pinned", &DeviceChoice::Cpu) };
    let held = node.models.load(&spec).unwrap();
    let error = node.models.load(&other.spec("other", &DeviceChoice::Cpu)).unwrap_err();
    assert!(matches!(error, InferenceError::NoRoom { .. }), "{error}");
    assert_eq!(answer(&held).await, Ok(1.0));
    assert!(status(&node, "pinned").pinned);
    // Unpinned it makes room.
    drop(held);
    let held = node.models.load(&pinned.spec("pinned", &DeviceChoice::Cpu)).unwrap();
    let other = node.models.load(&other.spec("other", &DeviceChoice::Cpu)).unwrap();
    assert_eq!((answer(&other).await, answer(&held).await), (Ok(2.0), Ok(1.0)));
}

/// The memory of the GPU itself has no limit here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_models_hold_beside_a_gpu_has_a_limit_too() {
    let files: Vec<ModelFile> = [1f32, 2.0, 3.0].into_iter().map(table).collect();
    for device in devices().into_iter().filter(|device| *device != DeviceChoice::Cpu) {
        let beside = {
            let node = Node::of(InferenceConfig::default());
            let model = node.models.load(&files[0].spec("a", &device)).unwrap();
            answer(&model).await.unwrap();
            model.footprint().host_bytes
        };
        assert!(beside >= 1 << 16, "{beside}");
        let max = beside * 5 / 2;
        let memory_max = Some(ByteSize(max));
        let node = Node::of(InferenceConfig { memory_max, ..InferenceConfig::default() });
        let load =
            |(file, name): (&ModelFile, &str)| node.models.load(&file.spec(name, &device)).unwrap();
        let models: Vec<_> = files.iter().zip(["a", "b", "c"]).map(load).collect();
        for (model, due) in models.iter().zip([1f32, 2.0, 3.0]) {
            assert_eq!(answer(model).await, Ok(due));
            let budget = &node.models.budgets()[0];
            assert!(budget.host_bytes > 0 && budget.max_bytes.is_none(), "{budget:?}");
        }
        let fits = || node.models.budgets()[0].host_bytes <= max;
        until("the budget is kept", fits).await;
        assert!(node.models.resident().len() <= 2);
        assert!(node.metric("gw_model_evictions_total", "reason=\"room\"") >= 1);
        let limit = node.metric("gw_device_memory_max_bytes", "device=\"host\"");
        assert_eq!(limit, max);

        let memory_max = Some(ByteSize(beside / 2));
        let node = Node::of(InferenceConfig { memory_max, ..InferenceConfig::default() });
        let error = node.models.load(&files[0].spec("a", &device)).unwrap_err();
        assert!(matches!(error, InferenceError::TooLarge { .. }), "{error}");
        assert!(error.to_string().contains("host memory beside llvmpipe"), "{error}");
    }
}

#[tokio::test]
async fn a_model_larger_than_all_room_is_refused_by_name() {
    let config = InferenceConfig { memory_max: Some(ByteSize(1000)), ..InferenceConfig::default() };
    let node = Node::of(config);
    let error = node.models.load(&table(1.0).spec("big", &DeviceChoice::Cpu)).unwrap_err();
    let InferenceError::TooLarge { model, max, .. } = &error else { panic!("{error}") };
    assert_eq!((model.as_str(), *max), ("big", 1000));
    assert!(node.models.resident().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_asked_leaves_and_comes_back_when_it_is() {
    let file = table(42.0);
    for device in devices() {
        let node = Node::of(InferenceConfig::default());
        let keep_alive = Some(Duration::from_millis(20));
        let policy = ModelPolicy { keep_alive, ..ModelPolicy::default() };
        let model = node.models.load(&ModelSpec { policy, ..file.spec("idle", &device) }).unwrap();
        for round in 1..=3 {
            assert_eq!(answer(&model).await, Ok(42.0));
            until("it leaves", || node.models.resident().is_empty()).await;
            let gone = || status(&node, "idle").state == ModelState::Unloaded;
            until("it is gone", gone).await;
            assert_eq!(model.footprint().total(), 0);
            assert!(status(&node, "idle").evictions >= round);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_loaded_again_says_why_and_is_tried_again() {
    let file = table(42.0);
    let path = file.dir.path().join("model.onnx");
    let node = Node::of(InferenceConfig::default());
    let model = node.models.load(&file.spec("m", &DeviceChoice::Cpu)).unwrap();
    node.models.evict("m").unwrap();
    until("it leaves", || node.models.resident().is_empty()).await;
    std::fs::write(&path, "not a model").unwrap();
    for _ in 0..3 {
        assert!(matches!(answer(&model).await, Err(InferenceError::Load { .. })));
    }
    std::fs::write(&path, &file.bytes).unwrap();
    let late = Instant::now() + Duration::from_mins(1);
    while answer(&model).await != Ok(42.0) {
        assert!(Instant::now() < late);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A file that is a pipe is read for as long as the test wants.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_up_on_a_cold_model_is_counted_and_leaves_the_others_waiting() {
    let file = table(42.0);
    let [path, pipe] = ["model.onnx", "pipe"].map(|name| file.dir.path().join(name));
    let node = Node::of(InferenceConfig::default());
    let model = node.models.load(&file.spec("m", &DeviceChoice::Cpu)).unwrap();
    node.models.evict("m").unwrap();
    until("it leaves", || node.models.resident().is_empty()).await;
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    std::fs::rename(&pipe, &path).unwrap();
    std::fs::hard_link(&path, &pipe).unwrap();

    let patient = tokio::spawn({
        let model = Arc::clone(&model);
        async move { answer(&model).await }
    });
    until("one waits", || status(&node, "m").waiting == 1).await;
    let short = Duration::from_millis(50);
    let late = model.infer(one(), Instant::now() + short).await.unwrap_err();
    let InferenceError::DeadlinePassed { queue, compute, .. } = late else { panic!("{late}") };
    assert!(queue >= short / 2 && compute.is_zero(), "{queue:?} {compute:?}");
    tokio::time::timeout(short, answer(&model)).await.unwrap_err();
    let now = status(&node, "m");
    assert_eq!((now.state, now.waiting), (ModelState::Loading, 1));
    for outcome in ["deadline_passed", "cancelled"] {
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(node.metric("gw_infer_requests_total", &label), 1);
    }
    assert_eq!(node.metric("gw_usage_requests_total", "model=\"m\""), 2);

    // What is read is the file, and then the file is there.
    std::fs::write(file.dir.path().join("file"), &file.bytes).unwrap();
    std::fs::rename(file.dir.path().join("file"), &path).unwrap();
    std::fs::write(&pipe, &file.bytes).unwrap();
    assert_eq!(patient.await.unwrap(), Ok(42.0));
    assert_eq!(status(&node, "m").loads, 2);
    assert_eq!(node.metric("gw_usage_requests_total", "model=\"m\""), 3);
}

/// `y = ids * mask`, and its sum.
fn masked() -> ModelFile {
    let onnx = Onnx::new()
        .input("ids", Type::F32, "batch length")
        .input("mask", Type::F32, "batch length")
        .output("y", Type::F32, "batch length")
        .output("sum", Type::F32, "batch 1")
        .constant("axes", Type::I64, &[1], &1i64.to_le_bytes())
        .node("y = Mul(ids, mask)")
        .node("sum = ReduceSum(y, axes)");
    ModelFile::new(onnx.bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_different_lengths_share_a_run_and_get_what_they_would_get_alone() {
    let file = masked();
    for device in devices().into_iter().filter(|device| *device != DeviceChoice::Cpu) {
        let node = Node::of(InferenceConfig::default());
        let pad = [("ids".to_owned(), 7), ("mask".to_owned(), 0)].into();
        let (batch_max, max_delay) = (Some(4), Duration::from_mins(1));
        let policy = ModelPolicy { batch_max, max_delay, pad, ..ModelPolicy::default() };
        let spec = ModelSpec { policy, ..file.spec("masked", &device) };
        let model = node.models.load(&spec).unwrap();
        let mut callers = JoinSet::new();
        for (n, length) in [5usize, 6, 5, 6].into_iter().enumerate() {
            let model = Arc::clone(&model);
            callers.spawn(async move {
                let ids: Vec<f32> = (0..length).map(|at| (10 * n + at) as f32).collect();
                let inputs = vec![
                    input("ids", tensor(&[1, length], &ids)),
                    input("mask", tensor(&[1, length], &vec![1f32; length])),
                ];
                (ids, model.infer(inputs, far_future()).await.unwrap())
            });
        }
        while let Some(answered) = callers.join_next().await {
            let (ids, answer) = answered.unwrap();
            assert_eq!(answer.batch, 4);
            let [(_, y), (_, sum)] = &answer.outputs[..] else { panic!("{:?}", answer.outputs) };
            assert_eq!(y.shape().dims(), [1, ids.len()]);
            assert_eq!(y.to_vec::<f32>().unwrap(), ids);
            assert_eq!(sum.to_vec::<f32>().unwrap(), [ids.iter().sum::<f32>()]);
        }
    }
}

/// `y` is every second of `x`, and said to be as long.
#[tokio::test]
async fn an_output_that_is_not_as_long_as_the_model_says_is_left_as_it_is() {
    let numbers = |values: [i64; 1]| values[0].to_le_bytes();
    let onnx = Onnx::new()
        .input("x", Type::F32, "batch length")
        .output("y", Type::F32, "batch length")
        .constant("zero", Type::I64, &[1], &numbers([0]))
        .constant("end", Type::I64, &[1], &numbers([1 << 30]))
        .constant("one", Type::I64, &[1], &numbers([1]))
        .constant("two", Type::I64, &[1], &numbers([2]))
        .node("y = Slice(x, zero, end, one, two)");
    let file = ModelFile::new(onnx.bytes());
    for device in devices() {
        let node = Node::of(InferenceConfig::default());
        let policy = ModelPolicy { pad: [("x".to_owned(), 0)].into(), ..ModelPolicy::default() };
        let spec = ModelSpec { policy, ..file.spec("strided", &device) };
        let model = node.models.load(&spec).unwrap();
        for length in [5usize, 6, 7] {
            let x: Vec<f32> = (0..length).map(|at| at as f32).collect();
            let x = input("x", tensor(&[1, length], &x));
            let answer = model.infer(vec![x], far_future()).await.unwrap();
            let due: Vec<f32> = (0..length).step_by(2).map(|at| at as f32).collect();
            assert_eq!(answer.outputs[0].1.to_vec::<f32>().unwrap(), due);
        }
    }
}

#[tokio::test]
async fn a_length_that_the_model_takes_is_run_though_its_bucket_is_longer() {
    const LENGTH: usize = 40;
    let places: Vec<u8> = (0..LENGTH).flat_map(|at| (at as f32).to_le_bytes()).collect();
    let onnx = Onnx::new()
        .input("ids", Type::F32, "batch length")
        .output("y", Type::F32, "batch length")
        .constant("places", Type::F32, &[1, LENGTH], &places)
        .constant("zero", Type::I64, &[1], &0i64.to_le_bytes())
        .constant("one", Type::I64, &[1], &1i64.to_le_bytes())
        .node("shape = Shape(ids)")
        .node("length = Gather(shape, one)")
        .node("part = Slice(places, zero, length, one)")
        .node("y = Add(ids, part)");
    let file = ModelFile::new(onnx.bytes());
    for device in devices() {
        let node = Node::of(InferenceConfig::default());
        let policy = ModelPolicy { pad: [("ids".to_owned(), 0)].into(), ..ModelPolicy::default() };
        let spec = ModelSpec { policy, ..file.spec("places", &device) };
        let model = node.models.load(&spec).unwrap();
        for length in [LENGTH - 1, LENGTH] {
            let ids = tensor(&[1, length], &vec![1f32; length]);
            let answer = model.infer(vec![input("ids", ids)], far_future()).await.unwrap();
            let due: Vec<f32> = (0..length).map(|at| at as f32 + 1.0).collect();
            assert_eq!(answer.outputs[0].1.to_vec::<f32>().unwrap(), due);
        }
        let ids = tensor(&[1, LENGTH + 1], &[1f32; LENGTH + 1]);
        model.infer(vec![input("ids", ids)], far_future()).await.unwrap_err();
    }
}

#[test]
fn padding_that_cannot_be_undone_is_refused_when_the_model_is_loaded() {
    let file = masked();
    let node = Node::of(InferenceConfig::default());
    let pad = [("ids".to_owned(), 7)].into();
    let policy = ModelPolicy { pad, ..ModelPolicy::default() };
    let spec = ModelSpec { policy, ..file.spec("masked", &DeviceChoice::Cpu) };
    let error = node.models.load(&spec).unwrap_err().to_string();
    assert!(error.contains("\"mask\" has the length length too, and is not padded"), "{error}");
}
