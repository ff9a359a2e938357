//! How a model comes to its place, and how its place hears of it.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use gw_artifact::Digest;

use super::{Known, Presence, Slot, State, Tenure};
use crate::InferenceError;
use crate::backend::BackendKind;
use crate::metrics::LoadOutcome;
use crate::models::held::Held;
use crate::models::source::Source;
use crate::worker::{Core, Home, Start};

/// Threads that serve one model: more would wait for the same memory.
const WORKERS_MAX: usize = 8;

impl Slot {
    pub(super) fn begin(&self, state: &mut State) {
        let last = Held::of(&state.footprint);
        let guess = || {
            let device = self.sources.latest().bytes();
            let is_beside = self.tenure.residency.backend.kind() == BackendKind::Gpu;
            Held { device, host: if is_beside { device } else { 0 } }
        };
        // Neither is a reason to refuse it: a file may hold more than its weights, and what runs
        // took is not taken again at once.
        let needs = if last.device > 0 { last } else { guess() };
        let needs = needs.at_most(self.tenure.residency.max);
        state.presence = Presence::Loading { needs, has_room: false };
        state.failed = None;
    }

    /// Loads it; its presence says that this is being done.
    pub(super) fn load(self: &Arc<Self>) -> Result<(), InferenceError> {
        let loaded = catch_unwind(AssertUnwindSafe(|| self.loaded()));
        let result = loaded.unwrap_or_else(|_| {
            let reason = "loading it panicked; the log says where".to_owned();
            Err(InferenceError::Load { model: self.tenure.name.clone(), reason })
        });
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
        let Tenure { name, digest, policy, limits, metrics, residency, .. } = &self.tenure;
        let source = self.sources.latest();
        if self.is_known() {
            self.verify(&source)?;
        }
        residency.make_room(self)?;
        let started = Instant::now();
        let model = residency.load(self, || {
            let mut model = residency.backend.load(name, source.get())?;
            policy.check(model.signature()).map_err(|problem| InferenceError::Policy {
                model: name.clone(),
                problem: Box::new(problem),
            })?;
            model.keep_always(policy.state.keys().cloned().collect());
            model.warm_up()?;
            Ok(model)
        })?;
        residency.check(name, Held::of(&model.footprint()))?;
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

    /// What is loaded again must be what was loaded first: nobody looked at the file meanwhile.
    fn verify(&self, source: &Source) -> Result<(), InferenceError> {
        let Source::File(path) = source else { return Ok(()) };
        let failed = |reason| {
            let model = self.tenure.name.clone();
            InferenceError::Load { model, reason: format!("{}: {reason}", path.display()) }
        };
        let read = File::open(path).and_then(Digest::of_reader);
        match read.map_err(|error| failed(error.to_string()))? {
            (digest, _) if digest == self.tenure.digest => Ok(()),
            (digest, _) => Err(failed(format!(
                "it has changed since it was deployed: its sha256 is {digest}, not {}; push again",
                self.tenure.digest
            ))),
        }
    }

    pub(super) fn learn(&self, core: &Core) {
        self.known.get_or_init(|| Known {
            device: Arc::clone(&core.device),
            signature: core.signature.clone(),
            joining: core.joining,
            padding: core.padding.clone(),
            usage: core.usage().clone(),
        });
    }
}

/// Tells a place how its model fares.
struct Lodger(Weak<Slot>);

impl Home for Lodger {
    fn idle(&self) -> Option<Duration> {
        self.0.upgrade()?.leave_if_idle()
    }

    fn ran(&self) {
        if let Some(slot) = self.0.upgrade() {
            slot.tenure.residency.relieve(&slot);
        }
    }

    fn make_room(&self) -> bool {
        self.0.upgrade().is_some_and(|slot| slot.tenure.residency.lets_leave(&slot, false))
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
