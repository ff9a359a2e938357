//! Loading, sharing and unloading.

use gw_inference::{DeviceChoice, InferenceError};

use crate::node::Node;
use crate::onnx::{Onnx, Type, linear};
use crate::{ModelFile, devices, far_future, input, tensor};

#[test]
fn concurrent_loads_of_one_file_load_it_once() {
    let file = ModelFile::new(linear().bytes());
    for device in devices() {
        let node = Node::new();
        let loaded = node.load_from_all_sides(&file.spec("linear", &device));
        assert!(loaded.iter().all(Result::is_ok));
        assert_eq!(node.metric("gw_model_load_seconds_count", "linear"), 1);
        assert_eq!(node.models.resident().len(), 1);
    }
}

#[test]
fn a_load_that_fails_can_be_tried_again() {
    let file = ModelFile::new(linear().bytes());
    let path = file.dir.path().join("model.onnx");
    std::fs::write(&path, "not a model").unwrap();
    let node = Node::new();
    let spec = file.spec("linear", &DeviceChoice::Cpu);
    assert!(node.load_from_all_sides(&spec).iter().all(Result::is_err));
    std::fs::write(&path, &file.bytes).unwrap();
    node.models.load(&spec).unwrap();
}

#[test]
fn loads_are_counted_by_how_they_ended() {
    let node = Node::new();
    let loads = |model: &str, outcome: &str| {
        node.metric("gw_model_loads_total", &format!("model=\"{model}\"{outcome}"))
    };
    let good = ModelFile::new(linear().bytes());
    let _held = node.load_from_all_sides(&good.spec("good", &DeviceChoice::Cpu));
    assert_eq!(loads("good", ",device=\"cpu\",outcome=\"ok\""), 1, "the others share it");

    let broken = ModelFile::new(b"not a model".to_vec());
    let unknown = Onnx::new().input("x", Type::F32, "n").output("y", Type::F32, "n");
    let unknown = ModelFile::new(unknown.node("y = Frobnicate(x)").bytes());
    for turn in 1..=2 {
        assert!(node.models.load(&broken.spec("broken", &DeviceChoice::Cpu)).is_err());
        assert_eq!(loads("broken", ",device=\"cpu\",outcome=\"failed\""), turn);
        assert!(node.models.load(&unknown.spec("unknown", &DeviceChoice::Cpu)).is_err());
        assert_eq!(loads("unknown", ",device=\"cpu\",outcome=\"unsupported\""), turn);
    }
    let nowhere = DeviceChoice::Named("nowhere".to_owned());
    assert!(node.models.load(&good.spec("far", &nowhere)).is_err());
    assert_eq!(loads("far", ",device=\"nowhere\",outcome=\"no_device\""), 1);
}

#[test]
fn two_names_of_one_file_share_it_and_the_last_one_frees_it() {
    let file = ModelFile::new(linear().bytes());
    let node = Node::new();
    let a = node.models.load(&file.spec("a", &DeviceChoice::Cpu)).unwrap();
    let b = node.models.load(&file.spec("b", &DeviceChoice::Cpu)).unwrap();
    assert_eq!((a.name(), b.name(), a.digest()), ("a", "b", b.digest()));
    let resident = node.models.resident();
    assert_eq!(resident.len(), 1);
    assert_eq!((&*resident[0].device, resident[0].digest), ("cpu", a.digest()));
    assert!(resident[0].footprint.weight_bytes > 0);

    drop(a);
    assert_eq!(node.models.resident().len(), 1);
    assert_eq!(
        node.models.find("a").err(),
        Some(InferenceError::NotFound { name: "a".to_owned() })
    );
    assert_eq!(node.models.find("b").unwrap().name(), "b");
    drop(b);
    assert!(node.models.resident().is_empty());

    node.models.load(&file.spec("a", &DeviceChoice::Cpu)).unwrap();
    assert_eq!(node.metric("gw_model_load_seconds_count", "model=\"a\""), 2);
}

