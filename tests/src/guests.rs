//! The guests of `tests/guests` as files that an app can name.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::repo;

/// The component of the guest crate `name`, built where it is not.
///
/// # Panics
/// Where it does not build.
pub fn component(name: &str) -> PathBuf {
    build(&repo().join("tests/guests"), "wasm32-wasip2", &["--package", name], name)
}

/// The program `name` of `tests/guests/command`, a core module, built where it is not.
///
/// # Panics
/// Where it does not build.
pub fn program(name: &str) -> PathBuf {
    build(&repo().join("tests/guests/command"), "wasm32-wasip1", &["--bin", name], name)
}

fn build(folder: &Path, architecture: &str, part: &[&str], name: &str) -> PathBuf {
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--release", "--target", architecture])
        .args(part)
        .current_dir(folder)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo starts");
    assert!(built.success(), "the guest {name} does not build");
    folder.join(format!("target/{architecture}/release/{}.wasm", name.replace('-', "_")))
}

/// The text of the guest `name` that is written as plain WebAssembly.
///
/// # Panics
/// Where there is none.
pub fn text(name: &str) -> String {
    let file: &Path = &repo().join("tests/guests").join(name).join("guest.wat");
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
