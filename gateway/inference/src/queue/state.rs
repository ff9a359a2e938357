//! What waits in a queue, and what is known of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::line::Line;
use super::pace::Pace;
use super::refusals::Refusals;
use super::{Job, Shares};

#[derive(Default)]
pub(super) struct State {
    /// One per tenant that has jobs here.
    pub(super) lines: Vec<Line>,
    pub(super) pace: Pace,
    pub(super) refusals: Refusals,
    pub(super) open: bool,
    /// When the runs under way should be over.
    pub(super) busy_until: Option<Instant>,
    /// Jobs that ran in part before their callers left, until the next run.
    pub(super) in_vain: Vec<Job>,
}

impl State {
    pub(super) fn depth(&self) -> usize {
        self.lines.iter().map(|line| line.jobs.len()).sum()
    }

    pub(super) fn rows(&self) -> usize {
        let rows = self.lines.iter().flat_map(|line| &line.jobs).map(Job::left);
        rows.fold(0, usize::saturating_add)
    }

    pub(super) fn first_came(&self) -> Option<Instant> {
        self.lines.iter().flat_map(|line| &line.jobs).map(|job| job.since).min()
    }

    /// How long the first may wait for others: half of the time that anybody has.
    pub(super) fn spare_time(&self) -> Duration {
        let jobs = self.lines.iter().flat_map(|line| &line.jobs);
        let time = jobs.map(|job| job.deadline.saturating_duration_since(job.since));
        time.min().unwrap_or_default() / 2
    }

    pub(super) fn bury(&mut self, now: Instant) {
        self.lines.retain_mut(|line| {
            line.bury(now, &mut self.in_vain);
            !line.jobs.is_empty()
        });
    }

    pub(super) fn line(&mut self, tenant: &Arc<str>) -> &mut Line {
        let at = self.lines.iter().position(|line| line.tenant == *tenant);
        let at = at.unwrap_or_else(|| {
            self.lines.push(Line::new(tenant));
            self.lines.len() - 1
        });
        &mut self.lines[at]
    }

    pub(super) fn longest(&self) -> Option<usize> {
        (0..self.lines.len()).max_by_key(|&line| self.lines[line].jobs.len())
    }

    /// The line whose tenant has used the device least, and how much that is; of equals the one
    /// whose first job is older.
    pub(super) fn first_line(&self, shares: &Shares) -> Option<(usize, f64)> {
        let lines = self.lines.iter().enumerate();
        let used = lines.map(|(n, line)| (n, shares.used(&line.tenant)));
        let since = |n: usize| self.lines[n].jobs.front().map(|job| job.since);
        used.min_by(|a, b| a.1.total_cmp(&b.1).then_with(|| since(a.0).cmp(&since(b.0))))
    }

    /// What is left of a job; nothing where it is not known.
    pub(super) fn time_of(&self, job: &Job) -> Duration {
        self.pace.time_of(&job.key, job.left()).unwrap_or_default()
    }
}
