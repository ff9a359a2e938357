//! What is kept comes back, and nothing else does.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use gw_tensor::Shape;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::model::{Model, PlanOptions, WeightMode};
use crate::net::oracle::Answer;
use crate::onnx::proto::{
    DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

const FLOAT: i32 = 1;
const INT64: i32 = 7;

fn value(name: &str, elem_type: i32, dims: &[i64]) -> ValueInfoProto {
    // A negative size stands for a dimension called `n`.
    let dim = |&size: &i64| match size {
        0.. => DimensionProto { dim_value: Some(size), dim_param: None },
        _ => DimensionProto { dim_value: None, dim_param: Some("n".to_owned()) },
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor_type = Some(TensorTypeProto { elem_type, shape: Some(shape) });
    let r#type = Some(TypeProto { tensor_type, ..TypeProto::default() });
    ValueInfoProto { name: name.to_owned(), r#type }
}

fn weight(name: &str, dims: &[i64], scale: f32) -> TensorProto {
    let count = u16::try_from(dims.iter().product::<i64>()).unwrap();
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: FLOAT,
        float_data: (0..count).map(|index| f32::from(index) * scale).collect(),
        ..TensorProto::default()
    }
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

fn file(graph: GraphProto) -> Vec<u8> {
    let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
    let model = ModelProto { graph: Some(graph), opset_import: vec![opset], ..Default::default() };
    model.encode_to_vec()
}

/// `y = max(x w + b, 0)` and `s`, the shape of `x`. The 128 KiB of `w` have a file of their own.
fn layer(scale: f32) -> Vec<u8> {
    file(GraphProto {
        input: vec![value("x", FLOAT, &[-1, 64])],
        initializer: vec![weight("w", &[64, 512], scale), weight("b", &[512], 1.0)],
        node: vec![
            node("MatMul", &["x", "w"], "h"),
            node("Add", &["h", "b"], "z"),
            node("Relu", &["z"], "y"),
            node("Shape", &["x"], "s"),
        ],
        output: vec![value("y", FLOAT, &[-1, 512]), value("s", INT64, &[2])],
        ..GraphProto::default()
    })
}

/// An input decides what is computed.
fn reshape() -> Vec<u8> {
    file(GraphProto {
        input: vec![value("x", FLOAT, &[6]), value("shape", INT64, &[2])],
        node: vec![node("Reshape", &["x", "shape"], "y")],
        output: vec![ValueInfoProto { name: "y".to_owned(), r#type: None }],
        ..GraphProto::default()
    })
}

/// The device decides what is computed.
fn nonzero() -> Vec<u8> {
    file(GraphProto {
        input: vec![value("x", FLOAT, &[3000])],
        node: vec![node("Neg", &["x"], "h"), node("NonZero", &["h"], "y")],
        output: vec![ValueInfoProto { name: "y".to_owned(), r#type: None }],
        ..GraphProto::default()
    })
}

fn model(file: Vec<u8>) -> Model {
    Model::parse(file.into(), "test").unwrap()
}

fn shapes(rows: usize) -> BTreeMap<String, Shape> {
    BTreeMap::from([("x".to_owned(), [rows, 64].into())])
}

fn stage(model: &Model, shapes: &BTreeMap<String, Shape>) -> Stored {
    let stage = model.stage(shapes, &[], &Caps::minimal(), PlanOptions::default());
    let mut stored: Stored = stage.unwrap().into();
    if let Stored::Whole(plan) | Stored::Value(plan) = &mut stored {
        // What steps do is not kept.
        plan.steps.iter_mut().for_each(|step| step.work = None);
    }
    stored
}

/// The key without answers.
fn key(model: &Model, shapes: &BTreeMap<String, Shape>) -> Key {
    let digest = &model.graph().digest;
    Key::new(digest, shapes, &[], &Caps::minimal(), PlanOptions::default())
}

/// A folder of plans that is gone with the test.
struct Bench {
    dir: tempfile::TempDir,
    cache: PlanCache,
}

impl Bench {
    fn new(bytes_max: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = PlanCache::new(dir.path().join("plans"), bytes_max);
        Self { dir, cache }
    }

    fn keep(&self, model: &Model, shapes: &BTreeMap<String, Shape>) -> Stored {
        let stored = stage(model, shapes);
        self.cache.store(&key(model, shapes), &stored, model.constants()).unwrap();
        stored
    }

    /// As a process does that has planned nothing.
    fn load(&self, key: &Key) -> Option<Stored> {
        self.cache.load(key, &Constants::default(), &Caps::minimal(), &|_| ())
    }

    fn files(&self, ending: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.path().join("plans")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
    }

    fn bytes(&self) -> u64 {
        let all = [self.files("plan"), self.files("weights"), self.files("part")].concat();
        all.iter().map(|path| fs::metadata(path).unwrap().len()).sum()
    }
}

const LARGE: u64 = 1 << 30;

#[test]
fn what_is_kept_comes_back_equal() {
    let bench = Bench::new(LARGE);
    let cases =
        [(layer(1.0), shapes(3)), (reshape(), BTreeMap::new()), (nonzero(), BTreeMap::new())];
    let mut kinds = Vec::new();
    for (file, shapes) in cases {
        let model = model(file);
        let stored = bench.keep(&model, &shapes);
        assert_eq!(bench.load(&key(&model, &shapes)).as_ref(), Some(&stored));
        // Where the weights are known already, they are not read.
        let (key, caps) = (key(&model, &shapes), Caps::minimal());
        let again = bench.cache.load(&key, model.constants(), &caps, &|_| ());
        assert_eq!(again, Some(stored.clone()));
        kinds.push(match stored {
            Stored::Whole(_) => "whole",
            Stored::Value(_) => "value",
            Stored::Input(_) => "input",
        });
    }
    assert_eq!(kinds, ["whole", "input", "value"]);
}

#[test]
fn equal_keys_name_equal_plans() {
    for (file, shapes) in [(layer(0.5), shapes(9)), (nonzero(), BTreeMap::new())] {
        let (a, b) = (model(file.clone()), model(file));
        assert_eq!(key(&a, &shapes), key(&b, &shapes));
        assert_eq!(stage(&a, &shapes), stage(&b, &shapes));
    }
}

#[test]
fn everything_that_decides_a_plan_is_in_its_key() {
    let (digest, other) = (model(layer(1.0)).graph().digest, model(layer(2.0)).graph().digest);
    let (caps, options) = (Caps::minimal(), PlanOptions::default());
    let ints = |values: &[i64]| gw_tensor::Tensor::from_slice([values.len()], values).unwrap();
    let renamed = BTreeMap::from([("y".to_owned(), [1, 64].into())]);
    let answers = [
        vec![Answer::Input(0, ints(&[2, 3]))],
        vec![Answer::Input(1, ints(&[2, 3]))],
        vec![Answer::Input(1, ints(&[3, 2]))],
        vec![Answer::Value(ints(&[2, 3]))],
        vec![Answer::Value(ints(&[2])), Answer::Value(ints(&[3]))],
        vec![Answer::Value(gw_tensor::Tensor::from_slice([2], &[2u64, 3]).unwrap())],
    ];
    let some_caps = [
        Caps { subgroup: Some((32, 32)), ..caps },
        Caps { subgroup: Some((32, 64)), ..caps },
        Caps { f16: true, ..caps },
        Caps { int64: true, ..caps },
        Caps { workgroup_invocations: 1024, ..caps },
        Caps { workgroup_bytes: 32 << 10, ..caps },
        Caps { workgroups_per_dimension: 1 << 20, ..caps },
        Caps { storage_buffers: 16, ..caps },
        Caps { binding_bytes: 1 << 31, ..caps },
        Caps { software: true, ..caps },
        Caps { avx512: true, ..caps },
    ];
    let some_options = [
        PlanOptions { fuse: false, ..options },
        PlanOptions { weights: WeightMode::F32, ..options },
    ];
    let mut keys = vec![
        Key::new(&digest, &shapes(1), &[], &caps, options),
        Key::new(&other, &shapes(1), &[], &caps, options),
        Key::new(&digest, &shapes(2), &[], &caps, options),
        Key::new(&digest, &BTreeMap::new(), &[], &caps, options),
        Key::new(&digest, &renamed, &[], &caps, options),
    ];
    keys.extend(answers.iter().map(|a| Key::new(&digest, &shapes(1), a, &caps, options)));
    keys.extend(some_caps.iter().map(|c| Key::new(&digest, &shapes(1), &[], c, options)));
    keys.extend(some_options.iter().map(|o| Key::new(&digest, &shapes(1), &[], &caps, *o)));
    let names: std::collections::HashSet<_> = keys.iter().map(Key::name).collect();
    assert_eq!(names.len(), keys.len());
    assert_eq!(keys[0], Key::new(&digest, &shapes(1), &[], &caps, options));
}

#[test]
fn a_plan_for_another_key_or_a_lesser_adapter_is_a_miss() {
    let (bench, model) = (Bench::new(LARGE), model(layer(1.0)));
    bench.keep(&model, &shapes(1));
    let (key, other) = (key(&model, &shapes(1)), key(&model, &shapes(2)));
    let lesser = Caps { storage_buffers: 1, ..Caps::minimal() };
    assert_eq!(bench.cache.load(&key, &Constants::default(), &lesser, &|_| ()), None);
    let path = |key: &Key| bench.cache.dir().join(key.name());
    fs::copy(path(&key), path(&other)).unwrap();
    assert_eq!(bench.load(&other), None);
    assert!(bench.load(&key).is_some());
}

#[test]
fn every_truncation_is_a_miss() {
    let (bench, model) = (Bench::new(LARGE), model(layer(1.0)));
    bench.keep(&model, &shapes(1));
    let key = key(&model, &shapes(1));
    let path = bench.cache.dir().join(key.name());
    let whole = fs::read(&path).unwrap();
    assert!(opened(&whole, &key).is_some());
    for size in 0..whole.len() {
        assert_eq!(opened(&whole[..size], &key), None, "{size} bytes");
    }
    // The same without the digest, which finds it first.
    let body = opened(&whole, &key).unwrap();
    for size in 0..body.len() {
        let decoded = record::decode(&body[..size], model.constants(), &|_| (), |_| None, |_| ());
        assert_eq!(decoded, None, "{size} bytes");
    }
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(bench.load(&key), None);
    assert!(!path.exists(), "what is damaged is removed");
}

#[test]
fn bit_flips_are_misses_and_never_a_panic() {
    let (bench, model) = (Bench::new(LARGE), model(layer(1.0)));
    bench.keep(&model, &shapes(1));
    let key = key(&model, &shapes(1));
    let whole = fs::read(bench.cache.dir().join(key.name())).unwrap();
    let body = opened(&whole, &key).unwrap().to_vec();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let flips = prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..4);
    let outcome = runner.run(&flips, |flips| {
        let (mut file, mut forged) = (whole.clone(), body.clone());
        for (place, bit) in flips {
            file[place.index(whole.len())] ^= 1 << bit;
            forged[place.index(body.len())] ^= 1 << bit;
        }
        prop_assert!(file == whole || opened(&file, &key).is_none());
        // Past the digest, what decodes is still checked before it is used.
        let constants = Constants::default();
        let data = |blobs: &[Blob]| bench.cache.blobs(blobs);
        if let Some(stored) = record::decode(&forged, &constants, &|_| (), data, |_| ())
            && let Some(plan) = stored.plan()
        {
            let _ = plan.verify().is_ok() && plan.verify_for(&Caps::minimal()).is_ok();
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn a_checksum_shows_every_bit() {
    let data: Vec<u8> = (0u8..=75).collect();
    let whole = checksum(&data);
    for bit in 0..8 * data.len() {
        let mut flipped = data.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(checksum(&flipped), whole, "bit {bit}");
    }
    assert_ne!(checksum(&data[..75]), whole);
    assert_ne!(checksum(&[]), checksum(&[0]));
}

#[test]
fn huge_counts_allocate_nothing() {
    // A whole plan with 2^63 files of weights, then with that many kernels.
    for body in
        [[&[0][..], &[0xff; 8], &[0x7f]].concat(), [&[0, 0][..], &[0xff; 8], &[0x7f]].concat()]
    {
        assert_eq!(record::decode(&body, &Constants::default(), &|_| (), |_| None, |_| ()), None);
    }
}

#[test]
fn damaged_weights_are_a_miss_and_written_anew() {
    let (bench, model) = (Bench::new(LARGE), model(layer(1.0)));
    bench.keep(&model, &shapes(1));
    let key = key(&model, &shapes(1));
    for round in 0..2 {
        for path in bench.files("weights") {
            let mut data = fs::read(&path).unwrap();
            let middle = data.len() / 2;
            match round {
                0 => data[middle] ^= 1,
                _ => data.truncate(middle),
            }
            fs::write(&path, data).unwrap();
            assert_eq!(bench.load(&key), None);
            let stored = bench.keep(&model, &shapes(1));
            assert_eq!(bench.load(&key), Some(stored));
        }
    }
}

#[test]
fn plans_and_models_share_their_weights() {
    let bench = Bench::new(LARGE);
    let (one, two) = (model(layer(1.0)), model(layer(2.0)));
    bench.keep(&one, &shapes(1));
    let after_one = bench.files("weights").len();
    bench.keep(&one, &shapes(2));
    let large = |path: &PathBuf| fs::metadata(path).unwrap().len() == 4 * 64 * 512;
    assert_eq!(bench.files("weights").iter().filter(|path| large(path)).count(), 1);
    bench.keep(&two, &shapes(1));
    assert_eq!(bench.files("weights").iter().filter(|path| large(path)).count(), 2);
    // The bias of both and the shapes of one row lie in the packs that are there.
    assert_eq!(bench.files("weights").len(), after_one + 2);
    assert_eq!(bench.files("plan").len(), 3);
}

#[test]
fn the_folder_stays_within_its_bound_and_keeps_what_was_used() {
    let model = model(layer(1.0));
    let one = Bench::new(LARGE);
    one.keep(&model, &shapes(1));
    // Room for the weights and about four plans.
    let plan = fs::metadata(&one.files("plan")[0]).unwrap().len();
    let bound = one.bytes() + 3 * plan + plan / 2;
    let bench = Bench::new(bound);
    for rows in 1..12 {
        let stored = bench.keep(&model, &shapes(rows));
        assert!(bench.bytes() <= bound, "{} bytes of {bound}", bench.bytes());
        assert_eq!(bench.load(&key(&model, &shapes(rows))), Some(stored));
        // The first is used all the time, so it stays.
        assert!(bench.load(&key(&model, &shapes(1))).is_some(), "after {rows}");
    }
    assert_eq!(bench.load(&key(&model, &shapes(2))), None);
}

#[test]
fn what_is_larger_than_the_bound_is_not_kept_and_moves_nothing() {
    let bench = Bench::new(100_000);
    let (small, large) = (model(reshape()), model(layer(1.0)));
    bench.keep(&small, &BTreeMap::new());
    bench.keep(&large, &shapes(1));
    assert_eq!(bench.load(&key(&large, &shapes(1))), None);
    assert!(bench.load(&key(&small, &BTreeMap::new())).is_some());
}

#[test]
fn only_our_own_files_are_removed() {
    let bench = Bench::new(200_000);
    let dir = bench.cache.dir().to_owned();
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("notes.txt"), vec![0; 300_000]).unwrap();
    fs::write(dir.join("left.over.part"), vec![0; 300_000]).unwrap();
    let model = model(layer(1.0));
    bench.keep(&model, &shapes(1));
    assert!(dir.join("notes.txt").exists() && !dir.join("left.over.part").exists());
    assert!(bench.load(&key(&model, &shapes(1))).is_some());
}

#[test]
fn many_writers_and_readers_of_one_folder_agree() {
    let model = model(layer(1.0));
    let bench = Bench::new(LARGE);
    let due = stage(&model, &shapes(1));
    let key = key(&model, &shapes(1));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    bench.cache.store(&key, &due, model.constants()).unwrap();
                    assert_eq!(bench.load(&key).as_ref(), Some(&due));
                }
            });
        }
    });
    assert!(bench.files("part").is_empty());
}

#[test]
fn a_folder_that_cannot_be_is_an_error_and_a_miss() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "in the way").unwrap();
    let (cache, model) = (PlanCache::new(path, LARGE), model(layer(1.0)));
    let key = key(&model, &shapes(1));
    let stored = stage(&model, &shapes(1));
    assert!(cache.store(&key, &stored, model.constants()).is_err());
    assert_eq!(cache.load(&key, model.constants(), &Caps::minimal(), &|_| ()), None);
}

#[test]
fn external_data_is_part_of_what_names_a_model() {
    use crate::onnx::proto::StringStringEntryProto;
    let dir = tempfile::tempdir().unwrap();
    let entry = StringStringEntryProto { key: "location".to_owned(), value: "w.bin".to_owned() };
    let tensor = TensorProto {
        name: "w".to_owned(),
        dims: vec![4],
        data_type: FLOAT,
        data_location: 1,
        external_data: vec![entry],
        ..TensorProto::default()
    };
    let graph = GraphProto {
        input: vec![value("x", FLOAT, &[4])],
        initializer: vec![tensor],
        node: vec![node("Add", &["x", "w"], "y")],
        output: vec![value("y", FLOAT, &[4])],
        ..GraphProto::default()
    };
    let path = dir.path().join("model.onnx");
    fs::write(&path, file(graph)).unwrap();
    let digest = |data: [u8; 16]| {
        fs::write(dir.path().join("w.bin"), data).unwrap();
        Model::open(&path).unwrap().graph().digest
    };
    assert_eq!(digest([0; 16]), digest([0; 16]));
    assert_ne!(digest([0; 16]), digest([1; 16]));
}
