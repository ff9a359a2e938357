//! The bounded queue in front of a model: callers push, its workers take.
//!
//! Each tenant has a line of its own. Who has used the device least goes first, and who waits
//! longest in line is the first to be refused; see `shares`.

mod fill;
mod job;
mod line;
mod pace;
mod refusals;
mod shares;
mod spent;
mod state;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use self::job::{Job, Share};
use self::line::Line;
pub(crate) use self::shares::{Present, Shares};
pub(crate) use self::spent::Doing;
pub use self::spent::Spent;
use self::state::State;
use crate::InferenceError;
use crate::batch::Key;

/// Why a job was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full {
        queue_max: usize,
    },
    /// What waits already takes longer than the job may wait.
    Late {
        wait: Duration,
        may: Duration,
    },
    Closed,
}

/// What is known of rows of one shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// How many are done in the time that a run should take.
    pub(crate) in_time: Option<usize>,
    /// How many are worth joining, by their times.
    pub(crate) pays: usize,
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

/// What a queue admits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueLimits {
    /// Jobs that may wait.
    pub(crate) max: usize,
    /// How long a run should take at most.
    pub(crate) run_time: Duration,
    /// How long a job may wait, whatever its deadline.
    pub(crate) wait_max: Duration,
}

/// How a worker waits for work.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    /// How long the first job waits for others to join it.
    pub(crate) delay: Duration,
    /// So many rows wait for no more.
    pub(crate) enough: usize,
    /// How long the queue may be empty before the worker is told.
    pub(crate) idle: Option<Duration>,
    /// Until then the first job waits for so many rows: see [`Self::after`].
    pub(crate) again: Option<(Instant, usize)>,
}

/// Whoever asks again has done so by then. A first run may have compiled for half a minute.
const AGAIN_MAX: Duration = Duration::from_millis(10);

impl Patience {
    /// That behind a run which ended now. Those who shared it are answered at one time, and many of
    /// them ask again: for a hundredth of what it took, and [`AGAIN_MAX`] at most, the first waits
    /// until as many rows are there.
    pub(crate) fn after(self, now: Instant, requests: usize, rows: usize, took: Duration) -> Self {
        let again = (requests > 1).then(|| (now + (took / 100).min(AGAIN_MAX), rows));
        Self { again, ..self }
    }

    /// How long a job waits that came then, where so many rows wait.
    fn wait_of(&self, came: Instant, rows: usize) -> Duration {
        let again = self.again.filter(|&(_, enough)| rows < enough);
        let again = again.map(|(until, _)| until.saturating_duration_since(came));
        self.delay.max(again.unwrap_or_default())
    }
}

/// Why a worker was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    Work,
    /// Nothing came for as long as its patience is.
    Idle,
    /// The queue is closed and empty.
    Closed,
}

pub(crate) struct Queue {
    model: String,
    state: Mutex<State>,
    changed: Condvar,
    limits: QueueLimits,
    shares: Arc<Shares>,
}

impl Queue {
    /// The queue of a model on a device that the accounts in `shares` belong to.
    pub(crate) fn new(model: &str, limits: QueueLimits, shares: Arc<Shares>) -> Self {
        let state = Mutex::new(State { open: true, ..State::default() });
        Self { model: model.to_owned(), state, changed: Condvar::new(), limits, shares }
    }

    pub(crate) fn shares(&self) -> &Arc<Shares> {
        &self.shares
    }