#[test]
fn files_and_devices_are_apart_in_the_ledger() {
    let one = ModelFile::new(linear().bytes());
    let two = ModelFile::new(linear().node("z = Neg(y)").bytes());
    let node = Node::new();
    let mut held = Vec::new();
    for device in devices() {
        held.push(node.models.load(&one.spec("one", &device)).unwrap());
        held.push(node.models.load(&two.spec("two", &device)).unwrap());
    }
    assert_eq!(node.models.resident().len(), held.len());
}

#[tokio::test]
async fn unloading_frees_the_memory_and_refuses_what_comes_later() {
    let file = ModelFile::new(linear().bytes());
    let x = || vec![input("x", tensor(&[1, 3], &[0f32; 3]))];
    for device in devices() {
        let node = Node::new();
        let model = node.models.load(&file.spec("linear", &device)).unwrap();
        model.infer(x(), far_future()).await.unwrap();
        assert!(node.metric("gw_model_bytes", "weights") > 0);

        node.models.unload(&model.digest()).await;
        assert_eq!(node.metric("gw_model_bytes", "weights"), 0);
        assert_eq!(model.footprint(), gw_inference::Footprint::default());
        let late = model.infer(x(), far_future()).await.unwrap_err();
        assert_eq!(late, InferenceError::Unloading { model: "linear".to_owned() });

        let again = node.models.load(&file.spec("linear", &device)).unwrap();
        again.infer(x(), far_future()).await.unwrap();
    }
}

/// The figure `load-cycles` does it a thousand times, and looks at the process too.
#[tokio::test]
async fn cycles_of_loads_and_unloads_leave_nothing_in_the_ledger() {
    let files = [linear(), linear().node("z = Neg(y)")].map(|model| ModelFile::new(model.bytes()));
    let x = || vec![input("x", tensor(&[1, 3], &[0f32; 3]))];
    for device in devices() {
        let node = Node::new();
        for cycle in 1..=50 {
            let specs =
                files.iter().zip(["one", "two"]).map(|(file, name)| file.spec(name, &device));
            let loaded: Vec<_> = specs.map(|spec| node.models.load(&spec).unwrap()).collect();
            let resident = node.models.resident();
            assert_eq!(resident.len(), 2);
            assert!(resident.iter().all(|model| model.footprint.weight_bytes > 0));
            for model in loaded {
                model.infer(x(), far_future()).await.unwrap();
                node.models.unload(&model.digest()).await;
            }
            assert!(node.models.resident().is_empty(), "cycle {cycle}");
            assert_eq!(node.models.budgets()[0].used_bytes, 0, "cycle {cycle}");
            for name in ["one", "two"] {
                for kind in ["weights", "arena", "staging", "kept", "host"] {
                    let device = &resident[0].device;
                    let labels = format!("model=\"{name}\",device=\"{device}\",kind=\"{kind}\"");
                    let bytes = node.metric("gw_model_bytes", &labels);
                    assert_eq!(bytes, 0, "cycle {cycle}: {labels}");
                }
            }
        }
    }
}

#[tokio::test]
async fn draining_ends_every_model() {
    let file = ModelFile::new(linear().bytes());
    let node = Node::new();
    let model = node.models.load(&file.spec("linear", &DeviceChoice::Cpu)).unwrap();
    node.models.drain().await;
    let x = vec![input("x", tensor(&[1, 3], &[0f32; 3]))];
    let late = model.infer(x, far_future()).await.unwrap_err();
    assert_eq!(late, InferenceError::Unloading { model: "linear".to_owned() });
}

#[test]
fn auto_means_the_cpu_where_there_is_no_hardware_adapter() {
    let hardware = gw_engine::adapters().iter().any(|info| !info.software);
    let file = ModelFile::new(linear().bytes());
    let node = Node::new();
    let model = node.models.load(&file.spec("linear", &DeviceChoice::Auto)).unwrap();
    assert_eq!(model.device() == "cpu", !hardware);
}

#[test]
fn a_device_that_does_not_exist_is_the_operators_fault() {
    let file = ModelFile::new(linear().bytes());
    let nowhere = DeviceChoice::Named("no such adapter".to_owned());
    let error = Node::new().models.load(&file.spec("linear", &nowhere)).err().unwrap();
    assert!(matches!(error, InferenceError::NoDevice { .. }), "{error}");
    assert_eq!(error.fault(), gw_inference::Fault::Operator);
}
