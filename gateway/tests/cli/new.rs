//! `gw new` and `gw build`: what they make, and what they refuse.

use std::fs;

use crate::{User, ended, exists};

/// A component that would handle requests, and imports what needs grants.
const GREEDY: &str = r#"(component
    (import "wasi:nn/graph@0.2.0-rc-2024-10-28" (instance))
    (import "wasi:keyvalue/store@0.2.0-draft" (instance))
    (instance $handler)
    (export "wasi:http/incoming-handler@0.2.12" (instance $handler)))"#;

const APP: &str = r#"[app]
name = "tiny"
version = "0.1.0"

[[model]]
name = "double"
source = "double.onnx"

[[plugin]]
name = "greedy"
path = "greedy.wasm"
models = []

[[route]]
path = "/"
plugins = ["greedy"]
"#;

#[test]
fn a_project_is_made_once() {
    let user = User::new();
    let made = user.gw(&["new", "greeter"]).done();
    for text in ["gw.toml", "plugin/src/lib.rs", "request.json", "gw dev greeter"] {
        assert!(made.out.contains(text), "{text} is missing in:\n{}", made.out);
    }
    for file in ["gw.toml", ".gitignore", "README.md", "plugin/Cargo.toml", "sdk/wit/world.wit"] {
        assert!(exists(&user.path(&format!("greeter/{file}"))), "{file}");
    }
    fs::remove_file(user.path("greeter/gw.toml")).unwrap();
    user.gw(&["new", "greeter"]).refused(2, &["greeter/.gitignore exists", "never overwrites"]);
    assert!(!exists(&user.path("greeter/gw.toml")), "nothing is written beside what is there");
}

#[test]
fn what_was_made_prints_as_json() {
    let user = User::new();
    let made = user.gw(&["new", "a", "--lang", "js", "--template", "classify", "-o", "json"]);
    let made = made.done().json();
    assert_eq!((&made["language"], &made["template"]), (&"js".into(), &"classify".into()));
    let files = made["files"].as_array().unwrap();
    assert!(files.iter().any(|file| file == "plugin/package.json"), "{made}");
}

#[test]
fn a_name_that_is_no_folder_here_is_refused() {
    let user = User::new();
    user.gw(&["new", "my app"]).refused(2, &["\"my app\" is no name", "letters, digits"]);
    user.gw(&["new", "../up"]).refused(2, &["\"../up\" is no name", "the folder that you are in"]);
    user.gw(&["new", "a", "--lang", "cobol"]).refused(2, &["cobol", "rust, js, python"]);
    user.gw(&["new", "a", "--template", "x"]).refused(2, &["hello, embed, classify, hooks"]);
    assert!(!exists(&user.path("a")));
}

#[test]
fn a_missing_toolchain_is_named_with_how_to_get_it() {
    let user = User::new();
    let nothing = user.path("nothing");
    fs::create_dir(&nothing).unwrap();
    let cases = [
        ("rust", "Rust is needed", "https://rustup.rs"),
        ("js", "package.json", "install Node.js 20"),
        ("python", "pyproject.toml", "install Python 3.11"),
    ];
    for (lang, cause, fix) in cases {
        user.gw(&["new", lang, "--lang", lang]).done();
        let mut build = user.command(&["build", lang]);
        build.env("PATH", &nothing).env_remove("VIRTUAL_ENV");
        ended(&mut build).refused(1, &[cause, "hint:", fix]);
    }
}

#[test]
fn a_grant_that_is_missing_is_told_with_its_line() {
    let user = User::new();
    user.write("app/greedy.wasm", wat::parse_str(GREEDY).unwrap());
    user.write("app/gw.toml", APP);
    let said = user.gw(&["build", "app"]);
    said.refused(
        2,
        &[
            "gw.toml:12: plugin greedy imports wasi:nn",
            "write models = [\"double\"]",
            "gw.toml:9: plugin greedy imports wasi:keyvalue",
            "add keyvalue = [\"BUCKET\"]",
        ],
    );
    assert!(said.out.contains("greedy  handler"), "it is built: {}", said.out);
    let granted = "models = [\"double\"]\nkeyvalue = [\"seen\"]";
    user.write("app/gw.toml", APP.replace("models = []", granted));
    let built = user.gw(&["build", "app", "-o", "json"]).done().json();
    let plugin = &built["plugins"][0];
    assert_eq!((&built["app"], &plugin["form"]), (&"tiny".into(), &"handler".into()));
    assert_eq!(plugin["imports"].as_array().map(Vec::len), Some(2), "{built}");
    assert_eq!(plugin["missing"].as_array().map(Vec::len), Some(0), "{built}");
}

#[test]
fn what_is_no_plugin_is_refused_when_it_is_built() {
    let user = User::new();
    user.write("app/gw.toml", APP);
    user.write("app/greedy.wasm", wat::parse_str("(component)").unwrap());
    user.gw(&["build", "app"]).refused(1, &["greedy", "incoming-handler", "exports nothing"]);
    user.write("app/greedy.wasm", "text");
    user.gw(&["build", "app"]).refused(1, &["greedy", "not usable WebAssembly"]);
}
