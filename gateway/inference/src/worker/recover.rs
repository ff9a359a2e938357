//! What a worker does about faults: a run with too many rows for the memory is made shorter, and
//! answers that are no numbers are counted or refused.
//!
//! That a lost device is opened anew, and the model loaded on it, the model itself sees to: see
//! [`LoadedModel::run`](crate::LoadedModel::run).

use gw_engine::Value;

use super::Worker;
use super::nan::is_nan;
use crate::InferenceError;
use crate::queue::Share;

impl Worker {
    /// Whether a run that failed so may be tried again, because it is shorter now: several requests
    /// are tried each alone anyway, and one leaves half of its rows for another turn.
    pub(super) fn shortens(&self, error: &InferenceError, shares: &mut [Share]) -> bool {
        let (InferenceError::OutOfMemory { .. }, [share]) = (error, shares) else { return false };
        let may_be_cut = self.is_joinable() && share.job.joins && share.rows > 1;
        share.rows /= 1 + usize::from(may_be_cut);
        may_be_cut
    }

    /// Counts the outputs that are no numbers; the error for the first of them where the model is
    /// to refuse them.
    pub(super) fn not_a_number(
        &self,
        names: &[String],
        outputs: &[Value],
    ) -> Option<InferenceError> {
        let bad = names.iter().zip(outputs).filter(|(_, value)| is_nan(value));
        let bad: Vec<&String> = bad.map(|(name, _)| name).collect();
        let output = (*bad.first()?).clone();
        self.shared.metrics.not_numbers(bad.len());
        let (model, device) = (self.shared.name.clone(), self.shared.device.to_string());
        self.refuse_nan.then_some(InferenceError::NotANumber { model, device, output })
    }
}
