//! `wasi:config/store`: the values of `config` in the manifest, and the secrets of the node.
//!
//! `get` gives both; `get-all` leaves secrets out, so that a plugin that shows its configuration
//! does not show them.

use wasmtime::component::{HasData, Linker};

use self::bindings::wasi::config::store::{self, Error};
use crate::imports::grants::Reach;
use crate::instance::State;

#[allow(clippy::pedantic, unreachable_pub, reason = "generated code")]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit/deps/config.wit",
        world: "imports",
        imports: { default: trappable },
    });
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<_, Interface>(linker, |state| ConfigView(state.reach()))
}

struct Interface;

impl HasData for Interface {
    type Data<'a> = ConfigView<'a>;
}

/// What a guest may read.
struct ConfigView<'a>(&'a Reach);

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl ConfigView<'_> {
    /// The grants, unless there are none at all: then the plugin waits for what nobody gives it.
    fn granted(&self) -> Result<&Reach, Error> {
        let reach = self.0;
        if reach.config.is_empty() && reach.secrets.is_empty() {
            let plugin = &reach.plugin;
            return Err(Error::Upstream(format!(
                "plugin {plugin} is granted no configuration: write `config` or `secrets` in its \
                 [[plugin]] of gw.toml"
            )));
        }
        Ok(reach)
    }
}

impl store::Host for ConfigView<'_> {
    fn get(&mut self, key: String) -> Answer<Option<String>> {
        Ok(self.granted().map(|reach| {
            let secret = || reach.secrets.get(&key).map(|secret| secret.reveal().to_owned());
            reach.config.get(&key).cloned().or_else(secret)
        }))
    }

    fn get_all(&mut self) -> Answer<Vec<(String, String)>> {
        Ok(self.granted().map(|reach| {
            reach.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
        }))
    }
}
