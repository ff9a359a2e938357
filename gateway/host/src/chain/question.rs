//! What hooks ask of a model, and who may stand before it.

use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use gw_inference::{Caller, Inference, InferenceError, Model, Spent, Terms};
use gw_tensor::Tensor;

/// One run of a model for hooks.
pub struct Question {
    /// The model, which the plugin is granted.
    pub model: Arc<Model>,
    /// The inputs by name, as the plugin ordered them.
    pub inputs: Vec<(String, Tensor)>,
    /// When the answer must be there.
    pub deadline: Instant,
    /// For whom.
    pub caller: Arc<Caller>,
}

impl Question {
    /// Asks the model. Dropping the future withdraws the question.
    ///
    /// # Errors
    /// As [`Model::infer`].
    pub async fn ask(self) -> Result<Inference, InferenceError> {
        self.ask_watched(Arc::default()).await
    }

    pub(crate) async fn ask_watched(self, spent: Arc<Spent>) -> Result<Inference, InferenceError> {
        let Self { model, inputs, deadline, caller } = self;
        model.infer_for(inputs, Terms { caller, deadline, spent, goes_on: false }).await
    }
}

/// Why there is no answer to a question: the model's reason, or that of whoever stands before it.
pub type Refusal = Arc<dyn std::error::Error + Send + Sync>;

/// Stands before models: answers what hooks ask, from memory where it can.
pub trait Inferences: Send + Sync {
    /// Answers a question, in any way that [`Question::ask`] would.
    fn answer(&self, question: Question) -> BoxFuture<'static, Result<Answered, Refusal>>;
}

/// An answer, from a model or from memory.
pub struct Answered {
    /// What the model gave.
    pub inference: Arc<Inference>,
    /// Whether it ran for this question.
    pub fresh: bool,
}
