//! The thread behind each loaded model: it takes what waits the moment its device is free.
//!
//! - `recover`: what it does about faults of its device and of its model.
//! - `nan`: whether an answer holds what is not a number.

mod nan;
mod recover;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use gw_artifact::Digest;
use gw_engine::Value;
use tokio::sync::watch;

use crate::batch::{self, Joining};
use crate::metrics::ModelMetrics;
use crate::queue::{Doing, Job, Queue, Refused, Room, Share};
use crate::{Footprint, Inference, InferenceError, LoadedModel, Signature};

/// What the callers of a model and its worker share. Dropping it closes the queue, which ends the
/// worker and frees the model.
pub(crate) struct Core {
    pub(crate) digest: Digest,
    pub(crate) device: Arc<str>,
    pub(crate) signature: Signature,
    pub(crate) joining: Joining,
    shared: Arc<Shared>,
    finished: watch::Receiver<()>,
}

struct Shared {
    queue: Queue,
    metrics: ModelMetrics,
    published: Mutex<Published>,
}

/// What the gauges hold on behalf of one model.
#[derive(Default)]
struct Published {
    waiting: usize,
    footprint: Footprint,
}

impl Core {
    /// Starts the worker of a loaded model. `turn` is shared by the models of a device that runs
    /// one thing at a time.
    pub(crate) fn start(
        name: &str,
        digest: Digest,
        model: Box<dyn LoadedModel>,
        turn: Option<Arc<Turn>>,
        limits: Limits,
        metrics: ModelMetrics,
    ) -> Result<Self, InferenceError> {
        let device: Arc<str> = model.device().into();
        let signature = model.signature().clone();
        let joining = Joining::of(&signature, model.rows_are_independent());
        let shared = Arc::new(Shared {
            queue: Queue::new(limits.queue_max, limits.run_time),
            metrics,
            published: Mutex::default(),
        });
        shared.publish(model.footprint());
        let (finish, finished) = watch::channel(());
        let worker = Worker {
            name: name.to_owned(),
            device: Arc::clone(&device),
            turn,
            batch_max: limits.batch_max.min(model.rows_side_by_side().unwrap_or(usize::MAX)),
            keep_bytes_min: limits.keep_bytes_min,
            refuse_nan: limits.refuse_nan,
            model,
            joinable: joining == Joining::Rows,
            shared: Arc::clone(&shared),
            _finish: finish,
        };
        thread::Builder::new()
            .name(format!("infer-{name}").chars().take(15).collect())
            .spawn(move || worker.work())
            .map_err(|error| InferenceError::Load {
                model: name.to_owned(),
                reason: format!("its worker thread does not start: {error}"),
            })?;
        Ok(Self { digest, device, signature, joining, shared, finished })
    }

    pub(crate) fn submit(&self, job: Job, now: Instant) -> Result<(), Refused> {
        self.shared.queue.push(job, now)?;
        self.shared.count_waiting();
        Ok(())
    }

    pub(crate) fn footprint(&self) -> Footprint {
        self.shared.published().footprint
    }

    /// Refuses new requests; those that wait are answered, then the memory is freed.
    pub(crate) fn close(&self) {
        self.shared.queue.close();
    }

