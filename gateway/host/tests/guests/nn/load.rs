//! Models from bytes: who may, what is refused, and what is kept.

use std::sync::Arc;
use std::time::Duration;

use gw_host::{HostConfig, HostError, LoadGrant, Plugin, PluginSpec};
use gw_inference::DeviceChoice;

use super::{hex, lines, roomy};
use crate::double::{FLOAT, doubling};
use crate::run;
use crate::support::{Node, ask_within};

const GRANTED: u64 = 4096;

/// A plugin that may load models of [`GRANTED`] bytes, and none by name.
fn loader(node: &Node) -> Arc<Plugin> {
    let grant = LoadGrant {
        bytes_max: GRANTED,
        models: Arc::clone(&node.models),
        device: DeviceChoice::Auto,
    };
    let spec = PluginSpec { load: Some(grant), ..roomy(node, "nn-script") };
    node.host.load(spec).expect("it loads")
}

/// Loads a model and doubles 1.
fn doubled(model: &[u8]) -> String {
    let calls = "context\t0\ntensor\tFP32\t1,1\t0000803f\ncompute\t0\tx\t0\nshow\t1";
    format!("load\tonnx\tcpu\t{}\n{calls}", hex(model))
}

const DOUBLED: [&str; 5] =
    ["graph", "context", "tensor", "y=1", "TensorType::Fp32 [1, 1] 00000040"];

/// How often a model was made from bytes.
fn made(node: &Node) -> Option<u32> {
    let metrics = node.metrics();
    let count = metrics.lines().find_map(|line| {
        line.strip_prefix(r#"gw_model_load_seconds_count{model="(bytes)",device="cpu"} "#)
    });
    count.map(|count| count.parse().expect("a number"))
}

#[test]
fn a_model_from_bytes_is_made_once_and_shared_by_digest() {
    let node = Node::start();
    let model = doubling(FLOAT, "x", "y");
    let (first, second) = (loader(&node), loader(&node));
    run(async {
        let asked = (0..8).map(|n| {
            let plugin = Arc::clone(if n % 2 == 0 { &first } else { &second });
            let script = doubled(&model);
            tokio::spawn(async move { assert_eq!(lines(&plugin, &script).await, DOUBLED) })
        });
        for answer in futures::future::join_all(asked).await {
            answer.expect("an answer");
        }
        assert_eq!(made(&node), Some(1));
        let other = doubled(&model).replace("onnx", "autodetect");
        assert_eq!(lines(&first, &other).await, DOUBLED);
        assert_eq!(made(&node), Some(1));
        // What is loaded already is no way round the grant.
        let ungranted = node.host.load(roomy(&node, "nn-script")).expect("it loads");
        let script = doubled(&model);
        let load = script.lines().next().expect("a line");
        assert_eq!(lines(&ungranted, load).await, ["ErrorCode::Security"]);
    });
}

#[test]
fn what_is_no_model_of_the_granted_size_has_its_code() {
    let model = hex(&doubling(FLOAT, "x", "y"));
    let cut = &model[..model.len() - 20];
    let cases = [
        (format!("onnx\tcpu\tzeros*{}", GRANTED + 1), "TooLarge"),
        ("onnx\tcpu\tzeros*5000000".to_owned(), "TooLarge"),
        (format!("onnx\tcpu\tzeros*{GRANTED}"), "InvalidEncoding"),
        ("onnx\tcpu\t".to_owned(), "InvalidEncoding"),
        ("onnx\tcpu".to_owned(), "InvalidArgument"),
        (format!("onnx\tcpu\t{model}\t{model}"), "InvalidArgument"),
        (format!("onnx\tcpu\t{cut}"), "InvalidEncoding"),
        (format!("autodetect\tcpu\t{}", hex(b"GGUF\x03\0\0\0")), "InvalidEncoding"),
        (format!("openvino\tcpu\t{model}"), "InvalidEncoding"),
        (format!("ggml\tcpu\t{model}"), "InvalidEncoding"),
        (format!("tensorflow\tcpu\t{model}"), "InvalidEncoding"),
        (format!("pytorch\tcpu\t{model}"), "InvalidEncoding"),
        (format!("tensorflowlite\tcpu\t{model}"), "InvalidEncoding"),
        (format!("onnx\ttpu\t{model}"), "UnsupportedOperation"),
        (format!("onnx\tcpu\t{}", hex(&unknown_operator())), "UnsupportedOperation"),
        (format!("onnx\tcpu\t{}", hex(&outside_weights())), "InvalidEncoding"),
    ];
    let node = Node::start();
    let plugin = loader(&node);
    run(async {
        for (call, code) in cases {
            let answer = lines(&plugin, &format!("load\t{call}")).await;
            let shown = &call[..call.len().min(60)];
            assert_eq!(answer, [format!("ErrorCode::{code}")], "{shown}");
        }
    });
}

/// `doubling` with an operator that nobody has.
fn unknown_operator() -> Vec<u8> {
    replaced(doubling(FLOAT, "x", "y"), b"Add", b"Adb")
}

/// A model whose weights would lie in a file of the node.
fn outside_weights() -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        [&[number << 3 | 2, u8::try_from(bytes.len()).expect("short")], bytes].concat()
    };
    let entry = [field(1, b"location"), field(2, b"/etc/hostname")].concat();
    let dims = [8, 1, 16, FLOAT];
    // An initialiser `w` of one float, with `data_location` 1: external.
    let weights = [&dims[..], &field(8, b"w"), &field(13, &entry), &[112, 1]].concat();
    let (graph, mut model) = (field(5, &weights), doubling(FLOAT, "x", "y"));
    // Fields of messages may come in parts: this one joins the graph.
    model.extend(field(7, &graph));
    model
}

