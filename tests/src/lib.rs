//! What the suite and the figures share: a whole gateway in a process, and a client for it.
//!
//! It tests nothing by itself: `suite/` holds the tests that need several crates, `src/bin` the
//! commands `figures`, `conformance`, `agreement` and `models`.

pub mod adapters;
pub mod agreement;
pub mod conformance;
pub mod connection;
pub mod figures;
pub mod gateway;
pub mod guests;
pub mod origin;
pub mod peers;
pub mod random;
pub mod reference;

use std::path::{Path, PathBuf};

/// The root of the repository.
///
/// # Panics
/// Never: this crate lies in `tests/`.
pub fn repo() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// The binary under test: `GW_BIN`, or the one of the same build as this program.
///
/// # Panics
/// Where the binary was not built.
pub fn gw_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("GW_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().expect("a program knows its own path");
    let built = own.ancestors().skip(1).map(|folder| folder.join("gw")).find(|path| path.is_file());
    built.expect("build the binary first: cargo build --release")
}

/// A command of this package, from the same build as this program.
///
/// # Panics
/// Where a program does not know its own path.
pub fn tool(name: &str) -> std::process::Command {
    let own = std::env::current_exe().expect("a program knows its own path");
    let beside = own.ancestors().skip(1).map(|folder| folder.join(name));
    let built = beside.into_iter().find(|path| path.is_file());
    std::process::Command::new(
        built.expect("build the tools first: cargo build --release -p gw-tests"),
    )
}

/// The file of `source`, from the user's cache or fetched now.
///
/// # Errors
/// Where it cannot be fetched or its digest is another.
pub fn fetch(
    source: &gw_artifact::Source,
    sha256: Option<&gw_artifact::Digest>,
) -> anyhow::Result<PathBuf> {
    let fetcher = gw_artifact::Fetcher::new(gw_artifact::FetchConfig::from_env()?);
    let name = source.to_string();
    Ok(fetcher.fetch(&name, source, sha256, repo(), &gw_artifact::NoProgress)?.path)
}
