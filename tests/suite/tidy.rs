//! The rules of the house, checked: layers, homes, pairs, names and sizes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gw_tests::repo;

/// Folder of each crate with its layer; a crate depends only on lower layers.
const LAYERS: &[(&str, &str, u8)] = &[
    ("gw", "gateway", 7),
    ("gw-server", "gateway/server", 6),
    ("gw-deploy", "gateway/deploy", 5),
    ("gw-host", "gateway/host", 4),
    ("gw-inference", "gateway/inference", 3),
    ("gw-engine", "gateway/engine", 2),
    ("gw-shaders", "shaders", 1),
    ("gw-tensor", "gateway/tensor", 0),
    ("gw-artifact", "gateway/artifact", 0),
];

/// Packages that only one crate may depend on.
const HOMES: &[(&str, &[&str])] = &[
    ("gw", &["clap", "anyhow", "tracing-subscriber", "indicatif", "notify"]),
    ("gw-server", &["axum", "hyper-util", "moka"]),
    ("gw-host", &["wasmtime", "wasmtime-wasi", "wasmtime-wasi-http", "wasmtime-wizer", "wiggle"]),
    ("gw-host", &["redb", "redis", "rustls", "tokio-rustls"]),
    ("gw-host", &["wasmparser"]),
    ("gw-inference", &["rten"]),
    ("gw-engine", &["wgpu", "prost"]),
    ("gw-artifact", &["ring"]),
];

/// Files that may be longer than [`LINES_MAX`], each with its reason.
const LONG_FILES: &[(&str, &str)] = &[(
    "gateway/engine/src/ops/attributes.rs",
    "a table written by a script, an entry an operator",
)];

const LINES_MAX: usize = 400;
const WGSL_LINES_MAX: usize = 150;
/// Of a first-party plugin, without its tests, blank lines and comments.
const PLUGIN_LINES_MAX: usize = 150;
const COLUMNS_MAX: usize = 100;
const FILES_PER_LEVEL_MAX: usize = 12;
const BANNED_STEMS: &[&str] =
    &["mod", "utils", "util", "common", "helpers", "misc", "manager", "service"];

#[test]
fn crates_depend_only_on_lower_layers() {
    let layer: BTreeMap<_, _> = LAYERS.iter().map(|&(name, _, layer)| (name, layer)).collect();
    let mut faults = Vec::new();
    for &(name, folder, own) in LAYERS {
        for dependency in dependencies(folder) {
            match layer.get(dependency.as_str()) {
                Some(&other) if other >= own => {
                    faults.push(format!("{name} (layer {own}) depends on {dependency} ({other})"));
                }
                _ => {}
            }
        }
    }
    assert_none("a crate imports only lower layers", &faults);
}

#[test]
fn a_package_has_one_home() {
    let mut faults = Vec::new();
    for &(name, folder, _) in LAYERS {
        for dependency in dependencies(folder) {
            for (home, packages) in HOMES {
                if *home != name && packages.contains(&dependency.as_str()) {
                    faults.push(format!("{name} depends on {dependency}, whose home is {home}"));
                }
            }
        }
    }
    assert_none("see the table of homes in ARCHITECTURE.md", &faults);
}

#[test]
fn every_shader_has_its_rust_pair() {
    let mut faults = Vec::new();
    let files = sources();
    for file in files.iter().filter(|file| extension(file) == "wgsl") {
        if !file.with_extension("rs").exists() {
            faults.push(format!("{} has no .rs of the same stem", shown(file)));
        }
    }
    assert!(files.iter().any(|file| extension(file) == "wgsl"), "there are shaders to check");
    assert_none("a kernel is a pair", &faults);
}

#[test]
fn files_and_lines_are_short() {
    let mut faults = Vec::new();
    for file in sources() {
        let text = fs::read_to_string(&file).expect("a source file is text");
        let limit = if extension(&file) == "wgsl" { WGSL_LINES_MAX } else { LINES_MAX };
        let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
        let excused = LONG_FILES.iter().any(|(path, _)| shown(&file) == *path) || is_test(&file);
        if lines > limit && !excused {
            faults.push(format!("{} has {lines} lines, at most {limit}", shown(&file)));
        }
        for (index, line) in text.lines().enumerate() {
            // Text of another program, quoted as it is, cannot be broken.
            let marks = ["http", "@r#\"", "{\"", "\\n"];
            let quoted = marks.iter().any(|mark| line.contains(mark));
            if line.chars().count() > COLUMNS_MAX && !quoted {
                faults.push(format!("{}:{} is over {COLUMNS_MAX} wide", shown(&file), index + 1));
            }
        }
    }
    assert_none("one idea per file", &faults);
}

#[test]
fn plugins_are_short() {
    let mut lines = BTreeMap::<String, usize>::new();
    for file in files_below(&repo().join("plugins")) {
        if extension(&file) != "rs" || is_test(&file) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source file is text");
        let code = text.lines().map(str::trim);
        let code = code.filter(|line| !line.is_empty() && !line.starts_with("//")).count();
        let plugin = shown(&file).split('/').nth(1).expect("plugins/NAME/…").to_owned();
        *lines.entry(plugin).or_default() += code;
    }
    assert!(lines.len() >= 8, "the plugins were not found: {lines:?}");
    lines.retain(|_, lines| *lines > PLUGIN_LINES_MAX);
    assert!(lines.is_empty(), "at most {PLUGIN_LINES_MAX} lines a plugin: {lines:?}");
}

