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

    /// Removes the jobs that nobody waits for, and says how many. Their callers know: either they
    /// left, or their own timer fired.
    pub(super) fn bury(&mut self, now: Instant) -> usize {
        let before = self.jobs.len();
        self.jobs.retain(|job| !job.is_dead(now));
        before - self.jobs.len()
    }

    /// How long its jobs take, as far as that is known, where each that is not done within `turn`
    /// holds up another for only so long.
    pub(super) fn time(&self, turn: Duration, now: Instant) -> Duration {
        let live = self.jobs.iter().filter(|job| !job.is_dead(now));
        live.map(|job| job.takes.min(turn)).fold(Duration::ZERO, Duration::saturating_add)
    }
}
