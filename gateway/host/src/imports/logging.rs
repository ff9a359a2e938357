//! `wasi:logging`: messages with a level, in the node's log under the plugin's name.
//!
//! Nothing has to be granted: a plugin may say as much here and on its two streams together as one
//! request may print.

use tracing::Level;
use wasmtime::component::{HasData, Linker};

use self::bindings::wasi::logging::logging::{self, Level as WitLevel};
use crate::imports::log::Log;
use crate::instance::State;

#[allow(clippy::pedantic, unreachable_pub, reason = "generated code")]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit/deps/logging.wit",
        world: "imports",
        imports: { default: trappable },
    });
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    logging::add_to_linker::<_, Interface>(linker, |state| &mut state.log)
}

struct Interface;

impl HasData for Interface {
    type Data<'a> = &'a mut Log;
}

impl logging::Host for Log {
    fn log(&mut self, level: WitLevel, context: String, message: String) -> wasmtime::Result<()> {
        let level = match level {
            WitLevel::Trace => Level::TRACE,
            WitLevel::Debug => Level::DEBUG,
            WitLevel::Info => Level::INFO,
            WitLevel::Warn => Level::WARN,
            // A plugin that is at its end is no emergency of the node.
            WitLevel::Error | WitLevel::Critical => Level::ERROR,
        };
        self.message(level, &context, &message);
        Ok(())
    }
}
