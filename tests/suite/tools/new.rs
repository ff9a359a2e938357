//! `gw new`: for every language and template, from an empty folder to an answered request.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::embed::floats;
use gw_tests::gateway::{Gateway, gw};
use gw_tests::reference::{cosine, embeddings, sentences};
use gw_tests::repo;

/// Files, the kinds that ONNX Runtime gives them by the same model, and how likely.
const FILES: [(&str, &str, f64); 2] = [
    (
        "city,country,population\nOslo,Norway,709037\nLima,Peru,9751717\nPune,India,7166374\n\
         Quito,Ecuador,1763275\n",
        "csv",
        0.999_994_8,
    ),
    (
        "\"\"\"Counts the words of each file that is named.\"\"\"\nimport sys\nfrom collections \
         import Counter\n\nfor name in sys.argv[1:]:\n    with open(name, encoding=\"utf-8\") as \
         file:\n        words = Counter(file.read().lower().split())\n    print(name, \
         words.most_common(3))\n",
        "python",
        0.999_955_5,
    ),
];

/// A project that `gw new` made in an empty folder, and `gw build` built.
struct Project {
    // Removed with it.
    _folder: tempfile::TempDir,
    app: PathBuf,
}

impl Project {
    fn new(lang: &str, template: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        share_builds(folder.path());
        let mut made = gw(&["new", "my-app", "--lang", lang, "--template", template]);
        succeeds(made.current_dir(folder.path()));
        let mut build = gw(&["build", "my-app", "-o", "json"]);
        let built = succeeds(build.current_dir(folder.path()));
        let built: Value = serde_json::from_str(&built).expect("JSON");
        let plugin = &built["plugins"][0];
        let form = if template == "hooks" { "hooks" } else { "handler" };
        assert_eq!(plugin["form"], form, "{built}");
        assert_eq!(plugin["missing"], json!([]), "{built}");
        let size = fs::metadata(plugin["path"].as_str().expect("a path")).expect("a file").len();
        assert_eq!(plugin["bytes"], size, "{built}");
        Self { app: folder.path().join("my-app"), _folder: folder }
    }

    fn serve(&self) -> Gateway {
        Gateway::dev(&self.app, &["--no-watch", "--device", "cpu"])
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.app.join(file)).expect("the template has it")
    }
}

/// Tells Cargo to build the projects of all tests in one folder, so that each builds little but
/// itself.
fn share_builds(folder: &Path) {
    let config = format!("[build]\ntarget-dir = {:?}\n", repo().join("target/new-projects"));
    fs::create_dir(folder.join(".cargo")).expect("the folder is empty");
    fs::write(folder.join(".cargo/config.toml"), config).expect("written");
}

/// Runs a command to its end, and returns what it printed.
fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).expect("it prints text")
}

/// The tests that a project in Rust comes with.
fn own_tests_pass(project: &Project) {
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--quiet"]).current_dir(project.app.join("plugin"));
    succeeds(cargo.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS"));
}

fn greets(project: &Project) {
    let mut gateway = project.serve();
    let line = gateway.wait_for("curl ");
    let answer = succeeds(Command::new("sh").args(["-c", &line]));
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer, json!({ "greeting": "Hello, Ada!" }));
    for (body, status, field) in [("{}", 422, "name"), (r#"{"name": " "}"#, 422, "name")] {
        let refused = gateway.post("/hello", body);
        assert_eq!(refused.status, status, "{body}: {}", refused.body);
        assert_eq!(refused.json()["error"]["field"], field, "{body}");
    }
    let refused = gateway.post("/hello", "{oops");
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (400, &json!("invalid_json")));
}

