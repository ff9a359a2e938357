//! `gw doctor`: what this machine offers, what is missing, and how to get it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use gw_artifact::FetchConfig;
use gw_engine::AdapterInfo;
use serde::Serialize;

use crate::guest;
use crate::report::{self, Output};

/// Show adapters and tools, what is missing, and how to get it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gw doctor -o json")]
pub(crate) struct Args {
    #[command(flatten)]
    output: Output,
}

/// What was found.
#[derive(Serialize)]
struct Findings {
    version: &'static str,
    /// The device that `--device auto` takes.
    auto: String,
    adapters: Vec<AdapterInfo>,
    cargo: Option<String>,
    /// Whether plugins in Rust can be compiled.
    wasm_target: bool,
    /// For plugins in JavaScript.
    node: Option<String>,
    /// For plugins in Python.
    python: Option<String>,
    cache: Cache,
    missing: Vec<Missing>,
}

#[derive(Serialize)]
struct Cache {
    folder: PathBuf,
    bytes: u64,
}

/// What is not there, what it is needed for, and how to get it.
#[derive(Serialize)]
struct Missing {
    what: String,
    needed_for: &'static str,
    fix: String,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    args.output.print(&examine()?, text)
}

fn examine() -> anyhow::Result<Findings> {
    let here = Path::new(".");
    let adapters = gw_engine::adapters();
    let cargo = guest::version("cargo", here);
    // Without a Rust toolchain there is no target either.
    let wasm_target = guest::has_target(here).unwrap_or(false);
    let folder = FetchConfig::from_env()?.cache_dir;
    let mut missing = missing(&adapters, cargo.is_some(), wasm_target);
    let is_set = |name: &str| std::env::var_os(name).is_some();
    if !is_set("XDG_RUNTIME_DIR") && !is_set("NODEVICE_SELECT") {
        missing.extend(quiet(&adapters));
    }
    Ok(Findings {
        version: env!("CARGO_PKG_VERSION"),
        auto: auto(&adapters),
        missing,
        adapters,
        cargo,
        wasm_target,
        node: guest::version("node", here),
        python: guest::version(guest::PYTHON, here),
        cache: Cache { bytes: size(&folder), folder },
    })
}

/// `auto` takes the best hardware adapter, and never a software one.
fn auto(adapters: &[AdapterInfo]) -> String {
    let hardware = adapters.iter().find(|adapter| !adapter.software);
    hardware.map_or_else(|| "cpu".to_owned(), |adapter| adapter.name.clone())
}

fn missing(adapters: &[AdapterInfo], cargo: bool, wasm_target: bool) -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut add = |absent: bool, what: &str, needed_for, fix: &str| {
        if absent {
            missing.push(Missing { what: what.to_owned(), needed_for, fix: fix.to_owned() });
        }
    };
    let driver = "install your GPU's driver with Vulkan, Metal or DX12 support; the cpu serves \
                  meanwhile";
    let hardware = adapters.iter().any(|adapter| !adapter.software);
    add(!hardware, "a hardware GPU adapter", "running models on a GPU", driver);
    let mesa = "on Debian and Ubuntu: apt install mesa-vulkan-drivers";
    add(adapters.is_empty(), "a software adapter", "testing GPU kernels without a GPU", mesa);
    add(!cargo, "cargo", "building plugins in Rust", "see https://rustup.rs");
    let target = format!("rustup target add {}", guest::TARGET);
    add(!wasm_target, guest::TARGET, "building plugins in Rust (gw adds it itself)", &target);
    missing
}

/// Mesa looks for a display even where it only computes, and complains where there is none. Only
/// the environment that gw is started with changes that.
fn quiet(adapters: &[AdapterInfo]) -> Option<Missing> {
    let is_mesa = |adapter: &AdapterInfo| adapter.driver.contains("Mesa");
    adapters.iter().any(is_mesa).then(|| Missing {
        what: "XDG_RUNTIME_DIR".to_owned(),
        needed_for: "a quiet start: Mesa prints `error: XDG_RUNTIME_DIR …`, which does no harm",
        fix: "export NODEVICE_SELECT=1".to_owned(),
    })
}

/// The bytes of all files below `folder`; what cannot be read counts as nothing.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => size(&entry.path()),
        Ok(data) if data.is_file() => data.len(),
        _ => 0,
    };
    entries.flatten().map(of).sum()
}

fn text(found: &Findings) -> String {
    let mut text = String::new();
    let mut line = |text_line: String| {
        let _ = writeln!(text, "{text_line}");
    };
    line(format!("gw           {}", found.version));
    line(format!("device auto  {}", found.auto));
    line(format!("cargo        {}", found.cargo.as_deref().unwrap_or("not found")));
    let target = if found.wasm_target { "installed" } else { "not installed" };
    line(format!("wasm target  {} {target}", guest::TARGET));
    line(format!("node         {}", found.node.as_deref().unwrap_or("not found")));
    line(format!("python       {}", found.python.as_deref().unwrap_or("not found")));
    let cache = report::bytes(found.cache.bytes);
    line(format!("cache        {cache} in {}", found.cache.folder.display()));
    if found.adapters.is_empty() {
        line("adapters     none".to_owned());
    }
    for adapter in &found.adapters {
        line(format!("adapter      {}", adapter_text(adapter)));
    }
    for Missing { what, needed_for, fix } in &found.missing {
        line(format!("missing      {what}, for {needed_for}\n             fix: {fix}"));
    }
    text
}

fn adapter_text(adapter: &AdapterInfo) -> String {
    let limits = &adapter.limits;
    let software =
        if adapter.software { ", software: used only when asked for by name" } else { "" };
    let subgroups = match (limits.subgroup_min, limits.subgroup_max) {
        (_, 0) => "no subgroups".to_owned(),
        (min, max) if min == max => format!("subgroups of {max}"),
        (min, max) => format!("subgroups of {min} to {max}"),
    };
    format!(
        "{} ({}, {}{software})\n             driver: {}\n             features: {}\n             \
         lacks: {}\n             \
         limits: buffer {}, binding {}, workgroup {} invocations and {}, {subgroups}",
        adapter.name,
        adapter.backend,
        adapter.device_type,
        adapter.driver,
        adapter.features.join(" "),
        if adapter.lacks.is_empty() { "nothing".to_owned() } else { adapter.lacks.join(" ") },
        report::bytes(limits.buffer_bytes),
        report::bytes(limits.binding_bytes),
        limits.workgroup_invocations,
        report::bytes(u64::from(limits.workgroup_bytes)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_a_fix() {
        let all = missing(&[], false, false);
        assert_eq!(all.len(), 4);
        assert!(all.iter().all(|missing| !missing.fix.is_empty()));
        assert!(all.iter().any(|missing| missing.fix == "rustup target add wasm32-wasip2"));
    }

    #[test]
    fn the_size_of_a_folder_counts_what_lies_deep() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        std::fs::write(folder.path().join("deep/a"), [0; 30]).unwrap();
        std::fs::write(folder.path().join("b"), [0; 12]).unwrap();
        assert_eq!(size(folder.path()), 42);
        assert_eq!(size(&folder.path().join("absent")), 0);
    }
}
