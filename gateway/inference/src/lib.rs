//! Models by name: where they run, who waits for them, and how waiting requests share one run.
//!
//! It knows no HTTP and no guests, never downloads, and writes no kernels: the `gpu` backend is
//! `gw-engine`, the `cpu` backend is rten.
//!
//! A request goes down this list and its answer comes back up:
//!
//! - [`models`]: [`Models`] loads each file once per device and keeps the ledger of what is there.
//! - [`model`]: [`Model::infer`] checks a request, queues it and waits for its [`Inference`];
//!   [`Model::infer_kept`] leaves large outputs on the device.
//! - [`model::terms`], [`model::policy`]: for whom a request is answered, and how a model is
//!   served.
//! - [`signature`]: what a model takes and gives, and whether a request fits.
//! - `queue`: the bounded queue in front of each model, and how long what waits there takes.
//! - `worker`: the thread that takes what is waiting the moment its device is free, and runs it in
//!   parts where it is long.
//! - `batch`: which requests may share a run; joining their rows and splitting them again.
//! - [`backend`]: [`Backend`] and [`LoadedModel`]; `cpu` and `gpu` implement them.
//! - [`device`]: [`DeviceChoice`], and which adapter it means on this machine.
//! - [`config`], [`error`], [`metrics`]: the limits, what can go wrong and whose fault it is, and
//!   what is counted.
//!
//! Tools that measure one model skip the queue with [`open_model`]:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use gw_inference::{DeviceChoice, InferenceConfig, open_model};
//! use gw_tensor::Tensor;
//!
//! let path = Path::new("minilm.onnx");
//! let model = open_model(path, &DeviceChoice::Auto, &InferenceConfig::default())?;
//! let ids = Tensor::from_slice([1, 3], &[101i64, 7592, 102])?;
//! let outputs = model.run(&[("input_ids".to_owned(), ids)])?;
//! println!("{} on {}", outputs[0].1.shape(), model.device());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
// Weights are mapped.
#![deny(unsafe_code)]

pub mod backend;
mod batch;
pub mod config;
pub mod device;
pub mod error;
pub mod metrics;
pub mod model;
pub mod models;
mod queue;
pub mod signature;
mod worker;

pub use backend::{
    Backend, BackendKind, Footprint, LoadedModel, ModelSource, open_backend, open_model, open_noop,
    read_back,
};
pub use config::InferenceConfig;
pub use device::DeviceChoice;
pub use error::{Fault, InferenceError, InputProblem};
pub use gw_engine::{DeviceTensor, Value};
pub use metrics::InferenceMetrics;
pub use model::policy::{ModelPolicy, PolicyProblem};
pub use model::terms::{Caller, Terms};
pub use model::{Inference, Model};
pub use models::{Budget, ModelSpec, ModelState, ModelStatus, Models, Resident};
pub use queue::Spent;
pub use signature::{Dim, Signature, TensorSpec};
