//! Names the sources that decide what a plan is, so that no plan outlives the code that made it.
#![allow(clippy::print_stdout, reason = "it is how a build script talks to cargo")]

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    let mut hasher = DefaultHasher::new();
    for folder in ["src", "../../shaders/src", "../tensor/src"] {
        println!("cargo::rerun-if-changed={folder}");
        for file in files_below(Path::new(folder))? {
            file.hash(&mut hasher);
            std::fs::read(&file)?.hash(&mut hasher);
        }
    }
    // Constants are folded with the mathematics of the target's library.
    std::env::var_os("TARGET").hash(&mut hasher);
    println!("cargo::rustc-env=GW_ENGINE_SOURCES={:016x}", hasher.finish());
    Ok(())
}

/// Every file below `folder`, in the same order on every machine.
fn files_below(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
