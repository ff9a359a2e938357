//! Where a model goes on once its GPU is gone: on the CPU, which it did not rule out.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::InferenceError;
use crate::metrics::RequestMetrics;
use crate::models::Slot;

/// Loads the model there; it blocks.
pub(crate) type LoadSpare =
    Arc<dyn Fn() -> Result<(Arc<Slot>, RequestMetrics), InferenceError> + Send + Sync>;

/// A model that is loaded elsewhere when it must be, once for all who ask meanwhile.
pub(super) struct Spare {
    load: LoadSpare,
    loaded: OnceCell<(Arc<Slot>, RequestMetrics)>,
}

impl Spare {
    pub(super) fn new(load: LoadSpare) -> Self {
        Self { load, loaded: OnceCell::new() }
    }

    /// What it is and what is counted there, once it is loaded.
    pub(super) fn loaded(&self) -> Option<&(Arc<Slot>, RequestMetrics)> {
        self.loaded.get()
    }

    /// The model, because `gone` happened to the device. Whoever asks next tries again what fails.
    pub(super) async fn slot(
        &self,
        model: &str,
        gone: &InferenceError,
    ) -> Result<&Arc<Slot>, InferenceError> {
        let load = || async {
            tracing::warn!(error = %gone, "the cpu takes over");
            let load = Arc::clone(&self.load);
            tokio::task::spawn_blocking(move || load()).await.unwrap_or_else(|error| {
                let (model, reason) = (model.to_owned(), error.to_string());
                Err(InferenceError::Load { model, reason })
            })
        };
        let (slot, _) = self.loaded.get_or_try_init(load).await?;
        Ok(slot)
    }
}
