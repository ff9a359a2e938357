//! What a guest may import: WASI 0.2 over an empty context, `wasi:http`, `wasi:nn`, and what a
//! manifest grants: `wasi:config`, `wasi:keyvalue`, requests to other hosts.
//!
//! The whole command set is linked because every std-based guest imports it; what it reaches is
//! decided by the context of each instance, and that context is empty. An import that is linked
//! and not granted answers with an error that says what would grant it.

mod config;
pub(crate) mod ephemeral;
pub(crate) mod grants;
pub(crate) mod inspect;
pub(crate) mod keyvalue;
pub(crate) mod log;
mod logging;
pub(crate) mod next;
pub(crate) mod nn;
pub(crate) mod outbound;
pub(crate) mod print;
pub(crate) mod secret;

use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};

use self::nn::component::SNAPSHOTS;
use crate::instance::State;

/// What the linker below fills, as prefixes of import names.
const OFFERED: [&str; 8] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/types@0.2",
    "wasi:http/outgoing-handler@0.2",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

/// What else is linked, to the letter: all of it is of pre-releases.
const EXACT: [&str; 5] = [
    "wasi:config/store@0.2.0-rc.1",
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:keyvalue/atomics@0.2.0-draft",
    "wasi:keyvalue/batch@0.2.0-draft",
    "wasi:logging/logging@0.1.0-draft",
];

pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    nn::component::add_to_linker(&mut linker)?;
    config::add_to_linker(&mut linker)?;
    keyvalue::add_to_linker(&mut linker)?;
    logging::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// The imports of a component that nobody fills.
pub(crate) fn missing(component: &Component) -> Vec<String> {
    let ty = component.component_type();
    ty.imports(component.engine())
        // A type is a name for what another import has: there is nothing to fill.
        .filter(|(_, item)| !matches!(item.ty, ComponentItem::Type(_)))
        .map(|(name, _)| name.to_owned())
        .filter(|name| !fills(name))
        .collect()
}

/// Whether a component asks for the directories that it is given.
pub(crate) fn asks_for_files(component: &Component) -> bool {
    let ty = component.component_type();
    ty.imports(component.engine()).any(|(name, _)| name.starts_with("wasi:filesystem/preopens@"))
}

/// What may be imported, for people.
pub(crate) fn offered() -> String {
    let nn: Vec<_> = SNAPSHOTS.iter().map(|snapshot| snapshot.version).collect();
    let (nn, exact) = (nn.join(" or "), EXACT.join(", "));
    format!("wasi 0.2 (cli, clocks, filesystem, http, io, random, sockets), wasi:nn@{nn}, {exact}")
}

fn fills(import: &str) -> bool {
    if EXACT.contains(&import) {
        return true;
    }
    let Some((name, version)) = import.rsplit_once('@') else { return false };
    if name.starts_with("wasi:nn/") {
        // A pre-release matches itself only.
        return SNAPSHOTS.iter().any(|snapshot| snapshot.version == version);
    }
    if name == "gw:plugin/types" {
        // Types alone: there is nothing to fill.
        return version == "0.1.0";
    }
    version.starts_with("0.2.") && OFFERED.iter().any(|prefix| import.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_offered_by_package_and_version() {
        let cases = [
            ("wasi:cli/environment@0.2.6", true),
            ("wasi:http/types@0.2.12", true),
            ("wasi:nn/graph@0.2.0-rc-2024-10-28", true),
            ("wasi:nn/graph@0.2.0-rc-2024-08-19", true),
            ("wasi:nn/graph@0.2.0-rc-2024-06-25", true),
            ("wasi:nn/graph@0.2.0-rc-2024-07-01", false),
            ("wasi:http/types@0.3.0", false),
            ("gw:plugin/types@0.1.0", true),
            ("gw:plugin/types@0.2.0", false),
            ("wasi:keyvalue/store@0.2.0-draft", true),
            ("wasi:keyvalue/store@0.2.0-draft2", false),
            ("wasi:keyvalue/watcher@0.2.0-draft", false),
            ("wasi:config/store@0.2.0-rc.1", true),
            ("wasi:config/store@0.2.0", false),
            ("wasi:logging/logging@0.1.0-draft", true),
            ("host-function", false),
        ];
        for (import, offered) in cases {
            assert_eq!(fills(import), offered, "{import}");
        }
    }
}
