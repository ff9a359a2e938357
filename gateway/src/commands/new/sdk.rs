//! The SDK as a project carries it: the part for one language, which builds without this
//! repository.

use toml::{Table, Value};

use super::carried::{SDK, WORKSPACE};
use crate::guest::Language;

/// Its folder in a project.
pub(super) const FOLDER: &str = "sdk";

/// The files of the SDK for a language, by their paths in its folder. The folder is built like that
/// of this repository, with the interfaces in `wit` for all.
pub(super) fn files(language: Language) -> Vec<(String, String)> {
    let of_others = |path: &str| match language {
        Language::Rust => path.starts_with("js/") || path.starts_with("python/"),
        Language::JavaScript => !path.starts_with("js/") && !path.starts_with("wit/"),
        Language::Python => !path.starts_with("python/") && !path.starts_with("wit/"),
    };
    let files = SDK.iter().filter(|(path, _)| !of_others(path));
    files
        .map(|&(path, text)| {
            let is_crate = language == Language::Rust && path.ends_with("Cargo.toml");
            let text = if is_crate { standalone(path, text) } else { text.to_owned() };
            (path.to_owned(), text)
        })
        .collect()
}

/// The manifest of a crate without what it inherits from a workspace.
fn standalone(path: &str, text: &str) -> String {
    let table = |text: &str| text.parse::<Table>().expect("cargo has read the same text");
    let (mut manifest, workspace) = (table(text), table(WORKSPACE));
    let workspace = workspace["workspace"].as_table().expect("its root is a workspace");
    let folder = path.trim_end_matches("Cargo.toml");
    inherit(&mut manifest, workspace, folder);
    let note = "# As in gw's repository, with what it inherits there written out.\n";
    format!("{note}{manifest}")
}

/// Writes out what `manifest` inherits. `folder` is the crate's in the SDK, empty or with a `/` at
/// its end.
fn inherit(manifest: &mut Table, workspace: &Table, folder: &str) {
    // Lints are for those who work on it, and so are its tests.
    manifest.remove("lints");
    manifest.remove("dev-dependencies");
    if let Some(package) = manifest.get_mut("package").and_then(Value::as_table_mut) {
        let shared = workspace.get("package").and_then(Value::as_table);
        for (key, value) in package.iter_mut().filter(|(_, value)| inherits(value)) {
            let given = shared.and_then(|shared| shared.get(key));
            *value = given.expect("cargo found it there").clone();
        }
    }
    let Some(dependencies) = manifest.get_mut("dependencies").and_then(Value::as_table_mut) else {
        return;
    };
    let shared = workspace.get("dependencies").and_then(Value::as_table);
    for (name, value) in dependencies.iter_mut().filter(|(_, value)| inherits(value)) {
        let given = shared.and_then(|shared| shared.get(name)).expect("cargo found it there");
        *value = Value::Table(dependency(value, given, folder));
    }
}

fn inherits(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

/// One dependency: what the workspace says, and what the crate adds.
fn dependency(own: &Value, given: &Value, folder: &str) -> Table {
    let mut merged = match given {
        Value::Table(table) => table.clone(),
        version => Table::from_iter([("version".to_owned(), version.clone())]),
    };
    for (key, value) in own.as_table().into_iter().flatten() {
        match (key.as_str(), value) {
            ("workspace", _) => {}
            ("features", Value::Array(more)) => {
                let features = merged.entry("features").or_insert(Value::Array(Vec::new()));
                if let Value::Array(features) = features {
                    features.extend(more.iter().cloned());
                }
            }
            _ => {
                merged.insert(key.clone(), value.clone());
            }
        }
    }
    // The workspace names a crate of the SDK from its root.
    if let Some(Value::String(path)) = merged.get_mut("path") {
        let up = "../".repeat(folder.matches('/').count());
        *path = format!("{up}{}", path.trim_start_matches("sdk/"));
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crate_inherits_is_written_out() {
        let workspace: Table = r#"
            [package]
            version = "1.2.3"
            [dependencies]
            plain = "1"
            fed = { version = "2", features = ["a"], default-features = false }
            macros = { path = "sdk/macros" }
        "#
        .parse()
        .unwrap();
        let mut manifest: Table = r#"
            [package]
            name = "gw-sdk"
            version.workspace = true
            [features]
            image = ["dep:own"]
            [dependencies]
            plain.workspace = true
            fed = { workspace = true, features = ["b"], optional = true }
            macros.workspace = true
            own = { version = "3", optional = true }
            [dev-dependencies]
            proptest.workspace = true
            [lints]
            workspace = true
        "#
        .parse()
        .unwrap();
        inherit(&mut manifest, &workspace, "");
        let expected: Table = r#"
            [package]
            name = "gw-sdk"
            version = "1.2.3"
            [features]
            image = ["dep:own"]
            [dependencies]
            plain = { version = "1" }
            macros = { path = "macros" }
            own = { version = "3", optional = true }
            [dependencies.fed]
            version = "2"
            features = ["a", "b"]
            default-features = false
            optional = true
        "#
        .parse()
        .unwrap();
        assert_eq!(manifest, expected);
        let value = |text: &str| Value::Table(text.parse().unwrap());
        let nested = dependency(&value("workspace = true"), &value("path = 'sdk/x'"), "macros/");
        assert_eq!(nested["path"].as_str(), Some("../x"));
    }

    #[test]
    fn the_sdk_of_each_language_is_whole_and_inherits_nothing() {
        let has = |language, wanted: &str| files(language).iter().any(|(path, _)| path == wanted);
        assert!(has(Language::Rust, "src/lib.rs") && has(Language::Rust, "wit/world.wit"));
        assert!(!has(Language::Rust, "js/package.json"));
        assert!(has(Language::JavaScript, "js/package.json"));
        assert!(has(Language::JavaScript, "wit/world.wit"));
        assert!(has(Language::Python, "python/pyproject.toml"));
        assert!(has(Language::Python, "wit/world.wit") && !has(Language::Python, "src/lib.rs"));
        for (path, text) in files(Language::Rust) {
            let is_crate = path.ends_with("Cargo.toml");
            assert!(!is_crate || !text.contains("workspace"), "{path}: {text}");
        }
    }
}