    /// Waits until the worker is gone.
    pub(crate) async fn finished(&self) {
        // The worker holds the sender and never sends: an error says that it ended.
        while self.finished.clone().changed().await.is_ok() {}
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn count_waiting(&self) {
        let mut published = self.published();
        let waiting = self.queue.depth();
        self.metrics.waiting(published.waiting, waiting);
        published.waiting = waiting;
    }

    fn publish(&self, footprint: Footprint) {
        let mut published = self.published();
        self.metrics.resident(published.footprint, footprint);
        published.footprint = footprint;
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The limits of one model's queue and runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) queue_max: usize,
    pub(crate) batch_max: usize,
    pub(crate) run_time: Duration,
    /// Bytes from which an output is worth to stay on the device, where its caller wants that.
    pub(crate) keep_bytes_min: u64,
    /// Whether an answer that is not a number is an error.
    pub(crate) refuse_nan: bool,
}

/// How many rows of one request run before anything is measured: enough to measure, few enough
/// that nobody waits long.
const UNMEASURED_ROWS: usize = 4;

struct Worker {
    name: String,
    device: Arc<str>,
    model: Box<dyn LoadedModel>,
    turn: Option<Arc<Turn>>,
    batch_max: usize,
    keep_bytes_min: u64,
    refuse_nan: bool,
    joinable: bool,
    shared: Arc<Shared>,
    _finish: watch::Sender<()>,
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
        while self.shared.queue.wait() {
            // Take only once the device is free: until then more requests may join.
            let turn = self.turn.clone();
            let _held = turn.as_ref().map(|turn| turn.acquire());
            let room = |job: &Job, in_time| self.room(job, in_time);
            let shares = self.shared.queue.take(Instant::now(), room);
            self.shared.count_waiting();
            if !shares.is_empty() {
                self.serve(shares);
                self.shared.publish(self.model.footprint());
            }
        }
    }

    /// How many rows run at once, where `in_time` rows of this job are done in the time that a
    /// run should take.
    fn room(&self, job: &Job, in_time: Option<usize>) -> Room {
        if !self.joinable {
            return Room { whole: usize::MAX, part: usize::MAX, joined: 0 };
        }
        let whole = in_time.unwrap_or(UNMEASURED_ROWS);
        // A cut is made where the device needs no padding.
        let mut parts = (1..=whole.min(job.left())).rev();
        let part = parts.find(|&rows| self.model.padded_rows(rows) == rows).unwrap_or(1);
        Room { whole, part, joined: self.batch_max.min(in_time.unwrap_or(self.batch_max)) }
    }

    /// Answers some requests in one run, or each in its own where that fails: only the guilty one
    /// may get an error.
    fn serve(&mut self, mut shares: Vec<Share>) {
        if !self.joinable {
            shares.iter_mut().for_each(Share::restart);
        }
        match self.run(&shares) {
            Ok(ran) => self.answer(shares, ran),
            Err(Failure::Model(error)) if self.shortens(&error, &mut shares) => self.serve(shares),
            Err(Failure::Model(error)) if shares.len() == 1 => {
                for share in shares {
                    share.job.reply(Err((*error).clone()));
                }
            }
            Err(failure) => {
                match failure {
                    Failure::Model(error) => {
                        tracing::debug!(model = %self.name, %error, "a batch failed");
                    }
                    Failure::NotSplittable => self.stop_joining(),
                }
                for share in shares {
                    if !share.job.is_dead(Instant::now()) {
                        self.serve(vec![share]);
                    }
                }
            }
        }
    }

    fn stop_joining(&mut self) {
        self.joinable = false;
        tracing::warn!(
            model = %self.name,
            "the outputs do not follow the rows of the inputs; it is neither batched nor cut"
        );
    }

    fn run(&self, shares: &[Share]) -> Result<Ran, Failure> {
        let mut requests: Vec<Vec<Value>> = shares.iter().map(Share::inputs).collect();
        let mut rows: Vec<usize> = shares.iter().map(|share| share.rows).collect();
        let batch = rows.iter().sum();
        let key = shares[0].job.key.as_ref().filter(|_| self.joinable && batch > 0);
        let padding = key.map_or(0, |_| self.model.padded_rows(batch) - batch);
        let alone = shares.len() == 1 && padding == 0;
        let inputs = if alone {
            requests.remove(0)
        } else {
            let requests: Vec<&[Value]> = requests.iter().map(Vec::as_slice).collect();
            batch::join(&requests, padding)
        };
        let names = self.model.signature().inputs.iter().map(|spec| spec.name.clone());
        let inputs: Vec<(String, Value)> = names.zip(inputs).collect();
        let keep = self.keep(shares, batch + padding);

        let started = Instant::now();
        for share in shares {
            share.job.spent.turn(Doing::Runs, started);
        }
        let outputs = self.model.run_values(&inputs, keep);
        let ended = Instant::now();
        for share in shares {
            share.job.spent.turn(Doing::Waits, ended);
        }
        let outputs = outputs.map_err(|error| Failure::Model(Box::new(error)))?;
        let compute = ended.saturating_duration_since(started);
        self.shared.metrics.ran(batch, compute);
        if let Some(key) = key {
            self.shared.queue.ran(key, batch + padding, compute);
        }

        let (names, outputs): (Vec<String>, Vec<Value>) = outputs.into_iter().unzip();
        if alone && shares[0].is_whole() {
            return Ok(Ran { names, parts: vec![outputs], batch });
        }
        rows.push(padding);
        let parts = batch::split(&outputs, &rows).map_err(|_| Failure::NotSplittable)?;
        Ok(Ran { names, parts, batch })
    }

    /// From how many bytes on the outputs of a run of `rows` rows stay on the device; `None` where
    /// they come to the host, because somebody wants them there or has only a part of an answer.
    /// They stay where the rows of each are worth it.
    fn keep(&self, shares: &[Share], rows: usize) -> Option<u64> {
        if !shares.iter().all(|share| share.job.keeps && share.is_whole()) {
            return None;
        }
        let fewest = shares.iter().map(|share| share.rows).min().filter(|&rows| rows > 0)?;
        Some(self.keep_bytes_min.saturating_mul(rows as u64) / fewest as u64)
    }

    fn answer(&mut self, shares: Vec<Share>, ran: Ran) {
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
                self.serve(vec![share]);
                continue;
            };
            let spent = Arc::clone(&share.job.spent);
            spent.end(Instant::now());
            self.shared.metrics.waited(spent.queue());
            let outputs = ran.names.iter().cloned().zip(outputs).collect();
            let (queue, compute, batch) = (spent.queue(), spent.compute(), ran.batch);
            let device = Arc::clone(&self.device);
            share.job.reply(Ok(Inference { outputs, queue, compute, batch, device }));
        }
    }
}

impl Drop for Worker {
    /// However the worker ends, no caller may wait for it, and the ledger no longer counts it.
    fn drop(&mut self) {
        self.shared.queue.abandon();
        self.shared.count_waiting();
        self.shared.publish(Footprint::default());
    }
}

/// The right to run on a device that does one thing at a time, granted in the order of asking: a
/// plain mutex would let a busy model starve its neighbours.
#[derive(Default)]
pub(crate) struct Turn {
    tickets: Mutex<Tickets>,
    changed: Condvar,
}

#[derive(Default)]
struct Tickets {
    next: u64,
    serving: u64,
}

impl Turn {
    fn acquire(&self) -> Held<'_> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = tickets.next;
        tickets.next += 1;
        while tickets.serving != mine {
            tickets = self.changed.wait(tickets).unwrap_or_else(PoisonError::into_inner);
        }
        Held(self)
    }
}

struct Held<'a>(&'a Turn);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.tickets.lock().unwrap_or_else(PoisonError::into_inner).serving += 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
