//! Plans on a real adapter: what the executor promises to whoever plans.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    unreachable_pub,
    reason = "helpers of tests fail loudly and say what was skipped"
)]

#[path = "support/device.rs"]
mod device;
#[path = "session/faults.rs"]
mod faults;
#[path = "session/memory.rs"]
mod memory;
#[path = "session/resident.rs"]
mod resident;
#[path = "session/steady.rs"]
mod steady;
#[path = "session/timed.rs"]
mod timed;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gw_engine::graph::Dim;
use gw_engine::plan::why::Choice;
use gw_engine::plan::{Buffer, BufferId, BufferKind, Plan, Port, PortSource, Step};
use gw_engine::{
    AdapterSelect, Device, DeviceError, PlanError, PortSignature, RunError, Session,
    SessionOptions, Signature,
};
use gw_shaders::kernel::{Access, Dispatch, Kernel, Needs, Scalar};
use gw_shaders::work::Cost;
use gw_tensor::{DType, Shape, Tensor};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// `out[i] = in[i] * factor + term`, one invocation per element.
fn affine(count: u32, factor: f32, term: f32) -> Dispatch {
    let source = "
        struct Params { count: u32, factor: f32, term: f32 }
        var<immediate> params: Params;
        @group(0) @binding(0) var<storage, read> src: array<f32>;
        @group(0) @binding(1) var<storage, read_write> dst: array<f32>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3u) {
            if id.x < params.count { dst[id.x] = src[id.x] * params.factor + params.term; }
        }";
    Dispatch {
        kernel: Kernel {
            name: "affine",
            variant: "64".to_owned(),
            source: source.to_owned(),
            bindings: vec![Access::Read, Access::ReadWrite],
            needs: Needs { workgroup_invocations: 64, ..Needs::default() },
        },
        params: vec![count, factor.to_bits(), term.to_bits()],
        workgroups: [count.div_ceil(64), 1, 1],
    }
}

/// `out[i] = a[i] + weight * b[i]`.
fn mix(count: u32, weight: f32) -> Dispatch {
    let source = "
        struct Params { count: u32, weight: f32 }
        var<immediate> params: Params;
        @group(0) @binding(0) var<storage, read> a: array<f32>;
        @group(0) @binding(1) var<storage, read> b: array<f32>;
        @group(0) @binding(2) var<storage, read_write> dst: array<f32>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3u) {
            if id.x < params.count { dst[id.x] = a[id.x] + params.weight * b[id.x]; }
        }";
    let mut dispatch = affine(count, weight, 0.0);
    dispatch.kernel.name = "mix";
    source.clone_into(&mut dispatch.kernel.source);
    dispatch.kernel.bindings = vec![Access::Read, Access::Read, Access::ReadWrite];
    dispatch.params.truncate(2);
    dispatch
}

/// Adds the element's own index, as `i32`.
fn add_index(count: u32) -> Dispatch {
    let source = "
        var<immediate> count: u32;
        @group(0) @binding(0) var<storage, read> src: array<i32>;
        @group(0) @binding(1) var<storage, read_write> dst: array<i32>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3u) {
            if id.x < count { dst[id.x] = src[id.x] + i32(id.x); }
        }";
    let mut dispatch = affine(count, 0.0, 0.0);
    dispatch.kernel.name = "add_index";
    source.clone_into(&mut dispatch.kernel.source);
    dispatch.params.truncate(1);
    dispatch
}

#[derive(Default)]
struct Builder(Plan);

impl Builder {
    fn buffer(&mut self, name: &str, elements: usize, kind: BufferKind) -> BufferId {
        let id = BufferId(u32::try_from(self.0.buffers.len()).unwrap());
        let bytes = 4 * elements.max(1) as u64;
        self.0.buffers.push(Buffer { name: name.to_owned(), kind, bytes });
        id
    }

