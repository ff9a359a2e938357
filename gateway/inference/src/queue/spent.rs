//! Where the time of a request goes.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where the time of one request to a model goes. It can be read at any moment, also when the
/// request was withdrawn.
#[derive(Debug, Default)]
pub struct Spent(Mutex<Split>);

#[derive(Clone, Copy, Debug, Default)]
struct Split {
    queue: Duration,
    compute: Duration,
    /// What it does now, and since when; `None` before it came and once it is over.
    now: Option<(Doing, Instant)>,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// It waits for the device, at first or between its parts.
    Waits,
    /// It is in a run.
    Runs,
}

impl Spent {
    /// How long it waited for the device until now.
    pub fn queue(&self) -> Duration {
        self.until(Instant::now()).queue
    }

    /// How long its runs took until now.
    pub fn compute(&self) -> Duration {
        self.until(Instant::now()).compute
    }

    /// From `at` on it does this.
    pub(crate) fn turn(&self, doing: Doing, at: Instant) {
        self.change(Some(doing), at);
    }

    /// It is over.
    pub(crate) fn end(&self, at: Instant) {
        self.change(None, at);
    }

    fn change(&self, doing: Option<Doing>, at: Instant) {
        let mut split = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *split = Split { now: doing.map(|doing| (doing, at)), ..split.until(at) };
    }

    fn until(&self, at: Instant) -> Split {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).until(at)
    }
}

impl Split {
    fn until(mut self, at: Instant) -> Self {
        if let Some((doing, since)) = self.now {
            let took = at.saturating_duration_since(since);
            match doing {
                Doing::Waits => self.queue += took,
                Doing::Runs => self.compute += took,
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_and_running_are_told_apart() {
        let spent = Spent::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        spent.turn(Doing::Waits, at(0));
        spent.turn(Doing::Runs, at(3));
        spent.turn(Doing::Waits, at(4));
        let split = spent.until(at(10));
        assert_eq!((split.queue.as_secs(), split.compute.as_secs()), (9, 1));
        spent.turn(Doing::Runs, at(10));
        spent.end(at(12));
        assert_eq!((spent.queue().as_secs(), spent.compute().as_secs()), (9, 3));
    }
}
