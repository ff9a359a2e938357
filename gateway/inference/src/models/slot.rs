//! The place of one model: it may be in memory or not, and who asks it does not notice.
//!
//! A request to a model that is not there waits while it is loaded, once for all who ask meanwhile.
//! A model leaves when nobody is being answered by it: requests that come then wait for its return.

mod leave;
mod load;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

#[cfg(test)]
use bytes::Bytes;
use gw_artifact::Digest;
use tokio::sync::Notify;

use super::held::Held;
use super::residency::Residency;
use super::source::{Source, Sources};
use crate::batch::{Joining, Padding};
use crate::metrics::InferenceMetrics;
use crate::metrics::usage::DeviceUsage;
#[cfg(test)]
use crate::worker::lane::Lane;
use crate::worker::{Core, Limits};
use crate::{Footprint, InferenceError, ModelPolicy, Signature};

/// How long the failure of a load is told to those who ask next, before it is tried again: a file
/// that cannot be loaded must not keep a node busy.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a place is for.
pub(crate) struct Tenure {
    /// The name under which it was first wanted.
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) source: Source,
    pub(crate) policy: ModelPolicy,
    pub(crate) limits: Limits,
    pub(crate) metrics: InferenceMetrics,
    pub(crate) residency: Arc<Residency>,
}

#[cfg(test)]
impl Tenure {
    /// Of a model from bytes on a device that only tests know.
    pub(crate) fn of(
        name: &str,
        bytes: &Bytes,
        limits: Limits,
        metrics: &InferenceMetrics,
        backend: Arc<dyn crate::Backend>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            digest: Digest::of(bytes),
            source: Source::Bytes(bytes.clone()),
            policy: ModelPolicy::default(),
            limits,
            metrics: metrics.clone(),
            residency: Residency::new(backend, Arc::new(Lane::of(1)), Held::ALL),
        }
    }
}

/// What is known of a model once it was loaded.
pub(crate) struct Known {
    pub(crate) device: Arc<str>,
    pub(crate) signature: Signature,
    pub(crate) joining: Joining,
    pub(crate) padding: Option<Padding>,
    /// Where is noted what callers use.
    pub(crate) usage: DeviceUsage,
}

pub(crate) struct Slot {
    pub(crate) tenure: Tenure,
    known: OnceLock<Known>,
    sources: Sources,
    state: Mutex<State>,
    /// For those who wait on a thread, and for those who wait in a future.
    changed: (Condvar, Notify),
}

struct State {
    presence: Presence,
    /// Requests that it answers now.
    users: usize,
    /// Requests that wait for it to be there.
    held: usize,
    /// When it was last asked.
    used: Instant,
    /// Whether it has answered anybody since it came.
    served: bool,
    /// Why the last load failed, and when.
    failed: Option<(Instant, InferenceError)>,
    /// What it held when it was last there.
    footprint: Footprint,
    loads: u64,
    evictions: u64,
}

enum Presence {
    Absent,
    /// It will take so much, by what is known, and has room for it or waits for it.
    Loading {
        needs: Held,
        has_room: bool,
    },
    Present(Arc<Core>),
    /// It ends once nobody is answered by it.
    Leaving(Arc<Core>),
    /// For good.
    Closed(Option<Arc<Core>>),
}

/// Whether a model is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelState {
    /// It is.
    Loaded,
    /// It is, and goes as soon as those whom it has are answered.
    Leaving,
    /// It is being loaded.
    Loading,
    /// It is loaded when it is asked.
    Unloaded,
}

/// What a place holds.
pub(crate) struct Holding {
    pub(crate) state: ModelState,
    pub(crate) footprint: Footprint,
    /// What it holds, or what it has room for.
    pub(crate) held: Held,
    /// Whether it gives them back as soon as it can.
    pub(crate) leaving: bool,
    pub(crate) idle: Duration,
    pub(crate) waiting: usize,
    pub(crate) loads: u64,
    pub(crate) evictions: u64,
}

