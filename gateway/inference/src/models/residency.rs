//! Who may be in the memory of a device: a budget, and who leaves for whom.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::held::Held;
use super::slot::Slot;
use crate::backend::Backend;
use crate::metrics::EvictionReason;
use crate::worker::lane::Lane;
use crate::{InferenceError, LoadedModel};

/// How long a load waits for room that nobody gives, where no request waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a run waits for one to leave who answers nobody; its workers only have to end.
const IDLE_PATIENCE: Duration = Duration::from_secs(1);

/// How often whoever waits for room looks again.
const LOOK: Duration = Duration::from_millis(20);

/// One device with the models that have a place on it.
pub(crate) struct Residency {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) lane: Arc<Lane>,
    /// What all models may hold together; all there is where only the device says no.
    pub(crate) max: Held,
    slots: Mutex<Slots>,
    changed: Condvar,
}

impl Residency {
    pub(crate) fn new(backend: Arc<dyn Backend>, lane: Arc<Lane>, max: Held) -> Arc<Self> {
        let (slots, changed) = (Mutex::default(), Condvar::new());
        Arc::new(Self { backend, lane, max, slots, changed })
    }

    /// Has a place from now on, for as long as it lives.
    pub(crate) fn enter(&self, slot: &Arc<Slot>) {
        let mut slots = self.lock();
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Arc::downgrade(slot));
    }

    /// What models hold, or have room for.
    pub(crate) fn held(&self) -> Held {
        Self::used(&mut self.lock()).all
    }

    fn used(slots: &mut Slots) -> Used {
        let mut used = Used::default();
        for holding in living(slots).iter().map(|slot| slot.holding()) {
            used.all = used.all.plus(holding.held);
            if !holding.leaving {
                used.staying = used.staying.plus(holding.held);
            }
        }
        used
    }

    /// What those hold who never leave.
    fn pinned(slots: &mut Slots) -> Held {
        let slots = living(slots).into_iter().filter(|slot| slot.tenure.policy.pinned);
        slots.map(|slot| slot.holding().held).fold(Held::default(), Held::plus)
    }

    /// Waits until there is room for a model that is about to be loaded, and makes some: those go
    /// whom nobody has asked for the longest time, busy ones only where no other is left.
    pub(super) fn make_room(&self, wanted: &Arc<Slot>) -> Result<(), InferenceError> {
        let (name, needed, since) = (&wanted.tenure.name, wanted.wants(), Instant::now());
        let max = self.max;
        loop {
            // One at a time: two must not take the same room.
            let mut door = self.lock();
            let used = Self::used(&mut door);
            let together = used.all.plus(needed);
            if together.fits(max) {
                wanted.give_room();
                return Ok(());
            }
            let leaves = used.staying.plus(needed).fits(max)
                || Self::leaving(&mut door, Some(wanted), true).is_some();
            let never = !Self::pinned(&mut door).plus(needed).fits(max);
            if never || !leaves && !wanted.is_awaited() && since.elapsed() > PATIENCE {
                let (device, [needed, used, max]) =
                    together.told(max, self.backend.device(), [needed, used.all, max]);
                return Err(InferenceError::NoRoom {
                    model: name.clone(),
                    device,
                    needed,
                    used,
                    max,
                });
            }
            drop(self.changed.wait_timeout(door, LOOK));
        }
    }

    /// Loads a model; a device without memory for it loses others first.
    pub(super) fn load(
        &self,
        wanted: &Arc<Slot>,
        load: impl Fn() -> Result<Box<dyn LoadedModel>, InferenceError>,
    ) -> Result<Box<dyn LoadedModel>, InferenceError> {
        loop {
            match load() {
                Err(error @ InferenceError::OutOfMemory { .. }) => {
                    if !self.lets_leave(wanted, true) {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
    }

    /// Lets one leave for `other`, and waits until it is gone; `false` where nobody leaves. For a
    /// run no busy one can: the run has the device that it would need to end.
    pub(super) fn lets_leave(&self, other: &Arc<Slot>, busy_too: bool) -> bool {
        let leaving = Self::leaving(&mut self.lock(), Some(other), busy_too);
        let Some(leaving) = leaving else { return false };
        let since = Instant::now();
        while leaving.core().is_some() {
            // It was asked at that moment, and waits for the device that the run has.
            if !busy_too && since.elapsed() > IDLE_PATIENCE {
                return false;
            }
            leaving.wait(LOOK);
        }
        true
    }

    /// Whether a model that holds so much fits at all.
    pub(super) fn check(&self, model: &str, needed: Held) -> Result<(), InferenceError> {
        if needed.fits(self.max) {
            return Ok(());
        }
        let (device, [needed, max]) =
            needed.told(self.max, self.backend.device(), [needed, self.max]);
        Err(InferenceError::TooLarge { model: model.to_owned(), device, needed, max })
    }

    /// Keeps to the budget after `grown` may have grown: who answers nobody leaves for it, else it
    /// leaves itself, with all that its runs took. One that was just loaded, and is more than was
    /// known, stays for those who wait for it, and a busy one leaves.
    pub(super) fn relieve(&self, grown: &Arc<Slot>) {
        if self.max == Held::ALL {
            return;
        }
        let mut door = self.lock();
        while !Self::used(&mut door).staying.fits(self.max) {
            let leaves = Self::leaving(&mut door, Some(grown), false)
                .or_else(|| Self::leaving(&mut door, None, false))
                .or_else(|| Self::leaving(&mut door, Some(grown), true));
            if leaves.is_none() {
                return;
            }
        }
    }

    /// Somebody may leave now, or has left.
    pub(super) fn tell(&self) {
        self.changed.notify_all();
    }

    /// Makes one leave for `other`: who answers nobody, and was asked the longest time ago.
    fn leaving(slots: &mut Slots, other: Option<&Arc<Slot>>, busy_too: bool) -> Option<Arc<Slot>> {
        let slots = living(slots);
        let is_other = |slot: &&Arc<Slot>| other.is_none_or(|other| !Arc::ptr_eq(slot, other));
        let others = slots.iter().filter(is_other);
        let worth = others.filter_map(|slot| Some((slot.worth()?, slot)));
        let worth = worth.filter(|((busy, _), _)| busy_too || !busy);
        let (_, slot) = worth.min_by_key(|(worth, _)| *worth)?;
        slot.leave(EvictionReason::Room).then(|| Arc::clone(slot))
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Slots = Vec<Weak<Slot>>;

#[derive(Clone, Copy, Default)]
struct Used {
    all: Held,
    /// What those hold who do not leave.
    staying: Held,
}

fn living(slots: &mut Slots) -> Vec<Arc<Slot>> {
    slots.retain(|slot| slot.strong_count() > 0);
    slots.iter().filter_map(Weak::upgrade).collect()
}
