//! The place of one model: it may be in memory or not, and who asks it does not notice.
//!
//! A request to a model that is not there waits while it is loaded, once for all who ask meanwhile.
//! A model leaves when nobody is being answered by it: requests that come then wait for its return.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gw_artifact::Digest;
use tokio::sync::Notify;

use super::residency::Residency;
use crate::backend::ModelSource;
use crate::batch::{Joining, Padding};
use crate::metrics::{EvictionReason, InferenceMetrics, LoadOutcome};
#[cfg(test)]
use crate::worker::lane::Lane;
use crate::worker::{Core, Home, Limits, Start};
use crate::{Footprint, InferenceError, ModelPolicy, Signature};

/// How long the failure of a load is told to those who ask next, before it is tried again: a file
/// that cannot be loaded must not keep a node busy.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where the bytes of a model are, for whenever it is loaded.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    File(PathBuf),
    Bytes(Bytes),
}

impl Source {
    fn get(&self) -> ModelSource<'_> {
        match self {
            Self::File(path) => ModelSource::File(path),
            Self::Bytes(bytes) => ModelSource::Bytes(bytes),
        }
    }

    /// The size of the file, which is a guess at what its weights take.
    fn bytes(&self) -> u64 {
        match self {
            Self::File(path) => std::fs::metadata(path).map_or(0, |data| data.len()),
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

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
            residency: Residency::new(backend, Arc::new(Lane::of(1)), None),
        }
    }
}

/// What is known of a model once it was loaded.
pub(crate) struct Known {
    pub(crate) device: Arc<str>,
    pub(crate) signature: Signature,
    pub(crate) joining: Joining,
    pub(crate) padding: Option<Padding>,
}

pub(crate) struct Slot {
    pub(crate) tenure: Tenure,
    known: OnceLock<Known>,
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
    /// It will take so many bytes, by what is known, and has room for them or waits for it.
    Loading {
        bytes: u64,
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
    /// It is, or leaves just now.
    Loaded,
    /// It is being loaded.
    Loading,
    /// It is loaded when it is asked.
    Unloaded,
}

/// What a place holds.
pub(crate) struct Holding {
    pub(crate) state: ModelState,
    pub(crate) footprint: Footprint,
    /// Bytes that it holds, or that it has room for.
    pub(crate) bytes: u64,
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
        Arc::new(Self { tenure, known, state: Mutex::new(state), changed })
    }

    /// A place whose model is there, for tests of what answers.
    #[cfg(test)]
    pub(crate) fn of(tenure: Tenure, core: Arc<Core>) -> Arc<Self> {
        let slot = Self::new(tenure);
        slot.learn(&core);
        slot.lock().presence = Presence::Present(core);
        slot
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
        let (status, bytes) = match &state.presence {
            Presence::Present(_) | Presence::Leaving(_) => (ModelState::Loaded, footprint.total()),
            Presence::Loading { bytes, has_room: true } => (ModelState::Loading, *bytes),
            Presence::Loading { .. } => (ModelState::Loading, 0),
            Presence::Absent | Presence::Closed(_) => (ModelState::Unloaded, footprint.total()),
        };
        let queued = match &state.presence {
            Presence::Present(core) => core.queue().depth(),
            _ => 0,
        };
        Holding {
            state: status,
            footprint,
            bytes,
            leaving: matches!(state.presence, Presence::Leaving(_)),
            idle: if state.users > 0 { Duration::ZERO } else { state.used.elapsed() },
            waiting: state.held + queued,
            loads: state.loads,
            evictions: state.evictions,
        }
    }

