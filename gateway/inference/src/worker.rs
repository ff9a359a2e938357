//! The threads behind each loaded model: they take what waits the moment their device is free.
//!
//! - `core`: what they share with the callers.
//! - [`lane`]: the device, and whose turn it is.
//! - `recover`: what they do about faults of their device and of their model.
//! - [`nice`]: how far threads that compute give way to those that answer.
//! - `nan`: whether an answer holds what is not a number.

mod core;
pub(crate) mod lane;
mod nan;
pub(crate) mod nice;
mod recover;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gw_engine::Value;

pub(crate) use self::core::{Core, Home, IDLE_MIN, Limits, Start};
use self::core::{Ending, Shared};
use self::lane::{Held, Lane, Taken};
use self::recover::is_of_device;
use crate::batch;
use crate::metrics::usage::Given;
use crate::queue::{Doing, Job, Known, Patience, Room, Share, Woken};
use crate::{Inference, InferenceError, LoadedModel};

/// How many rows of one request run before anything is measured: enough to measure, few enough
/// that nobody waits long.
const UNMEASURED_ROWS: usize = 4;

struct Worker {
    model: Arc<dyn LoadedModel>,
    lane: Arc<Lane>,
    batch_max: usize,
    keep_bytes_min: u64,
    refuse_nan: bool,
    patience: Patience,
    /// How long it is kept when nobody asks.
    keeps: Option<Duration>,
    shared: Arc<Shared>,
    // Last: it tells that the model is gone.
    _ending: Arc<Ending>,
}

/// A finished run.
struct Ran {
    names: Vec<String>,
    /// The outputs of each share.
    parts: Vec<Vec<Value>>,
    batch: usize,
}

enum Failure {
    Model(Box<InferenceError>),
    NotSplittable,
}

impl Worker {
    fn work(mut self) {
        loop {
            match self.shared.queue.wait(&self.patience) {
                Woken::Work => self.patience.idle = self.keeps,
                Woken::Idle => {
                    self.patience.idle = self.shared.home.idle().or(self.keeps);
                    continue;
                }
                Woken::Closed => return,
            }
            // Take only once the device is free: until then more requests may join.
            let mut held = self.lane.acquire(&self.shared.queue);
            let room = |job: &Job, known| self.room(job, known);
            let mut in_vain = Vec::new();
            let shares = self.shared.queue.take(Instant::now(), room, &mut in_vain);
            for job in in_vain {
                self.shared.metrics.usage.wasted(&job.caller, &job.model, job.used);
            }
            self.shared.count_waiting();
            if shares.is_empty() {
                continue;
            }
            if self.shared.queue.depth() == 0 {
                held.widen();
            }
            let (begun, requests) = (Instant::now(), shares.len());
            let rows = shares.iter().map(|share| share.rows).sum();
            self.serve(shares, &held);
            self.patience = self.patience.after(Instant::now(), requests, rows, begun.elapsed());
            drop(held);
            self.shared.publish(self.model.footprint());
            self.shared.home.ran();
        }
    }

    fn is_joinable(&self) -> bool {
        self.shared.joinable.load(Ordering::Relaxed)
            && self.model.rows_are_independent() == Some(true)
    }

    /// How many rows run at once, by what is known of rows as this job has.
    fn room(&self, job: &Job, known: Known) -> Room {
        if !self.is_joinable() {
            return Room { whole: usize::MAX, part: usize::MAX, joined: 0 };
        }
        let Known { in_time, pays } = known;
        let whole = in_time.unwrap_or(UNMEASURED_ROWS);
        // A cut is made where the device needs no padding.
        let mut parts = (1..=whole.min(job.left())).rev();
        let part = parts.find(|&rows| self.model.padded(rows) == rows).unwrap_or(1);
        let pays = if self.model.joining_is_measured() { pays } else { usize::MAX };
        let joined = self.batch_max.min(in_time.unwrap_or(self.batch_max)).min(pays);
        Room { whole, part, joined }
    }

