//! How many instances live at once, and how many requests wait for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lets in as many requests as there are instances, and lets a bounded number wait. A plugin has
/// its own gate before that of the node, so that however many requests it keeps waiting, others
/// still find instances.
pub(crate) struct Gate {
    /// That of the node, where this one is a plugin's.
    node: Option<Arc<Gate>>,
    permits: Arc<Semaphore>,
    pub(crate) instances: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// A place for instances. Whoever runs in one holds a clone, so it is free when all are gone.
#[derive(Clone)]
pub(crate) struct Place {
    _permits: Arc<(OwnedSemaphorePermit, Option<OwnedSemaphorePermit>)>,
}

impl Gate {
    pub(crate) fn new(instances: usize, waiting_max: usize) -> Self {
        let permits = Arc::new(Semaphore::new(instances));
        Self { node: None, permits, instances, waiting: AtomicUsize::new(0), waiting_max }
    }

    /// A plugin's gate before this one. As many of its requests may wait as of the node's.
    pub(crate) fn share(self: &Arc<Self>, instances: usize) -> Self {
        let share = Self::new(instances.min(self.instances), self.waiting_max);
        Self { node: Some(Arc::clone(self)), ..share }
    }

    /// A place for as many instances at once as `depth` says, or nothing where too many wait or
    /// the deadline passes first. All are taken together: requests that each hold some and wait
    /// for more would wait for each other.
    pub(crate) async fn enter(&self, depth: u32, deadline: Instant) -> Option<Place> {
        let own = self.permit(depth, deadline).await?;
        let of_node = match &self.node {
            Some(node) => Some(node.permit(depth, deadline).await?),
            None => None,
        };
        Some(Place { _permits: Arc::new((own, of_node)) })
    }

    async fn permit(&self, depth: u32, deadline: Instant) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_many_owned(depth) {
            return Some(permit);
        }
        let _waiting = Waiting::join(self)?;
        let permit = Arc::clone(&self.permits).acquire_many_owned(depth);
        tokio::time::timeout_at(deadline.into(), permit).await.ok()?.ok()
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_plugin_that_fills_its_share_leaves_places_and_a_queue_to_others() {
        let node = Arc::new(Gate::new(3, 1));
        let (greedy, other) = (node.share(2), node.share(2));
        let soon = || Instant::now() + Duration::from_millis(1);
        let held = [greedy.enter(1, soon()).await, greedy.enter(1, soon()).await];
        assert!(held.iter().all(Option::is_some));
        assert!(greedy.enter(1, soon()).await.is_none());
        let waits = greedy.enter(1, Instant::now() + Duration::from_mins(1));
        let (mut waits, late) = (std::pin::pin!(waits), soon());
        assert!(futures::poll!(&mut waits).is_pending());
        assert!(greedy.enter(1, late).await.is_none(), "one waits already");
        let place = other.enter(1, soon()).await;
        assert!(place.is_some());
        drop(held);
        assert!(waits.await.is_some());
    }
}