    /// The bytes of a model that is being loaded and waits for room.
    pub(super) fn wants(&self) -> u64 {
        match self.lock().presence {
            Presence::Loading { bytes, has_room: false } => bytes,
            _ => 0,
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

    /// How good it would be to have its room: since when nobody asked it, those before others who
    /// answer nobody now. `None` where it must stay.
    pub(super) fn worth(&self) -> Option<(bool, Instant)> {
        let state = self.lock();
        let Presence::Present(core) = &state.presence else { return None };
        // What an execution context keeps on the device would be lost.
        let stays = self.tenure.policy.pinned || core.footprint().kept_bytes > 0;
        let busy = state.users > 0;
        (!stays && (!busy || state.served)).then_some((busy, state.used))
    }

    /// Makes it leave, at once where it answers nobody, else as soon as it has answered those whom
    /// it has. `false` where it is not there.
    pub(super) fn leave(&self, reason: EvictionReason) -> bool {
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

    /// Makes it leave where nobody has asked it for long enough, and nobody is being answered.
    fn leave_if_idle(&self) {
        let state = self.lock();
        let (users, idle) = (state.users, state.used.elapsed());
        drop(state);
        let keep_alive = self.tenure.limits.keep_alive;
        if users == 0 && keep_alive.is_some_and(|keep| idle >= keep) && self.worth().is_some() {
            self.leave(EvictionReason::Idle);
        }
    }

    /// Ends it for good; those who are being answered still are.
    pub(super) fn close(&self) -> Option<Arc<Core>> {
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

    /// Waits for a change, at most so long.
    pub(super) fn wait(&self, at_most: Duration) {
        let waited = self.changed.0.wait_timeout(self.lock(), at_most);
        drop(waited);
    }

    fn begin(&self, state: &mut State) {
        let last = state.footprint.total();
        let bytes = if last > 0 { last } else { self.tenure.source.bytes() };
        state.presence = Presence::Loading { bytes, has_room: false };
        state.failed = None;
    }

    /// Loads it; its presence says that this is being done.
    fn load(self: &Arc<Self>) -> Result<(), InferenceError> {
        let result = self.loaded();
        let device = self.tenure.residency.backend.device();
        let outcome = LoadOutcome::of(&result);
        self.tenure.metrics.count_load(&self.tenure.name, device, outcome);
        let mut state = self.lock();
        // It may have been closed meanwhile.
        let loads = matches!(state.presence, Presence::Loading { .. });
        let result = match result {
            Ok(core) if loads => {
                self.learn(&core);
                (state.loads, state.served, state.used) = (state.loads + 1, false, Instant::now());
                state.presence = Presence::Present(core);
                Ok(())
            }
            Ok(_) => Err(self.unloading()),
            Err(error) => {
                if loads {
                    state.presence = Presence::Absent;
                }
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        };
        self.tell();
        drop(state);
        if result.is_ok() {
            self.tenure.residency.relieve(self);
        }
        result
    }

    fn loaded(self: &Arc<Self>) -> Result<Arc<Core>, InferenceError> {
        let Tenure { name, digest, source, policy, limits, metrics, residency } = &self.tenure;
        residency.make_room(self)?;
        let started = Instant::now();
        let model = residency.load(self, || {
            let model = residency.backend.load(name, source.get())?;
            model.warm_up()?;
            Ok(model)
        })?;
        residency.check(name, model.footprint().total())?;
        let took = started.elapsed();
        let counted = metrics.model(name, residency.backend.device());
        counted.loaded(took);
        let core = Core::start(Start {
            name,
            digest: *digest,
            model,
            lane: Arc::clone(&residency.lane),
            workers: residency.backend.slots().min(WORKERS_MAX),
            limits: *limits,
            policy,
            metrics: counted,
            home: Box::new(Lodger(Arc::downgrade(self))),
        })?;
        tracing::info!(model = %name, device = %core.device, ?took, "model loaded");
        Ok(Arc::new(core))
    }

    fn learn(&self, core: &Core) {
        self.known.get_or_init(|| Known {
            device: Arc::clone(&core.device),
            signature: core.signature.clone(),
            joining: core.joining,
            padding: core.padding.clone(),
        });
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

/// Threads that serve one model: more would wait for the same memory.
const WORKERS_MAX: usize = 8;

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
        drop(state);
        self.slot.tenure.residency.tell();
    }
}

/// Tells a place how its model fares.
struct Lodger(Weak<Slot>);

impl Home for Lodger {
    fn idle(&self) {
        if let Some(slot) = self.0.upgrade() {
            slot.leave_if_idle();
        }
    }

    fn ran(&self) {
        if let Some(slot) = self.0.upgrade() {
            slot.tenure.residency.relieve(&slot);
        }
    }

    fn gone(&self) {
        let Some(slot) = self.0.upgrade() else { return };
        let mut state = slot.lock();
        let gone = match std::mem::replace(&mut state.presence, Presence::Absent) {
            Presence::Present(core) | Presence::Leaving(core) => Some(core),
            other => {
                state.presence = other;
                None
            }
        };
        slot.tell();
        drop(state);
        drop(gone);
        slot.tenure.residency.tell();
    }
}
