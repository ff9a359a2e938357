//! Variants that are measured behind the first answers: other plans, the same answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gw_engine::plan::why::Reason;
use gw_engine::{Device, Model, PlanCache, Session, SessionOptions, Tuning};
use gw_tensor::{Shape, Tensor};

use crate::device::shared;
use crate::onnx::{FLOAT, Onnx};
use crate::run::floats;

const BUDGET: Duration = Duration::from_mins(1);

/// Two products: few columns and many.
fn layers() -> Bytes {
    Onnx::new(17)
        .input("x", FLOAT, &[-1, 96])
        .weights("w", &[96, 256])
        .weights("v", &[256, 24])
        .node("MatMul", &["x", "w"], "h")
        .node("Tanh", &["h"], "z")
        .node("MatMul", &["z", "v"], "y")
        .output("y")
        .file()
}

/// A session as a new process has it.
fn session(device: &Arc<Device>, dir: &Path, budget: Duration) -> Session {
    let cache = Some(Arc::new(PlanCache::new(dir, 1 << 30)));
    let tuning = Some(Arc::new(Tuning::new(device, cache.clone(), budget)));
    let options = SessionOptions { cache, tuning, ..SessionOptions::default() };
    let model = Arc::new(Model::parse(layers(), "test").unwrap());
    Session::new(model, Arc::clone(device), options)
}

/// What chose each step that could be done in several ways.
fn reasons(session: &Session, rows: usize) -> Vec<Reason> {
    let shapes = BTreeMap::from([("x".to_owned(), Shape::new([rows, 96]))]);
    let plan = session.plan_for(&shapes).unwrap();
    let open = plan.steps.iter().filter(|step| !step.choice.alternatives.is_empty());
    open.map(|step| step.choice.reason).collect()
}

/// How each step is done.
fn variants(session: &Session, rows: usize) -> Vec<String> {
    let shapes = BTreeMap::from([("x".to_owned(), Shape::new([rows, 96]))]);
    let plan = session.plan_for(&shapes).unwrap();
    plan.steps.iter().map(|step| step.variant.clone()).collect()
}

/// The bits of the answer for so many rows.
fn answer(session: &Session, rows: usize) -> Tensor {
    session.run(&[floats("x", &[rows, 96])]).unwrap().swap_remove(0).1
}

#[test]
fn variants_that_lost_are_not_kept() {
    let Some(device) = crate::device::open() else { return };
    let dir = tempfile::tempdir().unwrap();
    let session = session(&device, dir.path(), BUDGET);
    answer(&session, 40);
    let plan = session.plan_for(&BTreeMap::from([("x".to_owned(), Shape::new([40, 96]))])).unwrap();
    let tried: usize = plan.steps.iter().map(|step| step.choice.alternatives.len()).sum();
    if tried <= plan.steps.len() {
        eprintln!("skipped: {tried} variants on this adapter");
        return;
    }
    session.settle();
    answer(&session, 40);
    // At most the default and the fastest of each step.
    let held = device.pipelines();
    assert!(held <= 2 * plan.steps.len(), "{held} of {tried}");
}

#[test]
fn a_tuned_plan_answers_the_same_and_outlives_its_session() {
    let Some(device) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let plain = session(&device, tempfile::tempdir().unwrap().path(), Duration::ZERO);
    let due = answer(&plain, 40);
    {
        let first = session(&device, dir.path(), BUDGET);
        assert_eq!(answer(&first, 40), due);
        let told = first.settle();
        let (before, now) = (variants(&plain, 40), variants(&first, 40));
        let changed = before.iter().zip(&now).filter(|(before, now)| before != now);
        let (before, now): (Vec<_>, Vec<_>) = changed.unzip();
        assert_eq!(told.iter().map(|tuned| 1 + tuned.others).sum::<usize>(), now.len());
        for tuned in &told {
            assert!(before.contains(&&tuned.default) && now.contains(&&tuned.variant), "{tuned}");
            assert!(tuned.us < tuned.default_us, "{tuned}");
        }
        let all = reasons(&first, 40);
        assert!(all.len() >= 2 && all.iter().all(|reason| *reason == Reason::Tuned), "{all:?}");
        assert_eq!(answer(&first, 40), due);
        // What the measurements used goes once later submissions are done.
        for _ in 0..10 {
            answer(&first, 40);
        }
        let before = (device.counters(), device.pipelines());
        for _ in 0..100 {
            answer(&first, 40);
        }
        first.settle();
        assert_eq!((device.counters(), device.pipelines()), before);
    }
    let second = session(&device, dir.path(), BUDGET);
    assert!(reasons(&second, 40).iter().all(|reason| *reason == Reason::Tuned));
    let stats = second.stats();
    assert_eq!((stats.planned, stats.loaded), (0, 1));
    assert_eq!(answer(&second, 40), due);
    // Other rows of about this many are done the same way from the beginning.
    assert!(reasons(&second, 37).iter().all(|reason| *reason == Reason::Tuned));
    assert_eq!(second.stats().planned, 1);
}

#[test]
fn nothing_is_measured_before_the_first_answer_or_without_time() {
    let Some(device) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let warm = session(&device, dir.path(), BUDGET);
    warm.warm_up(&BTreeMap::from([("x".to_owned(), Shape::new([40, 96]))])).unwrap();
    warm.settle();
    assert!(reasons(&warm, 40).iter().all(|reason| *reason == Reason::Default));
    let idle = session(&device, dir.path(), Duration::ZERO);
    answer(&idle, 40);
    idle.settle();
    assert!(reasons(&idle, 40).iter().all(|reason| *reason == Reason::Default));
}

#[test]
fn runs_that_go_on_meanwhile_answer_the_same() {
    let Some(device) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let plain = session(&device, tempfile::tempdir().unwrap().path(), Duration::ZERO);
    let rows = [1, 5, 16, 40, 70];
    let due = rows.map(|rows| answer(&plain, rows));
    let tuned = session(&device, dir.path(), BUDGET);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20 {
                    for (rows, due) in rows.iter().zip(&due) {
                        assert_eq!(&answer(&tuned, *rows), due);
                    }
                }
            });
        }
    });
    tuned.settle();
    for (rows, due) in rows.iter().zip(&due) {
        assert!(reasons(&tuned, *rows).iter().all(|reason| *reason == Reason::Tuned));
        assert_eq!(&answer(&tuned, *rows), due);
    }
}

#[test]
fn a_session_that_goes_away_ends_its_measurements() {
    let Some(device) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    for rows in [3, 40] {
        let brief = session(&device, dir.path(), BUDGET);
        answer(&brief, rows);
    }
    // What was left undone is done by the next that runs the plan.
    let next = session(&device, dir.path(), BUDGET);
    for rows in [3, 40] {
        answer(&next, rows);
        next.settle();
        assert!(reasons(&next, rows).iter().all(|reason| *reason == Reason::Tuned));
    }
}
