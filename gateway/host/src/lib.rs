//! Plugin instances: anyone's WebAssembly, run for one request each, within limits.
//!
//! It knows no routes, no cache and no listeners: a request comes in as a value and leaves as one.
//! It runs no models either; `compute` is a call to `gw-inference`.
//!
//! - [`host`]: [`Host`] holds the engine and loads plugins.
//! - [`plugin`]: [`Plugin::handle`] answers one request with a fresh instance.
//! - `exchange`: one request through one instance, until its response is whole.
//! - `instance`: what one instance owns, and what it may grow to.
//! - `imports`: what a guest may import; `imports/nn` is wasi-nn, `imports/log` its output.
//! - `engine`: the settings of the Wasm engine, and the ticker that interrupts busy guests.
//! - `compiled`: compiled code on disk, sealed. The only `unsafe` of this crate.
//! - [`preinit`]: runs a plugin's `init` once, at build time, and keeps the result.
//! - [`config`], [`error`], [`metrics`]: the limits, what can go wrong, and what is counted.
//!
//! Whatever a guest does costs its own request and nothing else: every store has a memory limit,
//! a deadline, a bound on its resources, and no authority beyond what its plugin was granted.

mod compiled;
pub mod config;
mod engine;
pub mod error;
mod exchange;
pub mod host;
mod imports;
mod instance;
pub mod metrics;
pub mod plugin;
pub mod preinit;

pub use config::HostConfig;
pub use error::{GuestError, Handled, HostError, Timings};
pub use host::Host;
pub use metrics::HostMetrics;
pub use plugin::{Call, Plugin, PluginSpec};
