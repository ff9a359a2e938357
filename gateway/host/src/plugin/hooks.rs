//! Hooks: a request goes in whole, and tensors, a response or a request come out.
//!
//! `pre` and `post` each have an instance of their own. What a guest gives is checked here, where
//! it becomes a value of ours.

mod convert;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::HeaderValue;
use wasmtime::Store;

pub(crate) use self::bindings::HooksPre;
pub(crate) use self::bindings::gw::plugin::types::Answer as WitAnswer;
use self::bindings::gw::plugin::types::Outcome as WitOutcome;
use self::bindings::{Hooks, gw::plugin::types as wit};
pub(crate) use self::convert::outputs;
use super::gate::Place;
use super::visit::{Left, Visit, trapped};
use crate::chain::question::Question;
use crate::instance::State;
use crate::plugin::Kind;
use crate::{Call, GuestError, Plugin, Timings};

#[allow(clippy::pedantic, missing_docs, unreachable_pub, reason = "generated code")]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit/hooks.wit",
        world: "hooks",
        exports: { default: async },
    });
}

/// Outputs of a model as `post` takes them.
pub(crate) type WitTensors = Vec<wit::Tensor>;

/// What becomes of a request.
pub(crate) enum Outcome {
    /// A model is asked, and `post` gets its answer with this state.
    Infer { question: Question, state: Vec<u8> },
    /// The request is answered.
    Respond(http::Response<Bytes>),
    /// It goes on, perhaps changed.
    Pass(Option<http::Request<Bytes>>),
    /// It goes on, perhaps changed, and `post` gets the response with this state.
    Watch { request: Option<http::Request<Bytes>>, state: Vec<u8> },
}

/// Calls `pre`. `host` is whom the client asked.
pub(crate) async fn pre(
    plugin: &Arc<Plugin>,
    request: &http::Request<Bytes>,
    host: Option<&HeaderValue>,
    call: &Call,
    place: Place,
) -> Result<(Outcome, Left), GuestError> {
    let request = convert::request(request, host);
    let called = visit(plugin, call, place, move |hooks, store| {
        Box::pin(async move { hooks.call_pre(store, &request).await })
    });
    let (outcome, left) = called.await?;
    let outcome = match outcome {
        WitOutcome::Infer(wit::Inference { model, inputs, state }) => {
            question(plugin, &model, inputs, call)
                .map(|question| Outcome::Infer { question, state })
        }
        WitOutcome::Respond(response) => convert::response(plugin, response).map(Outcome::Respond),
        WitOutcome::Pass(request) => convert::changed(plugin, request).map(Outcome::Pass),
        WitOutcome::Watch(wit::Watch { request, state }) => {
            convert::changed(plugin, request).map(|request| Outcome::Watch { request, state })
        }
    };
    let timings = left.timings.clone();
    let outcome = outcome.map_err(|reason| unusable(plugin, reason, timings))?;
    Ok((outcome, left))
}

/// Calls `post`.
pub(crate) async fn post(
    plugin: &Arc<Plugin>,
    state: Vec<u8>,
    answer: WitAnswer,
    call: &Call,
    place: Place,
) -> Result<(http::Response<Bytes>, Left), GuestError> {
    let called = visit(plugin, call, place, move |hooks, store| {
        Box::pin(async move { hooks.call_post(store, &state, &answer).await })
    });
    let (response, left) = called.await?;
    let response = convert::response(plugin, response)
        .map_err(|reason| unusable(plugin, reason, left.timings.clone()))?;
    Ok((response, left))
}

/// Makes an instance, calls one of its hooks, and ends it.
async fn visit<T: Send + 'static>(
    plugin: &Arc<Plugin>,
    call: &Call,
    place: Place,
    hook: impl for<'s> FnOnce(
        Hooks,
        &'s mut Store<State>,
    ) -> BoxFuture<'s, wasmtime::Result<Result<T, String>>>
    + Send
    + 'static,
) -> Result<(T, Left), GuestError> {
    let Kind::Hooks(pre) = &plugin.kind else { unreachable!("the caller has looked at its kind") };
    // Freed last, when the instance is gone.
    let _place = place;
    let pre = pre.clone();
    let visit =
        Visit::new(plugin, call).map_err(|error| trapped(plugin, &error, Timings::default()))?;
    let work = visit.run(move |store, instantiate: &mut Duration| {
        Box::pin(async move {
            let started = Instant::now();
            let hooks = pre.instantiate_async(&mut *store).await?;
            *instantiate = started.elapsed();
            hook(hooks, store).await
        })
    });
    match Box::pin(work).await? {
        (Ok(given), left) => Ok((given, left)),
        (Err(reason), left) => {
            // Before it is cut, as a cut may go through a secret.
            let reason = plugin.mask(&reason);
            Err(GuestError::failed(plugin.name.clone(), reason, left.timings))
        }
    }
}

fn question(
    plugin: &Plugin,
    name: &str,
    inputs: WitTensors,
    call: &Call,
) -> Result<Question, String> {
    let Some(model) = plugin.grants.models.get(name).map(Arc::clone) else {
        let name = convert::shown(name);
        return Err(format!("it asks for the model {name:?}, which it is not granted"));
    };
    let inputs = convert::inputs(inputs, plugin.config.tensor_bytes_max)?;
    let (deadline, caller) = (call.deadline, Arc::clone(&call.caller));
    Ok(Question { model, inputs, deadline, caller })
}

fn unusable(plugin: &Plugin, reason: String, timings: Timings) -> GuestError {
    GuestError::BadResponse { plugin: plugin.name.clone(), reason, timings }
}
