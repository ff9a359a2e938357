//! A plugin in Rust: a crate, built by an inner cargo for `wasm32-wasip2`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use serde::Deserialize;

use super::tool;
use crate::report::{self, Advice};

/// What guests are compiled for.
pub(crate) const TARGET: &str = "wasm32-wasip2";

/// Whether the toolchain that serves `folder` can compile guests.
///
/// # Errors
/// Where there is no toolchain.
pub(crate) fn has_target(folder: &Path) -> anyhow::Result<bool> {
    let output = tool("rustc", folder)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .with_context(no_rust)?;
    let libraries = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(output.status.success() && Path::new(&libraries).is_dir())
}

fn no_rust() -> Advice {
    Advice::new("Rust is needed to build plugins").hint("install it from https://rustup.rs")
}

/// Adds the guests' target to the toolchain that serves `folder`, unless it is there.
fn ensure_target(folder: &Path) -> anyhow::Result<()> {
    if has_target(folder)? {
        return Ok(());
    }
    report::note(format_args!("adding the target {TARGET} with rustup"));
    let advice = || {
        Advice::new(format!("the Rust target {TARGET} is missing"))
            .hint(format!("add it with: rustup target add {TARGET}"))
    };
    let status = tool("rustup", folder)
        .args(["target", "add", TARGET])
        // What rustup says must not mix with our results.
        .stdout(Stdio::null())
        .status()
        .with_context(advice)?;
    if status.success() { Ok(()) } else { Err(advice().into()) }
}

/// One line of cargo's `--message-format=json`, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// Builds the crate in `folder` and returns its component. Cargo's progress and errors go to
/// stderr as they come.
///
/// # Errors
/// Where the crate does not build or gives no component.
pub(super) fn build(name: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    ensure_target(folder)?;
    let manifest = folder.join("Cargo.toml");
    let mut cargo = tool("cargo", folder)
        .args(["build", "--release", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics", "--manifest-path"])
        .arg(&manifest)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(no_rust)?;
    let stdout = cargo.stdout.take().context("cargo's output is piped")?;
    let component = component_in(BufReader::new(stdout), &manifest);
    if !cargo.wait()?.success() {
        let message = format!("plugin {name} does not build; cargo's errors are above");
        return Err(Advice::new(message).into());
    }
    component.ok_or_else(|| {
        Advice::new(format!("plugin {name}: {} builds no component", folder.display()))
            .hint("add to its Cargo.toml: [lib] crate-type = [\"cdylib\"]")
            .into()
    })
}

/// The `.wasm` file that the crate of `manifest` itself gave.
fn component_in(messages: impl BufRead, manifest: &Path) -> Option<PathBuf> {
    let mut found = None;
    // Every line is read, so that cargo never waits for a full pipe.
    for line in messages.lines().map_while(Result::ok) {
        let Ok(message) = serde_json::from_str::<Message>(&line) else { continue };
        if message.reason == "compiler-artifact" && message.manifest_path == manifest {
            let wasm = |file: &PathBuf| file.extension().is_some_and(|ext| ext == "wasm");
            found = message.filenames.into_iter().find(wasm).or(found);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_of_the_crate_itself_is_taken() {
        let artifact = |folder: &str, files: &[&str]| {
            serde_json::json!({
                "reason": "compiler-artifact",
                "manifest_path": format!("{folder}/Cargo.toml"),
                "filenames": files,
            })
            .to_string()
        };
        let messages = [
            artifact("/dep", &["/t/dep.wasm"]),
            artifact("/own", &["/t/own.rlib", "/t/own.wasm"]),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ]
        .join("\n");
        let found = component_in(messages.as_bytes(), Path::new("/own/Cargo.toml"));
        assert_eq!(found, Some(PathBuf::from("/t/own.wasm")));
        assert_eq!(component_in(messages.as_bytes(), Path::new("/x/Cargo.toml")), None);
    }
}
