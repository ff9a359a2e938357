//! What hooks ask of models, answered through the cache.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use gw_deploy::Found;
use gw_host::{Answered, Inferences, Question, Refusal, Timings};
use gw_inference::Inference;
use tokio::time::Instant;

use crate::cache::control::RequestControl;
use crate::cache::key::InferenceParts;
use crate::cache::{Cache, Served};
use crate::error::HandleError;

/// Answers the questions of one request. `post` runs for every request, so nothing but the
/// question decides what is kept.
pub(crate) struct CachedInferences {
    pub(crate) cache: Arc<Cache>,
    pub(crate) found: Found,
    pub(crate) tenant: Arc<str>,
    pub(crate) lifetime: Duration,
    pub(crate) control: RequestControl,
    /// When the request gives up waiting for others.
    pub(crate) patience: Instant,
    pub(crate) served: Arc<Mutex<Option<Served<Inference>>>>,
}

impl CachedInferences {
    /// How the last question was answered.
    pub(crate) fn served(&self) -> Option<Served<Inference>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Inferences for CachedInferences {
    fn answer(&self, question: Question) -> BoxFuture<'static, Result<Answered, Refusal>> {
        let key = InferenceParts {
            tenant: &self.tenant,
            route: &self.found.route.pattern,
            identity: &self.found.route.identity,
            model: &question.model.digest(),
            device: question.model.device(),
            policy: &question.model.policy().answers_digest(),
            inputs: &question.inputs,
        }
        .key();
        let (cache, noted) = (Arc::clone(&self.cache), Arc::clone(&self.served));
        let (lifetime, control, patience) = (self.lifetime, self.control, self.patience);
        let make = move || async move {
            question.ask().await.map(Arc::new).map_err(|error| {
                let (source, timings) = (Box::new(error), Box::<Timings>::default());
                Arc::new(HandleError::Inference { source, timings })
            })
        };
        async move {
            let served = cache.answer(key, lifetime, control, patience, make).await;
            let served = served.map_err(|error| -> Refusal { error })?;
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(served.clone());
            Ok(match served {
                Served::Hit { answer, .. } => Answered { inference: answer, fresh: false },
                Served::Made { answer, collapsed, .. } => {
                    Answered { inference: answer, fresh: !collapsed }
                }
            })
        }
        .boxed()
    }
}
