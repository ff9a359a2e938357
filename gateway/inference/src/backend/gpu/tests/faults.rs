//! Devices that fail under models with many callers: nobody hangs, whoever can be answered is, and
//! the rest is told why.

use std::sync::atomic::{AtomicUsize, Ordering};

use gw_artifact::Digest;
use gw_engine::Fault;
use prometheus_client::encoding::text::encode;
use tokio::task::JoinSet;

use super::*;
use crate::{DeviceChoice, Model, Models};

/// The models of a node with one GPU, and the levers that break it.
struct Node {
    models: Models,
    registry: Registry,
    device: Arc<Mutex<Arc<Device>>>,
    /// How often the device does not open, after it was lost.
    refusals: Arc<AtomicUsize>,
    /// How often one that opens is lost as soon as it runs.
    doomed: Arc<AtomicUsize>,
    files: tempfile::TempDir,
}

/// Whether there was one left.
fn takes(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Node {
    /// `None` where there is no adapter.
    fn new() -> Option<Self> {
        let open = || Device::open_unmapped(&AdapterSelect::Any);
        let device = Arc::new(Mutex::new(opened()?));
        let (refusals, doomed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let current = Arc::clone(&device);
        let (refused, dooms) = (Arc::clone(&refusals), Arc::clone(&doomed));
        let reopen = move || {
            if takes(&refused) {
                return Err(DeviceError::NoAdapter);
            }
            let device = open()?;
            if takes(&dooms) {
                device.fail_next(Fault::Loss);
            }
            *current.lock().unwrap() = Arc::clone(&device);
            Ok(device)
        };
        let run_time = Duration::from_hours(1);
        let gpu_tune = Duration::ZERO;
        let config = InferenceConfig { run_time, gpu_tune, ..InferenceConfig::default() };
        let first = Arc::clone(&device.lock().unwrap());
        let gpu = Arc::new(Gpu::opened(first, Box::new(reopen), &config));
        let mut registry = Registry::default();
        let models = Models::new(config, &mut registry);
        models.put(DeviceChoice::Gpu, Arc::clone(&gpu) as _);
        models.put(DeviceChoice::Auto, gpu);
        let files = tempfile::tempdir().unwrap();
        Some(Self { models, registry, device, refusals, doomed, files })
    }

    fn load_on(&self, name: &str, file: &Bytes, device: &DeviceChoice) -> Arc<Model> {
        self.models.load_bytes(name, file, Digest::of(file), device).unwrap()
    }

    fn load(&self, name: &str, file: &Bytes) -> Arc<Model> {
        self.load_on(name, file, &DeviceChoice::Gpu)
    }

    /// From a file, with a policy.
    fn load_as(&self, name: &str, bytes: &Bytes, policy: ModelPolicy) -> Arc<Model> {
        let (name, path) = (name.to_owned(), self.files.path().join(name));
        std::fs::write(&path, bytes).unwrap();
        let (digest, device) = (Digest::of(bytes), DeviceChoice::Gpu);
        self.models.load(&crate::ModelSpec { name, path, digest, device, policy }).unwrap()
    }

    fn device(&self) -> Arc<Device> {
        Arc::clone(&self.device.lock().unwrap())
    }

    /// The sum over the series with this name and this label.
    fn metric(&self, name: &str, label: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }
}

/// `y = x * x`, over two floats a row.
fn square() -> Bytes {
    onnx("Mul", &["x", "x"], [FLOAT; 2], &[2], &[])
}

/// `y = log(x)`, over two floats a row.
fn log() -> Bytes {
    onnx("Log", &["x"], [FLOAT; 2], &[2], &[])
}

async fn asked(model: &Model, rows: &[f32]) -> Result<Vec<f32>, InferenceError> {
    let x = Tensor::from_slice([rows.len() / 2, 2], rows).unwrap();
    let deadline = Instant::now() + Duration::from_mins(5);
    let answer = model.infer(vec![("x".to_owned(), x)], deadline).await?;
    assert_eq!(&*answer.device, model.device());
    Ok(answer.outputs[0].1.to_vec().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_device_is_opened_anew_and_everybody_is_answered() {
    let Some(node) = Node::new() else { return };
    let (double, square) = (node.load("double", &double()), node.load("square", &square()));
    let elsewhere = node.load_on("elsewhere", &super::double(), &DeviceChoice::Cpu);
    for model in [&double, &square, &elsewhere] {
        asked(model, &[1.0, 2.0]).await.unwrap();
    }
    node.device().fail_next(Fault::Loss);
    let mut callers = JoinSet::new();
    for n in 0u8..60 {
        let model = [&double, &square, &elsewhere][usize::from(n % 3)];
        let (model, x) = (Arc::clone(model), f32::from(n));
        callers.spawn(async move {
            let due = if model.name() == "square" { x * x } else { x + x };
            assert_eq!(asked(&model, &[x, x]).await.unwrap(), [due; 2]);
        });
    }
    callers.join_all().await;
    assert_eq!(node.metric("gw_device_losses_total", ""), 1);
    assert_eq!(node.metric("gw_device_reopens_total", "outcome=\"ok\""), 1);
    assert_eq!(node.metric("gw_infer_requests_total", "outcome=\"failed\""), 0);
    // What the models hold is what they hold on the new device.
    let held: u64 = node.models.resident().iter().map(|model| model.footprint.arena_bytes).sum();
    assert_eq!(node.metric("gw_model_bytes", "kind=\"arena\""), held);
    assert!(held > 0);
    node.models.drain().await;
    assert_eq!(node.metric("gw_model_bytes", ""), 0);
}

#[tokio::test]
async fn a_request_that_loses_the_device_twice_is_told_and_the_next_is_answered() {
    let Some(node) = Node::new() else { return };
    let (double, square) = (node.load("double", &double()), node.load("square", &square()));
    asked(&square, &[3.0, 2.0]).await.unwrap();
    node.doomed.store(1, Ordering::SeqCst);
    node.device().fail_next(Fault::Loss);
    let error = asked(&double, &[1.0, 2.0]).await.unwrap_err();
    assert!(matches!(error, InferenceError::DeviceLost { .. }), "{error}");
    assert_eq!(asked(&double, &[1.0, 2.0]).await.unwrap(), [2.0, 4.0]);
    assert_eq!(asked(&square, &[3.0, 2.0]).await.unwrap(), [9.0, 4.0]);
    assert_eq!(node.metric("gw_device_losses_total", ""), 2);
    assert_eq!(node.metric("gw_device_reopens_total", "outcome=\"ok\""), 2);
}

#[tokio::test]
async fn a_hung_run_fails_its_request_alone() {
    let Some(node) = Node::new() else { return };
    let (double, square) = (node.load("double", &double()), node.load("square", &square()));
    node.device().fail_next(Fault::Hang);
    let error = asked(&double, &[1.0, 2.0]).await.unwrap_err();
    assert!(matches!(error, InferenceError::DeviceLost { .. }), "{error}");
    assert!(error.to_string().contains("hangs"), "{error}");
    for x in [1.0, 3.0] {
        assert_eq!(asked(&square, &[x; 2]).await.unwrap(), [x * x; 2]);
        assert_eq!(asked(&double, &[x; 2]).await.unwrap(), [x + x; 2]);
    }
    assert_eq!(node.metric("gw_device_losses_total", ""), 1);
    assert_eq!(node.metric("gw_infer_requests_total", "outcome=\"failed\""), 1);
}

/// A manifest that lets the first wait until a second has come.
fn in_pairs() -> ModelPolicy {
    let (batch_max, max_delay) = (Some(2), Duration::from_mins(1));
    ModelPolicy { batch_max, max_delay, ..ModelPolicy::default() }
}

#[tokio::test]
async fn a_hung_run_that_two_share_is_not_repeated() {
    let Some(node) = Node::new() else { return };
    let double = node.load_as("double", &double(), in_pairs());
    node.device().fail_next(Fault::Hang);
    let both = tokio::join!(asked(&double, &[1.0, 2.0]), asked(&double, &[3.0, 4.0]));
    for answer in [both.0, both.1] {
        let error = answer.unwrap_err();
        assert!(matches!(error, InferenceError::DeviceLost { .. }), "{error}");
        assert!(error.to_string().contains("hangs"), "{error}");
    }
    let both = tokio::join!(asked(&double, &[1.0, 2.0]), asked(&double, &[3.0, 4.0]));
    assert_eq!((both.0.unwrap(), both.1.unwrap()), (vec![2.0, 4.0], vec![6.0, 8.0]));
    assert_eq!(node.metric("gw_device_losses_total", ""), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_behind_a_hung_run_is_answered() {
    let Some(node) = Node::new() else { return };
    let models = [node.load("double", &double()), node.load("square", &square())];
    for model in &models {
        asked(model, &[1.0, 2.0]).await.unwrap();
    }
    node.device().fail_next(Fault::Hang);
    let mut callers = JoinSet::new();
    for n in 0u8..40 {
        let (model, x) = (Arc::clone(&models[usize::from(n % 2)]), f32::from(n));
        callers.spawn(async move {
            let due = if model.name() == "square" { x * x } else { x + x };
            match asked(&model, &[x, x]).await {
                Ok(y) => {
                    assert_eq!(y, [due; 2]);
                    0
                }
                Err(error) => {
                    assert!(error.to_string().contains("hangs"), "{error}");
                    1
                }
            }
        });
    }
    let failed: u64 = callers.join_all().await.into_iter().sum();
    assert!((1..40).contains(&failed), "{failed} of 40 were in the run that hung");
    assert_eq!(node.metric("gw_infer_requests_total", "outcome=\"failed\""), failed);
    assert_eq!(node.metric("gw_device_losses_total", ""), 1);
}

#[tokio::test]
async fn a_device_that_does_not_open_is_left_alone_for_a_while() {
    let Some(node) = Node::new() else { return };
    let double = node.load("double", &double());
    node.refusals.store(usize::MAX, Ordering::SeqCst);
    node.device().destroy();
    for _ in 0..3 {
        let error = asked(&double, &[1.0, 2.0]).await.unwrap_err();
        let InferenceError::DeviceGone { reason, retry, .. } = &error else { panic!("{error}") };
        assert!(reason.contains("no GPU adapter was found"), "{error}");
        assert!(!retry.is_zero());
    }
    let square = square();
    let error = node.models.load_bytes("square", &square, Digest::of(&square), &DeviceChoice::Gpu);
    assert!(matches!(error, Err(InferenceError::DeviceGone { .. })), "{:?}", error.err());
    assert!(node.metric("gw_device_reopens_total", "outcome=\"failed\"") < 4);
    assert_eq!(double.device(), node.device().info().name);
    assert_eq!(double.footprint(), Footprint::default(), "what was on the device is gone");
}

#[tokio::test]
async fn the_cpu_takes_over_what_did_not_insist_on_the_device() {
    let Some(node) = Node::new() else { return };
    let gpu = node.device().info().name.clone();
    let double = node.load_on("double", &double(), &DeviceChoice::Auto);
    let insists = node.load("insists", &super::double());
    assert_eq!(asked(&double, &[1.0, 2.0]).await.unwrap(), [2.0, 4.0]);
    assert_eq!(*double.device(), gpu);
    node.refusals.store(usize::MAX, Ordering::SeqCst);
    node.device().destroy();
    for x in [1.0, 2.0] {
        assert_eq!(asked(&double, &[x; 2]).await.unwrap(), [x + x; 2]);
        assert_eq!(double.device(), "cpu");
        asked(&insists, &[x; 2]).await.unwrap_err();
    }
    assert_eq!(node.metric("gw_infer_requests_total", "model=\"double\",device=\"cpu\""), 1);
    assert_eq!(node.metric("gw_model_bytes", &format!("model=\"double\",device=\"{gpu}\"")), 0);
    let square = node.load_on("square", &square(), &DeviceChoice::Auto);
    assert_eq!(asked(&square, &[3.0, 2.0]).await.unwrap(), [9.0, 4.0]);
    assert_eq!(square.device(), "cpu");
    // The GPU comes back, and is left alone until somebody looks.
    node.refusals.store(0, Ordering::SeqCst);
    assert_eq!(asked(&double, &[4.0, 2.0]).await.unwrap(), [8.0, 4.0]);
    assert_eq!(double.device(), "cpu");
    // The device itself is tried every three seconds at most.
    for x in 0..20 {
        double.look_again_now();
        let x = x as f32;
        assert_eq!(asked(&double, &[x; 2]).await.unwrap(), [x + x; 2], "nobody notices");
        if *double.device() == gpu {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(*double.device(), gpu);
    asked(&insists, &[1.0; 2]).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_must_hold_numbers_is_looked_at_and_so_not_kept() {
    let Some(gpu) = gpu() else { return };
    let policy = ModelPolicy { refuse_nan: true, ..ModelPolicy::default() };
    let model = served_as(&gpu, &log(), policy);
    let x = |last: f32| Tensor::from_slice([2, 2], &[1.0, 1.0, 1.0, last]).unwrap();
    for last in [1.0, 1.0] {
        assert!(answered(ask(&model, x(last)).await).host().is_some());
    }
    let error = ask(&model, x(-1.0)).await.unwrap_err();
    assert!(matches!(error, InferenceError::NotANumber { .. }), "{error}");
}

#[tokio::test]
async fn a_value_on_a_lost_device_fails_whoever_brings_it() {
    let Some(gpu) = gpu() else { return };
    let model = served(&gpu, &double());
    let x = || Tensor::from_slice([2, 2], &[1f32; 4]).unwrap();
    answered(ask(&model, x()).await);
    let kept = answered(ask(&model, x()).await);
    let Value::Device(tensor) = &kept else { panic!("{kept:?}") };
    tensor.device().destroy();
    let next = answered(ask(&model, x()).await);
    assert_eq!(floats(next), [2.0; 4]);
    let error = ask(&model, kept).await.unwrap_err();
    assert!(matches!(error, InferenceError::DeviceLost { .. }), "{error}");
    assert_eq!(floats(answered(ask(&model, x()).await)), [2.0; 4]);
}

#[tokio::test]
async fn a_kernel_that_does_not_compile_fails_one_request() {
    let Some(gpu) = gpu() else { return };
    let fail = || gpu.place.device().unwrap().fail_next(Fault::Kernel);
    let square = served(&gpu, &square());
    let x = || Tensor::from_slice([1, 2], &[3f32, 2.0]).unwrap();
    assert_eq!(floats(answered(ask(&square, x()).await)), [9.0, 4.0]);
    // It is compiled when the model is loaded, and when that failed, for the first request.
    fail();
    let double = served(&gpu, &double());
    fail();
    let error = ask(&double, x()).await.unwrap_err();
    assert!(matches!(error, InferenceError::Device { .. }), "{error}");
    assert_eq!(floats(answered(ask(&double, x()).await)), [6.0, 4.0]);
    assert_eq!(floats(answered(ask(&square, x()).await)), [9.0, 4.0]);
}

#[tokio::test]
async fn a_load_without_memory_is_told_and_harms_nobody() {
    let Some(node) = Node::new() else { return };
    let (double, square) = (node.load("double", &double()), square());
    asked(&double, &[1.0, 2.0]).await.unwrap();
    let elsewhere = node.load_on("elsewhere", &super::double(), &DeviceChoice::Cpu);
    node.device().limit_memory(0);
    let load = || {
        let digest = Digest::of(&square);
        node.models.load_bytes("square", &square, digest, &DeviceChoice::Gpu)
    };
    let error = load().err().unwrap();
    assert!(matches!(error, InferenceError::OutOfMemory { .. }), "{error}");
    assert_eq!(asked(&elsewhere, &[5.0, 2.0]).await.unwrap(), [10.0, 4.0]);
    node.device().limit_memory(u64::MAX);
    // It left to make room, in vain, and comes back.
    assert_eq!(asked(&double, &[5.0, 2.0]).await.unwrap(), [10.0, 4.0]);
    assert_eq!(asked(&load().unwrap(), &[5.0, 2.0]).await.unwrap(), [25.0, 4.0]);
}

#[tokio::test]
async fn where_the_device_has_no_memory_left_who_was_asked_longest_ago_leaves() {
    let Some(node) = Node::new() else { return };
    let double = node.load("double", &double());
    asked(&double, &[1.0, 2.0]).await.unwrap();
    let held = u64::try_from(node.device().counters().buffer_bytes).unwrap();
    node.device().limit_memory(held);
    let square = node.load("square", &square());
    for _ in 0..2 {
        assert_eq!(asked(&square, &[5.0, 2.0]).await.unwrap(), [25.0, 4.0]);
        assert_eq!(asked(&double, &[5.0, 2.0]).await.unwrap(), [10.0, 4.0]);
    }
    assert!(node.metric("gw_model_evictions_total", "reason=\"room\"") >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_wait_for_a_model_without_memory_are_told_and_later_answered() {
    let Some(node) = Node::new() else { return };
    let double = node.load_as("double", &double(), ModelPolicy::default());
    let elsewhere = node.load_on("elsewhere", &super::double(), &DeviceChoice::Cpu);
    assert!(node.models.evict("double").unwrap());
    while !node.models.resident().iter().all(|model| &*model.device == "cpu") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    node.device().limit_memory(0);
    let mut callers = JoinSet::new();
    for n in 0..20 {
        let model = Arc::clone(if n % 2 == 0 { &double } else { &elsewhere });
        callers.spawn(async move {
            match asked(&model, &[1.0, 2.0]).await {
                Ok(y) => assert_eq!((y, model.name()), (vec![2.0, 4.0], "elsewhere")),
                Err(error) => {
                    assert!(matches!(error, InferenceError::OutOfMemory { .. }), "{error}");
                    assert_eq!(model.name(), "double");
                }
            }
        });
    }
    callers.join_all().await;
    node.device().limit_memory(u64::MAX);
    let late = Instant::now() + Duration::from_mins(1);
    while asked(&double, &[1.0, 2.0]).await != Ok(vec![2.0, 4.0]) {
        assert!(Instant::now() < late);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn for_a_run_without_memory_an_idle_model_leaves() {
    const ROWS: usize = 1 << 16;
    let Some(node) = Node::new() else { return };
    let held = || u64::try_from(node.device().counters().buffer_bytes).unwrap();
    let (double, square) = (node.load("double", &double()), node.load("square", &square()));
    let x: Vec<f32> = (0..2 * ROWS).map(|n| n as f32).collect();
    asked(&square, &x).await.unwrap();
    asked(&double, &[1.0, 2.0]).await.unwrap();
    node.device().limit_memory(held());
    assert_eq!(asked(&double, &x).await.unwrap(), x.iter().map(|x| x + x).collect::<Vec<_>>());
    assert_eq!(node.metric("gw_model_evictions_total", "model=\"square\""), 1);
    assert_eq!(asked(&square, &[3.0, 2.0]).await.unwrap(), [9.0, 4.0]);
}

#[tokio::test]
async fn a_run_without_memory_is_made_shorter() {
    const ROWS: usize = 1 << 16;
    let Some(node) = Node::new() else { return };
    let (double, square) = (node.load("double", &double()), node.load("square", &square()));
    asked(&double, &[1.0, 2.0]).await.unwrap();
    asked(&square, &[1.0, 2.0]).await.unwrap();
    let held = || u64::try_from(node.device().counters().buffer_bytes).unwrap();
    // Of half a megabyte there are an input, an output, and both twice for those on their way.
    node.device().limit_memory(held() + (2 << 20));
    let x: Vec<f32> = (0..2 * ROWS).map(|n| n as f32).collect();
    let due: Vec<f32> = x.iter().map(|x| x + x).collect();
    assert_eq!(asked(&double, &x).await.unwrap(), due);
    assert!(node.metric("gw_batch_rows_count", "model=\"double\"") >= 3, "in two parts");
    node.device().limit_memory(0);
    let error = asked(&double, &[1.0; 6]).await.unwrap_err();
    assert!(matches!(error, InferenceError::OutOfMemory { .. }), "{error}");
    node.device().limit_memory(u64::MAX);
    // It left for that, in vain, and comes back.
    assert_eq!(asked(&square, &[3.0, 2.0]).await.unwrap(), [9.0, 4.0]);
    assert_eq!(asked(&double, &[1.0; 6]).await.unwrap(), [2.0; 6]);
    assert_eq!(node.metric("gw_device_losses_total", ""), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_number_is_counted_and_refused_where_the_model_says_so() {
    let Some(node) = Node::new() else { return };
    let load = |name: &str, refuse_nan| {
        node.load_as(name, &log(), ModelPolicy { refuse_nan, ..ModelPolicy::default() })
    };
    let (counts, refuses) = (load("counts", false), load("refuses", true));
    for (model, refused) in [(counts, false), (refuses, true)] {
        let mut callers = JoinSet::new();
        for n in 0..12 {
            let (model, is_bad) = (Arc::clone(&model), n % 4 == 3);
            let x = if is_bad { -1.0 } else { 1.0 };
            callers.spawn(async move {
                match asked(&model, &[1.0, x]).await {
                    Ok(y) if is_bad => assert!(!refused && y[0] == 0.0 && y[1].is_nan(), "{y:?}"),
                    Ok(y) => assert!(y.iter().all(|y| y.abs() < 1e-6), "{y:?}"),
                    Err(error) => {
                        assert!(refused && is_bad, "{error}");
                        let output = matches!(&error, InferenceError::NotANumber { output, .. }
                            if output == "y");
                        assert!(output, "{error}");
                    }
                }
            });
        }
        callers.join_all().await;
        let model = format!("model=\"{}\"", model.name());
        assert_eq!(node.metric("gw_nan_outputs_total", &model), 3);
    }
}
