//! wasi-nn: models by name or from bytes, tensors in, tensors out.
//!
//! A guest that waits for a device holds no thread. Nothing here trusts a guest: a tensor is only
//! bytes with a claim until it enters a model, and every mistake is an error with its code, never
//! a trap of ours. What a guest reads is copied when it reads it; what goes from one model to the
//! next is not, and on a GPU it stays there where it is large, or the state that the next run of an
//! execution context takes. A device that fails before it is read ends the request where the
//! interface has no room for an error.
//!
//! - [`Nn`]: what one instance has; it knows no front end.
//! - `component`: the front end of components, three snapshots of one WIT; that of core modules is
//!   `imports/ephemeral`.
//! - `context`: a sequence of inferences, with its state and what older snapshots bind to it.
//! - `tensor`, `allowance`: tensors, and what they may take.
//! - `load`, `loaded`: models from bytes, and those that are kept.
//! - `error`: the codes.

mod allowance;
pub(crate) mod component;
pub(crate) mod context;
pub(crate) mod error;
pub(crate) mod load;
pub(crate) mod loaded;
pub(crate) mod tensor;

use std::sync::Arc;
use std::time::{Duration, Instant};

use gw_inference::{Caller, Inference, InferenceError, Model, Spent, TensorSpec, Terms, Value};

use self::allowance::Allowance;
use self::error::{ErrorCode, NnError};
use self::tensor::NnTensor;
use crate::Timings;
use crate::plugin::Grants;

/// What wasi-nn keeps for one instance.
pub(crate) struct Nn {
    grants: Arc<Grants>,
    deadline: Instant,
    /// For whom models are asked.
    pub(crate) caller: Arc<Caller>,
    /// What tensors may still take.
    pub(crate) allowance: Allowance,
    /// How long models may run for the request, all runs together.
    pub(crate) device_time_max: Duration,
    queue: Duration,
    infer: Duration,
    device: Option<Arc<str>>,
    /// What the guest waits for.
    asked: Option<(Arc<Model>, Arc<Spent>)>,
    error: Option<InferenceError>,
}

/// A graph: a model that the plugin was granted, or that it loaded.
pub(crate) struct Graph(pub(crate) Arc<Model>);

/// Tensors with the names of a model's inputs or outputs.
pub(crate) type Named = Vec<(String, NnTensor)>;

impl Nn {
    pub(crate) fn new(grants: Arc<Grants>, deadline: Instant, bytes_max: usize) -> Self {
        Self {
            grants,
            deadline,
            caller: Arc::default(),
            allowance: Allowance::new(bytes_max),
            device_time_max: Duration::MAX,
            queue: Duration::ZERO,
            infer: Duration::ZERO,
            device: None,
            asked: None,
            error: None,
        }
    }

    /// Adds what the inferences of this instance took, one under way included.
    pub(crate) fn report(mut self, timings: &mut Timings) {
        let asked = self.asked.as_ref().map(|(model, _)| model.name().into());
        timings.awaited = asked.or_else(|| match &self.error {
            // The model's timer and the guest's fire together; the model's came first.
            Some(InferenceError::DeadlinePassed { model, .. }) => Some(model.as_str().into()),
            _ => None,
        });
        self.settle();
        timings.queue = self.queue;
        timings.infer = self.infer;
        timings.device = self.device;
    }

    /// The last error of a model.
    pub(crate) fn error(&self) -> Option<InferenceError> {
        self.error.clone()
    }

    /// Keeps an error of a model.
    pub(crate) fn note(&mut self, error: &InferenceError) {
        self.error = Some(error.clone());
    }

    /// The model of this name, exactly.
    ///
    /// # Errors
    /// Where the plugin is not granted one.
    pub(crate) fn find(&self, name: &str) -> Result<Graph, NnError> {
        let model = self.grants.models.get(name).map(Arc::clone);
        model.map(Graph).ok_or_else(|| {
            let reason = format!("no model named {name:?} is granted to this plugin");
            NnError::new(ErrorCode::NotFound, reason)
        })
    }

    /// Whether the request has device time left. A run that has begun is finished, so the last one
    /// may exceed the limit.
    fn check_device_time(&self) -> Result<(), NnError> {
        if self.infer < self.device_time_max {
            return Ok(());
        }
        let (used, limit) = (self.infer, self.device_time_max);
        let reason = format!("models ran for {used:.1?}; the limit `device_time` is {limit:.1?}");
        Err(NnError::new(ErrorCode::Timeout, reason))
    }

    /// Asks a model, and notes what that took.
    async fn ask(
        &mut self,
        model: &Arc<Model>,
        inputs: Vec<(String, Value)>,
    ) -> Result<Inference<Value>, InferenceError> {
        let (spent, caller) = (Arc::default(), Arc::clone(&self.caller));
        // Noted here, because the future is dropped where the request's time is over.
        self.asked = Some((Arc::clone(model), Arc::clone(&spent)));
        let (deadline, goes_on) = (self.deadline, !self.infer.is_zero());
        let result = model.infer_kept(inputs, Terms { caller, deadline, spent, goes_on }).await;
        self.settle();
        if let Err(error) = &result {
            self.note(error);
        }
        result
    }

    /// Adds what the last question took until now.
    fn settle(&mut self) {
        let Some((model, spent)) = self.asked.take() else { return };
        self.queue += spent.queue();
        self.infer += spent.compute();
        if !spent.compute().is_zero() {
            self.device = Some(model.device().into());
        }
    }
}

/// What a model declares of the input of this name.
fn wanted<'m>(model: &'m Model, name: &str) -> Option<&'m TensorSpec> {
    model.signature().inputs.iter().find(|spec| spec.name == name)
}
