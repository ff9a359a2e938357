//! Where a model goes on while its GPU is gone: on the CPU, which it did not rule out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use crate::InferenceError;
use crate::metrics::RequestMetrics;
use crate::models::Slot;

/// Loads the model there; it blocks.
pub(crate) type LoadSpare =
    Arc<dyn Fn() -> Result<(Arc<Slot>, RequestMetrics), InferenceError> + Send + Sync>;

/// How long the GPU is left alone at least, before one request tries whether it is back.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// A model that is loaded elsewhere when it must be, once for all who ask meanwhile.
pub(super) struct Spare {
    load: LoadSpare,
    loaded: OnceCell<(Arc<Slot>, RequestMetrics)>,
    /// When the GPU may be tried again; `None` while it is there.
    away: Mutex<Option<Instant>>,
}

impl Spare {
    pub(super) fn new(load: LoadSpare) -> Self {
        Self { load, loaded: OnceCell::new(), away: Mutex::default() }
    }

    /// What it is and what is counted there, where it has taken over.
    pub(super) fn took_over(&self) -> Option<&(Arc<Slot>, RequestMetrics)> {
        self.loaded.get().filter(|_| self.away().is_some())
    }

    /// Where this request goes, if it is not to try the GPU: one of all tries, once in a while.
    pub(super) fn takes(&self, now: Instant) -> Option<&Arc<Slot>> {
        let (slot, _) = self.took_over()?;
        let mut away = self.away();
        match *away {
            Some(until) if until <= now => {
                *away = Some(now + LOOK_AGAIN);
                None
            }
            Some(_) => Some(slot),
            None => None,
        }
    }

    /// The GPU has answered.
    pub(super) fn back(&self, model: &str) {
        if self.away().take().is_some() {
            tracing::info!(model, "its gpu is back, and takes it over again");
        }
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
        let retry = match gone {
            InferenceError::DeviceGone { retry, .. } => (*retry).max(LOOK_AGAIN),
            _ => LOOK_AGAIN,
        };
        *self.away() = Some(Instant::now() + retry);
        Ok(slot)
    }

    /// As if the GPU had been left alone for long enough.
    #[cfg(test)]
    pub(super) fn look_again_now(&self) {
        self.away().replace(Instant::now());
    }

    fn away(&self) -> MutexGuard<'_, Option<Instant>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
