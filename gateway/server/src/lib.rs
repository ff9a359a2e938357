//! HTTP in, HTTP out: the request path of a node, its cache, its probes and its admin API.
//!
//! It knows no Wasm and no tensors: a route's plugin is a function from request to response, found
//! in `gw-deploy`'s table and run by `gw-host`.
//!
//! A request goes down this list:
//!
//! - `server`: [`serve`] opens and drains the listeners; `listen`: connections and their limits.
//! - `handle`: one request, from its head to its whole answer. Start reading here.
//! - `auth`: who asks; `admit`: how much may be inside at once.
//! - `cache`: kept answers and shared misses; `cache/key`: what an answer depends on.
//! - `call`: one run of a plugin; `answer`: what it gave.
//! - `headers`, `cache_control`, `request_id`: the headers that the node reads and writes.
//! - [`error`]: every refusal with its code and status; `access`: the last line of each request.
//! - `admin`: push, status, rollback; `node`: probes and `/metrics`; `metrics`: what is counted.
//! - [`config`]: the limits.
#![forbid(unsafe_code)]

mod access;
mod admin;
mod admit;
mod answer;
mod auth;
mod cache;
mod cache_control;
mod call;
pub mod config;
pub mod error;
mod handle;
mod headers;
mod listen;
mod metrics;
mod node;
mod request_id;
mod server;

pub use config::ServerConfig;
pub use error::{Code, Fault};
pub use server::{ServeError, serve};
