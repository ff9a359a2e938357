//! How many instances live at once, and how many requests wait for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lets in as many requests as there are instances, and lets a bounded number wait.
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    pub(crate) instances: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// A place for instances. Whoever runs in one holds a clone, so it is free when all are gone.
#[derive(Clone)]
pub(crate) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Gate {
    pub(crate) fn new(instances: usize, waiting_max: usize) -> Self {
        let permits = Arc::new(Semaphore::new(instances));
        Self { permits, instances, waiting: AtomicUsize::new(0), waiting_max }
    }

    /// A place for as many instances at once as `depth` says, or nothing where too many wait or
    /// the deadline passes first. All are taken together: requests that each hold some and wait
    /// for more would wait for each other.
    pub(crate) async fn enter(&self, depth: u32, deadline: Instant) -> Option<Place> {
        let place = |permit| Place { _permit: Arc::new(permit) };
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_many_owned(depth) {
            return Some(place(permit));
        }
        let _waiting = Waiting::join(self)?;
        let permit = Arc::clone(&self.permits).acquire_many_owned(depth);
        tokio::time::timeout_at(deadline.into(), permit).await.ok()?.ok().map(place)
    }
}

/// One who waits; leaving the queue in any way, a dropped future included, makes room.
struct Waiting<'a>(&'a Gate);

impl<'a> Waiting<'a> {
    fn join(gate: &'a Gate) -> Option<Self> {
        let waiting = Self(gate);
        (gate.waiting.fetch_add(1, Ordering::Relaxed) < gate.waiting_max).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
