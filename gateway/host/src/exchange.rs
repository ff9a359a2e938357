//! One request through one instance, until its response is whole.

mod meter;

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::future::{Either, select};
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, HOST};
use http_body_util::{BodyExt, Full};
use tokio::sync::oneshot;
use wasmtime::component::Resource;
use wasmtime::{Store, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

pub(crate) use self::meter::Meter;
use crate::instance::{self, State};
use crate::{GuestError, Handled, Plugin, Timings};

/// Runs the guest, collects its response, and judges how both ended.
pub(crate) async fn run(
    plugin: &Plugin,
    request: http::Request<Bytes>,
    deadline: Instant,
    request_id: &str,
) -> Result<Handled, GuestError> {
    let started = Instant::now();
    let mut timings = Timings::default();
    let meter = Meter::default();
    let mut store = instance::store(plugin, deadline, meter.clone(), request_id)
        .map_err(|error| trapped(plugin, &error, Timings::default()))?;
    let call = Incoming::new(&mut store, request)
        .map_err(|error| trapped(plugin, &error, Timings::default()))?;
    let prepared = started.elapsed();

    let mut collecting = Box::pin(collect(call.answer, plugin.config.response_bytes_max));
    let ended = {
        let guest = guest(plugin, &mut store, call.request, call.out, &mut timings.instantiate);
        let guest = pin!(meter.measure(Box::pin(guest)));
        tokio::time::timeout_at(deadline.into(), both(guest, collecting.as_mut())).await
    };
    timings.instantiate += prepared;
    timings.plugin = prepared + meter.time();
    // A body that the guest left open ends with the instance.
    let State { growth, nn, .. } = store.into_data();
    let (memory_refused, inference_error) = (growth.memory_refused(), nn.error());
    nn.report(&mut timings);

    let collected = match ended {
        Err(_) => return Err(late(plugin, started, timings)),
        Ok((Err(error), _)) if error.downcast_ref() == Some(&Trap::Interrupt) => {
            if meter.time() < plugin.time {
                return Err(late(plugin, started, timings));
            }
            let (plugin, limit) = (plugin.name.clone(), plugin.time);
            return Err(GuestError::Timeout { plugin, limit, timings });
        }
        Ok((Err(_), _)) if memory_refused => {
            let (plugin, limit) = (plugin.name.clone(), plugin.memory_bytes);
            return Err(GuestError::OutOfMemory { plugin, limit, timings });
        }
        Ok((Err(error), _)) => return Err(trapped(plugin, &error, timings)),
        Ok((Ok(()), Some(collected))) => collected,
        Ok((Ok(()), None)) => collecting.await,
    };
    let plugin = plugin.name.clone();
    match collected {
        Ok(response) => Ok(Handled { response, timings, inference_error }),
        Err(Flaw::Missing) => Err(GuestError::NoResponse { plugin, timings }),
        Err(Flaw::Unusable(reason)) => Err(GuestError::BadResponse { plugin, reason, timings }),
    }
}

/// What the guest's handler is called with, and where its response arrives.
struct Incoming {
    request: Resource<HostIncomingRequest>,
    out: Resource<HostResponseOutparam>,
    answer: oneshot::Receiver<Answer>,
}

type Answer = Result<http::Response<HyperOutgoingBody>, ErrorCode>;

impl Incoming {
    fn new(store: &mut Store<State>, request: http::Request<Bytes>) -> wasmtime::Result<Self> {
        let mut request = request.map(Full::new);
        // WASI wants an authority, which HTTP/1.0 clients may leave out or garble.
        let named = request.headers().get(HOST).is_some_and(|host| host.to_str().is_ok());
        if request.uri().authority().is_none() && !named {
            request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        }
        let (send, answer) = oneshot::channel();
        let mut http = store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let out = http.new_response_outparam(send)?;
        Ok(Self { request, out, answer })
    }
}

async fn guest(
    plugin: &Plugin,
    store: &mut Store<State>,
    request: Resource<HostIncomingRequest>,
    out: Resource<HostResponseOutparam>,
    instantiate: &mut Duration,
) -> wasmtime::Result<()> {
    let started = Instant::now();
    let instance = plugin.pre.instantiate_async(&mut *store).await?;
    *instantiate = started.elapsed();
    instance.wasi_http_incoming_handler().call_handle(store, request, out).await
}

/// Why there is no response to pass on.
enum Flaw {
    /// The guest gave none.
    Missing,
    /// It gave one that breaks a rule or a limit.
    Unusable(String),
}

type Collected = Result<http::Response<Bytes>, Flaw>;

/// Runs the guest beside the reader of its response: a guest that writes more than its pipe
/// holds waits for the reader. Ends with the guest, or with a response that breaks a rule.
async fn both(
    guest: Pin<&mut impl Future<Output = wasmtime::Result<()>>>,
    collecting: Pin<&mut impl Future<Output = Collected>>,
) -> (wasmtime::Result<()>, Option<Collected>) {
    match select(guest, collecting).await {
        Either::Left((ended, _)) => (ended, None),
        Either::Right((Err(flaw @ Flaw::Unusable(_)), _)) => (Ok(()), Some(Err(flaw))),
        Either::Right((collected, guest)) => (guest.await, Some(collected)),
    }
}

/// Reads the response to its end, or to the limit.
async fn collect(answer: oneshot::Receiver<Answer>, bytes_max: usize) -> Collected {
    let unusable = |reason: String| Err(Flaw::Unusable(reason));
    let (parts, mut body) = match answer.await {
        Ok(Ok(response)) => response.into_parts(),
        Ok(Err(code)) => return unusable(format!("the guest answered with the error {code:?}")),
        Err(_) => return Err(Flaw::Missing),
    };
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map(|frame| frame.into_data().unwrap_or_default()) else {
            return unusable("its body ended early".to_owned());
        };
        if whole.len() + data.len() > bytes_max {
            return unusable(format!("its body has more than {bytes_max} bytes"));
        }
        whole.extend_from_slice(&data);
    }
    let declared = parts.headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    if declared.is_some_and(|length| length != whole.len().to_string().as_bytes()) {
        return unusable(format!("its body of {} bytes is not the declared one", whole.len()));
    }
    Ok(http::Response::from_parts(parts, whole.freeze()))
}

fn late(plugin: &Plugin, started: Instant, timings: Timings) -> GuestError {
    let (plugin, after) = (plugin.name.clone(), started.elapsed());
    GuestError::DeadlinePassed { plugin, after, timings }
}

fn trapped(plugin: &Plugin, error: &wasmtime::Error, timings: Timings) -> GuestError {
    let message = match error.downcast_ref::<I32Exit>() {
        Some(exit) => format!("the guest exited with status {}", exit.0),
        None => error.root_cause().to_string(),
    };
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string);
    let (plugin, backtrace) = (plugin.name.clone(), backtrace.unwrap_or_default());
    GuestError::Trap { plugin, message, backtrace, timings }
}
