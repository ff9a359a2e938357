//! Plugin instances: anyone's WebAssembly, run for one request each, within limits.
//!
//! It knows no routes, no cache and no listeners: a request comes in as a value and leaves as one.
//! It runs no models either; `compute` is a call to `gw-inference`.
//!
//! - [`host`]: [`Host`] holds the engine and loads plugins; [`host::program`]: what runs without a
//!   request.
//! - [`chain`]: [`Chain::answer`] takes one request through the plugins of a route. Start here.
//! - [`plugin`]: a loaded plugin. Below it: `visit`: one instance, timed and judged; `exchange`:
//!   what a handler does with it; `hooks`: what hooks do; `cgi`: what a core module does; `gate`:
//!   how many there are at once; `limits`: its own limits, within the node's; `health`: whether it
//!   keeps failing.
//! - `instance`: what one instance owns, and what it may grow to; `instance/module` of a core
//!   module.
//! - `imports`: what a guest may import, one file each; `imports/nn` is wasi-nn,
//!   `imports/ephemeral` its front end for core modules, `imports/log` a guest's output,
//!   `imports/next` the way to the rest of its chain, `imports/grants` what a manifest grants of
//!   the rest, `imports/inspect` what a component asks for, read without compiling it.
//! - `engine`: the settings of the Wasm engine, and the ticker that interrupts busy guests.
//! - `compiled`: compiled code on disk, sealed. The only `unsafe` of this crate.
//! - [`preinit`]: runs a plugin's `init` once, at build time, and keeps the result.
//! - [`config`], [`error`], [`metrics`]: the node's limits, what can go wrong, and what is counted.
//!
//! Whatever a guest does costs its own request and nothing else: every store has a memory limit,
//! a deadline, a bound on its resources, and no authority beyond what its plugin was granted.

pub mod chain;
mod compiled;
pub mod config;
mod engine;
pub mod error;
pub mod host;
mod imports;
mod instance;
pub mod metrics;
pub mod plugin;
pub mod preinit;

pub use chain::body::{Body, BodyError};
pub use chain::question::{Answered, Inferences, Question, Refusal};
pub use chain::{Answer, Chain, Link, Progress, Report, Skipped};
pub use config::HostConfig;
pub use error::{GuestError, Handled, HostError, Timings};
pub use host::Host;
pub use host::program::{Ended, Folder, Program, ProgramError, ProgramSpec};
pub use imports::inspect::{Form, Inspection, inspect};
pub use imports::keyvalue::KeyvalueConfig;
pub use imports::outbound::OutboundConfig;
pub use imports::secret::{Secret, SecretSource};
pub use metrics::HostMetrics;
pub use plugin::health::{Alarm, Health};
pub use plugin::{Call, LoadGrant, Plugin, PluginSpec};
