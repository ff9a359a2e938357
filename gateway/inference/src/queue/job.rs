//! A request on its way through a model, in one run or in several.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gw_engine::Value;
use tokio::sync::oneshot;

use super::{Present, Spent};
use crate::batch::{self, Key};
use crate::{Caller, Inference, InferenceError};

/// A request that waits, already checked against the signature.
pub(crate) struct Job {
    pub(crate) caller: Arc<Caller>,
    /// What the model was called by whoever asked.
    pub(crate) model: Arc<str>,
    /// Counts its tenant as waiting on the device.
    pub(crate) _present: Present,
    pub(crate) since: Instant,
    /// How much of the device its rows take, as far as that is known when it comes.
    pub(crate) takes: Duration,
    /// How long it was to wait when it came, by what was known then.
    pub(crate) forecast: Duration,
    /// In the signature's order.
    pub(crate) inputs: Vec<Value>,
    /// Whether its outputs may stay on the device.
    pub(crate) keeps: bool,
    /// Its rows.
    pub(crate) rows: usize,
    /// Whether it may share its run with jobs of the same key, and be cut between its rows; all
    /// its inputs are in host memory then. Another runs alone and whole.
    pub(crate) joins: bool,
    /// The shape of a row, or of the whole where it does not join.
    pub(crate) key: Key,
    pub(crate) deadline: Instant,
    /// Whether models have worked for the same caller's request before.
    pub(crate) goes_on: bool,
    pub(crate) spent: Arc<Spent>,
    pub(crate) reply: oneshot::Sender<Result<Inference<Value>, InferenceError>>,
    /// How many of its rows are answered, and the outputs of each part so far.
    pub(crate) done: usize,
    pub(crate) parts: Vec<Vec<Value>>,
    /// Device time of its runs that nobody knows to be in vain yet.
    pub(crate) used: Duration,
}

impl Job {
    /// The rows that are not answered yet.
    pub(crate) fn left(&self) -> usize {
        self.rows - self.done
    }

    /// Whether something was done for it that would be in vain if it came too late.
    pub(crate) fn has_begun(&self) -> bool {
        self.done > 0 || self.goes_on
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_dead(&self, now: Instant) -> bool {
        self.deadline <= now || self.reply.is_closed()
    }

    /// Answers the caller; one that left meanwhile is no error.
    pub(crate) fn reply(self, result: Result<Inference<Value>, InferenceError>) {
        let _ = self.reply.send(result);
    }
}

/// The next rows of a job, which take part in one run.
pub(crate) struct Share {
    pub(crate) job: Job,
    pub(crate) rows: usize,
}

impl Share {
    /// Whether it is all of its job.
    pub(crate) fn is_whole(&self) -> bool {
        self.rows == self.job.rows
    }

    /// Its rows of every input.
    pub(crate) fn inputs(&self) -> Vec<Value> {
        if self.is_whole() {
            return self.job.inputs.clone();
        }
        batch::rows_of(&self.job.inputs, self.job.done, self.rows)
    }

    /// Begins anew, with all rows at once.
    pub(crate) fn restart(&mut self) {
        self.job.parts.clear();
        self.job.done = 0;
        self.rows = self.job.rows;
    }
}