    fn port(name: &str, dtype: DType, elements: usize, source: PortSource) -> Port {
        let scalar = match dtype {
            DType::Bool => Scalar::U32,
            _ if dtype.is_float() => Scalar::F32,
            _ => Scalar::I32,
        };
        Port { name: name.to_owned(), dtype, scalar, shape: [elements].into(), source }
    }

    fn input(&mut self, name: &str, dtype: DType, elements: usize) -> BufferId {
        let id = self.buffer(name, elements, BufferKind::Input);
        self.0.inputs.push(Self::port(name, dtype, elements, PortSource::Buffer(id)));
        id
    }

    fn output(&mut self, name: &str, dtype: DType, elements: usize) -> BufferId {
        let id = self.buffer(name, elements, BufferKind::Output);
        self.0.outputs.push(Self::port(name, dtype, elements, PortSource::Buffer(id)));
        id
    }

    fn temporary(&mut self, name: &str, elements: usize) -> BufferId {
        self.buffer(name, elements, BufferKind::Temporary)
    }

    fn weight(&mut self, key: &str, values: &[f32]) -> BufferId {
        let kind =
            BufferKind::Weight { key: key.to_owned(), data: bytes(values).into(), shared: true };
        self.buffer(key, values.len(), kind)
    }

    fn step(&mut self, label: &str, dispatch: Dispatch, bindings: &[BufferId]) {
        self.0.steps.push(Step {
            label: label.to_owned(),
            nodes: Vec::new(),
            choice: Choice::default(),
            work: None,
            cost: Cost::default(),
            dispatch,
            bindings: bindings.to_vec(),
        });
    }
}

/// `y = (x + 0.5 * w) * 2 + 1` in two steps, for `count` elements; `w` counts up from 0.
fn two_steps(count: usize) -> Plan {
    let size = u32::try_from(count).unwrap();
    let weight: Vec<f32> = (0u16..1000).map(f32::from).collect();
    let mut plan = Builder::default();
    let (x, y) = (plan.input("x", DType::F32, count), plan.output("y", DType::F32, count));
    let (w, h) = (plan.weight("w", &weight), plan.temporary("h", count));
    plan.step("Add_0", mix(size, 0.5), &[x, w, h]);
    plan.step("Mul_1", affine(size, 2.0, 1.0), &[h, y]);
    plan.0
}

fn expected_two_steps(x: &[f32]) -> Vec<f32> {
    (0u16..).zip(x).map(|(i, x)| (x + 0.5 * f32::from(i)) * 2.0 + 1.0).collect()
}

/// A session whose model is [`two_steps`] for any length, and how often it planned.
fn any_length(device: Arc<Device>, options: SessionOptions) -> (Session, Arc<AtomicUsize>) {
    let signature = Signature {
        inputs: vec![PortSignature {
            name: "x".to_owned(),
            dtype: DType::F32,
            dims: Some(vec![Dim::Symbol("n".to_owned())]),
        }],
        outputs: vec![],
    };
    let planned = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&planned);
    let planner = move |shapes: &BTreeMap<String, Shape>, _: &_| {
        count.fetch_add(1, Ordering::SeqCst);
        let shape = &shapes["x"];
        match shape.len() {
            1 => Ok(two_steps(shape[0])),
            _ => Err(PlanError::InputShape {
                model: "any length".to_owned(),
                input: "x".to_owned(),
                expected: "f32 [n]".to_owned(),
                given: shape.clone(),
            }),
        }
    };
    (Session::with_planner(signature, planner, device, options), planned)
}

fn session(plan: Plan, device: &Arc<Device>) -> Session {
    Session::from_plan(plan, Arc::clone(device), SessionOptions::default())
}

fn floats(name: &str, values: &[f32]) -> (String, Tensor) {
    (name.to_owned(), Tensor::from_slice([values.len()], values).unwrap())
}

fn counting(len: usize, from: f32) -> Vec<f32> {
    (0u16..).take(len).map(|i| f32::from(i) + from).collect()
}

