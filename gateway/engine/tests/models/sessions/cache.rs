//! Plans that outlive the process: a second session of the same model plans nothing and answers
//! the same.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gw_engine::{Device, Model, PlanCache, PlanOptions, Session, SessionOptions, SessionStats};
use gw_tensor::Tensor;

use crate::device::shared;
use crate::onnx::{FLOAT, INT64, Onnx};
use crate::run::floats;

type Tensors = Vec<(String, Tensor)>;

/// A session as a new process has it: the file is parsed anew.
fn session(file: &Bytes, dir: &Path, plan: PlanOptions, device: &Arc<Device>) -> Session {
    let model = Arc::new(Model::parse(file.clone(), "test").unwrap());
    let cache = Some(Arc::new(PlanCache::new(dir, 1 << 30)));
    let options = SessionOptions { plan, cache, ..SessionOptions::default() };
    Session::new(model, Arc::clone(device), options)
}

/// The answer of a new session, and how many plans it made and found.
fn answer(file: &Bytes, dir: &Path, inputs: &Tensors) -> Option<(Tensors, usize, usize)> {
    let session = session(file, dir, PlanOptions::default(), &shared()?);
    let outputs = session.run(inputs).unwrap();
    let SessionStats { planned, loaded, .. } = session.stats();
    Some((outputs, planned, loaded))
}

/// A matrix product with a weight of 128 KiB, and more.
fn layer() -> Onnx {
    Onnx::new(17)
        .input("x", FLOAT, &[-1, 64])
        .weights("w", &[64, 512])
        .weights("b", &[512])
        .node("MatMul", &["x", "w"], "h")
        .node("Add", &["h", "b"], "z")
        .node("Relu", &["z"], "y")
        .node("Shape", &["x"], "s")
        .output("y")
        .output("s")
}

#[test]
fn a_second_session_plans_nothing_and_answers_the_same() {
    let by_input = Onnx::new(17)
        .input("x", FLOAT, &[6])
        .input("shape", INT64, &[2])
        .node("Reshape", &["x", "shape"], "r")
        .node("Neg", &["r"], "y")
        .output("y");
    let by_value = Onnx::new(17)
        .input("x", FLOAT, &[3000])
        .node("Neg", &["x"], "h")
        .node("NonZero", &["h"], "y")
        .output("y");
    let shape = ("shape".to_owned(), Tensor::from_slice([2], &[2i64, -1]).unwrap());
    // Each with its number of parts: a question is one, the rest of the run another.
    let cases = [
        (layer(), vec![floats("x", &[3, 64])], 1),
        (by_input, vec![floats("x", &[6]), shape], 2),
        (by_value, vec![floats("x", &[3000])], 2),
    ];
    for (file, inputs, parts) in cases {
        let (file, dir) = (file.file(), tempfile::tempdir().unwrap());
        let Some((due, planned, loaded)) = answer(&file, dir.path(), &inputs) else { return };
        assert_eq!((planned, loaded), (parts, 0));
        let (outputs, planned, loaded) = answer(&file, dir.path(), &inputs).unwrap();
        assert_eq!((planned, loaded), (0, parts));
        assert_eq!(outputs, due);
    }
}

#[test]
fn another_model_shape_or_option_is_planned() {
    let (dir, file) = (tempfile::tempdir().unwrap(), layer().file());
    let x = vec![floats("x", &[3, 64])];
    let Some((_, planned, _)) = answer(&file, dir.path(), &x) else { return };
    assert_eq!(planned, 1);
    let mut other = file.to_vec();
    // The middle of the file is a weight.
    let middle = other.len() / 2;
    other[middle] ^= 1;
    let (_, planned, loaded) = answer(&other.into(), dir.path(), &x).unwrap();
    assert_eq!((planned, loaded), (1, 0));
    let (_, planned, loaded) = answer(&file, dir.path(), &vec![floats("x", &[4, 64])]).unwrap();
    assert_eq!((planned, loaded), (1, 0));
    let plain = PlanOptions { fuse: false, ..PlanOptions::default() };
    let session = session(&file, dir.path(), plain, &shared().unwrap());
    session.run(&x).unwrap();
    assert_eq!((session.stats().planned, session.stats().loaded), (1, 0));
}

#[test]
fn damage_costs_a_plan_and_nothing_else() {
    let (dir, file) = (tempfile::tempdir().unwrap(), layer().file());
    let x = vec![floats("x", &[3, 64])];
    let Some((due, ..)) = answer(&file, dir.path(), &x) else { return };
    let entries = std::fs::read_dir(dir.path()).unwrap();
    let paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!(paths.len() > 2);
    for path in paths {
        let mut data = std::fs::read(&path).unwrap();
        let middle = data.len() / 2;
        data[middle] ^= 0x10;
        std::fs::write(&path, data).unwrap();
        let (outputs, planned, loaded) = answer(&file, dir.path(), &x).unwrap();
        assert_eq!((planned, loaded), (1, 0), "{}", path.display());
        assert_eq!(outputs, due);
        // It was mended.
        let (outputs, planned, loaded) = answer(&file, dir.path(), &x).unwrap();
        assert_eq!((planned, loaded), (0, 1), "{}", path.display());
        assert_eq!(outputs, due);
    }
}

#[test]
fn sessions_at_once_share_a_folder() {
    let (dir, file) = (tempfile::tempdir().unwrap(), layer().file());
    let Some(device) = shared() else { return };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let session = session(&file, dir.path(), PlanOptions::default(), &device);
                for rows in [1, 2, 3, 1] {
                    session.run(&[floats("x", &[rows, 64])]).unwrap();
                }
                assert_eq!(session.stats().planned + session.stats().loaded, 3);
            });
        }
    });
    let third = session(&file, dir.path(), PlanOptions::default(), &device);
    for rows in 1..4 {
        third.run(&[floats("x", &[rows, 64])]).unwrap();
    }
    assert_eq!((third.stats().planned, third.stats().loaded), (0, 3));
}

#[test]
fn minilm_is_planned_once_for_all_processes() {
    let (Some(path), Some(device)) = (crate::minilm::path(), shared()) else { return };
    let (dir, file) = (tempfile::tempdir().unwrap(), Bytes::from(std::fs::read(path).unwrap()));
    let mut answers = Vec::new();
    for start in ["first", "second"] {
        let session = session(&file, dir.path(), PlanOptions::default(), &device);
        for (batch, seq) in [(1, 128), (8, 32)] {
            let inputs = crate::minilm::inputs(batch, seq);
            let shapes = crate::run::shapes(&inputs);
            let now = Instant::now();
            session.plan_for(&shapes).unwrap();
            eprintln!("{start} {batch}x{seq}: planned and prepared in {:?}", now.elapsed());
            answers.push(session.run(&inputs).unwrap());
        }
        let SessionStats { planned, loaded, .. } = session.stats();
        assert_eq!((planned, loaded), if start == "first" { (2, 0) } else { (0, 2) });
    }
    assert_eq!(answers[..2], answers[2..]);
    let size = |ending: &str| -> u64 {
        let entries = std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap);
        let ours = entries.filter(|entry| entry.path().extension().unwrap() == ending);
        ours.map(|entry| entry.metadata().unwrap().len()).sum()
    };
    eprintln!("{} bytes of plans, {} of weights", size("plan"), size("weights"));
    assert!(size("weights") < 25 << 20, "two plans of a file of 22.9 MB share their weights");
}
