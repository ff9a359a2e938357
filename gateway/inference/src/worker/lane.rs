//! A device and the runs on it: how many may be under way, and whose turn is next.
//!
//! A GPU does one thing at a time. The CPU has a slot per thread: a run that is alone takes all of
//! them, and where more work waits than runs, each run takes one, which wastes less.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::usage::DeviceMetrics;
use crate::queue::{Queue, Shares};

/// What the workers of all models on one device share.
pub(crate) struct Lane {
    slots: usize,
    pub(crate) shares: Arc<Shares>,
    metrics: DeviceMetrics,
    line: Mutex<Line>,
    changed: Condvar,
}

#[derive(Default)]
struct Line {
    taken: usize,
    next: u64,
    waiting: Vec<Waiting>,
    /// Who has a slot and has not noticed yet.
    granted: HashSet<u64>,
}

/// A worker that waits for a slot, with the queue that it will take from.
struct Waiting {
    ticket: u64,
    queue: Arc<Queue>,
}

impl Lane {
    pub(crate) fn new(slots: usize, shares: Shares, metrics: DeviceMetrics) -> Self {
        let (line, changed) = (Mutex::default(), Condvar::new());
        Self { slots: slots.max(1), shares: Arc::new(shares), metrics, line, changed }
    }

    /// A device that only tests know.
    #[cfg(test)]
    pub(crate) fn of(slots: usize) -> Self {
        let metrics = crate::InferenceMetrics::register(
            &mut prometheus_client::registry::Registry::default(),
        );
        Self::new(slots, Shares::new(std::collections::BTreeMap::new()), metrics.device("test"))
    }

    /// Waits for a slot. Of those who wait the one goes first whose tenant has used the device
    /// least, then who came first. Whoever frees a slot hands it on: queues change without a word
    /// to those who wait, so these must not decide for themselves.
    pub(crate) fn acquire(self: &Arc<Self>, queue: &Arc<Queue>) -> Held {
        let mut line = self.line();
        let ticket = line.next;
        line.next += 1;
        line.waiting.push(Waiting { ticket, queue: Arc::clone(queue) });
        self.hand_on(&mut line);
        while !line.granted.remove(&ticket) {
            line = self.changed.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        Held { lane: Arc::clone(self), slots: 1 }
    }

    /// Gives the free slots to those who go first.
    fn hand_on(&self, line: &mut Line) {
        while line.taken < self.slots
            && let Some(first) = line.first()
        {
            let Waiting { ticket, .. } = line.waiting.remove(first);
            line.granted.insert(ticket);
            line.taken += 1;
        }
        self.changed.notify_all();
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Where in the line whoever goes first is. A queue that is empty by now goes first: it gives
    /// its slot back at once.
    fn first(&self) -> Option<usize> {
        let used = |waiting: &Waiting| waiting.queue.least_used().unwrap_or(f64::NEG_INFINITY);
        let all = self.waiting.iter().enumerate();
        let first = all.map(|(at, waiting)| (used(waiting), waiting.ticket, at));
        first.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))).map(|(_, _, at)| at)
    }
}

/// The right to run on a device, until it is dropped.
pub(crate) struct Held {
    lane: Arc<Lane>,
    slots: usize,
}

impl Held {
    /// Takes all slots where no other run needs one: none is under way, and no model waits. What
    /// else waits for the own model, whoever calls this knows.
    pub(crate) fn widen(&mut self) {
        let mut line = self.lane.line();
        if line.waiting.is_empty() && line.taken == self.slots {
            line.taken = self.lane.slots;
            self.slots = self.lane.slots;
        }
    }

    /// Whether it is all of the device.
    pub(crate) fn is_whole(&self) -> bool {
        self.slots == self.lane.slots
    }

    /// Whether it is one slot.
    pub(crate) fn is_narrow(&self) -> bool {
        self.slots == 1
    }

    /// Runs `work`, and says how much of the device it took: on half of the slots half of the time.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> (T, Taken) {
        let started = Instant::now();
        let done = work();
        let ended = Instant::now();
        let compute = ended.saturating_duration_since(started);
        let share = self.slots as f64 / self.lane.slots as f64;
        let device = compute.mul_f64(share);
        self.lane.metrics.busy(device);
        (done, Taken { ended, compute, device })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut line = self.lane.line();
        line.taken -= self.slots;
        self.lane.hand_on(&mut line);
    }
}

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) ended: Instant,
    /// From its start to its end.
    pub(crate) compute: Duration,
    /// Of the device's time.
    pub(crate) device: Duration,
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;
    use crate::queue::QueueLimits;

    #[test]
    fn whoever_frees_a_slot_hands_it_on_however_queues_change_meanwhile() {
        let lane = Arc::new(Lane::of(1));
        let limits = QueueLimits { max: 1, run_time: Duration::ZERO, wait_max: Duration::ZERO };
        let queue = || Arc::new(Queue::new("m", limits, Arc::clone(&lane.shares)));
        let (done, all) = channel();
        let held = lane.acquire(&queue());
        for _ in 0..8 {
            let (lane, queue, done) = (Arc::clone(&lane), queue(), done.clone());
            thread::spawn(move || {
                for _ in 0..1000 {
                    drop(lane.acquire(&queue));
                }
                done.send(()).unwrap();
            });
        }
        drop((held, done));
        assert_eq!(all.iter().count(), 8);
        assert_eq!(lane.line().taken, 0);
    }
}