fn run(session: &Session, x: &[f32]) -> Vec<f32> {
    let outputs = session.run(&[floats("x", x)]).unwrap();
    assert_eq!(outputs[0].0, "y");
    outputs[0].1.to_vec().unwrap()
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn a_single_dispatch_returns_what_its_buffers_hold() {
    let Some(device) = device::open() else { return };
    let input: Vec<f32> = (0u8..100).map(f32::from).collect();
    let out = device.run_dispatch(&affine(100, 2.0, 1.0), &[bytes(&input), vec![0; 400]]).unwrap();
    assert_eq!(f32s(&out[0]), input);
    assert_eq!(f32s(&out[1]), input.iter().map(|x| x * 2.0 + 1.0).collect::<Vec<_>>());
}

#[test]
fn a_kernel_that_does_not_compile_is_named() {
    let Some(device) = device::open() else { return };
    let mut dispatch = affine(4, 1.0, 0.0);
    "fn main( {".clone_into(&mut dispatch.kernel.source);
    let error = device.run_dispatch(&dispatch, &[vec![0; 16], vec![0; 16]]).unwrap_err();
    assert!(matches!(&error, DeviceError::Kernel { kernel: "affine", .. }), "{error}");
    assert!(error.to_string().contains("affine (64)"), "{error}");
}

#[test]
fn a_device_that_is_gone_says_so() {
    let Some(device) = device::open() else { return };
    device.destroy();
    let error = device.run_dispatch(&affine(4, 1.0, 0.0), &[vec![0; 16], vec![0; 16]]).unwrap_err();
    assert!(matches!(error, DeviceError::Lost { .. }), "{error}");
    assert!(device.is_lost());
}

#[test]
fn an_adapter_that_does_not_exist_is_refused_with_what_does() {
    let error = Device::open(&AdapterSelect::Named("no such adapter".into())).unwrap_err();
    assert!(matches!(error, DeviceError::NotFound { .. } | DeviceError::NoAdapter), "{error}");
    assert!(error.to_string().contains("mesa-vulkan-drivers"), "{error}");
}

#[test]
fn the_noop_device_runs_nothing_and_refuses_nothing() {
    let device = Device::noop();
    let out = device.run_dispatch(&affine(1, 2.0, 1.0), &[bytes(&[3.0]), bytes(&[5.0])]).unwrap();
    assert_eq!(out.len(), 2);
    assert!(device.caps().workgroup_invocations >= 64);
}

#[test]
fn a_plan_runs_and_runs_again() {
    let Some(device) = device::open() else { return };
    let session = session(two_steps(100), &device);
    for round in 0u8..5 {
        let x = counting(100, f32::from(round));
        assert_eq!(run(&session, &x), expected_two_steps(&x));
    }
}

#[test]
fn kernels_that_no_plan_has_are_let_go_but_for_the_last() {
    let Some(device) = device::open() else { return };
    let first = session(two_steps(100), &device);
    let x = counting(100, 0.0);
    run(&first, &x);
    let of_plan = device.pipelines();
    let once = |number: usize| {
        let mut other = affine(1, 2.0, 1.0);
        other.kernel.source = format!("// {number}\n{}", other.kernel.source);
        let out = device.run_dispatch(&other, &[bytes(&[3.0]), bytes(&[0.0])]).unwrap();
        assert_eq!(out[1], bytes(&[7.0]));
        device.pipelines()
    };
    let counts: Vec<usize> = (0..200).map(once).collect();
    assert_eq!(counts[..10], (1..=10).map(|more| of_plan + more).collect::<Vec<_>>());
    let most = *counts.iter().max().unwrap();
    assert!(most < of_plan + 150 && counts[199] == most, "{counts:?}");
    let held = device.counters().pipelines;
    assert!(usize::try_from(held).unwrap() <= most, "the driver has {held}, for {most} kernels");
    // The last is still there, and so is what a plan has: another of the same compiles nothing.
    once(199);
    assert_eq!(run(&session(two_steps(100), &device), &x), expected_two_steps(&x));
    assert_eq!((device.pipelines(), device.counters().pipelines), (most, held));
    drop(first);
}

#[test]
fn plans_share_weights_and_kernels_and_are_bounded() {
    let Some(device) = device::open() else { return };
    let options = SessionOptions { plans_max: 2, ..SessionOptions::default() };
    let (session, planned) = any_length(Arc::clone(&device), options);
    for len in [10, 20, 10, 30, 40] {
        let x = counting(len, 0.0);
        assert_eq!(run(&session, &x), expected_two_steps(&x));
    }
    assert_eq!(planned.load(Ordering::SeqCst), 4);
    assert_eq!(device.pipelines(), 2);
    let stats = session.stats();
    assert_eq!((stats.plans, stats.weight_bytes, stats.dispatches), (2, 4000, 2));
    // In each of two plans three tensors of one alignment in two arenas, or one tensor where mapped
    // memory holds what goes in and out; the third dropped plan counts in the peak.
    assert!([2 * 256, 2 * 512].contains(&stats.arena_bytes), "{stats:?}");
    assert!(stats.peak_bytes > stats.weight_bytes + stats.arena_bytes + stats.staging_bytes);
    run(&session, &counting(10, 0.0));
    assert_eq!(planned.load(Ordering::SeqCst), 5);
}

#[test]
fn memory_for_plans_is_bounded() {
    let Some(device) = device::open() else { return };
    // One plan of up to 64 floats: three arenas of 256 bytes at most, two staging pairs.
    let memory_max = 3 * 256 + 4 * 256;
    let options = SessionOptions { memory_max, ..SessionOptions::default() };
    let (session, planned) = any_length(device, options);
    for len in [8, 64, 16, 8] {
        let x = counting(len, 0.0);
        assert_eq!(run(&session, &x), expected_two_steps(&x));
        let stats = session.stats();
        assert!(stats.arena_bytes + stats.staging_bytes <= memory_max, "{stats:?}");
    }
    assert!(planned.load(Ordering::SeqCst) >= 3);
    let error = session.run(&[floats("x", &counting(1000, 0.0))]).unwrap_err();
    assert!(matches!(error, RunError::MemoryLimit { .. }), "{error}");
    assert!(error.is_caller_fault());
}

#[test]
fn concurrent_runs_are_right_and_plan_each_shape_once() {
    let Some(device) = device::open() else { return };
    let (session, planned) = any_length(device, SessionOptions::default());
    std::thread::scope(|scope| {
        for thread in 0u8..6 {
            let session = &session;
            scope.spawn(move || {
                for round in 0u8..40 {
                    let len = 50 + 100 * usize::from(round % 3);
                    let x = counting(len, f32::from(thread) * 100.0 + f32::from(round));
                    assert_eq!(run(session, &x), expected_two_steps(&x));
                }
            });
        }
    });
    assert_eq!(planned.load(Ordering::SeqCst), 3);
}

#[test]
fn warming_up_plans_and_changes_no_result() {
    let Some(device) = device::open() else { return };
    let (session, planned) = any_length(device, SessionOptions::default());
    let shapes = BTreeMap::from([("x".to_owned(), Shape::new([70]))]);
    session.warm_up(&shapes).unwrap();
    assert_eq!(session.plan_for(&shapes).unwrap().dispatches, 2);
    let x = counting(70, 3.0);
    assert_eq!(run(&session, &x), expected_two_steps(&x));
    assert_eq!(planned.load(Ordering::SeqCst), 1);
}

#[test]
fn bad_input_is_the_callers_fault_and_says_what_is_wrong() {
    let Some(device) = device::open() else { return };
    let (session, _) = any_length(device, SessionOptions::default());
    let x = floats("x", &[1.0]);
    let cases: [(Vec<(String, Tensor)>, &str); 5] = [
        (vec![], "input `x` is missing"),
        (vec![floats("z", &[1.0])], "there is no input `z`; the inputs are x"),
        (vec![x.clone(), x], "input `x` is given twice"),
        (
            vec![("x".to_owned(), Tensor::from_slice([1], &[1i64]).unwrap())],
            "input `x` holds f32, given i64",
        ),
        (
            vec![("x".to_owned(), Tensor::from_slice([1, 2], &[1f32, 2.0]).unwrap())],
            "input `x` expects f32 [n], given [1, 2]",
        ),
    ];
    for (inputs, expected) in cases {
        let error = session.run(&inputs).unwrap_err();
        assert!(error.to_string().contains(expected), "{error} should contain {expected}");
        assert!(error.is_caller_fault(), "{error}");
    }
    assert_eq!(session.stats().plans, 0);
}

#[test]
fn integers_narrow_on_the_way_in_and_widen_on_the_way_out() {
    let Some(device) = device::open() else { return };
    let mut plan = Builder::default();
    let (ids, out) = (plan.input("ids", DType::I64, 4), plan.output("out", DType::I64, 4));
    let (flags, any) = (plan.input("flags", DType::Bool, 3), plan.output("any", DType::Bool, 3));
    plan.step("Add_0", add_index(4), &[ids, out]);
    plan.step("Add_1", add_index(3), &[flags, any]);
    let session = session(plan.0, &device);
    let flags = ("flags".to_owned(), Tensor::new(DType::Bool, [3], vec![0u8, 0, 1]).unwrap());
    let ids = |values: &[i64]| ("ids".to_owned(), Tensor::from_slice([4], values).unwrap());
    let outputs = session.run(&[ids(&[-5, 0, 7, 9]), flags.clone()]).unwrap();
    assert_eq!(outputs[0].1.to_vec::<i64>().unwrap(), [-5, 1, 9, 12]);
    assert_eq!(outputs[1].1.to_vec::<u8>().unwrap(), [0, 1, 1]);
    let error = session.run(&[ids(&[0, 0, 0, 1 << 31]), flags]).unwrap_err();
    assert!(matches!(error, RunError::OutOfRange { value: 2_147_483_648, index: 3, .. }));
}

#[test]
fn outputs_may_be_constant_empty_or_an_input() {
    let Some(device) = device::open() else { return };
    let mut plan = Builder::default();
    let x = plan.input("x", DType::F32, 3);
    let _ = plan.input("none", DType::F32, 0);
    let empty = plan.output("empty", DType::I64, 0);
    plan.step("Empty_0", affine(0, 0.0, 0.0), &[x, empty]);
    let constant = Tensor::from_slice([2], &[7i64, 8]).unwrap();
    let mut plan = plan.0;
    let ports = [
        Builder::port("known", DType::I64, 2, PortSource::Constant(constant.clone())),
        Builder::port("same", DType::F32, 3, PortSource::Buffer(x)),
        Builder::port("again", DType::F32, 3, PortSource::Buffer(x)),
    ];
    plan.outputs.extend(ports);
    let session = session(plan, &device);
    let outputs = session.run(&[floats("none", &[]), floats("x", &[1.0, 2.0, 3.0])]).unwrap();
    let names: Vec<_> = outputs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["empty", "known", "same", "again"]);
    assert_eq!(outputs[0].1.shape().dims(), [0]);
    assert_eq!(outputs[1].1, constant);
    assert_eq!(outputs[2].1.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0]);
    assert_eq!(outputs[2].1, outputs[3].1);
}

