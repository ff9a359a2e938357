//! What a request on its way asks of one plugin, and of the model of its hooks.

use std::sync::Arc;

use bytes::Bytes;
use gw_inference::Spent;

use super::Trip;
use super::question::Question;
use crate::plugin::Place;
use crate::plugin::hooks::{self, Outcome, WitAnswer};
use crate::{GuestError, Plugin};

impl Trip {
    pub(super) async fn pre(
        &self,
        plugin: &Arc<Plugin>,
        request: &http::Request<Bytes>,
        behind: bool,
        place: Option<Place>,
    ) -> Result<Outcome, GuestError> {
        let place = self.place(plugin, 1, place).await?;
        let result = hooks::pre(plugin, request, self.host(), &self.call, place).await;
        let done = match &result {
            Ok((outcome, _)) => {
                matches!(outcome, Outcome::Respond(_))
                    || behind && matches!(outcome, Outcome::Pass(_))
            }
            Err(_) => true,
        };
        if done {
            plugin.ended(result.as_ref().err());
        }
        let (outcome, left) = result?;
        self.trail.passed(&left);
        Ok(outcome)
    }

    pub(super) async fn post(
        &self,
        plugin: &Arc<Plugin>,
        state: Vec<u8>,
        answer: WitAnswer,
        place: Option<Place>,
    ) -> Result<http::Response<Bytes>, GuestError> {
        let place = self.place(plugin, 1, place).await?;
        let result = hooks::post(plugin, state, answer, &self.call, place).await;
        plugin.ended(result.as_ref().err());
        let (response, left) = result?;
        self.trail.passed(&left);
        Ok(response)
    }

    /// What the model answers to hooks. No instance of theirs is alive meanwhile.
    pub(super) async fn infer(
        &self,
        plugin: &Plugin,
        question: Question,
    ) -> Result<hooks::WitTensors, GuestError> {
        let refused = |source| {
            let (name, timings) = (plugin.name.clone(), self.trail.report().timings);
            let error = GuestError::Inference { plugin: name, source, timings };
            plugin.ended(Some(&error));
            error
        };
        let answered = match &self.inferences {
            Some(inferences) => {
                let answered = inferences.answer(question).await.map_err(refused)?;
                if answered.fresh {
                    let inference = &answered.inference;
                    self.trail.inferred(inference.queue, inference.compute, &inference.device);
                }
                answered.inference
            }
            None => {
                let (spent, device) = (Arc::<Spent>::default(), question.model.device().into());
                let answered = question.ask_watched(Arc::clone(&spent)).await;
                self.trail.inferred(spent.queue(), spent.compute(), &device);
                Arc::new(answered.map_err(|error| refused(Arc::new(error)))?)
            }
        };
        hooks::outputs(&answered, plugin.config.tensor_bytes_max).map_err(|reason| {
            let error = plugin.bad_response(reason);
            plugin.ended(Some(&error));
            error
        })
    }

    /// A place for `depth` instances: the given one, which has room for all behind it, or a new.
    pub(super) async fn place(
        &self,
        plugin: &Plugin,
        depth: u32,
        given: Option<Place>,
    ) -> Result<Place, GuestError> {
        if let Some(place) = given {
            return Ok(place);
        }
        let tenant = &self.call.caller.tenant;
        let entered = plugin.gate.enter(depth, tenant, self.call.deadline).await;
        entered.ok_or_else(|| {
            let (plugin_name, instances) = (plugin.name.clone(), plugin.gate.instances);
            let error = GuestError::Saturated { plugin: plugin_name, instances };
            plugin.ended(Some(&error));
            error
        })
    }
}
