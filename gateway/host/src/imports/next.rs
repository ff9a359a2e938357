//! The way on: a request to the authority `next` is the rest of the plugin's chain.
//!
//! It needs no grant and reaches no network. A handler may go on once: a request that could go on
//! many times would cost as many runs of everything behind it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::HeaderValue;
use http::header::HOST;
use http_body_util::BodyExt;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{
    Error as HttpError, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks,
};

use crate::chain::Trip;
use crate::plugin::Place;
use crate::{Body, BodyError, GuestError};

/// The name of the rest of the chain.
const AUTHORITY: &str = "next";

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>);
type Sending = Box<dyn Future<Output = wasmtime_wasi_http::Result<Sent>> + Send>;

/// What a guest's requests reach: the rest of its chain, and what else it is granted.
pub(crate) struct Onward<G> {
    pub(crate) next: Option<Next>,
    granted: G,
}

/// What the rest of a chain answered, once it has.
pub(crate) type Kept = Arc<OnceLock<http::Response<Bytes>>>;

/// The rest of a chain.
pub(crate) struct Next {
    pub(crate) trip: Arc<Trip>,
    /// Where it begins.
    pub(crate) at: usize,
    /// The place that its instances share with whoever calls it.
    pub(crate) place: Place,
    /// Where the answer is kept, for whoever goes on without the plugin that asked for it.
    pub(crate) kept: Option<Kept>,
}

impl<G> Onward<G> {
    pub(crate) fn new(granted: G) -> Self {
        Self { next: None, granted }
    }
}

impl<G: WasiHttpHooks> WasiHttpHooks for Onward<G> {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        sent: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Sending {
        let authority = request.uri().authority();
        if !authority.is_some_and(|name| name.as_str().eq_ignore_ascii_case(AUTHORITY)) {
            return self.granted.send_request(request, options, sent);
        }
        match self.next.take() {
            Some(next) => Box::new(next.send(request)),
            // The last of its chain, or one that has gone on already.
            None => Box::new(async { Err(HttpError::DestinationNotFound) }),
        }
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        self.granted.forbidden_header_filter()
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        self.granted.p2_error_from_hyper(error)
    }
}

/// Notes that what comes next failed, and what the guest hears of it.
fn failed(trip: &Trip, error: GuestError) -> HttpError {
    let text = trip.told(&error);
    trip.failed(error);
    HttpError::InternalError(Some(text))
}

/// Keeps an answer whole, beside giving it on.
async fn keep(
    response: http::Response<Body>,
    trip: &Trip,
    at: usize,
    kept: &Kept,
) -> wasmtime_wasi_http::Result<http::Response<Body>> {
    let (head, body) = response.into_parts();
    let body = body.collect(trip.response_bytes_max(at)).await.map_err(|error| match error {
        BodyError::Guest(error) => failed(trip, *error),
        other => wasi_error(&other),
    })?;
    let response = http::Response::from_parts(head, body);
    // There is one answer, as a guest goes on once.
    let _ = kept.set(response.clone());
    Ok(response.map(Body::whole))
}

impl Next {
    async fn send(self, request: http::Request<WasiBody>) -> wasmtime_wasi_http::Result<Sent> {
        let Self { trip, at, place, kept } = self;
        let (mut head, body) = request.into_parts();
        // What comes next was asked by the client and not by its neighbour.
        let path = head.uri.path_and_query().cloned();
        head.uri = path.map_or_else(http::Uri::default, http::Uri::from);
        let host = trip.host().cloned().unwrap_or(HeaderValue::from_static("localhost"));
        head.headers.insert(HOST, host);
        let body = body.map_err(|error| BodyError::Broken(Arc::new(error)));
        let request = http::Request::from_parts(head, Body::stream(body));
        let answered = Arc::clone(&trip).go(at, request, Some(place)).await;
        let response = answered.map_err(|error| failed(&trip, error))?;
        let response = match kept {
            Some(kept) => keep(response, &trip, at, &kept).await?,
            None => response,
        };
        let response = response.map(|body| {
            let told = move |error: BodyError| {
                let BodyError::Guest(error) = error else { return wasi_error(&error) };
                failed(&trip, *error)
            };
            body.map_err(told).boxed_unsync()
        });
        let done: Box<dyn Future<Output = Result<(), HttpError>> + Send> =
            Box::new(async { Ok(()) });
        Ok((response, done))
    }
}

/// What a guest hears of a body that ended early.
pub(crate) fn wasi_error(error: &BodyError) -> HttpError {
    match error {
        BodyError::TooLarge { limit } => HttpError::HttpRequestBodySize(Some(*limit)),
        BodyError::Broken(_) => HttpError::ConnectionTerminated,
        // Its text may hold what only its own plugin may see.
        BodyError::Guest(error) => {
            HttpError::InternalError(Some(format!("plugin {} failed", error.plugin())))
        }
    }
}
