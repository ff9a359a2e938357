//! Many runs, and runs at once.

use super::*;

#[test]
fn ten_thousand_runs_make_nothing() {
    let Some(device) = device::open() else { return };
    let session = session(two_steps(100), &device);
    let x = counting(100, 0.0);
    for _ in 0..3 {
        run(&session, &x);
    }
    let before = (device.counters(), session.stats(), device.pipelines());
    assert!(before.0.buffers > 0 && before.0.bind_groups > 0 && before.0.pipelines > 0);
    for round in 0..10_000 {
        session.run(&[floats("x", &x)]).unwrap();
        if round % 1000 == 0 {
            assert_eq!((device.counters(), session.stats(), device.pipelines()), before);
        }
    }
    assert_eq!(run(&session, &x), expected_two_steps(&x));
    assert_eq!((device.counters(), session.stats(), device.pipelines()), before);
}

/// Where kernels bind what the CPU maps, `y` still needs an arena, as a step reads it.
#[test]
fn outputs_are_right_whether_later_steps_read_them_or_not() {
    let Some(device) = device::open() else { return };
    let mut plan = Builder::default();
    let (a, b) = (plan.input("a", DType::F32, 70), plan.input("b", DType::F32, 70));
    let (y, z) = (plan.output("y", DType::F32, 70), plan.output("z", DType::F32, 70));
    let last = plan.output("last", DType::F32, 70);
    plan.step("y", mix(70, 2.0), &[a, b, y]);
    plan.step("z", affine(70, 3.0, 0.0), &[b, z]);
    plan.step("last", mix(70, 1.0), &[y, a, last]);
    let session = session(plan.0, &device);
    session.warm_up(&BTreeMap::new()).unwrap();
    for round in 0u8..5 {
        let (a, b) = (counting(70, f32::from(round)), counting(70, 5.0));
        let outputs = session.run(&[floats("a", &a), floats("b", &b)]).unwrap();
        let of = |f: fn(f32, f32) -> f32| a.iter().zip(&b).map(|(a, b)| f(*a, *b)).collect();
        let due: [Vec<f32>; 3] =
            [of(|a, b| a + 2.0 * b), of(|_, b| 3.0 * b), of(|a, b| 2.0 * a + 2.0 * b)];
        for ((name, tensor), due) in outputs.iter().zip(due) {
            assert_eq!(tensor.to_vec::<f32>().unwrap(), due, "{name} of {round}");
        }
    }
}
