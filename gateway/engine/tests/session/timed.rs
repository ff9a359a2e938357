//! Profiles: whose time a step's time is.

use gw_engine::session::profile::Profile;

use super::*;

/// `out[i] = in[i]` after `turns` turns of a loop that nobody can leave out.
fn spin(count: u32, turns: u32) -> Dispatch {
    let source = "
        struct Params { count: u32, turns: u32 }
        var<immediate> params: Params;
        @group(0) @binding(0) var<storage, read> src: array<f32>;
        @group(0) @binding(1) var<storage, read_write> dst: array<f32>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3u) {
            var x = src[id.x];
            for (var i = 0u; i < params.turns; i++) { x = sqrt(x * x + f32(i)); }
            if id.x < params.count { dst[id.x] = x; }
        }";
    let mut dispatch = affine(count, 0.0, 0.0);
    dispatch.kernel.name = "spin";
    source.clone_into(&mut dispatch.kernel.source);
    dispatch.params = vec![count, turns];
    dispatch
}

/// Seven steps, of which the fifth takes long.
fn profile(device: &Arc<Device>) -> Profile {
    let mut plan = Builder::default();
    let mut value = plan.input("x", DType::F32, 4096);
    for index in 0..7 {
        let name = format!("v{index}");
        let next = match index {
            6 => plan.output(&name, DType::F32, 4096),
            _ => plan.temporary(&name, 4096),
        };
        let turns = if index == 4 { 20_000 } else { 10 };
        plan.step(&name, spin(4096, turns), &[value, next]);
        value = next;
    }
    session(plan.0, device).profile(&[floats("x", &counting(4096, 1.0))], 5).unwrap()
}

#[test]
fn the_time_of_a_step_is_its_own() {
    let Some(device) = device::open() else { return };
    let profile = profile(&device);
    let times: Vec<f64> = profile.steps.iter().map(|step| step.us).collect();
    let others: f64 = times.iter().sum::<f64>() - times[4];
    assert!(times[4] > 3.0 * others, "{times:?} by {:?}", profile.method);
    // OpenGL waits where it submits, not after it.
    assert!(profile.phases.total_us > 0.5 * times[4], "{profile}");
    let phases: f64 = profile.phases.named().iter().map(|(_, us)| us).sum();
    // Each is a median of its own, so they need not add up to the last digit.
    assert!(phases > 0.0 && phases <= 1.1 * profile.phases.total_us, "{profile}");
    let roofs = [profile.roofline.bytes_per_second, profile.roofline.flops_per_second];
    assert!(roofs.iter().all(|roof| *roof > 1e8 && roof.is_finite()), "{roofs:?}");
}

#[test]
fn what_computes_nothing_has_a_profile_of_the_cpu() {
    let profile = profile(&Device::noop());
    assert_eq!(profile.steps.len(), 7);
    assert!(profile.phases.encode_us > 0.0 && profile.encode_us_per_dispatch > 0.0, "{profile}");
}
