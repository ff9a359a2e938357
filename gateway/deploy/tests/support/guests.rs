//! The guests of `tests/guests`, built once and read as bytes.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;

/// The component of the guest crate `name`.
pub(crate) fn component(name: &str) -> Bytes {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--target", "wasm32-wasip2", "--package", name])
        .current_dir(&guests)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(built.success(), "the guest {name} does not build");
    let file = format!("target/wasm32-wasip2/release/{}.wasm", name.replace('-', "_"));
    std::fs::read(guests.join(file)).unwrap().into()
}
