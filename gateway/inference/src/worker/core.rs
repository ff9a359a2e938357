//! What the callers of a model and its workers share, and how it begins and ends.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use gw_artifact::Digest;
use tokio::sync::watch;

use super::Worker;
use super::lane::Lane;
use super::nice::give_way;
use crate::batch::{Joining, Padding};
use crate::metrics::ModelMetrics;
use crate::metrics::usage::DeviceUsage;
use crate::queue::{Job, Patience, Queue, QueueLimits, Refused};
use crate::{Caller, Footprint, InferenceError, LoadedModel, ModelPolicy, Signature};

/// What the callers of a model and its workers share. Dropping it closes the queue, which ends the
/// workers and frees the model.
pub(crate) struct Core {
    pub(crate) digest: Digest,
    pub(crate) device: Arc<str>,
    pub(crate) signature: Signature,
    pub(crate) joining: Joining,
    pub(crate) padding: Option<Padding>,
    shared: Arc<Shared>,
    /// Its workers hold it.
    model: Weak<dyn LoadedModel>,
    finished: watch::Receiver<()>,
}

pub(super) struct Shared {
    pub(super) name: String,
    pub(super) device: Arc<str>,
    pub(super) queue: Arc<Queue>,
    pub(super) metrics: ModelMetrics,
    /// Whether its outputs follow the rows of its inputs, as far as was seen.
    pub(super) joinable: AtomicBool,
    pub(super) padding: Option<Padding>,
    published: Mutex<Published>,
    pub(super) home: Box<dyn Home>,
}

/// What the gauges hold on behalf of one model.
#[derive(Default)]
struct Published {
    waiting: usize,
    footprint: Footprint,
    /// Its workers are gone.
    ended: bool,
}

/// Whoever holds a model, and wants to know how it fares.
pub(crate) trait Home: Send + Sync {
    /// Nobody asked it for as long as it is kept; closing it now ends it. It tells when to look
    /// again, where that is sooner than after so long again.
    fn idle(&self) -> Option<Duration> {
        None
    }

    /// It ran, so it may hold more memory than before.
    fn ran(&self) {}

    /// A run found no memory: whether somebody has left the device for it. It waits for that, and
    /// so for nobody who needs the device to leave.
    fn make_room(&self) -> bool {
        false
    }

    /// Its workers are gone, and its memory is free.
    fn gone(&self) {}
}

/// An idle worker looks no more often than this whether it may go.
pub(crate) const IDLE_MIN: Duration = Duration::from_millis(10);

/// What a loaded model is started with.
pub(crate) struct Start<'a> {
    pub(crate) name: &'a str,
    pub(crate) digest: Digest,
    pub(crate) model: Box<dyn LoadedModel>,
    pub(crate) lane: Arc<Lane>,
    pub(crate) workers: usize,
    pub(crate) limits: Limits,
    pub(crate) policy: &'a ModelPolicy,
    pub(crate) metrics: ModelMetrics,
    pub(crate) home: Box<dyn Home>,
}

