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
