//! The requests of one tenant that wait for one model, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Job;

pub(super) struct Line {
    pub(super) tenant: Arc<str>,
    pub(super) jobs: VecDeque<Job>,
}

impl Line {
    pub(super) fn new(tenant: &Arc<str>) -> Self {
        Self { tenant: Arc::clone(tenant), jobs: VecDeque::new() }
    }

    /// Removes the jobs that nobody waits for; those that have run in part go to `begun`. Their
    /// callers know: either they left, or their own timer fired.
    pub(super) fn bury(&mut self, now: Instant, begun: &mut Vec<Job>) {
        if self.jobs.iter().any(|job| job.is_dead(now)) {
            let jobs = std::mem::take(&mut self.jobs).into_iter();
            let (dead, live): (VecDeque<Job>, VecDeque<Job>) =
                jobs.partition(|job| job.is_dead(now));
            self.jobs = live;
            begun.extend(dead.into_iter().filter(|job| job.done > 0));
        }
    }

    /// Takes away the last job that has not begun: what has begun is served to its end.
    pub(super) fn pop_unbegun(&mut self) -> Option<Job> {
        let last = self.jobs.iter().rposition(|job| job.done == 0)?;
        self.jobs.remove(last)
    }

    /// Takes away the job that goes first: the oldest, or one that has begun and that turns of
    /// others would make late. Of those that have begun the earlier deadline goes first, so what
    /// was admitted ends in time, one after another, and not all of them too late.
    pub(super) fn take(&mut self, now: Instant, run_time: Duration) -> Option<Job> {
        let turn = self.jobs.front()?.takes.min(run_time);
        let mut begun: Vec<usize> =
            (0..self.jobs.len()).filter(|&at| self.jobs[at].has_begun()).collect();
        begun.sort_by_key(|&at| self.jobs[at].deadline);
        // One turn goes first, and another for what is not known.
        let mut needs = turn.saturating_mul(2);
        let is_late = |&at: &usize| {
            let Job { takes, deadline, .. } = self.jobs[at];
            needs = needs.saturating_add(takes);
            needs > deadline.saturating_duration_since(now)
        };
        // How much a guest still asks nobody knows, and each call of it seems short.
        let goes_on = |&at: &usize| self.jobs[at].goes_on;
        let is_urgent = begun.first().is_some_and(goes_on) || begun.iter().any(is_late);
        let first = begun.first().copied().filter(|_| is_urgent);
        self.jobs.remove(first.unwrap_or(0))
    }

    /// How long its jobs take, as far as that is known, where each that is not done within `turn`
    /// holds up another for only so long.
    pub(super) fn time(&self, turn: Duration, now: Instant) -> Duration {
        let live = self.jobs.iter().filter(|job| !job.is_dead(now));
        live.map(|job| job.takes.min(turn)).fold(Duration::ZERO, Duration::saturating_add)
    }
}
