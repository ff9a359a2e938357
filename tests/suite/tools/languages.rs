//! Plugins in JavaScript and in Python: the examples against ONNX Runtime; and what is said of
//! mistakes, in Rust too. Toolchains are installed once, by npm and by pip, and build without a
//! network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gw_artifact::manifest::Manifest;
use serde_json::{Value, json};

use super::double_model;
use crate::embed::floats;
use gw_tests::gateway::{Gateway, gw, send};
use gw_tests::reference::{self, cosine, embed_now, sentences};
use gw_tests::{fetch, guests, repo};

/// Where the packages of a language are installed, and what says which.
struct Tools {
    folder: PathBuf,
    wanted: PathBuf,
    install: fn(&Path),
}

/// npm's packages, those of the lock file of `examples/02-speech-js`.
fn javascript() -> PathBuf {
    let plugin = repo().join("examples/02-speech-js/plugin");
    let install = |folder: &Path| {
        let plugin = folder.parent().expect("node_modules lies in a package");
        let install = ["ci", "--no-audit", "--no-fund"];
        finish(Command::new("npm").args(install).current_dir(plugin));
    };
    let wanted = plugin.join("package-lock.json");
    installed(&Tools { folder: plugin.join("node_modules"), wanted, install })
}

/// A virtual environment with the SDK and what it depends on.
fn python() -> PathBuf {
    let install = |folder: &Path| {
        finish(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder));
        let pip = ["-m", "pip", "install", "--quiet", "--editable"];
        let sdk = repo().join("sdk/python");
        finish(Command::new(folder.join("bin/python")).args(pip).arg(sdk));
    };
    let wanted = repo().join("sdk/python/pyproject.toml");
    installed(&Tools { folder: repo().join("target/python-tools"), wanted, install })
}

/// The folder of the tools, installed where they are not or are others than wanted.
fn installed(tools: &Tools) -> PathBuf {
    let name = tools.folder.file_name().expect("it has a name").to_str().expect("text");
    let guard = fs::File::create(repo().join("target").join(format!("{name}.lock")));
    let guard = guard.expect("target/ can be written");
    // Tests are processes of their own, and the first installs for all.
    guard.lock().expect("a lock can be taken");
    let (wanted, ready) = (fs::read(&tools.wanted).expect("a file"), tools.folder.join("ready"));
    if fs::read(&ready).is_ok_and(|installed| installed == wanted) {
        return tools.folder.clone();
    }
    (tools.install)(&tools.folder);
    fs::write(&ready, wanted).expect("written");
    tools.folder.clone()
}

fn finish(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {words}");
}

#[test]
fn the_sdks_pass_their_own_tests() {
    finish(Command::new("node").arg("--test").arg(repo().join("sdk/js/test")));
    let mut python = Command::new(python().join("bin/python"));
    finish(python.args(["-m", "unittest", "discover", "-s"]).arg(repo().join("sdk/python/tests")));
}

