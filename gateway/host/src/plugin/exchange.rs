//! One request through one handler: until the head of its response is there, and the guest that
//! writes the rest of it.
//!
//! Most guests are done in one piece, and their response is whole before anybody asks for it. One
//! that waits for something else when its head is there goes on in a task of its own, as fast as
//! its body is read and no longer than that body lives.

mod live;

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, Either, select};
use http::HeaderValue;
use http::header::HOST;
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::Resource;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

use self::live::Live;
use super::gate::Place;
use super::visit::{Left, Visit, blamed, trapped};
use crate::chain::Trip;
use crate::imports::next::{Next, wasi_error};
use crate::instance::State;
use crate::{Body, GuestError, Plugin, Timings};

/// A guest at work; it ends its instance and frees its place.
type Guest = BoxFuture<'static, Result<Left, GuestError>>;

/// Starts a handler, and notes in the trail what its guest leaves behind.
pub(crate) async fn run(
    trip: &Arc<Trip>,
    plugin: &Arc<Plugin>,
    handler: &ProxyPre<State>,
    request: http::Request<Body>,
    place: Place,
    next: Option<Next>,
) -> Result<http::Response<Body>, GuestError> {
    let begun = begin(trip, plugin, handler, request, place, next).await;
    match &begun {
        Ok((_, Stage::Ended)) => trip.ended(plugin, None),
        // It is counted when it ends.
        Ok((_, Stage::AtWork)) => {}
        Err(error) => trip.ended(plugin, Some(error)),
    }
    begun.map(|(response, _)| response)
}

/// Where the guest of a response is that has begun.
enum Stage {
    Ended,
    AtWork,
}

async fn begin(
    trip: &Arc<Trip>,
    plugin: &Arc<Plugin>,
    handler: &ProxyPre<State>,
    request: http::Request<Body>,
    place: Place,
    next: Option<Next>,
) -> Result<(http::Response<Body>, Stage), GuestError> {
    let unstarted = |error| trapped(plugin, &error, Timings::default());
    let mut visit = Visit::new(plugin, &trip.call).map_err(unstarted)?;
    visit.store.data_mut().outbound.next = next;
    let Incoming { request, out, mut head } =
        Incoming::new(&mut visit.store, request).map_err(unstarted)?;
    let (meter, handler) = (visit.meter.clone(), handler.clone());
    let mut guest: Guest = Box::pin(async move {
        let _place = place;
        let work = visit.run(move |store, instantiate| {
            Box::pin(call_handler(handler, store, request, out, instantiate))
        });
        work.await.map(|((), left)| left)
    });
    let (answer, ended) = match select(&mut guest, &mut head).await {
        Either::Left((ended, _)) => {
            let left = ended?;
            (head.try_recv().ok(), Some(left))
        }
        Either::Right((Ok(answer), _)) => (Some(answer), None),
        // It can give no answer any more, but it may still say why.
        Either::Right((Err(_), _)) => (None, Some(guest.as_mut().await?)),
    };
    let timings = match &ended {
        Some(left) => left.timings.clone(),
        None => Timings { plugin: meter.time(), ..Timings::default() },
    };
    let (parts, frames) = match answer {
        Some(Ok(response)) => response.into_parts(),
        unanswered => {
            let failure = no_answer(plugin, unanswered.and_then(Result::err), timings);
            let model = ended.as_ref().and_then(|left| left.inference_error.as_ref());
            return Err(blamed(model, failure, plugin));
        }
    };
    if !(200..600).contains(&parts.status.as_u16()) {
        let reason = format!("its status is {}, and not 200 to 599", parts.status.as_u16());
        return Err(GuestError::BadResponse { plugin: plugin.name.clone(), reason, timings });
    }
    let live = Live::new(trip, plugin, &parts.headers, frames, timings.clone());
    let mut live = live.map_err(|error| *error)?;
    let ended = match ended {
        Some(left) => Some(left),
        None => live.prompt(&mut guest).await.transpose()?,
    };
    let (body, left, stage) = match ended {
        Some(left) => (live.gather().await?, left, Stage::Ended),
        None => (live.attended(guest), Left { timings, inference_error: None }, Stage::AtWork),
    };
    trip.trail.passed(&left);
    Ok((http::Response::from_parts(parts, body), stage))
}

/// A guest gave no response, but perhaps a code.
fn no_answer(plugin: &Plugin, code: Option<ErrorCode>, timings: Timings) -> GuestError {
    let name = plugin.name.clone();
    match code {
        Some(code) => {
            let reason = format!("the guest answered with the error {code:?}");
            GuestError::BadResponse { plugin: name, reason, timings }
        }
        None => GuestError::NoResponse { plugin: name, timings },
    }
}

/// What the guest's handler is called with, and where its response arrives.
struct Incoming {
    request: Resource<HostIncomingRequest>,
    out: Resource<HostResponseOutparam>,
    head: oneshot::Receiver<Answer>,
}

type Answer = Result<http::Response<HyperOutgoingBody>, ErrorCode>;

impl Incoming {
    fn new(store: &mut Store<State>, request: http::Request<Body>) -> wasmtime::Result<Self> {
        let mut request = request.map(|body| body.map_err(|error| wasi_error(&error)));
        // WASI wants an authority, which HTTP/1.0 clients may leave out or garble.
        let named = request.headers().get(HOST).is_some_and(|host| host.to_str().is_ok());
        if request.uri().authority().is_none() && !named {
            request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        }
        let (send, head) = oneshot::channel();
        let mut http = store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let out = http.new_response_outparam(send)?;
        Ok(Self { request, out, head })
    }
}

async fn call_handler(
    handler: ProxyPre<State>,
    store: &mut Store<State>,
    request: Resource<HostIncomingRequest>,
    out: Resource<HostResponseOutparam>,
    instantiate: &mut Duration,
) -> wasmtime::Result<()> {
    let started = std::time::Instant::now();
    let instance = handler.instantiate_async(&mut *store).await?;
    *instantiate = started.elapsed();
    instance.wasi_http_incoming_handler().call_handle(store, request, out).await
}
