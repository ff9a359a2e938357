//! How the models of a manifest are served, and whether they can be.

use gw_artifact::manifest::{Batching, Manifest, ModelEntry, Nan, Serving};
use gw_inference::{Model, ModelPolicy};

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

/// Refuses a model that does not have what its manifest names. Only its file tells, so it is loaded
/// by then.
pub(super) fn check(
    manifest: &Manifest,
    entry: &ModelEntry,
    model: &Model,
) -> Result<(), DeployError> {
    model.policy().check(model.signature()).map_err(|source| DeployError::ModelPolicy {
        app: manifest.app.name.clone(),
        model: entry.name.clone(),
        source: Box::new(source),
    })
}
