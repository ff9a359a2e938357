//! How many instances live at once, and how many requests wait for one.

mod line;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use self::line::{Line, Ticket, Waiter};

/// Lets in as many requests as there are instances, and lets a bounded number wait. A plugin has
/// its own gate before that of the node, so that however many requests it keeps waiting, others
/// still find instances. Tenants who wait have their turns one after the other, see [`Line`].
pub(crate) struct Gate {
    /// That of the node, where this one is a plugin's.
    node: Option<Arc<Gate>>,
    pub(crate) instances: usize,
    /// Places for whoever comes; none while anybody waits. Only whoever has the line adds to it.
    free: AtomicU32,
    line: Mutex<Line<Told>>,
}

/// Tells one who waits that its places are there.
type Told = oneshot::Sender<Held>;

/// A place for instances. Whoever runs in one holds a clone, so it is free when all are gone.
#[derive(Clone)]
pub(crate) struct Place {
    _held: Arc<(Held, Option<Held>)>,
}

/// Places of one gate, given back when it is dropped.
struct Held {
    gate: Arc<Gate>,
    places: u32,
}

impl Gate {
    pub(crate) fn new(instances: usize, waiting_max: usize) -> Self {
        let free = AtomicU32::new(u32::try_from(instances).unwrap_or(u32::MAX));
        Self { node: None, instances, free, line: Mutex::new(Line::new(waiting_max)) }
    }

    /// A plugin's gate before this one. As many of its requests may wait as of the node's.
    pub(crate) fn share(self: &Arc<Self>, instances: usize) -> Self {
        let share = Self::new(instances.min(self.instances), self.line().waiting_max());
        Self { node: Some(Arc::clone(self)), ..share }
    }

    /// A place for as many instances at once as `depth` says, or nothing where too many wait or
    /// the deadline passes first. All are taken together: requests that each hold some and wait
    /// for more would wait for each other.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        depth: u32,
        tenant: &Arc<str>,
        deadline: Instant,
    ) -> Option<Place> {
        let own = self.hold(depth, tenant, deadline).await?;
        let of_node = match &self.node {
            Some(node) => Some(node.hold(depth, tenant, deadline).await?),
            None => None,
        };
        Some(Place { _held: Arc::new((own, of_node)) })
    }

    async fn hold(
        self: &Arc<Self>,
        places: u32,
        tenant: &Arc<str>,
        deadline: Instant,
    ) -> Option<Held> {
        let less = |free: u32| free.checked_sub(places);
        if self.free.fetch_update(Ordering::Acquire, Ordering::Relaxed, less).is_ok() {
            return Some(Held { gate: Arc::clone(self), places });
        }
        let (told, hears) = oneshot::channel();
        let waiter = Waiter { tenant: Arc::clone(tenant), places, told };
        // Leaving in any way, a dropped future included, makes room.
        let _waiting = Waiting { gate: self, ticket: self.join(waiter)? };
        tokio::time::timeout_at(deadline.into(), hears).await.ok()?.ok()
    }

    /// Lets `waiter` into the line, or refuses it.
    fn join(self: &Arc<Self>, waiter: Waiter<Told>) -> Option<Ticket> {
        let mut line = self.line();
        let (ticket, displaced) = line.join(waiter)?;
        // From here on nobody takes a place past those who wait.
        line.saved += self.free.swap(0, Ordering::Acquire);
        let granted = self.settle(line);
        self.tell(granted);
        // It hears of its refusal here, where the lock is free.
        drop(displaced);
        Some(ticket)
    }

    fn leave(self: &Arc<Self>, ticket: &Ticket) {
        let mut line = self.line();
        let left = line.leave(ticket);
        let granted = self.settle(line);
        self.tell(granted);
        drop(left);
    }

    fn release(self: &Arc<Self>, places: u32) {
        let mut line = self.line();
        line.saved += places;
        let granted = self.settle(line);
        self.tell(granted);
    }

    /// Takes those out of the line whose turn it is and who find places. Where nobody waits any
    /// more, what is left is for whoever comes.
    fn settle(&self, mut line: MutexGuard<'_, Line<Told>>) -> Vec<Waiter<Told>> {
        let granted: Vec<_> = std::iter::from_fn(|| line.turn()).collect();
        if line.is_empty() {
            self.free.fetch_add(std::mem::take(&mut line.saved), Ordering::Release);
        }
        granted
    }

    /// Gives those their places. One who left meanwhile gives them back, by dropping them.
    fn tell(self: &Arc<Self>, granted: Vec<Waiter<Told>>) {
        for Waiter { places, told, .. } in granted {
            let _ = told.send(Held { gate: Arc::clone(self), places });
        }
    }

    /// A panic elsewhere cannot leave the line half changed, so a poisoned lock is still good.
    fn line(&self) -> MutexGuard<'_, Line<Told>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gate.release(self.places);
    }
}

/// One who waits, until it is told or gives up.
struct Waiting<'a> {
    gate: &'a Arc<Gate>,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.leave(&self.ticket);
    }
}

#[cfg(test)]
mod tests;
