//! `gw build`: the plugins of an app, built, and their imports checked against their grants.

use std::fmt::Write as _;
use std::path::PathBuf;

use gw_host::Form;
use serde::Serialize;

use crate::app::{App, Built, Lack, key_of};
use crate::report::{self, Advice, Output};

/// Build the plugins of an app, and check what they import against what gw.toml grants
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gw build examples/01-embed
  gw build -o json

A plugin is a folder with a Cargo.toml (Rust), a package.json (JavaScript) or a pyproject.toml
(Python), or a .wasm file. What its language's own tools need is installed beside it by the first
build; later builds need no network. gw dev and gw push build the same way, and only warn of a
missing grant.")]
pub(crate) struct Args {
    /// The app's folder, which holds gw.toml
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// What is printed about a build.
#[derive(Serialize)]
struct Report {
    app: String,
    plugins: Vec<PluginReport>,
}

#[derive(Serialize)]
struct PluginReport {
    name: String,
    /// `handler`, `hooks` or `module`.
    form: &'static str,
    path: PathBuf,
    bytes: u64,
    imports: Vec<String>,
    /// Grants that it needs and does not have.
    missing: Vec<Lack>,
}

impl PluginReport {
    fn new(built: Built) -> Self {
        let form = match built.inspection.form {
            Form::Handler => "handler",
            Form::Hooks => "hooks",
            Form::Module => "module",
        };
        let bytes = built.bytes();
        let Built { name, path, inspection, lacks, .. } = built;
        Self { name, form, path, bytes, imports: inspection.imports, missing: lacks }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let app = App::open(&args.folder)?;
    let plugins = app.compile()?.into_iter().map(PluginReport::new).collect();
    let report = Report { app: app.manifest.app.name.clone(), plugins };
    args.output.print(&report, text)?;
    let missing: Vec<String> =
        report.plugins.iter().flat_map(|plugin| &plugin.missing).map(Lack::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    // It is built, so the result is printed; the manifest is what has to change.
    Err(Advice::new(missing.join("\n")).hint(GRANTS_HINT).usage().into())
}

const GRANTS_HINT: &str = "a plugin reaches nothing that gw.toml does not grant it; grant what it \
                           uses, or take the use of it out of its source";

/// A paragraph per plugin.
fn text(report: &Report) -> String {
    let mut text = String::new();
    for plugin in &report.plugins {
        let PluginReport { name, form, path, bytes, imports, .. } = plugin;
        let _ = writeln!(text, "{name}  {form}  {}  {}", report::bytes(*bytes), path.display());
        for Package { name, interfaces, key } in packages(imports) {
            let _ = write!(text, "  imports {name}");
            let lead = if interfaces.is_empty() { "" } else { ": " };
            let _ = write!(text, "{lead}{}", interfaces.join(", "));
            let granted = key.map_or_else(String::new, |key| format!("  (needs `{key}`)"));
            let _ = writeln!(text, "{granted}");
        }
    }
    if text.is_empty() { "the app has no plugins".to_owned() } else { text }
}

/// The imports of one package, or of one module where a core module imports them.
struct Package<'a> {
    /// Such as `wasi:nn@0.2.0-rc-2024-10-28`.
    name: String,
    interfaces: Vec<&'a str>,
    /// The key of gw.toml that grants one of them.
    key: Option<&'static str>,
}

/// The imports by their packages, in the order of the first of each.
fn packages(imports: &[String]) -> Vec<Package<'_>> {
    let mut packages: Vec<Package<'_>> = Vec::new();
    for import in imports {
        // `wasi:nn/graph@0.2.0` is the interface `graph` of the package `wasi:nn@0.2.0`.
        let (name, interface) = match import.split_once('/') {
            Some((package, rest)) => {
                let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
                let at = if version.is_empty() { "" } else { "@" };
                (format!("{package}{at}{version}"), Some(interface))
            }
            None => (import.clone(), None),
        };
        let key = key_of(import);
        match packages.iter_mut().find(|package| package.name == name) {
            Some(package) => {
                package.interfaces.extend(interface);
                package.key = package.key.or(key);
            }
            None => {
                packages.push(Package { name, interfaces: interface.into_iter().collect(), key });
            }
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_told_by_package() {
        let imports = [
            "wasi:nn/tensor@0.2.0-rc-2024-10-28",
            "wasi:http/types@0.2.12",
            "wasi:nn/graph@0.2.0-rc-2024-10-28",
            "gw:plugin/types@0.1.0",
            "wasi:http/outgoing-handler@0.2.12",
        ];
        let plugin = |name: &str, form, imports: &[&str]| PluginReport {
            name: name.to_owned(),
            form,
            path: format!("{name}.wasm").into(),
            bytes: 3 << 20,
            imports: imports.iter().map(|&import| import.to_owned()).collect(),
            missing: vec![],
        };
        let plugins = vec![
            plugin("embed", "handler", &imports),
            plugin("cgi", "module", &["wasi_ephemeral_nn", "wasi_snapshot_preview1"]),
        ];
        let report = Report { app: "a".to_owned(), plugins };
        assert_eq!(
            text(&report),
            "embed  handler  3.00 MiB  embed.wasm
  imports wasi:nn@0.2.0-rc-2024-10-28: tensor, graph  (needs `models`)
  imports wasi:http@0.2.12: types, outgoing-handler  (needs `http`)
  imports gw:plugin@0.1.0: types
cgi  module  3.00 MiB  cgi.wasm
  imports wasi_ephemeral_nn  (needs `models`)
  imports wasi_snapshot_preview1
"
        );
    }
}
