//! The guests of `tests/guests` as components that an app can name.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::repo;

/// The component of the guest crate `name`, built where it is not.
///
/// # Panics
/// Where it does not build.
pub fn component(name: &str) -> PathBuf {
    let guests = repo().join("tests/guests");
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--release", "--target", "wasm32-wasip2", "--package", name])
        .current_dir(&guests)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo starts");
    assert!(built.success(), "the guest {name} does not build");
    let file = format!("target/wasm32-wasip2/release/{}.wasm", name.replace('-', "_"));
    guests.join(file)
}

/// The text of the guest `name` that is written as plain WebAssembly.
///
/// # Panics
/// Where there is none.
pub fn text(name: &str) -> String {
    let file: &Path = &repo().join("tests/guests").join(name).join("guest.wat");
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
