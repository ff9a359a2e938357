//! A loaded model that many callers share.

pub mod policy;
mod spare;
mod state;
pub mod terms;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gw_artifact::Digest;
use gw_engine::Value;
use gw_tensor::Tensor;
use tokio::sync::oneshot;

pub(crate) use self::spare::LoadSpare;
use self::spare::Spare;
use crate::backend::read_back;
use crate::batch::Place;
use crate::metrics::usage::DeviceUsage;
use crate::metrics::{InferenceMetrics, Outcome, RequestMetrics};
use crate::models::{ModelState, Slot};
use crate::queue::{Doing, Job, Refused, Spent};
use crate::{Caller, Footprint, InferenceError, ModelPolicy, Signature, Terms};

/// A model under one name. Models loaded from the same file on the same device share its weights,
/// its queue and its batches; when the last of them is dropped, the memory is freed.
pub struct Model {
    name: Arc<str>,
    slot: Arc<Slot>,
    requests: RequestMetrics,
    spare: Option<Spare>,
}

/// An answer, with what it took.
#[derive(Clone, Debug)]
pub struct Inference<T = Tensor> {
    /// Every output by name, in the signature's order.
    pub outputs: Vec<(String, T)>,
    /// How long the request waited for the device, between its parts too.
    pub queue: Duration,
    /// How long the runs took that answered it.
    pub compute: Duration,
    /// Rows in the last of them, those of other requests included; 1 for a model that is never
    /// batched.
    pub batch: usize,
    /// The device that ran it.
    pub device: Arc<str>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("name", &self.name)
            .field("digest", &self.digest())
            .field("device", &self.device())
            .finish_non_exhaustive()
    }
}

impl Inference<Value> {
    /// The answer to a request whose outputs were not to stay on the device.
    fn into_host(self, model: &str) -> Result<Inference, InferenceError> {
        let Self { outputs, queue, compute, batch, device } = self;
        let host = |(name, value)| Ok((name, read_back(model, value)?));
        let outputs = outputs.into_iter().map(host).collect::<Result<Vec<_>, InferenceError>>()?;
        Ok(Inference { outputs, queue, compute, batch, device })
    }
}

impl Model {
    /// The model at a place where it was loaded once, and where else it may go on.
    pub(crate) fn new(
        name: &str,
        slot: Arc<Slot>,
        spare: Option<LoadSpare>,
        metrics: &InferenceMetrics,
    ) -> Self {
        let requests = metrics.requests(name, &slot.known().device);
        Self { name: name.into(), slot, requests, spare: spare.map(Spare::new) }
    }

    /// Where it is now.
    pub(crate) fn slot(&self) -> &Arc<Slot> {
        let moved = self.spare.as_ref().and_then(Spare::took_over);
        moved.map_or(&self.slot, |(slot, _)| slot)
    }

    /// The name under which it was loaded.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digest of its file.
    pub fn digest(&self) -> Digest {
        self.slot.tenure.digest
    }

