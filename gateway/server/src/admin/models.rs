//! What the admin API tells of models: the ledger of their memory, and the budgets of devices.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gw_inference::{Footprint, Model, ModelState, ModelStatus, Models};
use serde_json::{Value, json};

use crate::error::HandleError;

/// Every model that a revision uses, loaded or not, and what each device holds.
pub(super) fn ledger(models: &Models) -> Value {
    let devices = models.budgets().into_iter().map(|budget| {
        json!({
            "device": &*budget.device,
            "used_bytes": budget.used_bytes,
            "max_bytes": budget.max_bytes,
            "host_bytes": budget.host_bytes,
            "host_max_bytes": budget.host_max_bytes,
        })
    });
    json!({
        "models": models.list().iter().map(entry).collect::<Vec<_>>(),
        "devices": devices.collect::<Vec<_>>(),
    })
}

/// Loads a model before anybody asks it.
pub(super) async fn load(models: &Arc<Models>, name: String) -> Result<Value, HandleError> {
    let model = find(models, &name)?;
    let bringing = Arc::clone(models);
    let brought = tokio::task::spawn_blocking(move || bringing.bring(&name)).await;
    let brought = brought.map_err(|error| HandleError::Panicked { reason: error.to_string() })?;
    brought.map_err(|error| HandleError::ModelLoad(Box::new(error)))?;
    one(models, &model)
}

/// How long an unload waits for those whom the model answers.
const LEAVES_WITHIN: Duration = Duration::from_secs(5);

/// Frees the memory of a model until somebody asks it, once nobody is being answered by it. Where
/// that takes long, the model still leaves when this returns.
pub(super) async fn unload(models: &Models, name: &str) -> Result<Value, HandleError> {
    let model = find(models, name)?;
    models.evict(name).map_err(|_| unknown(name))?;
    let late = Instant::now() + LEAVES_WITHIN;
    while Instant::now() < late && model.state() == ModelState::Leaving {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    one(models, &model)
}

fn find(models: &Models, name: &str) -> Result<Arc<Model>, HandleError> {
    models.find(name).map_err(|_| unknown(name))
}

fn one(models: &Models, model: &Model) -> Result<Value, HandleError> {
    let listed = models.list();
    let is_it = |one: &&ModelStatus| one.name == model.name() && one.digest == model.digest();
    listed.iter().find(is_it).map(entry).ok_or_else(|| unknown(model.name()))
}

fn unknown(name: &str) -> HandleError {
    HandleError::UnknownModel { name: name.to_owned() }
}

fn entry(model: &ModelStatus) -> Value {
    let Footprint { weight_bytes, arena_bytes, staging_bytes, kept_bytes, host_bytes, peak_bytes } =
        model.footprint;
    json!({
        "name": model.name,
        "digest": model.digest,
        "device": &*model.device,
        "state": state(model.state),
        "weight_bytes": weight_bytes,
        "arena_bytes": arena_bytes,
        "staging_bytes": staging_bytes,
        "kept_bytes": kept_bytes,
        "total_bytes": model.footprint.total(),
        "host_bytes": host_bytes,
        "peak_bytes": peak_bytes,
        "idle_seconds": model.idle.as_secs_f64(),
        "pinned": model.pinned,
        "keep_alive_seconds": model.keep_alive.as_ref().map(Duration::as_secs_f64),
        "waiting": model.waiting,
        "loads": model.loads,
        "evictions": model.evictions,
    })
}

fn state(state: ModelState) -> &'static str {
    match state {
        ModelState::Loaded => "loaded",
        ModelState::Leaving => "leaving",
        ModelState::Loading => "loading",
        ModelState::Unloaded => "unloaded",
    }
}
