//! What a worker does about faults: for a run without memory idle models leave, and where there are
//! none it is made shorter; and answers that are no numbers are counted or refused.
//!
//! That a lost device is opened anew, and the model loaded on it, the model itself sees to: see
//! [`LoadedModel::run`](crate::LoadedModel::run).

use gw_engine::Value;

use super::Worker;
use super::nan::is_nan;
use crate::InferenceError;
use crate::queue::Share;

/// Whether a run failed with its device. Each of its requests alone would be run on the next one,
/// and one of them is perhaps what hangs devices.
pub(super) fn is_of_device(error: &InferenceError) -> bool {
    matches!(error, InferenceError::DeviceLost { .. } | InferenceError::DeviceGone { .. })
}

impl Worker {
    /// Whether a run that failed so may be tried again: several requests are tried each alone
    /// anyway; for one an idle model leaves, and where there is none it leaves half of its rows for
    /// another turn.
    pub(super) fn may_be_repeated(&self, error: &InferenceError, shares: &mut [Share]) -> bool {
        let (InferenceError::OutOfMemory { .. }, [share]) = (error, shares) else { return false };
        if self.shared.home.make_room() {
            return true;
        }
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