fn embeds(project: &Project) {
    let gateway = project.serve();
    let sentences = sentences().expect("the sentences");
    let expected = embeddings().expect("the stored embeddings");
    let answer = gateway.post("/embed", &json!({ "input": sentences }).to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    let tokens: u64 = expected.iter().map(|row| row.tokens).sum();
    assert_eq!(answer["tokens"], tokens);
    for (index, expected) in expected.iter().enumerate() {
        let cosine = cosine(&floats(&answer["embeddings"][index]), &expected.embedding);
        assert!(cosine >= 0.9999, "sentence {index}: cosine {cosine}");
    }
    let refused = gateway.post("/embed", r#"{"input": ["a", 3]}"#);
    assert_eq!((refused.status, &refused.json()["error"]["field"]), (422, &json!("input[1]")));
    assert_eq!(gateway.post("/embed", r#"{"input": []}"#).status, 422);
    // The tokens behind the 128th do not count.
    let long = gateway.post("/embed", &json!({ "input": ["word ".repeat(500)] }).to_string());
    assert_eq!(long.json()["tokens"], 128, "{}", long.body);
}

fn classifies(project: &Project) {
    let gateway = project.serve();
    let request = project.read("request.sql");
    let files = FILES.iter().map(|&(text, kind, score)| (text, kind, score));
    for (text, kind, score) in files.chain([(request.as_str(), "sql", 0.999_994_9)]) {
        let answer = gateway.post("/classify", text);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let likeliest = &answer.json()["kinds"][0];
        assert_eq!(likeliest["kind"], kind);
        let given = likeliest["score"].as_f64().expect("a number");
        assert!((given - score).abs() < 1e-4, "{kind}: {given}, not {score}");
    }
    let refused = gateway.post("/classify", "  short\n");
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (422, &json!("too_short")));
}

fn lets_in_by_kind(project: &Project) {
    let gateway = project.serve();
    let request = project.read("request.sql");
    let taken = gateway.post("/upload", &request);
    assert_eq!(taken.status, 200, "{}", taken.body);
    assert_eq!(taken.json(), json!({ "kind": "sql", "bytes": request.len() }));
    let [(csv, ..), (python, ..)] = FILES;
    assert_eq!(gateway.post("/upload", csv).json()["kind"], "csv");
    let refused = gateway.post("/upload", python);
    assert_eq!(refused.status, 415, "{}", refused.body);
    assert_eq!(refused.json()["error"]["code"], "unsupported_kind");
    assert_eq!(gateway.post("/upload", "  short\n").status, 422);
}

#[test]
fn rust_hello() {
    let project = Project::new("rust", "hello");
    own_tests_pass(&project);
    greets(&project);
}

#[test]
fn rust_embed() {
    let project = Project::new("rust", "embed");
    own_tests_pass(&project);
    embeds(&project);
}

#[test]
fn rust_classify() {
    let project = Project::new("rust", "classify");
    own_tests_pass(&project);
    classifies(&project);
}

#[test]
fn rust_hooks() {
    let project = Project::new("rust", "hooks");
    own_tests_pass(&project);
    lets_in_by_kind(&project);
}

#[test]
fn js_hello() {
    greets(&Project::new("js", "hello"));
}

#[test]
fn js_embed() {
    embeds(&Project::new("js", "embed"));
}

#[test]
fn js_classify() {
    classifies(&Project::new("js", "classify"));
}

#[test]
fn js_hooks() {
    lets_in_by_kind(&Project::new("js", "hooks"));
}

#[test]
fn python_hello() {
    greets(&Project::new("python", "hello"));
}

#[test]
fn python_embed() {
    embeds(&Project::new("python", "embed"));
}

#[test]
fn python_classify() {
    classifies(&Project::new("python", "classify"));
}

#[test]
fn python_hooks() {
    lets_in_by_kind(&Project::new("python", "hooks"));
}

/// A grant that a plugin uses and does not have, with the line of the manifest and what to write.
#[test]
fn a_grant_that_a_plugin_uses_is_missed_by_the_build() {
    let project = Project::new("rust", "classify");
    let manifest = project.read("gw.toml");
    let line = 1 + manifest.lines().position(|line| line.starts_with("models")).expect("a grant");
    let without = manifest.replace("models = [\"magika\"]", "models = []");
    fs::write(project.app.join("gw.toml"), without).expect("written");
    let output = gw(&["build", path(&project.app)]).output().expect("gw starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    let told = format!("gw.toml:{line}: plugin classify imports wasi:nn");
    assert!(error.contains(&told) && error.contains(r#"write models = ["magika"]"#), "{error}");
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}
