//! Model files are input: whatever they hold gives a plan or an error that names what is wrong,
//! in bounded time and memory.
#![allow(
    unreachable_pub,
    missing_docs,
    dead_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "helpers of tests fail loudly, and are shared with the tests of models"
)]

#[path = "models/onnx.rs"]
mod onnx;

use std::collections::BTreeMap;

use bytes::Bytes;
use gw_engine::onnx::proto::{
    ModelProto, NodeProto, StringStringEntryProto, TensorProto, TypeProto,
};
use gw_engine::{Model, ModelError, PlanOptions};
use gw_shaders::kernel::Caps;
use gw_tensor::Shape;
use onnx::{FLOAT, INT64, Onnx, Value, value};
use prost::Message;

/// Parses and, where that succeeds, plans; the error as text.
fn outcome(file: impl Into<Bytes>) -> Result<(), String> {
    let model = Model::parse(file.into(), "hostile").map_err(|error| error.to_string())?;
    let shapes: BTreeMap<String, Shape> = BTreeMap::new();
    let plan = model.plan(&shapes, &Caps::minimal(), &PlanOptions::default());
    plan.map(|_| ()).map_err(|error| error.to_string())
}

fn refused(file: &Onnx) -> String {
    outcome(file.file()).unwrap_err()
}

/// A small model with a bit of everything.
fn sample() -> Onnx {
    Onnx::new(17)
        .input("x", FLOAT, &[2, 3, 8, 8])
        .weights("w", &[4, 3, 3, 3])
        .weights("m", &[4, 5])
        .ints("shape", &[2, -1, 4])
        .ints("one", &[1])
        .node_with("Conv", &["x", "w"], "a", &[("pads", Value::Ints(vec![1, 1, 1, 1]))])
        .node("Relu", &["a"], "b")
        .node_with("MaxPool", &["b"], "c", &[("kernel_shape", Value::Ints(vec![2, 2]))])
        .node("Reshape", &["c", "shape"], "d")
        .node("MatMul", &["d", "m"], "e")
        .node_with("Softmax", &["e"], "f", &[("axis", Value::Int(-1))])
        .node_with("Split", &["f"], "g,h", &[("axis", Value::Int(1))])
        .node("Unsqueeze", &["g", "one"], "i")
        .node("ReduceMean", &["i"], "j")
        .node("Shape", &["h"], "k")
        .node("Expand", &["j", "k"], "y")
        .output("y")
}

