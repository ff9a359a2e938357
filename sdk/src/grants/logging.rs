//! Messages for the node's log, where they stand under the plugin's name. They need no grant.
//!
//! ```
//! use gw_sdk::logging::{self, Level};
//!
//! logging::warn("the model is not sure");
//! logging::log(Level::Info, "batch", "3 texts");
//! ```

use std::fmt::Display;

use crate::host;

pub use crate::bindings::wasi::logging::logging::Level;

/// A message, as a test finds it.
#[derive(Clone, Debug)]
pub struct Message {
    /// How much it matters.
    pub level: Level,
    /// What it belongs to.
    pub context: String,
    /// What it says.
    pub message: String,
}

/// Logs a message that belongs to a context: a word that groups similar ones.
pub fn log(level: Level, context: &str, message: &str) {
    host::log(level, context, message);
}

macro_rules! levels {
    ($($(#[$doc:meta])* $name:ident $level:ident),* $(,)?) => {$(
        $(#[$doc])*
        pub fn $name(message: impl Display) {
            log(Level::$level, "", &message.to_string());
        }
    )*};
}

levels! {
    /// Logs how values and control flow.
    trace Trace,
    /// Logs what helps to find a mistake.
    debug Debug,
    /// Logs what an operator may want to know.
    info Info,
    /// Logs what may become a problem.
    warn Warn,
    /// Logs what went wrong.
    error Error,
}