#[test]
fn a_step_that_does_not_compile_is_named() {
    let Some(device) = device::open() else { return };
    let mut plan = two_steps(8);
    plan.steps[1].dispatch.kernel.source.push_str("oops");
    let error = session(plan, &device).run(&[floats("x", &counting(8, 0.0))]).unwrap_err();
    assert_eq!(error.to_string(), "step 1 (`Mul_1`) cannot be prepared");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("kernel affine (64)"), "{source}");
    assert!(!error.is_caller_fault());
}

#[test]
fn a_refused_run_is_an_error_and_the_session_lives_on() {
    let Some(device) = device::open() else { return };
    let mut plan = two_steps(8);
    // The kernel reads three words of immediates.
    plan.steps[1].dispatch.params.truncate(1);
    let broken = session(plan, &device);
    for _ in 0..5 {
        let error = broken.run(&[floats("x", &counting(8, 0.0))]).unwrap_err();
        assert!(matches!(error, RunError::Device(DeviceError::Refused { .. })), "{error}");
    }
    let x = counting(8, 0.0);
    assert_eq!(run(&session(two_steps(8), &device), &x), expected_two_steps(&x));
}

#[test]
fn a_tensor_that_the_adapter_cannot_hold_is_named_before_anything_is_allocated() {
    let Some(device) = device::open() else { return };
    let mut plan = two_steps(8);
    plan.buffers[3].bytes = device.info().limits.binding_bytes / 4 * 4 + 4;
    let session = session(plan, &device);
    let error = session.run(&[floats("x", &counting(8, 0.0))]).unwrap_err();
    assert!(error.to_string().contains("tensor `h` takes"), "{error}");
    assert_eq!(session.stats().peak_bytes, 0);
}

