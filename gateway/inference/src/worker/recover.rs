//! What a worker does about faults: another device takes over where its own is gone, a run with too
//! many rows for the memory is made shorter, and answers that are no numbers are counted or refused.
//!
//! That a lost device is opened anew, and the model loaded on it, the model itself sees to: see
//! [`LoadedModel::run`].

use std::sync::Arc;

use gw_engine::Value;

use super::nan::is_nan;
use super::{Shared, Worker};
use crate::metrics::ModelMetrics;
use crate::queue::Share;
use crate::{Footprint, InferenceError, LoadedModel};

/// Loads the model where it runs once its device is gone for good.
pub(crate) type Spare =
    Box<dyn FnOnce() -> Result<(Box<dyn LoadedModel>, ModelMetrics), InferenceError> + Send>;

impl Worker {
    /// Whether a run that failed so may be tried again, because another device has taken over or
    /// because it is shorter now.
    pub(super) fn recovers(&mut self, error: &InferenceError, shares: &mut [Share]) -> bool {
        match (error, shares) {
            (InferenceError::DeviceGone { .. }, _) => self.take_over(error),
            (InferenceError::OutOfMemory { .. }, [share]) => self.joinable && halve(share),
            _ => false,
        }
    }

    /// Goes on on the spare device, for as long as the model is loaded. `false` where there is none.
    fn take_over(&mut self, error: &InferenceError) -> bool {
        let Some(spare) = self.spare.take() else { return false };
        match spare() {
            Ok((model, metrics)) => {
                tracing::warn!(%error, device = model.device(), "another device takes over");
                self.shared.move_to(model.device(), metrics);
                self.batch_max =
                    self.batch_max.min(model.rows_side_by_side().unwrap_or(usize::MAX));
                // Models of the new device do not wait for each other.
                self.turn = None;
                self.model = model;
                true
            }
            Err(spare) => {
                tracing::error!(model = %self.name, error = %spare, "no device takes over");
                false
            }
        }
    }

    /// Counts the outputs that are no numbers; the error for them where the model is to refuse them.
    pub(super) fn not_a_number(
        &self,
        names: &[String],
        outputs: &[Value],
    ) -> Option<InferenceError> {
        let mut bad = names.iter().zip(outputs).filter(|(_, value)| is_nan(value)).peekable();
        let (output, _) = bad.peek().copied()?;
        bad.for_each(|_| self.shared.metrics().not_a_number());
        self.refuse_nan.then(|| InferenceError::NotANumber {
            model: self.name.clone(),
            device: self.shared.device().to_string(),
            output: output.clone(),
        })
    }
}

/// Leaves half of its rows for another turn, where it has several.
fn halve(share: &mut Share) -> bool {
    let halves = share.job.key.is_some() && share.rows > 1;
    share.rows /= 1 + usize::from(halves);
    halves
}

impl Shared {
    /// Which device runs the model.
    pub(super) fn device(&self) -> Arc<str> {
        Arc::clone(&self.place().device)
    }

    /// What is recorded, of the device that runs the model.
    pub(super) fn metrics(&self) -> Arc<ModelMetrics> {
        Arc::clone(&self.place().metrics)
    }

    /// From now on the model runs on `device` and is counted there; what it held elsewhere is gone.
    fn move_to(&self, device: &str, metrics: ModelMetrics) {
        let mut published = self.published();
        let before = self.metrics();
        before.waiting(published.waiting, 0);
        before.resident(published.footprint, Footprint::default());
        metrics.waiting(0, published.waiting);
        published.footprint = Footprint::default();
        *self.place() = super::Place { device: device.into(), metrics: Arc::new(metrics) };
    }
}
