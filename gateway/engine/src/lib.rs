//! Model file to graph to plan to device.
//!
//! It serves no requests, forms no batches and fetches nothing: `gw-inference` does the first
//! two, `gw-artifact` the last.
//!
//! - [`onnx`]: an ONNX file becomes a [`graph::Graph`].
//! - [`model`]: [`Model`] is a checked graph; [`Model::plan`] makes a [`plan::Plan`] of it.
//! - `ops`: one entry per operator: what it means in terms of `net`.
//! - [`operators`]: which operators there are.
//! - `net`: the graph for one set of shapes: a few kinds of node, operands with layouts,
//!   constants folded.
//! - `fuse`: nodes that one dispatch can do become one node, one file per rule.
//! - `lower`: nodes become dispatches of `gw-shaders`.
//! - [`device`]: adapters, the opened one, kernels compiled for it.
//! - [`session`]: a model on a device: plans, weights, runs.
//! - [`error`]: what can be wrong with a file and with a plan.

#![allow(
    clippy::match_same_arms,
    clippy::match_wildcard_for_single_variants,
    clippy::needless_pass_by_value,
    clippy::needless_range_loop,
    clippy::unnecessary_wraps,
    clippy::unused_self,
    reason = "arithmetic over axes reads best with indices, and siblings have one signature"
)]

pub mod device;
pub mod error;
mod fuse;
pub mod graph;
mod lower;
pub mod model;
mod net;
pub mod onnx;

mod ops;
pub mod plan;
pub mod session;

pub use device::{AdapterInfo, AdapterSelect, Device, DeviceError, Fault, adapters};
pub use error::{ModelError, OpError, PlanError, UnsupportedOp};
pub use model::{Model, PlanOptions, PortSignature, Signature, WeightMode};
pub use ops::operators;
pub use plan::store::PlanCache;
pub use session::interpret::Interpreter;
pub use session::profile::Profile;
pub use session::tune::{Tuned, Tuning};
pub use session::{DeviceTensor, RunError, Session, SessionOptions, SessionStats, Value};