impl Slot {
    pub(crate) fn new(tenure: Tenure) -> Arc<Self> {
        let state = State {
            presence: Presence::Absent,
            users: 0,
            held: 0,
            used: Instant::now(),
            served: false,
            failed: None,
            footprint: Footprint::default(),
            loads: 0,
            evictions: 0,
        };
        let (known, changed) = (OnceLock::new(), (Condvar::new(), Notify::new()));
        let sources = Sources::new(tenure.source.clone());
        Arc::new(Self { tenure, known, sources, state: Mutex::new(state), changed })
    }

    /// A place whose model is there, for tests of what answers.
    #[cfg(test)]
    pub(crate) fn of(tenure: Tenure, core: Arc<Core>) -> Arc<Self> {
        let slot = Self::new(tenure);
        slot.learn(&core);
        slot.lock().presence = Presence::Present(core);
        slot
    }

    /// It will take as much as another has taken.
    pub(super) fn expect_as(&self, other: &Self) {
        let footprint = other.core().map(|core| core.footprint());
        let footprint = footprint.unwrap_or_else(|| other.lock().footprint);
        self.lock().footprint = footprint;
    }

    /// The same file lies here too, for when it is loaded again.
    pub(super) fn found(&self, source: &Source) {
        self.sources.found(source);
    }

    /// What is known of the model.
    ///
    /// # Panics
    /// Before it was loaded once.
    pub(crate) fn known(&self) -> &Known {
        self.known.get().expect("nobody gets a model that was never loaded")
    }

    /// Whether it was ever loaded.
    pub(crate) fn is_known(&self) -> bool {
        self.known.get().is_some()
    }

    /// The model, for one request, as soon as it is there. `queue_max` requests may wait for that.
    ///
    /// # Errors
    /// Why it cannot be loaded, or that the deadline passed.
    pub(crate) async fn ready(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<Lease, InferenceError> {
        // Withdrawn when the future is dropped.
        let mut held = None;
        loop {
            let mut changed = std::pin::pin!(self.changed.1.notified());
            changed.as_mut().enable();
            {
                let mut state = self.lock();
                match &state.presence {
                    Presence::Present(core) => {
                        let core = Arc::clone(core);
                        state.users += 1;
                        state.used = Instant::now();
                        return Ok(Lease { slot: Arc::clone(self), core });
                    }
                    Presence::Closed(_) => return Err(self.unloading()),
                    Presence::Absent => {
                        if let Some((at, error)) = &state.failed
                            && at.elapsed() < RETRY_AFTER
                        {
                            return Err(error.clone());
                        }
                        self.begin(&mut state);
                        let slot = Arc::clone(self);
                        tokio::task::spawn_blocking(move || slot.load());
                    }
                    Presence::Loading { .. } | Presence::Leaving(_) => {}
                }
                if held.is_none() {
                    let queue_max = self.tenure.limits.queue.max;
                    if state.held >= queue_max {
                        let model = self.tenure.name.clone();
                        return Err(InferenceError::QueueFull { model, queue_max });
                    }
                    state.held += 1;
                    held = Some(Waits(self));
                }
            }
            if tokio::time::timeout_at(deadline.into(), changed).await.is_err() {
                return Err(InferenceError::DeadlinePassed {
                    model: self.tenure.name.clone(),
                    queue: deadline.saturating_duration_since(self.lock().used),
                    compute: Duration::ZERO,
                });
            }
        }
    }

    /// As [`Self::ready`], on a thread that may block, and for nobody yet.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    pub(crate) fn ready_blocking(self: &Arc<Self>) -> Result<(), InferenceError> {
        let mut state = self.lock();
        loop {
            match &state.presence {
                Presence::Present(_) => return Ok(()),
                Presence::Closed(_) => return Err(self.unloading()),
                Presence::Absent => {
                    self.begin(&mut state);
                    drop(state);
                    return self.load();
                }
                Presence::Loading { .. } | Presence::Leaving(_) => {
                    let loads = matches!(state.presence, Presence::Loading { .. });
                    state = self.changed.0.wait(state).unwrap_or_else(PoisonError::into_inner);
                    // Those who waited share the failure; whoever asks next tries again.
                    if let (true, Presence::Absent, Some((_, error))) =
                        (loads, &state.presence, &state.failed)
                    {
                        return Err(error.clone());
                    }
                }
            }
        }
    }