#[test]
fn a_plan_that_reads_what_it_never_wrote_is_refused() {
    let Some(device) = device::open() else { return };
    let mut plan = two_steps(8);
    plan.steps.remove(0);
    let error = session(plan, &device).run(&[floats("x", &counting(8, 0.0))]).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("`h` is read before it is written"), "{source}");
}

#[test]
fn runs_after_the_device_is_gone_say_so() {
    let Some(device) = device::open() else { return };
    let session = session(two_steps(8), &device);
    let x = counting(8, 0.0);
    run(&session, &x);
    device.destroy();
    for _ in 0..3 {
        let error = session.run(&[floats("x", &x)]).unwrap_err();
        assert!(matches!(error, RunError::Device(DeviceError::Lost { .. })), "{error}");
        assert!(error.is_device_lost());
    }
}

#[test]
fn the_noop_device_replays_a_plan() {
    let device = Device::noop();
    let session = session(two_steps(8), &device);
    assert_eq!(run(&session, &counting(8, 0.0)).len(), 8);
    assert_eq!(session.stats().dispatches, 2);
}

/// Memory is shared by what is never alive at once: on any graph, the result is the one that
/// every value in memory of its own gives.
#[test]
fn sharing_memory_changes_no_result() {
    let Some(device) = device::open() else { return };
    let index = any::<prop::sample::Index>;
    let steps = prop::collection::vec((index(), index(), 1usize..400), 1..40);
    let mut runner =
        TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(24) });
    let result = runner.run(&steps, |steps| {
        const INPUT: usize = 400;
        let mut plan = Builder::default();
        let input = counting(INPUT, 1.0);
        let mut values = vec![(plan.input("x", DType::F32, INPUT), input.clone())];
        let last = steps.len() - 1;
        for (i, (a, b, size)) in steps.into_iter().enumerate() {
            let (a, b) = (a.get(&values).clone(), b.get(&values).clone());
            let size = size.min(a.1.len()).min(b.1.len());
            let name = format!("v{i}");
            let out = if i == last {
                plan.output(&name, DType::F32, size)
            } else {
                plan.temporary(&name, size)
            };
            let count = u32::try_from(size).unwrap();
            plan.step(&name, mix(count, 0.25), &[a.0, b.0, out]);
            let sum = a.1.iter().zip(&b.1).take(size).map(|(a, b)| a + 0.25 * b).collect();
            values.push((out, sum));
        }
        let outputs = session(plan.0, &device).run(&[floats("x", &input)]).unwrap();
        let given = outputs[0].1.to_vec::<f32>().unwrap();
        for (given, due) in given.iter().zip(&values[last + 1].1) {
            prop_assert!((given - due).abs() <= 1e-5 * due.abs(), "{given} {due}");
        }
        prop_assert_eq!(given.len(), values[last + 1].1.len());
        Ok(())
    });
    result.unwrap();
}
