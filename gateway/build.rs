//! Lists what `gw new` writes: the templates, and the SDK as it is in this repository. Each becomes
//! a table of paths and texts, so that a built `gw` needs nothing beside itself.
#![allow(clippy::print_stdout, reason = "it is how a build script talks to cargo")]
#![allow(clippy::unnecessary_debug_formatting, reason = "it writes the literals of Rust")]

use std::fmt::Write as _;
use std::path::Path;

/// What tools write into source folders, and tests, which need what is not carried.
const LEFT_OUT: [&str; 7] =
    ["target", "node_modules", "__pycache__", "test", "tests", "Cargo.lock", "package-lock.json"];
/// Where pip builds; in other folders these are names like any other.
const PIP: [&str; 2] = ["python/build", "python/dist"];

fn main() -> std::io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tables = String::new();
    for (name, folder) in [("TEMPLATES", "templates"), ("SDK", "../sdk")] {
        let root = here.join(folder);
        let mut files = Vec::new();
        collect(&root, "", &mut files)?;
        files.sort();
        let _ = writeln!(tables, "pub(super) static {name}: &[(&str, &str)] = &[");
        for file in files {
            let path = root.join(&file);
            println!("cargo::rerun-if-changed={}", path.display());
            let _ = writeln!(tables, "    ({file:?}, include_str!({path:?})),");
        }
        tables.push_str("];\n");
    }
    let workspace = here.join("../Cargo.toml");
    println!("cargo::rerun-if-changed={}", workspace.display());
    let _ = writeln!(tables, "pub(super) static WORKSPACE: &str = include_str!({workspace:?});");
    let out = std::env::var_os("OUT_DIR").ok_or(std::io::ErrorKind::NotFound)?;
    std::fs::write(Path::new(&out).join("carried.rs"), tables)
}

/// The files below `root` in the folder `at`, by their paths from `root`, with `/` between parts.
/// Returns whether all that lies there is carried.
fn collect(root: &Path, at: &str, files: &mut Vec<String>) -> std::io::Result<bool> {
    let mut whole = true;
    for entry in std::fs::read_dir(root.join(at))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if at.is_empty() { name.clone() } else { format!("{at}/{name}") };
        // Nothing that is carried is hidden but the templates' .gitignore.
        let is_hidden = name.starts_with('.') && name != ".gitignore";
        let is_built = name.ends_with(".egg-info") || PIP.contains(&path.as_str());
        if is_hidden || is_built || LEFT_OUT.contains(&name.as_str()) {
            whole = false;
            continue;
        }
        if entry.file_type()?.is_dir() {
            whole &= collect(root, &path, files)?;
        } else {
            files.push(path);
        }
    }
    if whole {
        // For files that come. Cargo looks at all that lies below a folder, so one in which tools
        // write is not named: every build would be out of date.
        println!("cargo::rerun-if-changed={}", root.join(at).display());
    }
    Ok(whole)
}
