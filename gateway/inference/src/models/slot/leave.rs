//! How a model leaves its place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Presence, Slot, Tenure};
use crate::metrics::EvictionReason;
use crate::worker::{Core, IDLE_MIN};

impl Slot {
    /// How good it would be to have its room: since when nobody asked it, those before others who
    /// answer nobody now. `None` where it must stay.
    pub(in crate::models) fn worth(&self) -> Option<(bool, Instant)> {
        let state = self.lock();
        let Presence::Present(core) = &state.presence else { return None };
        // What an execution context keeps on the device would be lost.
        let stays = self.tenure.policy.pinned || core.footprint().kept_bytes > 0;
        // Those who waited for it have not all noticed that it is there.
        let busy = state.users > 0 || state.held > 0;
        (!stays && (!busy || state.served)).then_some((busy, state.used))
    }

    /// Makes it leave, at once where it answers nobody, else as soon as it has answered those whom
    /// it has. `false` where it is not there.
    pub(in crate::models) fn leave(&self, reason: EvictionReason) -> bool {
        let mut state = self.lock();
        let Presence::Present(core) = &state.presence else { return false };
        let core = Arc::clone(core);
        if state.users == 0 {
            core.close();
        }
        state.footprint = core.footprint();
        state.evictions += 1;
        let Tenure { name, metrics, .. } = &self.tenure;
        metrics.count_eviction(name, &core.device, reason);
        tracing::info!(model = %name, device = %core.device, ?reason, "model leaves memory");
        state.presence = Presence::Leaving(core);
        true
    }

    /// Makes it leave where nobody has asked it for long enough, and nobody is being answered; else
    /// it tells when that may be.
    pub(super) fn leave_if_idle(&self) -> Option<Duration> {
        let state = self.lock();
        let (users, idle) = (state.users, state.used.elapsed());
        drop(state);
        let left = self.tenure.limits.keep_alive?.saturating_sub(idle);
        if users == 0 && left.is_zero() && self.worth().is_some() {
            self.leave(EvictionReason::Idle);
        }
        (users == 0 && !left.is_zero()).then_some(left.max(IDLE_MIN))
    }

    /// Ends it for good; those who are being answered still are.
    pub(in crate::models) fn close(&self) -> Option<Arc<Core>> {
        let mut state = self.lock();
        let core = match std::mem::replace(&mut state.presence, Presence::Closed(None)) {
            Presence::Present(core) | Presence::Leaving(core) => Some(core),
            Presence::Closed(core) => core,
            Presence::Absent | Presence::Loading { .. } => None,
        };
        if let Some(core) = &core {
            core.close();
        }
        state.presence = Presence::Closed(core.clone());
        self.tell();
        core
    }
}