impl Core {
    /// Starts the workers of a loaded model.
    pub(crate) fn start(start: Start<'_>) -> Result<Self, InferenceError> {
        let Start { name, digest, model, lane, workers, limits, policy, metrics, home } = start;
        let model: Arc<dyn LoadedModel> = model.into();
        let device: Arc<str> = model.device().into();
        let signature = model.signature().clone();
        let failed = |reason: String| InferenceError::Load { model: name.to_owned(), reason };
        let joining = match policy.state.is_empty() {
            true => Joining::of(&signature, model.rows_are_independent()),
            false => Joining::Alone,
        };
        let padding = Padding::of(&signature, &policy.pad)
            .map_err(|reason| failed(format!("its inputs cannot be padded: {reason}")))?;
        if padding.is_some() && joining == Joining::Alone {
            return Err(failed(
                "its inputs cannot be padded: its rows may meet, so it is never batched".to_owned(),
            ));
        }
        let batch_max = limits.batch_max.min(policy.batch_max.unwrap_or(usize::MAX));
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            device: Arc::clone(&device),
            queue: Arc::new(Queue::new(name, limits.queue, Arc::clone(&lane.shares))),
            metrics,
            joinable: AtomicBool::new(joining == Joining::Rows),
            padding: padding.clone(),
            published: Mutex::default(),
            home,
        });
        shared.publish(model.footprint());
        let (finish, finished) = watch::channel(());
        let ending = Arc::new(Ending { shared: Arc::clone(&shared), _finish: finish });
        let idle = limits.keep_alive.map(|keep| keep.max(IDLE_MIN));
        // Nobody joins a model that is never batched.
        let delay = if joining == Joining::Rows { policy.max_delay } else { Duration::ZERO };
        let patience = Patience { delay, enough: batch_max, idle, again: None };
        let nice = limits.nice;
        for _ in 0..workers.max(1) {
            let worker = Worker {
                model: Arc::clone(&model),
                lane: Arc::clone(&lane),
                batch_max,
                keep_bytes_min: limits.keep_bytes_min,
                refuse_nan: policy.refuse_nan,
                patience,
                keeps: idle,
                shared: Arc::clone(&shared),
                _ending: Arc::clone(&ending),
            };
            thread::Builder::new()
                .name(format!("infer-{name}").chars().take(15).collect())
                .spawn(move || {
                    give_way(nice);
                    worker.work();
                })
                .map_err(|error| {
                    // Those that did start end.
                    shared.queue.abandon();
                    failed(format!("its worker thread does not start: {error}"))
                })?;
        }
        let model = Arc::downgrade(&model);
        Ok(Self { digest, device, signature, joining, padding, shared, model, finished })
    }

    pub(crate) fn submit(&self, job: Job, now: Instant) -> Result<(), Refused> {
        self.shared.queue.push(job, now)?;
        self.shared.count_waiting();
        Ok(())
    }

    /// Why a request would be refused now, if so.
    pub(crate) fn refusal(&self, caller: &Caller, deadline: Instant) -> Option<Refused> {
        self.shared.queue.refusal(&caller.tenant, deadline, Instant::now())
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.shared.queue
    }

    /// Where is noted what callers use.
    pub(crate) fn usage(&self) -> &DeviceUsage {
        &self.shared.metrics.usage
    }

    /// The memory that it holds, which is told to the gauges too.
    pub(crate) fn footprint(&self) -> Footprint {
        let known = self.shared.published().footprint;
        // What is kept on a device goes when its holder goes, without a word.
        if known.kept_bytes > 0
            && let Some(model) = self.model.upgrade()
        {
            self.shared.publish(model.footprint());
            return self.shared.published().footprint;
        }
        known
    }

    /// Refuses new requests; those that wait are answered, then the memory is freed.
    pub(crate) fn close(&self) {
        self.shared.queue.close();
    }

    /// Waits until the workers are gone.
    pub(crate) async fn finished(&self) {
        // The workers hold the sender and never send: an error says that they ended.
        while self.finished.clone().changed().await.is_ok() {}
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    pub(super) fn count_waiting(&self) {
        let mut published = self.published();
        let waiting = self.queue.depth();
        self.metrics.waiting(published.waiting, waiting);
        published.waiting = waiting;
    }

    pub(super) fn publish(&self, footprint: Footprint) {
        let mut published = self.published();
        let footprint = if published.ended { Footprint::default() } else { footprint };
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
    pub(crate) queue: QueueLimits,
    pub(crate) batch_max: usize,
    /// Bytes from which an output is worth to stay on the device, where its caller wants that.
    pub(crate) keep_bytes_min: u64,
    /// How long it stays when nobody asks it.
    pub(crate) keep_alive: Option<Duration>,
    /// How far its workers give way to threads that answer.
    pub(crate) nice: u8,
}

/// However the workers end, no caller may wait for them, and the ledger no longer counts them.
pub(super) struct Ending {
    shared: Arc<Shared>,
    _finish: watch::Sender<()>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.shared.queue.abandon();
        self.shared.count_waiting();
        self.shared.published().ended = true;
        self.shared.publish(Footprint::default());
        self.shared.home.gone();
    }
}
