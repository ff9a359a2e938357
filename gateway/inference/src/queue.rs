//! The bounded queue in front of a model: callers push, its worker takes.

mod job;
mod pace;
mod spent;

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use self::job::{Job, Share};
use self::pace::Pace;
pub(crate) use self::spent::Doing;
pub use self::spent::Spent;
use crate::batch::Key;

/// Why a job was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full {
        queue_max: usize,
    },
    /// What waits already takes longer than the job has.
    Late {
        wait: Duration,
    },
    Closed,
}

/// How many rows of jobs a run takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// A job with at most so many rows left is not cut.
    pub(crate) whole: usize,
    /// A longer one gives so many rows to a run.
    pub(crate) part: usize,
    /// Several jobs may share a run of so many rows.
    pub(crate) joined: usize,
}

pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    max: usize,
    /// How long a run should take at most.
    run_time: Duration,
}

struct State {
    jobs: VecDeque<Job>,
    pace: Pace,
    open: bool,
}

impl Queue {
    pub(crate) fn new(queue_max: usize, run_time: Duration) -> Self {
        let state = State { jobs: VecDeque::new(), pace: Pace::default(), open: true };
        Self { state: Mutex::new(state), changed: Condvar::new(), max: queue_max, run_time }
    }

    /// Adds a job, or hands back why not. Jobs that nobody waits for make room first.
    pub(crate) fn push(&self, job: Job, now: Instant) -> Result<(), Refused> {
        let mut state = self.lock();
        if !state.open {
            return Err(Refused::Closed);
        }
        if state.jobs.len() >= self.max {
            state.bury(now);
        }
        if state.jobs.len() >= self.max {
            return Err(Refused::Full { queue_max: self.max });
        }
        let wait = state.wait_of(&job, self.run_time, now);
        if wait > job.deadline.saturating_duration_since(now) {
            return Err(Refused::Late { wait });
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

    /// Takes the oldest live job, or a part of it, and what may share its run; the others keep
    /// their order. Nothing is left behind by a stream of another shape, because the oldest always
    /// goes first, and a part is one turn: see [`Self::put_back`].
    ///
    /// `room` says how many rows run, given the oldest job and how many of its rows are done in
    /// the time that a run should take.
    pub(crate) fn take(
        &self,
        now: Instant,
        room: impl FnOnce(&Job, Option<usize>) -> Room,
    ) -> Vec<Share> {
        let mut state = self.lock();
        state.bury(now);
        let Some(first) = state.jobs.pop_front() else { return Vec::new() };
        let in_time = first.key.as_ref().and_then(|key| state.pace.rows_in(self.run_time, key));
        let room = room(&first, in_time);
        let mut rows = if first.left() <= room.whole { first.left() } else { room.part };
        let key = first.key.clone();
        let mut taken = vec![Share { job: first, rows }];
        if key.is_some() {
            let mut rest = VecDeque::with_capacity(state.jobs.len());
            for job in state.jobs.drain(..) {
                let share = match room.joined.checked_sub(rows) {
                    Some(space) if job.left() <= space => Some(job.left()),
                    // It is cut anyway, and fills the run.
                    Some(space) if job.left() > room.whole && space > 0 => Some(space),
                    _ => None,
                };
                match share.filter(|_| job.key == key) {
                    Some(share) => {
                        rows += share;
                        taken.push(Share { job, rows: share });
                    }
                    None => rest.push_back(job),
                }
            }
            state.jobs = rest;
        }
        taken
    }

    /// Puts a job with rows left behind all others, so that each who waits has a turn before it
    /// goes on. It is served even where the queue is full or closed.
    pub(crate) fn put_back(&self, job: Job) {
        self.lock().jobs.push_back(job);
    }

    /// Notes how long a run took.
    pub(crate) fn ran(&self, key: &Key, rows: usize, took: Duration) {
        self.lock().pace.ran(key, rows, took);
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

    /// How long a new job would wait for the others, as far as that is known. Jobs go on in turns,
    /// so each holds up another for as long as that one takes itself, or for one run. Its own
    /// time is not in it: on an idle model every job is tried, and measured.
    fn wait_of(&self, job: &Job, run_time: Duration, now: Instant) -> Duration {
        let turns = self.time_of(job).max(run_time);
        let others = self.jobs.iter().filter(|other| !other.is_dead(now));
        let waits = others.map(|other| self.time_of(other).min(turns));
        waits.fold(Duration::ZERO, Duration::saturating_add)
    }

    /// What is left of a job; nothing where it is not known.
    fn time_of(&self, job: &Job) -> Duration {
        let known = job.key.as_ref().and_then(|key| self.pace.time_of(key, job.left()));
        known.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gw_engine::Value;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{Inference, InferenceError};

    type Answer = oneshot::Receiver<Result<Inference<Value>, InferenceError>>;

    const SECOND: Duration = Duration::from_secs(1);

    fn job(rows: usize, deadline: Instant) -> (Job, Answer) {
        let (reply, answer) = oneshot::channel();
        let (spent, key) = (Arc::default(), Some(vec![vec![1]]));
        let (inputs, keeps, parts) = (Vec::new(), false, Vec::new());
        let caller = Arc::default();
        (Job { caller, inputs, keeps, rows, key, deadline, spent, reply, done: 0, parts }, answer)
    }

    /// A queue in front of a model that takes a second per row.
    fn queue() -> Queue {
        let queue = Queue::new(100, SECOND);
        queue.ran(&vec![vec![1]], 1, SECOND);
        queue
    }

    #[test]
    fn a_request_is_refused_when_what_waits_takes_longer_than_it_has() {
        let (queue, now) = (queue(), Instant::now());
        let in_seconds = |seconds| now + seconds * SECOND;
        let mut answers = Vec::new();
        let mut push = |rows, deadline| {
            let (job, answer) = job(rows, deadline);
            answers.push(answer);
            queue.push(job, now)
        };
        for _ in 0..3 {
            assert_eq!(push(60, in_seconds(3600)), Ok(()));
        }
        // One row waits for a turn of each; ten rows for ten turns of each.
        assert_eq!(push(1, in_seconds(2)), Err(Refused::Late { wait: 3 * SECOND }));
        assert_eq!(push(10, in_seconds(20)), Err(Refused::Late { wait: 30 * SECOND }));
        assert_eq!(push(1, in_seconds(3)), Ok(()));
        drop(answers);
        let (job, _answer) = job(1, in_seconds(1));
        assert_eq!(queue.push(job, now), Ok(()), "nobody waits for the others any more");
    }

    #[test]
    fn an_idle_model_tries_what_it_was_too_slow_for() {
        let (queue, now) = (queue(), Instant::now());
        let (job, _answer) = job(1000, now + SECOND);
        assert_eq!(queue.push(job, now), Ok(()));
    }
}
