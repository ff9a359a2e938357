//! A plugin's source, built by its language's own tools, with nothing of ours inherited.

mod javascript;
mod python;
mod rust;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

pub(crate) use self::python::SYSTEM as PYTHON;
pub(crate) use self::rust::{TARGET, has_target};

/// What plugins are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Rust,
    JavaScript,
    Python,
}

impl Language {
    pub(crate) const ALL: [Self; 3] = [Self::Rust, Self::JavaScript, Self::Python];

    /// The file that makes a folder a plugin in this language.
    pub(crate) fn marker(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::JavaScript => "package.json",
            Self::Python => "pyproject.toml",
        }
    }

    /// The language of the plugin in `folder`, if there is one.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        Self::ALL.into_iter().find(|language| folder.join(language.marker()).is_file())
    }
}

/// Builds the plugin in `folder` and returns its component. What the language's tools say goes to
/// stderr as they say it.
///
/// # Errors
/// Where there is nothing to build, a tool is missing, or the plugin does not build.
pub(crate) fn build(name: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let folder = &folder
        .canonicalize()
        .with_context(|| format!("the folder of plugin {name}: {}", folder.display()))?;
    match Language::of(folder) {
        Some(Language::Rust) => rust::build(name, folder),
        Some(Language::JavaScript) => javascript::build(name, folder),
        Some(Language::Python) => python::build(name, folder),
        None => anyhow::bail!("plugin {name}: there is nothing to build in {}", folder.display()),
    }
}

/// Variables that an inner cargo keeps: where things lie and how to reach registries.
const KEPT: [&str; 7] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];

/// Variables besides cargo's own that would change what a guest is built with. An outer
/// `cargo run` pins its toolchain by the last one, and a plugin may ask for another.
const DROPPED: [&str; 7] = [
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
    "RUSTC",
    "RUSTDOC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTUP_TOOLCHAIN",
];

/// A tool in `folder` with an environment as if the user had called it there.
fn tool(name: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(name);
    command.current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_dropped) {
            command.env_remove(name);
        }
    }
    command
}

fn is_dropped(name: &str) -> bool {
    let of_cargo = name == "CARGO" || name.starts_with("CARGO_");
    DROPPED.contains(&name) || of_cargo && !KEPT.iter().any(|kept| name.starts_with(kept))
}

/// Runs a tool whose words are for the user and not a result; whether it succeeded.
fn run(command: &mut Command) -> std::io::Result<bool> {
    Ok(command.stdout(std::io::stderr()).status()?.success())
}

/// Where the component of `folder` is written. Its folder is there, and is not watched.
fn component_file(folder: &Path) -> anyhow::Result<PathBuf> {
    let target = folder.join("target");
    std::fs::create_dir_all(&target)
        .with_context(|| format!("making the folder {}", target.display()))?;
    Ok(target.join("plugin.wasm"))
}

/// The version that a tool reports in `folder`, or `None` where it is not installed.
pub(crate) fn version(name: &str, folder: &Path) -> Option<String> {
    let output = tool(name, folder).arg("--version").stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outer_cargo_leaves_no_trace() {
        for name in ["RUSTFLAGS", "CARGO", "CARGO_INCREMENTAL", "CARGO_TARGET_DIR"] {
            assert!(is_dropped(name), "{name}");
        }
        for name in ["PATH", "CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_TERM_COLOR", "CARGOX"] {
            assert!(!is_dropped(name), "{name}");
        }
    }

    #[test]
    fn a_folder_says_its_language() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Language::of(folder.path()), None);
        for language in [Language::Python, Language::JavaScript, Language::Rust] {
            // Each goes before those that were there: a crate may hold tools of other languages.
            std::fs::write(folder.path().join(language.marker()), "").unwrap();
            assert_eq!(Language::of(folder.path()), Some(language));
        }
    }
}