    /// Answers some requests in one run, or each in its own where that fails: only the guilty one
    /// may get an error.
    fn serve(&mut self, mut shares: Vec<Share>, held: &Held) {
        if !self.is_joinable() {
            shares.iter_mut().for_each(Share::restart);
        }
        let mut ran = self.run(&mut shares, held, |length| self.model.padded(length));
        // A length that the device would rather run may be one that the model does not take.
        if let (Err(Failure::Model(error)), [share]) = (&ran, &*shares)
            && matches!(**error, InferenceError::Run { .. })
            && self.is_grown(share)
        {
            ran = self.run(&mut shares, held, |length| length);
        }
        match ran {
            Ok(ran) => self.answer(shares, ran, held),
            Err(Failure::Model(error)) if self.may_be_repeated(&error, &mut shares) => {
                self.serve(shares, held);
            }
            Err(Failure::Model(error)) if shares.len() == 1 || is_of_device(&error) => {
                for share in shares {
                    share.job.reply(Err((*error).clone()));
                }
            }
            Err(failure) => {
                match failure {
                    Failure::Model(error) => {
                        tracing::debug!(model = %self.shared.name, %error, "a batch failed");
                    }
                    Failure::NotSplittable => self.stop_joining(),
                }
                for share in shares {
                    if !share.job.is_dead(Instant::now()) {
                        self.serve(vec![share], held);
                    }
                }
            }
        }
    }

    fn stop_joining(&self) {
        self.shared.joinable.store(false, Ordering::Relaxed);
        tracing::warn!(
            model = %self.shared.name,
            "the outputs do not follow the rows and the lengths of the inputs as the model says; \
             it is neither batched nor padded nor cut"
        );
    }

    /// Where lengths may grow, they grow to what `grown` makes of the longest.
    fn run(
        &self,
        shares: &mut [Share],
        held: &Held,
        grown: impl Fn(usize) -> usize,
    ) -> Result<Ran, Failure> {
        let mut rows: Vec<usize> = shares.iter().map(|share| share.rows).collect();
        let batch = rows.iter().sum();
        let joined = self.is_joinable() && shares[0].job.joins;
        let padding = match joined && batch > 0 {
            true => self.model.padded(batch) - batch,
            false => 0,
        };
        let lengths = joined.then(|| self.lengths(shares, grown)).flatten();
        let alone = shares.len() == 1 && padding == 0;
        let mut requests = self.requests(shares, lengths.as_ref());
        let inputs = match alone {
            true => requests.remove(0),
            false => {
                let requests: Vec<&[Value]> = requests.iter().map(Vec::as_slice).collect();
                batch::join(&requests, padding)
            }
        };
        let names = self.model.signature().inputs.iter().map(|spec| spec.name.clone());
        let inputs: Vec<(String, Value)> = names.zip(inputs).collect();
        let keep = self.keep(shares, batch + padding).filter(|_| lengths.is_none());

        let started = Instant::now();
        for share in &*shares {
            share.job.spent.turn(Doing::Runs, started);
        }
        let (outputs, taken) = held.run(|| match held.is_whole() {
            true => self.model.run_values(&inputs, keep),
            false => self.model.run_beside(&inputs),
        });
        self.note(shares, batch, taken, outputs.is_ok());
        let outputs = outputs.map_err(|error| {
            self.shared.queue.failed();
            Failure::Model(Box::new(error))
        })?;
        self.shared.metrics.ran(batch, taken.compute);
        let (key, size) = (&shares[0].job.key, if joined { batch + padding } else { 1 });
        self.shared.queue.ran(key, size, taken.device, held.is_narrow());

        let (names, outputs): (Vec<String>, Vec<Value>) = outputs.into_iter().unzip();
        let parts = match alone && shares[0].is_whole() {
            true => vec![outputs],
            false => {
                rows.push(padding);
                batch::split(&outputs, &rows).map_err(|_| Failure::NotSplittable)?
            }
        };
        let parts = self.cut(parts, lengths.as_ref()).ok_or(Failure::NotSplittable)?;
        Ok(Ran { names, parts, batch })
    }

    /// The lengths of each share, and those that the run has, where they may grow.
    fn lengths(&self, shares: &[Share], grown: impl Fn(usize) -> usize) -> Option<Lengths> {
        let padding = self.shared.padding.as_ref()?;
        let own: Vec<_> = shares.iter().map(|share| padding.lengths(&share.job.inputs)).collect();
        let longest = |n: usize| own.iter().map(|lengths| lengths[n]).max().unwrap_or(0);
        let all = (0..own.first()?.len()).map(|n| grown(longest(n))).collect();
        Some(Lengths { own, all })
    }

    /// Whether a request that runs alone does not run at its own lengths.
    fn is_grown(&self, share: &Share) -> bool {
        let Some(padding) = self.shared.padding.as_ref().filter(|_| share.job.joins) else {
            return false;
        };
        let lengths = padding.lengths(&share.job.inputs);
        lengths.iter().any(|&length| self.model.padded(length) != length)
    }

