//! Values that stay on the device between runs. On the devices of most tests kernels bind what the
//! CPU maps and nothing stays, so these are opened without that.

use gw_engine::{DeviceTensor, Value};

use super::*;

fn values(name: &str, values: &[f32]) -> (String, Value) {
    let (name, tensor) = floats(name, values);
    (name, tensor.into())
}

/// The output of a run, which stays on the device.
fn kept(session: &Session, x: &[f32]) -> DeviceTensor {
    match session.run_values(&[values("x", x)], Some(0)).unwrap().swap_remove(0) {
        (name, Value::Device(tensor)) if name == "y" => tensor,
        other => panic!("{other:?} did not stay"),
    }
}

/// The output of a run over a tensor on the device, in host memory.
fn run_on(session: &Session, x: &DeviceTensor) -> Vec<f32> {
    let x = ("x".to_owned(), Value::Device(x.clone()));
    match session.run_values(&[x], None).unwrap().swap_remove(0).1 {
        Value::Host(tensor) => tensor.to_vec().unwrap(),
        Value::Device(_) => panic!("nothing is to stay"),
    }
}

fn floats_of(tensor: &DeviceTensor) -> Vec<f32> {
    tensor.read().unwrap().to_vec().unwrap()
}

#[test]
fn what_one_run_leaves_on_the_device_another_takes_from_there() {
    let Some(device) = device::open_unmapped() else { return };
    let (first, second) = (session(two_steps(100), &device), session(two_steps(100), &device));
    for round in 0u8..3 {
        let x = counting(100, f32::from(round));
        let due = expected_two_steps(&expected_two_steps(&x));
        assert_eq!(run(&second, &run(&first, &x)), due, "by way of the host");
        let y = kept(&first, &x);
        assert_eq!((y.dtype(), y.shape().dims()), (DType::F32, &[100][..]));
        assert_eq!(run_on(&second, &y), due);
        // A run may be given both kinds, and leave what it was given.
        assert_eq!(floats_of(&y), expected_two_steps(&x));
        assert_eq!(run(&second, &x), expected_two_steps(&x));
    }
}

#[test]
fn inputs_of_both_kinds_go_into_one_run() {
    let Some(device) = device::open_unmapped() else { return };
    let mut plan = Builder::default();
    let (a, b) = (plan.input("a", DType::F32, 70), plan.input("b", DType::F32, 70));
    let (sum, same) = (plan.output("sum", DType::F32, 70), plan.output("same", DType::F32, 70));
    plan.step("sum", mix(70, 1.0), &[a, b, sum]);
    plan.step("same", affine(70, 1.0, 0.0), &[b, same]);
    let both = session(plan.0, &device);
    let (x, b) = (counting(70, 1.0), counting(70, 9.0));
    let a = kept(&session(two_steps(70), &device), &x);
    let inputs = [values("b", &b), ("a".to_owned(), Value::Device(a))];
    let outputs = both.run_values(&inputs, Some(0)).unwrap();
    let given: Vec<Vec<f32>> = (outputs.into_iter())
        .map(|(_, value)| value.into_host().unwrap().to_vec().unwrap())
        .collect();
    let sum: Vec<f32> = expected_two_steps(&x).iter().zip(&b).map(|(a, b)| a + b).collect();
    assert_eq!(given, [sum, b]);
}

#[test]
fn what_stays_is_in_the_ledger_until_the_last_clone_is_dropped() {
    let Some(device) = device::open_unmapped() else { return };
    let session = session(two_steps(100), &device);
    run(&session, &counting(100, 0.0));
    let before = session.stats();
    let y = kept(&session, &counting(100, 0.0));
    let with = session.stats();
    assert_eq!((before.kept_bytes, with.kept_bytes), (0, 400));
    assert_eq!(with.peak_bytes, before.peak_bytes + 400);
    let row = y.rows(7, 1);
    drop(y);
    assert_eq!(session.stats().kept_bytes, 400, "a part holds the whole");
    drop(session);
    assert_eq!(floats_of(&row), [expected_two_steps(&counting(100, 0.0))[7]]);
}

#[test]
fn a_steady_state_makes_only_what_is_kept() {
    let Some(device) = device::open_unmapped() else { return };
    let (first, second) = (session(two_steps(100), &device), session(two_steps(100), &device));
    let x = counting(100, 0.0);
    run_on(&second, &kept(&first, &x));
    run(&first, &x);
    run(&second, &x);
    let before = (device.counters(), first.stats(), second.stats());
    for _ in 0..50 {
        let y = kept(&first, &x);
        assert_eq!(device.counters().buffers, before.0.buffers + 1);
        assert_eq!(device.counters().bind_groups, before.0.bind_groups);
        run_on(&second, &y);
        assert_eq!(device.counters().buffers, before.0.buffers + 1, "nothing was read back");
        drop(y);
        run(&first, &x);
        assert_eq!((device.counters(), first.stats(), second.stats()), before);
    }
}