    /// What it takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.slot.known().signature
    }

    /// The device that it runs on. Where the model may be on any, and its GPU was lost and does not
    /// open, the CPU takes over until the GPU is back.
    pub fn device(&self) -> &str {
        &self.slot().known().device
    }

    /// Whether it is in memory.
    pub fn state(&self) -> ModelState {
        self.slot().holding().state
    }

    /// How it is served.
    pub fn policy(&self) -> &ModelPolicy {
        &self.slot.tenure.policy
    }

    /// The memory that it holds, shared with its namesakes; zero while it is not loaded.
    pub fn footprint(&self) -> Footprint {
        self.slot().holding().footprint
    }

    /// As if its GPU, which is gone, had been left alone for long enough.
    #[cfg(test)]
    pub(crate) fn look_again_now(&self) {
        self.spare.iter().for_each(Spare::look_again_now);
    }

    /// Why a new request of this caller would be refused now, if so: what waits already takes
    /// longer than it may wait, or the queue is full. It only looks; asking may still fail.
    pub fn refusal(&self, caller: &Caller, deadline: Instant) -> Option<InferenceError> {
        let refused = self.slot().core()?.refusal(caller, deadline)?;
        // A model that is leaving comes back for whoever asks it.
        let lasts = refused != Refused::Closed;
        lasts.then(|| self.refused(refused))
    }

    fn refused(&self, refused: Refused) -> InferenceError {
        let model = self.name.to_string();
        match refused {
            Refused::Full { queue_max } => InferenceError::QueueFull { model, queue_max },
            Refused::Late { wait, may } => InferenceError::Busy { model, wait, may },
            Refused::Closed => InferenceError::Unloading { model },
        }
    }

    /// Answers one request. It may share its run with others, but never their faults: a request
    /// is checked before it can join, and a run that fails is repeated for each request alone. One
    /// with many rows is computed in parts, between which others have their turn.
    ///
    /// Inputs that the policy calls state may be left out: they are zeros, of the size that the
    /// other inputs give to open dimensions, else 1.
    ///
    /// Dropping the future withdraws the request; the device sees no more of it.
    ///
    /// # Errors
    /// [`InferenceError::BadInput`], [`InferenceError::QueueFull`], [`InferenceError::Busy`] and
    /// [`InferenceError::DeadlinePassed`], or what the device reports.
    ///
    /// # Panics
    /// Outside a tokio runtime with its timer enabled.
    pub async fn infer(
        &self,
        inputs: Vec<(String, Tensor)>,
        deadline: Instant,
    ) -> Result<Inference, InferenceError> {
        self.infer_for(inputs, Terms::until(deadline)).await
    }

    /// As [`Self::infer`], for somebody.
    ///
    /// # Errors
    /// As [`Self::infer`].
    pub async fn infer_for(
        &self,
        inputs: Vec<(String, Tensor)>,
        terms: Terms,
    ) -> Result<Inference, InferenceError> {
        let request = self.requests().begin();
        let inputs = inputs.into_iter().map(|(name, tensor)| (name, tensor.into())).collect();
        let result = self.answer(inputs, terms, false).await;
        let result = result.and_then(|answer| answer.into_host(&self.name));
        request.settle(Outcome::of(&result));
        result
    }

    /// As [`Self::infer_for`], with values that may be on a device. Outputs of at least
    /// [`InferenceConfig::gpu_keep_bytes_min`](crate::InferenceConfig::gpu_keep_bytes_min) bytes
    /// stay on the model's GPU, where another model on it takes them, or until
    /// [`read_back`](crate::read_back) copies them; outputs that are state do so however small they
    /// are. A request with a value on a device shares its
    /// run with no other and is not cut.
    ///
    /// # Errors
    /// As [`Self::infer`].
    pub async fn infer_kept(
        &self,
        inputs: Vec<(String, Value)>,
        terms: Terms,
    ) -> Result<Inference<Value>, InferenceError> {
        let request = self.requests().begin();
        let result = self.answer(inputs, terms, true).await;
        request.settle(Outcome::of(&result));
        result
    }

    pub(crate) fn requests(&self) -> &RequestMetrics {
        let moved = self.spare.as_ref().and_then(Spare::took_over);
        moved.map_or(&self.requests, |(_, requests)| requests)
    }

    /// Asks the model where it is, and where it goes on when its device is gone.
    async fn answer(
        &self,
        inputs: Vec<(String, Value)>,
        terms: Terms,
        keeps: bool,
    ) -> Result<Inference<Value>, InferenceError> {
        let Some(spare) = &self.spare else {
            return self.ask(&self.slot, inputs, terms, keeps).await;
        };
        if let Some(slot) = spare.takes(Instant::now()) {
            return self.ask(slot, inputs, terms, keeps).await;
        }
        let gone = match self.ask(&self.slot, inputs.clone(), terms.clone(), keeps).await {
            Err(gone @ InferenceError::DeviceGone { .. }) => gone,
            answer => {
                if answer.is_ok() {
                    spare.back(&self.name);
                }
                return answer;
            }
        };
        let loaded = tokio::time::timeout_at(terms.deadline.into(), spare.slot(&self.name, &gone));
        let Ok(slot) = loaded.await else { return Err(gone) };
        self.ask(slot?, inputs, terms, keeps).await
    }

    async fn ask(
        &self,
        slot: &Arc<Slot>,
        mut inputs: Vec<(String, Value)>,
        terms: Terms,
        keeps: bool,
    ) -> Result<Inference<Value>, InferenceError> {
        let Terms { caller, deadline, spent, goes_on } = terms;
        let model = || self.name.to_string();
        let late = |spent: &Spent| InferenceError::DeadlinePassed {
            model: model(),
            queue: spent.queue(),
            compute: spent.compute(),
        };
        let known = slot.known();
        let begun = state::begin(self.policy(), &known.signature, &mut inputs);
        let inputs = (begun.and_then(|()| known.signature.check_values(inputs)))
            .map_err(|problem| InferenceError::BadInput { model: model(), problem })?;
        let now = Instant::now();
        if deadline <= now {
            return Err(late(&spent));
        }
        spent.turn(Doing::Waits, now);
        let _asked =
            Asked { usage: &known.usage, caller: &caller, model: &self.name, spent: &spent };
        // It stays in memory until it has answered.
        let core = match slot.ready(deadline).await {
            Err(InferenceError::DeadlinePassed { .. }) => return Err(late(&spent)),
            core => core?,
        };
        // That it was loaded for this request says nothing about its queue.
        let came = Instant::now();
        let (reply, answer) = oneshot::channel();
        let Place { rows, joins, key } = known.joining.place(&inputs, known.padding.as_ref());
        let job = Job {
            _present: core.queue().shares().present(&caller.tenant),
            caller: Arc::clone(&caller),
            model: Arc::clone(&self.name),
            since: came,
            takes: Duration::ZERO,
            forecast: Duration::ZERO,
            inputs,
            keeps,
            rows,
            joins,
            key,
            deadline,
            goes_on,
            spent: Arc::clone(&spent),
            reply,
            done: 0,
            parts: Vec::new(),
            used: Duration::ZERO,
        };
        core.submit(job, came).map_err(|refused| self.refused(refused))?;
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(result)) => result,
            // The worker drops what is too late, perhaps a moment before the timer here notices.
            Ok(Err(_)) if Instant::now() < deadline => {
                Err(InferenceError::Unloading { model: model() })
            }
            _ => Err(late(&spent)),
        }
    }
}

/// Notes a request when it is over, whether it was answered or given up.
struct Asked<'a> {
    usage: &'a DeviceUsage,
    caller: &'a Caller,
    model: &'a str,
    spent: &'a Spent,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.usage.asked(self.caller, self.model, self.spent.queue());
    }
}
