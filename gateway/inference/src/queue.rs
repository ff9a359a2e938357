//! The bounded queue in front of a model: callers push, its worker takes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gw_tensor::Tensor;
use tokio::sync::oneshot;

use crate::batch::Key;
use crate::{Inference, InferenceError};

/// A request that waits, already checked against the signature.
pub(crate) struct Job {
    /// In the signature's order.
    pub(crate) inputs: Vec<Tensor>,
    /// How many rows it adds to a run.
    pub(crate) rows: usize,
    /// Jobs with equal keys may share a run; a job without one runs alone.
    pub(crate) key: Option<Key>,
    pub(crate) deadline: Instant,
    pub(crate) queued: Instant,
    pub(crate) reply: oneshot::Sender<Result<Inference, InferenceError>>,
}

impl Job {
    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_dead(&self, now: Instant) -> bool {
        self.deadline <= now || self.reply.is_closed()
    }

    /// Answers the caller; one that left meanwhile is no error.
    pub(crate) fn reply(self, result: Result<Inference, InferenceError>) {
        let _ = self.reply.send(result);
    }
}

/// Why a job was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full { queue_max: usize },
    Closed,
}

pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    max: usize,
}

struct State {
    jobs: VecDeque<Job>,
    open: bool,
}

impl Queue {
    pub(crate) fn new(queue_max: usize) -> Self {
        let state = Mutex::new(State { jobs: VecDeque::new(), open: true });
        Self { state, changed: Condvar::new(), max: queue_max }
    }

    /// Adds a job, or hands back why not. Jobs that nobody waits for make room first.
    pub(crate) fn push(&self, job: Job) -> Result<(), Refused> {
        let mut state = self.lock();
        if !state.open {
            return Err(Refused::Closed);
        }
        if state.jobs.len() >= self.max {
            state.bury(job.queued);
        }
        if state.jobs.len() >= self.max {
            return Err(Refused::Full { queue_max: self.max });
        }
        state.jobs.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits until there is work; `false` when the queue is closed and empty.
    pub(crate) fn wait(&self) -> bool {
        let mut state = self.lock();
        while state.open && state.jobs.is_empty() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.jobs.is_empty()
    }

    /// Takes the oldest live job and all that may share its run, up to `batch_max` rows; the
    /// others keep their order. Nothing is left behind by a stream of another shape, because the
    /// oldest always goes first.
    pub(crate) fn take(&self, batch_max: usize, now: Instant) -> Vec<Job> {
        let mut state = self.lock();
        state.bury(now);
        let Some(first) = state.jobs.pop_front() else { return Vec::new() };
        let mut rows = first.rows;
        let mut taken = vec![first];
        if taken[0].key.is_some() {
            let mut rest = VecDeque::with_capacity(state.jobs.len());
            for job in state.jobs.drain(..) {
                if job.key == taken[0].key && rows.saturating_add(job.rows) <= batch_max {
                    rows += job.rows;
                    taken.push(job);
                } else {
                    rest.push_back(job);
                }
            }
            state.jobs = rest;
        }
        taken
    }

    /// Refuses new jobs; those that wait are still served.
    pub(crate) fn close(&self) {
        self.lock().open = false;
        self.changed.notify_all();
    }

    /// Refuses new jobs and drops those that wait, which tells their callers.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.open = false;
        state.jobs.clear();
    }

    pub(crate) fn depth(&self) -> usize {
        self.lock().jobs.len()
    }

    /// A panic elsewhere cannot leave the state half changed, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Removes the jobs that nobody waits for. Their callers know: either they left, or their own
    /// timer fired.
    fn bury(&mut self, now: Instant) {
        self.jobs.retain(|job| !job.is_dead(now));
    }
}