#[test]
fn the_sample_is_sound() {
    // What the mutations below start from must get past the parser and the planner.
    let file = sample();
    assert_eq!(outcome(file.file()), Ok(()));
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_a_smaller_model() {
    let file = sample().file();
    for end in 0..file.len() {
        let _ = outcome(file.slice(..end));
    }
    let error = outcome(file.slice(..file.len() / 2)).unwrap_err();
    assert_eq!(error, "model hostile is not an ONNX file, or is cut short");
}

#[test]
fn bytes_changed_at_random_never_panic() {
    let file = sample().file();
    let mut state = 1u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for _ in 0..4000 {
        let mut bytes = file.to_vec();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        let _ = outcome(bytes);
    }
}

#[test]
fn attributes_and_shapes_changed_at_random_never_panic() {
    let extremes =
        [i64::MIN, -(1 << 40), -129, -1, 0, 1, 2, 7, 255, 1 << 20, 1 << 31, 1 << 40, i64::MAX];
    let file = sample();
    for index in 0..file.graph.node.len() {
        for attribute in 0..file.graph.node[index].attribute.len() {
            for extreme in extremes {
                let mut file = file.clone();
                let attribute = &mut file.graph.node[index].attribute[attribute];
                attribute.i = extreme;
                for at in 0..attribute.ints.len() {
                    let mut file = file.clone();
                    file.graph.node[index].attribute[0].ints[at] = extreme;
                    let _ = outcome(file.file());
                }
                let _ = outcome(file.file());
            }
        }
    }
    for tensor in 0..file.graph.initializer.len() {
        for extreme in extremes {
            let mut changed = file.clone();
            let target = &mut changed.graph.initializer[tensor];
            if let Some(value) = target.int64_data.first_mut() {
                *value = extreme;
            } else {
                target.dims[0] = extreme;
            }
            let _ = outcome(changed.file());
        }
    }
}

#[test]
fn what_is_not_onnx_is_said_to_be_none() {
    for bytes in [&b"PK\x03\x04 a zip"[..], b"{\"json\": true}", &[0xff; 64]] {
        let error = outcome(bytes.to_vec()).unwrap_err();
        assert_eq!(error, "model hostile is not an ONNX file, or is cut short");
    }
    assert_eq!(outcome(Vec::new()).unwrap_err(), "model hostile: file: there is no graph");
}

#[test]
fn a_cycle_is_named() {
    let file = Onnx::new(17)
        .input("x", FLOAT, &[2])
        .node("Add", &["x", "b"], "a")
        .node("Relu", &["a"], "b")
        .output("b");
    assert_eq!(refused(&file), "model hostile: node `Add_0` (Add): is part of a cycle");
}

#[test]
fn nodes_out_of_order_are_put_in_order() {
    let file = Onnx::new(17)
        .input("x", FLOAT, &[2])
        .node("Relu", &["a"], "b")
        .node("Neg", &["x"], "a")
        .output("b");
    assert_eq!(outcome(file.file()), Ok(()));
}

#[test]
fn a_value_that_is_given_twice_is_named() {
    let file = Onnx::new(17)
        .input("x", FLOAT, &[2])
        .node("Relu", &["x"], "y")
        .node("Neg", &["x"], "y")
        .output("y");
    assert_eq!(refused(&file), "model hostile: value `y`: is given twice");
}

#[test]
fn a_value_that_nothing_gives_is_named() {
    let file = Onnx::new(17).node("Relu", &["ghost"], "y").output("y");
    assert_eq!(refused(&file), "model hostile: node `Relu_0` (Relu): value `ghost` is missing");
}

#[test]
fn all_operators_that_are_not_supported_are_listed() {
    let mut file = Onnx::new(17)
        .input("x", FLOAT, &[2])
        .node("Frobnicate", &["x"], "a")
        .node("Frobnicate", &["a"], "b")
        .node("Relu", &["b"], "c")
        .output("y");
    file.graph.node.push(NodeProto {
        op_type: "Warp".to_owned(),
        domain: "com.example".to_owned(),
        name: "the warp".to_owned(),
        input: vec!["c".to_owned()],
        output: vec!["y".to_owned()],
        ..NodeProto::default()
    });
    assert_eq!(
        refused(&file),
        "model hostile uses operators that are not supported: Frobnicate (node `Frobnicate_0` \
         and 1 more), com.example.Warp (node `the warp`)"
    );
}

#[test]
fn a_domain_that_no_node_uses_does_no_harm() {
    let mut proto =
        Onnx::new(17).input("x", FLOAT, &[2]).node("Relu", &["x"], "y").output("y").proto();
    proto.opset_import.push(gw_engine::onnx::proto::OperatorSetIdProto {
        domain: "com.example".to_owned(),
        version: 3,
    });
    assert_eq!(outcome(proto.encode_to_vec()), Ok(()));
}

#[test]
fn sizes_that_overflow_are_refused() {
    for dims in [[i64::MAX, 2], [1 << 32, 1 << 32], [1 << 30, 1]] {
        let file = Onnx::new(17)
            .ints("dims", &dims)
            .node("ConstantOfShape", &["dims"], "x")
            .node("Relu", &["x"], "y")
            .output("y");
        let error = refused(&file);
        assert!(error.contains("larger than the limit"), "{error}");
    }
}

#[test]
fn constants_do_not_grow_without_bound() {
    // Each node doubles an axis; written out, the last would hold 2^28 elements.
    let mut file = Onnx::new(17).ints("x0", &[1, 2, 3]);
    for step in 0..27 {
        let (from, to) = (format!("x{step}"), format!("x{}", step + 1));
        file = file.node_with("Concat", &[&from, &from], &to, &[("axis", Value::Int(0))]);
    }
    let _ = outcome(file.clone().output("x27").file());
    let file =
        file.node("Mul", &["x27", "x27"], "a").node("ConstantOfShape", &["a"], "y").output("y");
    assert!(refused(&file).contains("input 0"), "{}", refused(&file));
}

#[test]
fn a_negative_size_in_a_tensor_is_refused() {
    let mut file = Onnx::new(17).node("Relu", &["w"], "y").output("y");
    file.graph.initializer.push(TensorProto {
        name: "w".to_owned(),
        dims: vec![-4],
        data_type: FLOAT,
        ..TensorProto::default()
    });
    assert_eq!(refused(&file), "model hostile: initialiser `w`: axis of size -4 in shape [-4]");
}

#[test]
fn a_tensor_with_too_few_bytes_is_refused() {
    let mut file = Onnx::new(17).node("Relu", &["w"], "y").output("y");
    file.graph.initializer.push(TensorProto {
        name: "w".to_owned(),
        dims: vec![1 << 40],
        data_type: FLOAT,
        raw_data: Bytes::from_static(&[0; 16]),
        ..TensorProto::default()
    });
    assert_eq!(
        refused(&file),
        "model hostile: initialiser `w`: a f32 tensor of shape [1099511627776] has \
         4398046511104 bytes, not 16"
    );
}

#[test]
fn messages_by_the_million_are_refused_before_they_are_decoded() {
    // Two bytes each in the file: an empty node.
    let mut graph = Vec::new();
    for _ in 0..3_000_000 {
        graph.extend_from_slice(&[0x0a, 0x00]);
    }
    let mut file = vec![0x3a];
    prost::encoding::encode_varint(graph.len() as u64, &mut file);
    file.extend(graph);
    let error = outcome(file).unwrap_err();
    assert!(error.contains("more nodes, values and attributes"), "{error}");
}

#[test]
fn graphs_in_graphs_go_only_so_deep() {
    let mut file = Onnx::new(17).ints("x", &[1]).node("Identity", &["x"], "y").output("y");
    for _ in 0..60 {
        let branch = Value::Graph(file.graph.clone());
        let attributes = [("then_branch", branch.clone()), ("else_branch", branch)];
        // One branch only, or the file doubles each time.
        file = Onnx::new(17).ints("x", &[1]).node_with("If", &["x"], "y", &attributes[..1]);
        file = file.output("y");
    }
    let error = refused(&file);
    let too_deep = error.contains("cut short") || error.contains("graphs in graphs");
    assert!(too_deep, "{error}");
}

#[test]
fn types_that_are_no_tensors_are_refused() {
    let mut file = Onnx::new(17).input("x", FLOAT, &[1]).node("Relu", &["x"], "y").output("y");
    let mut sequence = value("s", FLOAT, &[]);
    let skipped = gw_engine::onnx::proto::Skipped {};
    sequence.r#type = Some(TypeProto { sequence_type: Some(skipped), ..TypeProto::default() });
    file.graph.input.push(sequence);
    assert_eq!(refused(&file), "model hostile: value `s`: sequences are not supported");
}

/// A model in a folder of its own, whose weights lie in `location`.
fn external(location: &str, entries: &[(&str, &str)]) -> Result<Model, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("model")).unwrap();
    std::fs::write(folder.path().join("model/weights.bin"), [0u8; 64]).unwrap();
    std::fs::write(folder.path().join("secret.bin"), [0u8; 64]).unwrap();
    let mut all = vec![("location", location)];
    all.extend(entries);
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    let mut file = Onnx::new(17).node("Relu", &["w"], "y").output("y");
    file.graph.initializer.push(TensorProto {
        name: "w".to_owned(),
        dims: vec![4],
        data_type: FLOAT,
        data_location: 1,
        external_data: all.iter().map(entry).collect(),
        ..TensorProto::default()
    });
    let path = folder.path().join("model/model.onnx");
    std::fs::write(&path, file.file()).unwrap();
    Model::open(&path)
}

