//! Devices that fail: each fault is an error that says so, and what comes after it is right.

use std::time::Duration;

use gw_engine::Fault;

use super::*;

/// A kernel that does a million steps for each whole number in an element, which it copies.
fn long(count: u32) -> Dispatch {
    let source = "
        struct Params { count: u32, factor: f32, term: f32 }
        var<immediate> params: Params;
        @group(0) @binding(0) var<storage, read> src: array<f32>;
        @group(0) @binding(1) var<storage, read_write> dst: array<f32>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3u) {
            if id.x >= params.count { return; }
            var value = src[id.x];
            for (var turn = 0u; turn < u32(src[id.x]); turn++) {
                for (var step = 0u; step < 1000000u; step++) {
                    value = fract(value * 1.5 + 0.25);
                }
            }
            // What is computed is used, so that no compiler leaves it out.
            dst[id.x] = select(src[id.x], value, value > 2.0);
        }";
    let mut dispatch = affine(count, 1.0, 0.0);
    dispatch.kernel.name = "long";
    source.clone_into(&mut dispatch.kernel.source);
    dispatch
}

/// The device under test; `None` where it is one of OpenGL, which cannot show the fault for what it
/// `does`.
fn other_than_opengl(does: &str) -> Option<Arc<Device>> {
    let device = device::open()?;
    if device.info().backend == "gl" {
        eprintln!("skipped: OpenGL {does}");
        return None;
    }
    Some(device)
}

/// Elements that take a device seconds at a million steps each. llvmpipe ends a loop after 65,535;
/// `SwiftShader` ends none, and its next device waits for what hangs on the last.
fn elements_that_hang(device: &Device) -> usize {
    if device.info().name.contains("SwiftShader") { 1 << 12 } else { 1 << 18 }
}

#[test]
fn a_run_that_hangs_is_given_up_and_nothing_waits_for_it() {
    // Who waits for a run there finds it done, however long it took.
    let device = other_than_opengl("on a CPU computes while commands are submitted");
    let Some(device) = device else { return };
    let count = elements_that_hang(&device);
    device.set_hang_time(Duration::from_millis(500));
    let mut plan = Builder::default();
    let (x, y) = (plan.input("x", DType::F32, count), plan.output("y", DType::F32, count));
    plan.step("long", long(u32::try_from(count).unwrap()), &[x, y]);
    let hanging = session(plan.0, &device);
    let other = session(two_steps(8), &device);
    assert!(run(&hanging, &vec![0.0; count]) == vec![0.0; count]);
    let error = hanging.run(&[floats("x", &vec![1.0; count])]).unwrap_err();
    assert!(matches!(error, RunError::Device(DeviceError::Hung { .. })), "{error}");
    assert!(error.is_device_lost() && device.is_lost());
    let x = counting(8, 0.0);
    assert!(other.run(&[floats("x", &x)]).unwrap_err().is_device_lost());
    drop((hanging, other, device));
    let Some(next) = device::open() else { return };
    assert_eq!(run(&session(two_steps(8), &next), &x), expected_two_steps(&x));
}

#[test]
fn a_device_that_is_lost_under_runs_fails_them_all() {
    let Some(device) = device::open() else { return };
    let (session, _) = any_length(Arc::clone(&device), SessionOptions::default());
    run(&session, &counting(8, 0.0));
    device.fail_next(Fault::Loss);
    std::thread::scope(|scope| {
        for len in 8..12 {
            let session = &session;
            scope.spawn(move || {
                // Who was done before it was lost has an answer.
                while let Ok(outputs) = session.run(&[floats("x", &counting(len, 0.0))]) {
                    let y: Vec<f32> = outputs[0].1.to_vec().unwrap();
                    assert_eq!(y, expected_two_steps(&counting(len, 0.0)));
                }
            });
        }
    });
    let error = session.run(&[floats("x", &counting(8, 0.0))]).unwrap_err();
    assert!(error.is_device_lost(), "{error}");
}

#[test]
fn a_kernel_that_does_not_compile_once_is_compiled_the_next_time() {
    let Some(device) = device::open() else { return };
    let session = session(two_steps(8), &device);
    let x = counting(8, 0.0);
    device.fail_next(Fault::Kernel);
    let error = session.run(&[floats("x", &x)]).unwrap_err();
    assert!(matches!(error, RunError::Step { .. }), "{error}");
    assert_eq!(run(&session, &x), expected_two_steps(&x));
}

#[test]
fn what_is_prepared_makes_room_where_the_device_has_no_memory_left() {
    let Some(device) = other_than_opengl("does not count memory") else { return };
    let (session, planned) = any_length(Arc::clone(&device), SessionOptions::default());
    let held = || u64::try_from(device.counters().buffer_bytes).unwrap();
    let x = |len| counting(len, 1.0);
    run(&session, &x(900));
    // A plan of this length takes as much, and there is no room for two.
    device.limit_memory(held());
    assert_eq!(run(&session, &x(899)), expected_two_steps(&x(899)));
    assert_eq!(session.stats().plans, 1);
    device.limit_memory(0);
    let error = session.run(&[floats("x", &x(898))]).unwrap_err();
    assert!(error.is_out_of_memory() && !error.is_caller_fault(), "{error}");
    assert!(!device.is_lost());
    device.limit_memory(u64::MAX);
    assert_eq!(run(&session, &x(898)), expected_two_steps(&x(898)));
    assert!(planned.load(Ordering::SeqCst) >= 3);
}