#[test]
fn folders_are_small() {
    let mut level = BTreeMap::<PathBuf, usize>::new();
    for file in sources().iter().filter(|file| extension(file) == "rs") {
        *level.entry(file.parent().expect("a file has a folder").to_path_buf()).or_default() += 1;
    }
    let faults: Vec<_> = level
        .iter()
        // Kernels, operators and commands are flat lists of siblings: a folder of them is one idea.
        .filter(|(folder, _)| {
            !["shaders/src", "ops", "commands"].iter().any(|it| folder.ends_with(it))
        })
        .filter(|(_, count)| **count > FILES_PER_LEVEL_MAX)
        .map(|(folder, count)| format!("{} has {count} files", shown(folder)))
        .collect();
    assert_none("at most 12 files on one level", &faults);
}

#[test]
fn names_say_what_files_hold() {
    let faults: Vec<_> = sources()
        .iter()
        .filter(|file| {
            let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            BANNED_STEMS.contains(&stem)
        })
        .map(|file| shown(file))
        .collect();
    assert_none("`foo.rs` beside `foo/`, and no name that could hold anything", &faults);
}

#[test]
fn crate_roots_explain_themselves() {
    let roots = LAYERS.iter().map(|&(_, folder, _)| repo().join(folder).join("src"));
    let mut faults = Vec::new();
    for src in roots.chain([repo().join("sdk/src")]) {
        let root = [src.join("lib.rs"), src.join("main.rs")]
            .into_iter()
            .find(|file| file.exists())
            .expect("a crate has a root");
        let text = fs::read_to_string(&root).expect("a crate root is text");
        if !text.starts_with("//!") {
            faults.push(shown(&root));
        }
    }
    assert_none("a crate root starts with its documentation", &faults);
}

#[test]
fn every_suite_file_is_declared() {
    let suite = repo().join("tests/suite");
    let main = fs::read_to_string(suite.join("main.rs")).expect("the suite has a root");
    let faults: Vec<_> = fs::read_dir(&suite)
        .expect("the suite is a folder")
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .filter(|stem| stem != "main" && !main.contains(&format!("mod {stem};")))
        .collect();
    assert_none("an undeclared file is not run", &faults);
}

#[test]
fn every_example_is_run_by_the_suite() {
    let mut tests = String::new();
    for file in files_below(&repo().join("tests/suite")) {
        tests.push_str(&fs::read_to_string(file).unwrap_or_default());
    }
    let faults: Vec<_> = fs::read_dir(repo().join("examples"))
        .expect("there are examples")
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !tests.contains(&format!("examples/{name}")))
        .collect();
    assert_none("an example that the suite does not run is not an example", &faults);
}

#[test]
fn every_error_code_is_documented() {
    let table = fs::read_to_string(repo().join("gateway/server/src/error.rs")).expect("the table");
    let documented = fs::read_to_string(repo().join("gateway/server/ERRORS.md")).expect("the page");
    let rows = table.split("\ncodes! {").nth(1).and_then(|rest| rest.split("\n}").next());
    let codes = quoted_snake_case(rows.expect("the table `codes!`"));
    assert!(codes.len() >= 10, "the error table was not found: {codes:?}");
    let faults: Vec<_> =
        codes.into_iter().filter(|code| !documented.contains(&format!("`{code}`"))).collect();
    assert_none("every code has a row in gateway/server/ERRORS.md", &faults);
}

/// String literals such as `"plugin_timeout"`.
fn quoted_snake_case(text: &str) -> Vec<String> {
    text.split('"')
        .skip(1)
        .step_by(2)
        .filter(|literal| literal.contains('_'))
        .filter(|literal| literal.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()))
        .map(str::to_owned)
        .collect()
}

/// The packages in `[dependencies]` of the crate in `folder`.
fn dependencies(folder: &str) -> Vec<String> {
    let text = fs::read_to_string(repo().join(folder).join("Cargo.toml")).expect("a crate");
    let table: toml::Table = text.parse().expect("a Cargo.toml is TOML");
    table["dependencies"]
        .as_table()
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

/// Every Rust and WGSL file that we wrote, guests and examples too.
fn sources() -> Vec<PathBuf> {
    ["gateway", "shaders", "sdk", "tests", "examples", "plugins"]
        .iter()
        .flat_map(|folder| files_below(&repo().join(folder)))
        .filter(|file| matches!(extension(file).as_str(), "rs" | "wgsl"))
        .collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| !path.ends_with("target"))
        .flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] })
        .collect()
}

/// Tests may be long: a table of cases is one idea.
fn is_test(file: &Path) -> bool {
    let path = shown(file);
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn extension(file: &Path) -> String {
    file.extension().and_then(|ext| ext.to_str()).unwrap_or_default().to_owned()
}

fn shown(file: &Path) -> String {
    file.strip_prefix(repo()).unwrap_or(file).display().to_string()
}

fn assert_none(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}
