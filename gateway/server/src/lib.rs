//! HTTP in, HTTP out: the request path of a node, its cache, its probes and its admin API.
//!
//! It knows no Wasm, and tensors only as bytes of a key: a route's chain of plugins is a function
//! from request to response, found in `gw-deploy`'s table and run by `gw-host`.
//!
//! A request goes down this list:
//!
//! - `server`: [`serve`] puts the routes together, opens and drains the listeners; `listen`:
//!   connections and their limits, and bodies that nobody read.
//! - `handle`: one request, from its head to its whole answer. Start reading here. Below it:
//!   `auth`: who asks; `admit`: how much may be inside at once; `call`: one run of a chain;
//!   `inferences`: what hooks ask of models, through the cache; `headers` and `request_id`: what
//!   the node adds; `told`: a body on its way out; `access`: the last line of each request.
//! - `cache`: kept answers and shared misses. Below it: `key`: what an answer depends on; `kept`
//!   and `answer`: what can be kept; `control`: what clients and plugins say about keeping.
//! - `admin`: push, status, rollback, models; `node`: probes and `/metrics`; `metrics`: what is
//!   counted.
//! - [`error`]: every refusal with its code and status; [`config`]: the limits.
#![forbid(unsafe_code)]

mod admin;
mod cache;
pub mod config;
pub mod error;
mod handle;
mod listen;
mod metrics;
mod node;
mod server;

pub use config::ServerConfig;
pub use error::{Code, Fault};
pub use server::{ServeError, check_keys, serve};