    /// The model where it is there, for a look that is no request.
    pub(crate) fn core(&self) -> Option<Arc<Core>> {
        match &self.lock().presence {
            Presence::Present(core) | Presence::Leaving(core) => Some(Arc::clone(core)),
            Presence::Closed(core) => core.clone(),
            Presence::Absent | Presence::Loading { .. } => None,
        }
    }

    pub(crate) fn holding(&self) -> Holding {
        let state = self.lock();
        let footprint = match &state.presence {
            Presence::Present(core) | Presence::Leaving(core) => core.footprint(),
            Presence::Closed(core) => {
                core.as_ref().map(|core| core.footprint()).unwrap_or_default()
            }
            Presence::Absent | Presence::Loading { .. } => Footprint::default(),
        };
        let held = Held::of(&footprint);
        let (status, held) = match &state.presence {
            Presence::Present(_) => (ModelState::Loaded, held),
            Presence::Leaving(_) => (ModelState::Leaving, held),
            Presence::Loading { needs, has_room: true } => (ModelState::Loading, *needs),
            Presence::Loading { .. } => (ModelState::Loading, Held::default()),
            Presence::Absent | Presence::Closed(_) => (ModelState::Unloaded, held),
        };
        let queued = match &state.presence {
            Presence::Present(core) => core.queue().depth(),
            _ => 0,
        };
        Holding {
            state: status,
            footprint,
            held,
            leaving: matches!(state.presence, Presence::Leaving(_)),
            idle: if state.users > 0 { Duration::ZERO } else { state.used.elapsed() },
            waiting: state.held + queued,
            loads: state.loads,
            evictions: state.evictions,
        }
    }

    /// What a model needs that is being loaded and waits for room.
    pub(super) fn wants(&self) -> Held {
        match self.lock().presence {
            Presence::Loading { needs, has_room: false } => needs,
            _ => Held::default(),
        }
    }

    /// Gives a model that is being loaded the room that it waits for.
    pub(super) fn give_room(&self) {
        if let Presence::Loading { has_room, .. } = &mut self.lock().presence {
            *has_room = true;
        }
    }

    /// Whether requests wait for it to come.
    pub(super) fn is_awaited(&self) -> bool {
        self.lock().held > 0
    }

    /// Waits for a change, at most so long.
    pub(super) fn wait(&self, at_most: Duration) {
        let waited = self.changed.0.wait_timeout(self.lock(), at_most);
        drop(waited);
    }

    fn unloading(&self) -> InferenceError {
        InferenceError::Unloading { model: self.tenure.name.clone() }
    }

    fn tell(&self) {
        self.changed.0.notify_all();
        self.changed.1.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No critical section can fail half way, so a poisoned lock is still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that waits for a model to be there.
struct Waits<'a>(&'a Slot);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.lock().held -= 1;
    }
}

/// A model that is there, and stays for as long as somebody has this.
pub(crate) struct Lease {
    slot: Arc<Slot>,
    core: Arc<Core>,
}

impl std::ops::Deref for Lease {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.slot.lock();
        state.users -= 1;
        state.used = Instant::now();
        state.served = true;
        if let (0, Presence::Leaving(core)) = (state.users, &state.presence) {
            core.close();
        }
        let is_free = state.users == 0;
        drop(state);
        self.slot.tenure.residency.tell();
        if is_free {
            self.slot.tenure.residency.relieve(&self.slot);
        }
    }
}