fn replaced(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|found| found == from).expect("it is there");
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn what_was_used_longest_ago_goes_first_and_what_is_in_use_stays() {
    let node = Node::with(HostConfig { loaded_models_max: 2, ..HostConfig::default() });
    let plugin = loader(&node);
    let [a, b, c] = ["a", "b", "c"].map(|y| doubling(FLOAT, "x", y));
    run(async {
        let load = async |model: &[u8]| {
            let answer = lines(&plugin, &format!("load\tonnx\tcpu\t{}", hex(model))).await;
            assert_eq!(answer, ["graph"]);
            made(&node).expect("loaded")
        };
        assert_eq!((load(&a).await, load(&b).await, load(&a).await), (1, 2, 2));
        assert_eq!(load(&c).await, 3, "in the place of b");
        assert_eq!((load(&a).await, load(&b).await), (3, 4), "a was kept");
        // One request holds all places: it is told so, and the next has room again.
        let three = [&a, &b, &c].map(|model| format!("load\tonnx\tcpu\t{}", hex(model)));
        let answer = lines(&plugin, &three.join("\n")).await;
        assert_eq!(answer, ["graph", "graph", "ErrorCode::RuntimeError"]);
        assert_eq!(load(&c).await, 5);
    });
}

#[test]
fn a_node_that_takes_no_models_grants_none() {
    let node = Node::with(HostConfig { loaded_model_bytes_max: 0, ..HostConfig::default() });
    let grant =
        LoadGrant { bytes_max: 1, models: Arc::clone(&node.models), device: DeviceChoice::Auto };
    let refused = node.host.load(PluginSpec { load: Some(grant), ..node.spec("nn-script") });
    let error = refused.err().expect("refused");
    let HostError::OverLimit { key, node_key, .. } = &error else { panic!("{error}") };
    assert_eq!((*key, *node_key), ("load", "loaded_model_bytes_max"));
}

#[test]
fn a_load_ends_with_its_request() {
    let node = Node::start();
    let plugin = loader(&node);
    run(async {
        let script = format!("load\tonnx\tcpu\t{}", hex(&doubling(FLOAT, "x", "y")));
        // Whatever was begun, the next request finds a node that loads.
        let _ = ask_within(&plugin, &script, Duration::from_micros(200)).await;
        assert_eq!(lines(&plugin, &script).await, ["graph"]);
    });
}
