//! How the models of a manifest are served, and why they cannot be.

use gw_artifact::manifest::{Batching, Manifest, ModelEntry, Nan, Serving};
use gw_inference::{InferenceError, ModelPolicy};

use crate::DeployError;

/// What a manifest says of how a model is served. Taken apart in full, so that a new key cannot be
/// forgotten here.
pub(super) fn policy(serving: &Serving) -> ModelPolicy {
    let Serving { batch, keep_alive, pinned, nan, state } = serving.clone();
    let Batching { max, max_delay, pad } = batch;
    ModelPolicy {
        batch_max: max.map(|max| usize::try_from(max).unwrap_or(usize::MAX)),
        max_delay,
        pad,
        keep_alive,
        pinned,
        refuse_nan: nan == Nan::Refuse,
        state,
    }
}

/// Why a model is not loaded.
pub(super) fn refused(
    manifest: &Manifest,
    entry: &ModelEntry,
    error: InferenceError,
) -> DeployError {
    let (app, model) = (manifest.app.name.clone(), entry.name.clone());
    match error {
        InferenceError::Policy { problem, .. } => {
            DeployError::ModelPolicy { app, model, source: problem }
        }
        error => DeployError::Model { model, source: Box::new(error) },
    }
}
