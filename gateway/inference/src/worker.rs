//! The thread behind each loaded model: it takes what waits the moment its device is free.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use gw_artifact::Digest;
use gw_tensor::Tensor;
use tokio::sync::watch;

use crate::batch::{self, Joining};
use crate::metrics::ModelMetrics;
use crate::queue::{Job, Queue, Refused};
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
            queue: Queue::new(limits.queue_max),
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

    pub(crate) fn submit(&self, job: Job) -> Result<(), Refused> {
        self.shared.queue.push(job)?;
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
}

struct Worker {
    name: String,
    device: Arc<str>,
    model: Box<dyn LoadedModel>,
    turn: Option<Arc<Turn>>,
    batch_max: usize,
    joinable: bool,
    shared: Arc<Shared>,
    _finish: watch::Sender<()>,
}

/// A finished run.
struct Ran {
    /// The outputs of each request.
    parts: Vec<Vec<(String, Tensor)>>,
    started: Instant,
    compute: Duration,
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
            let batch_max = if self.joinable { self.batch_max } else { 0 };
            let jobs = self.shared.queue.take(batch_max, Instant::now());
            self.shared.count_waiting();
            if !jobs.is_empty() {
                self.serve(jobs);
                self.shared.publish(self.model.footprint());
            }
        }
    }

    /// Answers some requests in one run, or each in its own where that fails: only the guilty one
    /// may get an error.
    fn serve(&mut self, jobs: Vec<Job>) {
        match self.run(&jobs) {
            Ok(ran) => self.answer(jobs, ran),
            Err(Failure::Model(error)) if jobs.len() == 1 => {
                for job in jobs {
                    job.reply(Err((*error).clone()));
                }
            }
            Err(failure) => {
                match failure {
                    Failure::Model(error) => {
                        tracing::debug!(model = %self.name, %error, "a batch failed");
                    }
                    Failure::NotSplittable => {
                        self.joinable = false;
                        tracing::warn!(
                            model = %self.name,
                            "the outputs do not follow the rows of the inputs; it is not batched"
                        );
                    }
                }
                for job in jobs {
                    if !job.is_dead(Instant::now()) {
                        self.serve(vec![job]);
                    }
                }
            }
        }
    }

    fn run(&self, jobs: &[Job]) -> Result<Ran, Failure> {
        let requests: Vec<&[Tensor]> = jobs.iter().map(|job| job.inputs.as_slice()).collect();
        let mut rows: Vec<usize> = jobs.iter().map(|job| job.rows).collect();
        let batch = rows.iter().sum();
        let padding = match jobs[0].key {
            Some(_) if self.joinable && batch > 0 => self.model.padded_rows(batch) - batch,
            _ => 0,
        };
        let whole = jobs.len() == 1 && padding == 0;
        let inputs = if whole { jobs[0].inputs.clone() } else { batch::join(&requests, padding) };
        let names = self.model.signature().inputs.iter().map(|spec| spec.name.clone());
        let inputs: Vec<(String, Tensor)> = names.zip(inputs).collect();

        let started = Instant::now();
        let outputs = self.model.run(&inputs).map_err(|error| Failure::Model(Box::new(error)))?;
        let compute = started.elapsed();
        self.shared.metrics.ran(batch, compute);
        if whole {
            return Ok(Ran { parts: vec![outputs], started, compute, batch });
        }
        let (names, outputs): (Vec<String>, Vec<Tensor>) = outputs.into_iter().unzip();
        rows.push(padding);
        let parts = batch::split(&outputs, &rows).map_err(|_| Failure::NotSplittable)?;
        let named = |part: Vec<Tensor>| names.iter().cloned().zip(part).collect();
        Ok(Ran { parts: parts.into_iter().map(named).collect(), started, compute, batch })
    }

    fn answer(&self, jobs: Vec<Job>, ran: Ran) {
        for (job, outputs) in jobs.into_iter().zip(ran.parts) {
            let queue = ran.started.saturating_duration_since(job.queued);
            self.shared.metrics.waited(queue);
            let device = Arc::clone(&self.device);
            let (compute, batch) = (ran.compute, ran.batch);
            job.reply(Ok(Inference { outputs, queue, compute, batch, device }));
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
