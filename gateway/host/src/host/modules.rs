//! Core modules, linked: WASI preview 1, and wasi-nn in one dialect.

use gw_artifact::manifest::{Grants, NnDialect};
use wasmtime::{Engine, ExternType, InstancePre, Linker, Module, UnknownImportError};

use crate::HostError;
use crate::imports::ephemeral::{self, Table};
use crate::instance::module::ModuleState;

/// What a command is started by.
pub(crate) const START: &str = "_start";

/// Links a command: a core module with a `_start`.
pub(super) fn link(
    plugin: &str,
    module: &Module,
    dialect: NnDialect,
) -> Result<InstancePre<ModuleState>, HostError> {
    if !starts(module) {
        let reason = "it is a core module that exports no `_start` without parameters; a program \
                      has one (a Rust binary for wasm32-wasip1, a C program with `main`), and a \
                      handler is a component, built with cargo for --target wasm32-wasip2";
        return Err(HostError::NotACommand { plugin: plugin.to_owned(), reason: reason.into() });
    }
    let linker = linker(module.engine(), dialect)
        .map_err(|error| HostError::Engine { reason: format!("{error:#}") })?;
    linker.instantiate_pre(module).map_err(|error| {
        let plugin = plugin.to_owned();
        match error.downcast_ref::<UnknownImportError>() {
            Some(import) => HostError::MissingImport {
                plugin,
                imports: vec![format!("{}::{}", import.module(), import.name())],
                offered: offered(dialect),
            },
            None => HostError::Link { plugin, reason: format!("{error:#}") },
        }
    })
}

/// Refuses what a core module has no import for.
pub(super) fn check_grants(plugin: &str, grants: &Grants) -> Result<(), HostError> {
    if *grants == Grants::default() {
        return Ok(());
    }
    let reason = "it is a core module, which has no way to use `config`, `secrets`, `keyvalue` or \
                  `http`: leave them out of its [[plugin]], or build a component";
    Err(HostError::NotACommand { plugin: plugin.to_owned(), reason: reason.to_owned() })
}

fn linker(engine: &Engine, dialect: NnDialect) -> wasmtime::Result<Linker<ModuleState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |state: &mut ModuleState| &mut state.wasi)?;
    ephemeral::add_to_linker(&mut linker, dialect)?;
    Ok(linker)
}

fn starts(module: &Module) -> bool {
    match module.get_export(START) {
        Some(ExternType::Func(ty)) => ty.params().len() == 0 && ty.results().len() == 0,
        _ => false,
    }
}

/// What a core module may import, for people.
fn offered(dialect: NnDialect) -> String {
    let names = NnDialect::ALL.map(NnDialect::name).join(", ");
    format!(
        "wasi_snapshot_preview1 and {}, the wasi-nn of the dialect {dialect}; `wasi_nn` in gw.toml \
         (`--wasi-nn` for `gw run`) chooses among {names}",
        Table::of(dialect).module
    )
}
