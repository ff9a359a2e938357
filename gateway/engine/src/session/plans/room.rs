//! Room for runs: prepared plans go where there is no memory for another.

use crate::session::parts::Part;
use crate::session::{RunError, Session};

impl Session {
    /// Does `work`, and where the device has no memory left for it, once more without the plans
    /// that no run is using.
    pub(in crate::session) fn with_room<T>(
        &self,
        work: impl Fn() -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        match work() {
            Err(error) if error.is_out_of_memory() => {
                tracing::warn!(%error, plans = self.plans.len(), "dropping what is prepared");
                self.plans.shed(&[], || true);
                self.device.reclaim();
                work()
            }
            result => result,
        }
    }

    /// Drops prepared plans until `bytes` more are within the session's bound.
    pub(in crate::session) fn make_room(&self, key: &[Part], bytes: u64) -> Result<(), RunError> {
        let max = self.options.memory_max;
        if bytes > max {
            return Err(RunError::MemoryLimit { bytes, max });
        }
        self.plans.shed(key, || self.ledger.runs() + bytes > max);
        Ok(())
    }
}