    /// Adds a job, or hands back why not. Jobs that nobody waits for make room first, then the
    /// last job of the longest line, unless that is the line of the new one.
    pub(crate) fn push(&self, mut job: Job, now: Instant) -> Result<(), Refused> {
        let mut state = self.lock();
        let tenant = Arc::clone(&job.caller.tenant);
        job.takes = state.time_of(&job);
        state.pace.comes(job.takes);
        match self.place(&mut state, &tenant, &job, now) {
            Ok(forecast) => job.forecast = forecast,
            Err(refused) => {
                state.refusals.refused(&tenant);
                return Err(refused);
            }
        }
        state.refusals.admitted(&tenant);
        state.line(&tenant).jobs.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    /// Makes a place for a job, and says how long it will wait.
    fn place(
        &self,
        state: &mut State,
        tenant: &str,
        job: &Job,
        now: Instant,
    ) -> Result<Duration, Refused> {
        // One of several parts ends when all of them have had their turns.
        let parts = Some(job.takes).filter(|&takes| takes > self.limits.run_time);
        let parts = parts.unwrap_or_default();
        let forecast = self.admit(state, tenant, job.takes, parts, job.deadline, now)?;
        if state.depth() >= self.limits.max {
            state.bury(now);
        }
        if state.depth() >= self.limits.max {
            self.displace(state, tenant)?;
        }
        Ok(forecast)
    }

    /// Why a job of this tenant would not be queued now, if so. What it would take is not known,
    /// so it is taken for a common one.
    pub(crate) fn refusal(&self, tenant: &str, deadline: Instant, now: Instant) -> Option<Refused> {
        let mut state = self.lock();
        let refused = self.look(&state, tenant, deadline, now);
        if refused.is_some() {
            state.refusals.refused(tenant);
        }
        refused
    }

    fn look(
        &self,
        state: &State,
        tenant: &str,
        deadline: Instant,
        now: Instant,
    ) -> Option<Refused> {
        let takes = state.pace.usual();
        if let Err(refused) = self.admit(state, tenant, takes, Duration::ZERO, deadline, now) {
            return Some(refused);
        }
        let live = state.lines.iter().flat_map(|line| &line.jobs);
        let is_full = state.depth() >= self.limits.max
            && live.filter(|job| !job.is_dead(now)).count() >= self.limits.max
            && state.longest().is_none_or(|line| *state.lines[line].tenant == *tenant);
        is_full.then_some(Refused::Full { queue_max: self.limits.max })
    }

    /// How long a new job would wait, where that is not too long. `parts` is what one takes that
    /// does not run at once.
    fn admit(
        &self,
        state: &State,
        tenant: &str,
        takes: Duration,
        parts: Duration,
        deadline: Instant,
        now: Instant,
    ) -> Result<Duration, Refused> {
        if !state.open {
            return Err(Refused::Closed);
        }
        let wait = self.wait_of(state, tenant, takes, now);
        let wait_max = state.refusals.wait_max(tenant, self.limits.wait_max);
        let left = deadline.saturating_duration_since(now);
        let expected = state.pace.corrected(wait);
        // Corrections are by waits for a first run; several end when all have had their turns.
        let last = if parts.is_zero() { expected } else { expected.max(wait) };
        let ends = (last, left.saturating_sub(parts));
        let late =
            [(expected, left.min(wait_max)), ends].into_iter().find(|(wait, may)| wait > may);
        match late {
            // On an idle model every job is tried.
            Some((wait, may)) if !wait.is_zero() => Err(Refused::Late { wait, may }),
            _ => Ok(wait),
        }
    }

    /// How long a new job would wait for the others, as far as that is known. Jobs go on in turns,
    /// so each holds up another for as long as that one takes itself, or for one run; and another
    /// tenant holds it up for no longer than its own line takes, by their weights. Its own time is
    /// not in it: on an idle model every job is tried, and measured.
    fn wait_of(&self, state: &State, tenant: &str, takes: Duration, now: Instant) -> Duration {
        let turn = takes.max(self.limits.run_time);
        let running =
            state.busy_until.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let is_own = |line: &&Line| *line.tenant == *tenant;
        let own = state.lines.iter().find(is_own).map_or(Duration::ZERO, |own| own.time(turn, now));
        let mine = own.saturating_add(takes).as_secs_f64() / self.shares.weight(tenant);
        let others = state.lines.iter().filter(|line| !is_own(line)).map(|line| {
            let share = mine * self.shares.weight(&line.tenant);
            let share = Duration::try_from_secs_f64(share).unwrap_or(Duration::MAX);
            line.time(turn, now).min(share)
        });
        others.fold(running.saturating_add(own), Duration::saturating_add)
    }

    /// Refuses the last job of the longest line that has not begun, to make room for one of
    /// `tenant`.
    fn displace(&self, state: &mut State, tenant: &str) -> Result<(), Refused> {
        let queue_max = self.limits.max;
        let longest = state.longest().filter(|&line| *state.lines[line].tenant != *tenant);
        let displaced = longest.and_then(|line| state.lines[line].pop_unbegun());
        let job = displaced.ok_or(Refused::Full { queue_max })?;
        job.reply(Err(InferenceError::QueueFull { model: self.model.clone(), queue_max }));
        Ok(())
    }

    /// Waits until there is work, or the end of its patience.
    pub(crate) fn wait(&self, patience: &Patience) -> Woken {
        let mut state = self.lock();
        let empty_since = Instant::now();
        loop {
            let now = Instant::now();
            let until = match state.first_came() {
                None if !state.open => return Woken::Closed,
                None => patience.idle.map(|idle| empty_since + idle),
                Some(_) if !state.open || state.rows() >= patience.enough => return Woken::Work,
                Some(came) => {
                    let wait = patience.wait_of(came, state.rows());
                    came.checked_add(wait.min(state.spare_time()))
                }
            };
            let Some(until) = until else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                return if state.lines.is_empty() { Woken::Idle } else { Woken::Work };
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes the oldest live job of the tenant that goes first, or a part of it, and what may
    /// share its run; the others keep their order. Nothing of a tenant is left behind by its
    /// stream of another shape, because its oldest always goes first, and a part is one turn: see
    /// [`Self::put_back`]. What has begun goes before it where it would else be late.
    ///
    /// `room` says how many rows run, given the first job and what is known of its rows. Jobs that
    /// ran in part and whose callers have left by now go to `in_vain`.
    pub(crate) fn take(
        &self,
        now: Instant,
        room: impl FnOnce(&Job, Known) -> Room,
        in_vain: &mut Vec<Job>,
    ) -> Vec<Share> {
        let mut state = self.lock();
        state.bury(now);
        in_vain.append(&mut state.in_vain);
        let Some((line, _)) = state.first_line(&self.shares) else { return Vec::new() };
        let Some(first) = state.lines[line].take(now, self.limits.run_time) else {
            return Vec::new();
        };
        self.shares.begin(&first.caller.tenant);
        let run_time = self.limits.run_time;
        let in_time = state.pace.rows_in(run_time, &first.key).filter(|_| first.joins);
        let room = room(&first, Known { in_time, pays: state.pace.pays(&first.key) });
        let rows = if first.left() <= room.whole { first.left() } else { room.part };
        let mut taken = vec![Share { job: first, rows }];
        if taken[0].job.joins {
            self.fill(&mut state, &mut taken, line, room);
        }
        state.lines.retain(|line| !line.jobs.is_empty());
        for share in taken.iter().filter(|share| share.job.done == 0) {
            let waited = now.saturating_duration_since(share.job.since);
            state.pace.waited(share.job.forecast, waited);
        }
        let rows = taken.iter().map(|share| share.rows).sum();
        let takes = state.pace.time_of(&taken[0].job.key, rows);
        state.busy_until = takes.and_then(|takes| now.checked_add(takes));
        taken
    }

    /// What whoever goes first here has used of the device; `None` where nobody waits.
    pub(crate) fn least_used(&self) -> Option<f64> {
        self.lock().first_line(&self.shares).map(|(_, used)| used)
    }

    /// Puts a job with rows left behind all others, so that each who waits has a turn before it
    /// goes on. It is served even where the queue is full or closed.
    pub(crate) fn put_back(&self, mut job: Job) {
        let mut state = self.lock();
        job.takes = state.time_of(&job);
        let tenant = Arc::clone(&job.caller.tenant);
        state.line(&tenant).jobs.push_back(job);
        self.changed.notify_one();
    }

    /// Notes how much of the device a run took, and whether it had one slot of it.
    pub(crate) fn ran(&self, key: &Key, rows: usize, took: Duration, is_narrow: bool) {
        let mut state = self.lock();
        state.pace.ran(key, rows, took, is_narrow);
        state.busy_until = None;
    }

    /// Notes that a run is over, which says nothing about others.
    pub(crate) fn failed(&self) {
        self.lock().busy_until = None;
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
        state.lines.clear();
    }

    pub(crate) fn depth(&self) -> usize {
        self.lock().depth()
    }

    /// A panic elsewhere cannot leave the state half changed, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