#[test]
fn external_data_is_read_where_it_says() {
    let found = external("weights.bin", &[("offset", "16"), ("length", "16")]);
    assert!(found.is_ok(), "{found:?}");
}

#[test]
fn external_data_outside_the_folder_is_refused() {
    for location in ["../secret.bin", "/etc/passwd", "a/../../secret.bin", ""] {
        let error = external(location, &[("length", "16")]).unwrap_err().to_string();
        assert!(error.contains("leaves the folder"), "{location}: {error}");
    }
}

#[test]
fn external_data_with_wrong_numbers_is_refused() {
    let cases: [&[(&str, &str)]; 4] = [
        &[("offset", "60"), ("length", "16")],
        &[("length", "64")],
        &[("offset", "18446744073709551615"), ("length", "16")],
        &[("offset", "-1")],
    ];
    for entries in cases {
        let error = external("weights.bin", entries).unwrap_err().to_string();
        assert!(error.contains("initialiser `w`: external data"), "{entries:?}: {error}");
    }
    assert!(external("missing.bin", &[]).is_err());
}

#[test]
fn external_data_needs_a_file_beside_it() {
    let mut file = Onnx::new(17).input("i", INT64, &[1]).node("Relu", &["w"], "y").output("y");
    file.graph.initializer.push(TensorProto {
        name: "w".to_owned(),
        dims: vec![4],
        data_type: FLOAT,
        data_location: 1,
        ..TensorProto::default()
    });
    let error = refused(&file);
    assert!(error.contains("opened from a file"), "{error}");
}

#[test]
fn a_model_without_outputs_is_refused() {
    let proto = ModelProto { graph: Some(Onnx::new(17).graph), ..ModelProto::default() };
    let error = outcome(proto.encode_to_vec()).unwrap_err();
    assert_eq!(error, "model hostile: graph: there is no output");
}

#[cfg(unix)]
#[test]
fn external_data_behind_a_link_that_leaves_the_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("model")).unwrap();
    std::fs::write(folder.path().join("secret.bin"), [0u8; 16]).unwrap();
    let link = folder.path().join("model/weights.bin");
    std::os::unix::fs::symlink(folder.path().join("secret.bin"), link).unwrap();
    let mut file = Onnx::new(17).node("Relu", &["w"], "y").output("y");
    let location =
        StringStringEntryProto { key: "location".to_owned(), value: "weights.bin".to_owned() };
    file.graph.initializer.push(TensorProto {
        name: "w".to_owned(),
        dims: vec![4],
        data_type: FLOAT,
        data_location: 1,
        external_data: vec![location],
        ..TensorProto::default()
    });
    let path = folder.path().join("model/model.onnx");
    std::fs::write(&path, file.file()).unwrap();
    let error = Model::open(&path).unwrap_err().to_string();
    assert!(error.contains("leaves the folder"), "{error}");
}