#[test]
fn small_outputs_and_those_beyond_the_bound_come_to_the_host() {
    let Some(device) = device::open_unmapped() else { return };
    let x = [values("x", &counting(100, 0.0))];
    let is_kept = |session: &Session, bytes_min| {
        let outputs = session.run_values(&x, bytes_min).unwrap();
        matches!(outputs[0].1, Value::Device(_))
    };
    let roomy = session(two_steps(100), &device);
    assert!(is_kept(&roomy, Some(400)));
    assert!(!is_kept(&roomy, Some(401)));
    assert!(!is_kept(&roomy, None));
    let stats = roomy.stats();
    let memory_max = stats.arena_bytes + stats.staging_bytes + 399;
    let options = SessionOptions { memory_max, ..SessionOptions::default() };
    let tight = Session::from_plan(two_steps(100), Arc::clone(&device), options);
    assert!(!is_kept(&tight, Some(0)));
    let computes_nothing = Device::noop();
    assert!(
        !is_kept(&session(two_steps(100), &computes_nothing), Some(0)),
        "it binds mapped memory"
    );
}

#[test]
fn what_is_always_kept_stays_however_small_where_anything_may() {
    let Some(device) = device::open_unmapped() else { return };
    let mut session = session(two_steps(100), &device);
    session.keep_always(["y".to_owned()].into());
    let x = counting(100, 0.0);
    let run = |bytes_min| session.run_values(&[values("x", &x)], bytes_min).unwrap().remove(0).1;
    assert!(matches!(run(None), Value::Host(_)));
    for _ in 0..3 {
        let y = run(Some(u64::MAX));
        assert!(matches!(y, Value::Device(_)), "{y:?}");
        assert_eq!(session.stats().kept_bytes, 400);
        assert_eq!(y.into_host().unwrap().to_vec::<f32>().unwrap(), expected_two_steps(&x));
        assert_eq!(session.stats().kept_bytes, 0);
    }
}

#[test]
fn whole_numbers_and_booleans_stay_and_narrow_types_are_read() {
    let Some(device) = device::open_unmapped() else { return };
    for (dtype, stays) in [(DType::I64, true), (DType::Bool, true), (DType::I8, false)] {
        let mut plan = Builder::default();
        let (x, y) = (plan.input("x", dtype, 2), plan.output("y", dtype, 2));
        // It adds nothing to the first element, and one to the second.
        plan.step("Add_0", add_index(2), &[x, y]);
        let session = session(plan.0, &device);
        let one = |value: u8| std::iter::once(value).chain([0; 7]).take(dtype.size());
        let tensor = |values: [u8; 2]| {
            Tensor::new(dtype, [2], values.into_iter().flat_map(one).collect::<Vec<u8>>()).unwrap()
        };
        let x = ("x".to_owned(), Value::Host(tensor([1, 0])));
        let y = session.run_values(&[x], Some(0)).unwrap().swap_remove(0).1;
        assert_eq!(matches!(y, Value::Device(_)), stays, "{dtype}");
        assert_eq!(y.dtype(), dtype);
        assert_eq!(y.clone().into_host().unwrap(), tensor([1, 1]), "{dtype}");
        let again = session.run_values(&[("x".to_owned(), y)], None).unwrap().swap_remove(0).1;
        let due = if dtype == DType::Bool { [1, 1] } else { [1, 2] };
        assert_eq!(again.into_host().unwrap(), tensor(due), "{dtype}");
    }
}

#[test]
fn the_tensor_of_another_device_is_read_back_and_goes_in() {
    let (Some(one), Some(other)) = (device::open_unmapped(), device::open()) else { return };
    let x = counting(50, 2.0);
    let y = kept(&session(two_steps(50), &one), &x);
    let due = expected_two_steps(&expected_two_steps(&x));
    assert_eq!(run_on(&session(two_steps(50), &other), &y), due);
}

#[test]
fn rows_share_the_memory_and_go_into_runs_of_their_size() {
    let Some(device) = device::open_unmapped() else { return };
    let (any, _) = any_length(Arc::clone(&device), SessionOptions::default());
    let y = kept(&session(two_steps(100), &device), &counting(100, 0.0));
    let all = floats_of(&y);
    for (first, count) in [(0, 30), (30, 70), (99, 1), (100, 0), (0, 100)] {
        let rows = y.rows(first, count);
        let due = &all[first..first + count];
        assert_eq!(floats_of(&rows), due, "{first} + {count}");
        if count > 0 {
            assert_eq!(run_on(&any, &rows), expected_two_steps(due));
            // A part of a part.
            assert_eq!(floats_of(&rows.rows(count - 1, 1)), due[count - 1..]);
        }
    }
}

#[test]
fn what_a_lost_device_held_cannot_be_read_and_says_why() {
    let Some(device) = device::open_unmapped() else { return };
    let session = session(two_steps(8), &device);
    let y = kept(&session, &counting(8, 0.0));
    device.destroy();
    let error = y.read().unwrap_err();
    assert!(error.is_device_lost() && !error.is_caller_fault(), "{error}");
    assert!(error.to_string().contains("was lost"), "{error}");
    let given = [("x".to_owned(), Value::Device(y))];
    let error = session.run_values(&given, Some(0)).unwrap_err();
    assert!(error.is_device_lost(), "{error}");
    // Elsewhere it cannot be read either.
    let elsewhere = Device::noop();
    let error = super::session(two_steps(8), &elsewhere).run_values(&given, None).unwrap_err();
    assert!(error.is_device_lost(), "{error}");
}