    /// The inputs of each share, all of the same lengths.
    fn requests(&self, shares: &[Share], lengths: Option<&Lengths>) -> Vec<Vec<Value>> {
        let requests = shares.iter().map(Share::inputs);
        match self.shared.padding.as_ref().zip(lengths) {
            Some((padding, lengths)) => {
                requests.map(|inputs| padding.grow(&inputs, &lengths.all)).collect()
            }
            None => requests.collect(),
        }
    }

    /// The outputs of each share, of its own lengths; `None` where they do not have those of the
    /// run.
    fn cut(&self, parts: Vec<Vec<Value>>, lengths: Option<&Lengths>) -> Option<Vec<Vec<Value>>> {
        match self.shared.padding.as_ref().zip(lengths) {
            Some((padding, lengths)) => {
                let parts = parts.iter().zip(&lengths.own);
                parts.map(|(outputs, own)| padding.cut(outputs, &lengths.all, own)).collect()
            }
            None => Some(parts),
        }
    }

    /// Notes on whose account a run goes: rows share it evenly, and fill is nobody's. One that
    /// failed, and is perhaps repeated, takes time and gives nothing.
    fn note(&self, shares: &mut [Share], batch: usize, taken: Taken, is_done: bool) {
        let count = shares.len();
        for share in shares {
            let job = &mut share.job;
            job.spent.turn(Doing::Waits, taken.ended);
            let part =
                if batch == 0 { 1.0 / count as f64 } else { share.rows as f64 / batch as f64 };
            let took = taken.device.mul_f64(part);
            self.shared.queue.shares().charge(&job.caller.tenant, took);
            let whole = batch::bytes(&job.inputs) as f64;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part")]
            let bytes_in = (whole * share.rows as f64 / job.rows.max(1) as f64) as u64;
            let given = is_done.then_some(Given { rows: share.rows, batch, bytes_in });
            self.shared.metrics.usage.part(&job.caller, &job.model, took, given);
            job.used += took;
            if job.is_dead(taken.ended) {
                let used = std::mem::take(&mut job.used);
                self.shared.metrics.usage.wasted(&job.caller, &job.model, used);
            }
        }
    }

    /// From how many bytes on the outputs of a run of `rows` rows stay on the device; `None` where
    /// they come to the host, because somebody wants them there or has only a part of an answer.
    /// They stay where the rows of each are worth it.
    fn keep(&self, shares: &[Share], rows: usize) -> Option<u64> {
        // What is on a device is not looked at.
        if self.refuse_nan || !shares.iter().all(|share| share.job.keeps && share.is_whole()) {
            return None;
        }
        let fewest = shares.iter().map(|share| share.rows).min().filter(|&rows| rows > 0)?;
        Some(self.keep_bytes_min.saturating_mul(rows as u64) / fewest as u64)
    }

    fn answer(&mut self, shares: Vec<Share>, ran: Ran, held: &Held) {
        for (mut share, outputs) in shares.into_iter().zip(ran.parts) {
            if let Some(error) = self.not_a_number(&ran.names, &outputs) {
                share.job.reply(Err(error));
                continue;
            }
            share.job.done += share.rows;
            share.job.parts.push(outputs);
            if share.job.left() > 0 {
                self.shared.queue.put_back(share.job);
                continue;
            }
            let Ok(outputs) = batch::concat(&share.job.parts) else {
                self.stop_joining();
                self.serve(vec![share], held);
                continue;
            };
            let spent = Arc::clone(&share.job.spent);
            spent.end(Instant::now());
            self.shared.metrics.waited(spent.queue());
            let (caller, model) = (&share.job.caller, &share.job.model);
            self.shared.metrics.usage.gave(caller, model, batch::bytes(&outputs));
            let outputs = ran.names.iter().cloned().zip(outputs).collect();
            let (queue, compute, batch) = (spent.queue(), spent.compute(), ran.batch);
            let device = Arc::clone(&self.shared.device);
            share.job.reply(Ok(Inference { outputs, queue, compute, batch, device }));
        }
    }
}

/// The lengths of a run.
struct Lengths {
    /// Of each share.
    own: Vec<Vec<usize>>,
    /// Of all inputs as they run.
    all: Vec<usize>,
}

#[cfg(test)]
mod tests;