/// Builds a plugin with its language's own command, in a network namespace where there is nobody.
fn build(command: &Path, args: &[&str], folder: &Path, out: &Path) -> Result<(), String> {
    let mut build = Command::new("unshare");
    build.args(["--map-root-user", "--net"]).arg(command).args(args);
    let output = build.arg(folder).arg("--out").arg(out).output().expect("unshare starts");
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn build_javascript(folder: &Path, out: &Path) -> Result<(), String> {
    build(&javascript().join(".bin/gw-sdk-build"), &[], folder, out)
}

fn build_python(folder: &Path, out: &Path) -> Result<(), String> {
    build(&python().join("bin/python"), &["-m", "gw_sdk.build"], folder, out)
}

/// `gw dev` on an example, which it builds with the tools that are there, offline.
fn example(name: &str) -> Gateway {
    let folder = repo().join(name);
    let (manifest, _) = Manifest::open(&folder).expect("a manifest");
    for model in &manifest.models {
        fetch(&model.source, model.sha256.as_ref()).expect("a model");
    }
    for asset in &manifest.assets {
        fetch(&asset.source, asset.sha256.as_ref()).expect("an asset");
    }
    let (_, environment) = (javascript(), python());
    let mut command = gw(&["dev", "--listen", "127.0.0.1:0", "--no-watch", "--device", "cpu"]);
    command.arg(folder).env("VIRTUAL_ENV", environment);
    command.env("npm_config_offline", "true").env("PIP_NO_INDEX", "1");
    Gateway::start(command)
}

#[test]
fn the_javascript_example_hears_what_onnx_runtime_hears() {
    let gateway = example("examples/02-speech-js");
    let scratch = tempfile::tempdir().expect("a folder");
    let sound = scratch.path().join("voice.wav");
    let expected = speech(&sound);
    let wav = fs::read(&sound).expect("the reference wrote it");
    let answer = send("POST", &format!("{}/speech", gateway.url), Some(&wav));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    let probabilities = floats(&answer["probabilities"]);
    assert_eq!(probabilities.len(), expected.len());
    for (at, (given, expected)) in probabilities.iter().zip(&expected).enumerate() {
        // Four decimals are given.
        assert!((given - expected).abs() < 1e-3, "chunk {at}: {given}, not {expected}");
    }
    // The voice is there from the second to the fourth second, in syllables.
    let segments = answer["segments"].as_array().expect("a list");
    let edge = |segment: Option<&Value>, name: &str| segment.and_then(|one| one[name].as_f64());
    let (first, last) = (edge(segments.first(), "start"), edge(segments.last(), "end"));
    assert!(first.is_some_and(|start| (1.9..2.6).contains(&start)), "{segments:?}");
    assert!(last.is_some_and(|end| (3.5..4.4).contains(&end)), "{segments:?}");

    let answer = gateway.post("/speech", "no sound");
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert_eq!(answer.json()["error"]["code"], "unsupported_audio");
}

/// Writes a sound, and gives what ONNX Runtime says of each chunk.
fn speech(sound: &Path) -> Vec<f64> {
    let (manifest, _) = Manifest::open(&repo().join("examples/02-speech-js")).expect("a manifest");
    let model = manifest.models.first().expect("the example has a model");
    let model = fetch(&model.source, model.sha256.as_ref()).expect("a model");
    let mut reference = Command::new(reference::python().expect("a Python with ONNX Runtime"));
    let script = repo().join("tests/reference/speech.py");
    let output = reference.arg(script).args([&model, sound]).output().expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a list of numbers")
}

#[test]
fn the_python_example_ranks_as_onnx_runtime_does() {
    let gateway = example("examples/03-rank-python");
    let sentences = sentences().expect("the sentences");
    let (question, texts) = sentences.split_first().expect("there are five");
    let body = json!({"question": question, "texts": texts}).to_string();
    let answer = gateway.post("/rank", &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let embeddings = embed_now(&sentences).expect("the reference runs");
    let (asked, others) = embeddings.split_first().expect("there are five");
    let mut expected: Vec<_> = others
        .iter()
        .enumerate()
        .map(|(index, text)| (index, cosine(&asked.embedding, &text.embedding)))
        .collect();
    expected.sort_by(|a, b| b.1.total_cmp(&a.1));
    let answer = answer.json();
    let ranked = answer.as_array().expect("a list");
    assert_eq!(ranked.len(), expected.len());
    for (given, (index, score)) in ranked.iter().zip(expected) {
        assert_eq!((&given["index"], &given["text"]), (&json!(index), &json!(texts[index])));
        let given = given["score"].as_f64().expect("a number");
        assert!((given - score).abs() < 1e-3, "{index}: {given}, not {score}");
    }

    // What does not fit is named by its path.
    let cases = [
        ("{", 400, "invalid_json", "body"),
        (r#"{"question": "why?"}"#, 422, "missing_field", "texts"),
        (r#"{"question": "why?", "texts": ["a", 2]}"#, 422, "invalid_type", "texts[1]"),
        (r#"{"question": "why?", "texts": []}"#, 422, "wrong_number_of_texts", "texts"),
    ];
    for (body, status, code, field) in cases {
        let answer = gateway.post("/rank", body);
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        let told = answer.json();
        assert_eq!(
            (&told["error"]["code"], &told["error"]["field"]),
            (&json!(code), &json!(field))
        );
    }
}

/// A mistake that a plugin makes at a path, what a client is told of it, and what the log is.
struct Mistake {
    path: &'static str,
    status: u16,
    code: &'static str,
    /// What stands in the line of the source that the log names; nothing where it cannot know.
    line: &'static str,
    /// The cause and the fix, in the log.
    words: &'static [&'static str],
}

/// Serves the plugin `wasm`, makes each mistake, and compares.
fn makes(wasm: &Path, source: &Path, mistakes: &[Mistake]) {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = format!(
        "[app]\nname = \"mistakes\"\nversion = \"0.1.0\"\n\n[[model]]\nname = \"double\"\n\
         source = \"double.onnx\"\n\n[[plugin]]\nname = \"mistakes\"\npath = {wasm:?}\n\
         models = [\"double\"]\nlimits = {{ memory = \"96MiB\", time = \"3s\" }}\n\
         \n[[route]]\npath = \"/{{*rest}}\"\nplugins = [\"mistakes\"]\n"
    );
    fs::write(folder.path().join("gw.toml"), manifest).expect("written");
    fs::write(folder.path().join("double.onnx"), double_model(b"")).expect("written");
    let mut gateway = Gateway::dev(folder.path(), &["--no-watch", "--device", "cpu"]);
    let right = gateway.post("/right", "");
    assert_eq!(right.status, 200, "{}", right.body);
    assert_eq!(floats(&right.json()), [2.0, 4.0, 6.0, 8.0]);

    let text = fs::read_to_string(source).expect("the source");
    let file = source.file_name().expect("a file").to_str().expect("text");
    for mistake in mistakes {
        let Mistake { path, status, code, line, words } = mistake;
        let answer = gateway.post(path, "");
        assert_eq!(answer.status, *status, "{path}: {}", answer.body);
        assert_eq!(answer.json()["error"]["code"], json!(code), "{path}");
        // The access log is last.
        gateway.wait_for(&format!("path=\"{path}\""));
        let log = gateway.log();
        let said = log.lines().rev().skip_while(|said| !said.contains(path));
        let said: Vec<_> = said.take_while(|said| !said.contains("path=\"/right\"")).collect();
        let said = said.into_iter().rev().collect::<Vec<_>>().join("\n");
        for word in *words {
            assert!(said.contains(word), "{path}: {word} is not in\n{said}");
        }
        if !line.is_empty() {
            let at = text.lines().position(|given| given.contains(line)).expect("such a line") + 1;
            let place = format!("{file}:{at}");
            assert!(said.contains(&place), "{path}: {place} is not in\n{said}");
        }
        // One instance's end is not another's.
        assert_eq!(gateway.post("/right", "").status, 200, "after {path}");
        gateway.wait_for("path=\"/right\"");
    }
}

/// A copy of `tests/guests/NAME` that its language's tools can build.
fn guest(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    let files = fs::read_dir(repo().join("tests/guests").join(name)).expect("a guest");
    for file in files.map(|file| file.expect("a file").path()).filter(|file| file.is_file()) {
        let name = file.file_name().expect("a file has a name");
        fs::copy(&file, copy.path().join(name)).expect("copied");
    }
    if copy.path().join("package.json").is_file() {
        let packages = copy.path().join("node_modules");
        std::os::unix::fs::symlink(javascript(), packages).expect("linked");
    }
    copy
}

const fn told(
    path: &'static str,
    code: &'static str,
    line: &'static str,
    words: &'static [&'static str],
) -> Mistake {
    Mistake { path, status: 500, code, line, words }
}

const ENDLESS: Mistake = Mistake {
    path: "/endless",
    status: 504,
    code: "plugin_timeout",
    line: "",
    words: &["plugin mistakes ran for more than its 3s"],
};
const UNGRANTED: &[&str] = &["triple", "add it to `models` of this plugin's [[plugin]] in gw.toml"];

#[test]
fn a_mistake_in_javascript_is_told_with_file_line_and_fix() {
    let folder = guest("mistakes-js");
    let wasm = folder.path().join("plugin.wasm");
    build_javascript(folder.path(), &wasm).expect("it builds");
    let mistakes = [
        told("/list", "plugin_failed", "\"/list\"", &["write Float32Array.from(values)"]),
        told("/type", "inference_refused", "graph.compute(", &["takes f32, not i64"]),
        told("/shape", "plugin_failed", "\"/shape\"", &["[1, 4] has 4 elements, and 3 are given"]),
        told("/grant", "model_not_found", "\"/grant\"", UNGRANTED),
        told("/host", "plugin_failed", "\"/host\"", &["example.com", "add the host to `http`"]),
        told("/undefined", "plugin_failed", "\"/undefined\"", &["can't access property"]),
        told("/recursion", "plugin_failed", "\"/recursion\"", &["too much recursion"]),
        told("/memory", "plugin_failed", "", &["out of memory; raise `memory`"]),
        ENDLESS,
    ];
    makes(&wasm, &folder.path().join("index.js"), &mistakes);
}

#[test]
fn a_mistake_in_rust_is_told_with_file_line_and_fix() {
    let source = repo().join("tests/guests/mistakes-rust/src/lib.rs");
    let trapped =
        |path, line, words| Mistake { path, status: 502, code: "plugin_trapped", line, words };
    let mistakes = [
        told(
            "/type",
            "inference_refused",
            "Graph::load(\"double\")?.compute([(\"x\", values",
            &["takes f32, not i64"],
        ),
        told("/shape", "tensor_mismatch", "\"/shape\"", &["[1, 4] takes 4 values, not 3"]),
        told(
            "/output",
            "tensor_mismatch",
            "read::<f32>(\"z\")",
            &["has no output \\\"z\\\", only y"],
        ),
        told("/grant", "model_not_found", "\"/grant\"", UNGRANTED),
        told("/host", "outbound_not_granted", "\"/host\"", &["add the host to `http`"]),
        trapped("/index", "\"/index\"", &["the len is 0 but the index is 0"]),
        Mistake {
            path: "/memory",
            status: 507,
            code: "plugin_out_of_memory",
            line: "",
            words: &["96MiB"],
        },
        ENDLESS,
    ];
    makes(&guests::component("mistakes-rust"), &source, &mistakes);
}

#[test]
fn a_mistake_in_python_is_told_with_file_line_and_fix() {
    let folder = guest("mistakes-python");
    let wasm = folder.path().join("plugin.wasm");
    build_python(folder.path(), &wasm).expect("it builds");
    let compute = "Graph.load(\"double\").compute(";
    let mistakes = [
        told("/list", "plugin_failed", compute, &["is a list, no Tensor: write Tensor(dims, "]),
        told("/type", "inference_refused", compute, &["takes f32, not i64"]),
        told("/shape", "plugin_failed", "[1, 2, 3], ", &["has 4 elements, and 3 are given"]),
        told("/grant", "model_not_found", "Graph.load(\"triple\")", UNGRANTED),
        told("/host", "plugin_failed", "fetch(\"http", &["example.com", "add its host to `http`"]),
        told("/undefined", "plugin_failed", "{}[", &["KeyError: 'a'"]),
        told("/recursion", "plugin_failed", "answer(request)", &["RecursionError"]),
        told("/memory", "plugin_failed", "bytearray(", &["MemoryError: raise `memory`"]),
        Mistake {
            path: "/abort",
            status: 502,
            code: "plugin_trapped",
            line: "",
            words: &["trapped"],
        },
        ENDLESS,
    ];
    makes(&wasm, &folder.path().join("app.py"), &mistakes);
}

#[test]
fn what_does_not_build_is_told_with_file_line_and_fix() {
    let cases: [(&str, &str, &[&str]); 7] = [
        ("index.js", "export default (;\n", &["index.js:1:"]),
        (
            "index.js",
            "import a from \"left-pad\";\nexport default a;\n",
            &["index.js: \"left-pad\" is not found", "npm install left-pad"],
        ),
        (
            "index.js",
            "import fs from \"fs\";\nexport default fs;\n",
            &["index.js: \"fs\" is part of Node.js", "use what browsers have"],
        ),
        ("index.js", "const a = {};\nexport default a.b.c;\n", &["index.js:2:"]),
        ("app.py", "a = 1\ndef (:\n", &["app.py:2:"]),
        ("app.py", "import os\nos.nothing()\n", &["app.py:2", "has no attribute 'nothing'"]),
        ("app.py", "import os\n", &["app.py has no handler: write @handler"]),
    ];
    for (file, text, expected) in cases {
        let (name, build): (_, fn(&Path, &Path) -> _) = match file {
            "index.js" => ("mistakes-js", build_javascript),
            _ => ("mistakes-python", build_python),
        };
        let folder = guest(name);
        fs::write(folder.path().join(file), text).expect("written");
        let said = build(folder.path(), &folder.path().join("out.wasm")).expect_err(text);
        for words in expected {
            assert!(said.contains(words), "{words} is not in\n{said}");
        }
    }
}
