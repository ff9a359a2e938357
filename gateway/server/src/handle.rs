//! One request, from its head to its whole answer.
//!
//! Authenticate → route → admit → cache → plugin; the access log is always last.

pub(crate) mod access;
pub(crate) mod admit;
pub(crate) mod auth;
mod call;
mod headers;
mod inferences;
pub(crate) mod request_id;
mod told;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use futures::FutureExt;
use gw_deploy::{Deployments, Found, Lookup};
use gw_host::{Body as HostBody, Call, Inferences};
use gw_inference::Caller;
use http::header::ALLOW;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, request};
use tokio::sync::oneshot;

use crate::cache::answer::Answer;
use crate::cache::control::RequestControl;
use crate::cache::key::{Key, KeyParts, VARIED_HEADERS};
use crate::cache::{Cache, Served};
use crate::error::HandleError;
use crate::handle::access::Access;
use crate::handle::admit::{Admission, Admitted};
use crate::handle::auth::{Keys, Principal};
use crate::handle::call::{call, call_whole, refuse_early, skipped};
use crate::handle::headers::{
    add_bypass, add_cache_status, add_inference_status, add_skipped, add_timing, drop_ours,
};
use crate::handle::inferences::CachedInferences;
use crate::handle::request_id::{REQUEST_ID, RequestIds};
use crate::handle::told::Told;
use crate::metrics::{HttpMetrics, LookupResult};

/// How long a client waits beyond the route's time, so that it hears where the time went rather
/// than that it is over.
const GRACE: Duration = Duration::from_secs(1);

/// The request path of the main listener.
pub(crate) struct Gateway {
    pub(crate) deployments: Arc<Deployments>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) admission: Admission,
    pub(crate) cache: Arc<Cache>,
    pub(crate) metrics: HttpMetrics,
    pub(crate) ids: RequestIds,
}

type Refused = Arc<HandleError>;

impl Gateway {
    /// Answers one request, whatever happens on the way.
    pub(crate) async fn handle(
        State(gateway): State<Arc<Self>>,
        request: Request,
    ) -> Response<Body> {
        let id = gateway.ids.name(request.headers());
        let mut access = Access::begin(id.clone(), &request, &gateway.metrics);
        // A panic costs its own request and not the connection's others.
        let answer = AssertUnwindSafe(gateway.answer(request, &mut access));
        let answered = answer.catch_unwind().await.unwrap_or_else(|panic| {
            Err(Arc::new(HandleError::Panicked { reason: panic_text(panic.as_ref()) }))
        });
        let mut response = match answered {
            Ok(response) => response,
            Err(error) => refuse(&error, &mut access),
        };
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        send(response, access)
    }

    async fn answer(
        &self,
        request: Request,
        access: &mut Access,
    ) -> Result<Response<HostBody>, Refused> {
        let (mut head, body) = request.into_parts();
        let principal = self.keys.admit(&mut head.headers)?;
        access.tenant = Some(Arc::clone(&principal.tenant));
        let table = self.deployments.live();
        let found = match table.find(&head.method, head.uri.path()) {
            Lookup::Found(found) => found.clone(),
            Lookup::NotFound => return Err(Arc::new(HandleError::RouteNotFound)),
            Lookup::MethodNotAllowed { pattern, allow } => {
                pattern.clone_into(&mut access.route);
                return options(&head.method, allow);
            }
        };
        access.route.clone_from(&found.route.pattern);
        access.app.clone_from(&found.revision.app);
        access.plugins = Some(found.route.chain.clone());
        // The request holds its revision; a swap meanwhile does not touch it.
        drop(table);
        access.hold(Some(principal.enter()?));
        access.hold(Some(self.admission.enter()?));
        let control = RequestControl::parse(&head.headers);
        let work = Work { head, found, principal, control };
        let lifetime = work.found.route.cache_ttl.filter(|_| self.cache.enabled());
        match lifetime.filter(|_| work.is_cacheable()) {
            Some(lifetime) if !work.found.route.chain.has_hooks() => {
                self.cached(work, body, lifetime, access).await
            }
            lifetime => self.direct(work, body, lifetime, access).await,
        }
    }

    /// Answers from the cache or through it: whole.
    async fn cached(
        &self,
        work: Work,
        body: Body,
        lifetime: Duration,
        access: &mut Access,
    ) -> Result<Response<HostBody>, Refused> {
        let admitted = self.admission.read(body).await?;
        let begun = Instant::now();
        let (key, id, control) = (work.key(&admitted.body), access.id.clone(), work.control);
        let deadline = access.started() + work.found.route.timeout;
        let patience = (deadline + GRACE).into();
        let make = move || work.run(admitted, deadline, id);
        let served = self.cache.answer(key, lifetime, control, patience, make).await?;
        let took = begun.elapsed();
        let (answer, cache_time, timings) = match &served {
            // Whoever waited for another request spent the time here and not in the plugin.
            Served::Hit { answer, .. } | Served::Made { answer, collapsed: true, .. } => {
                (answer, took, None)
            }
            Served::Made { answer, .. } => {
                (answer, took.saturating_sub(answer.took), Some(&answer.timings))
            }
        };
        if let Some(timings) = timings {
            access.took(timings);
        }
        let mut response = respond(answer);
        access.cache = add_cache_status(response.headers_mut(), &served);
        add_timing(response.headers_mut(), cache_time, timings);
        add_skipped(response.headers_mut(), &answer.skipped);
        Ok(response)
    }

    /// Answers past the cache, as the answer comes. Where the plugins are hooks and the route has
    /// a policy, what they ask of models goes through the cache, for `lifetime`.
    async fn direct(
        &self,
        work: Work,
        body: Body,
        lifetime: Option<Duration>,
        access: &mut Access,
    ) -> Result<Response<HostBody>, Refused> {
        let deadline = access.started() + work.found.route.timeout;
        let caller = work.caller();
        // What the cache may know needs no model.
        if lifetime.is_none() {
            refuse_early(&work.found, &caller, deadline)?;
        }
        let (body, mut flawed) = if work.found.route.chain.wants_whole() {
            let Admitted { body, counted } = self.admission.read(body).await?;
            access.hold(counted);
            (HostBody::whole(body), None)
        } else {
            let (body, flawed) = self.admission.stream(body)?;
            (body, Some(flawed))
        };
        let inferences = lifetime.map(|lifetime| self.inferences(&work, lifetime, deadline));
        let asked = inferences.clone().map(|inferences| -> Arc<dyn Inferences> { inferences });
        let found = work.found.clone();
        let called = Call { deadline, request_id: access.id.clone(), caller };
        let answering = call(&found, work.request(body, &access.id), called, asked);
        let answer = tokio::select! {
            biased;
            // The guest goes with it: what it would say of a broken request is not asked for.
            flaw = flaw_of(&mut flawed) => return Err(Arc::new(flaw)),
            answered = Box::pin(answering) => answered,
        };
        let answer =
            answer.map_err(|error| match flawed.as_mut().map(oneshot::Receiver::try_recv) {
                // A guest that failed at once, of what was wrong with the body.
                Some(Ok(flaw)) => Arc::new(flaw),
                _ => error,
            })?;
        let report = answer.progress.report();
        access.took(&report.timings);
        let mut response = answer.response;
        let whole = response.body().as_whole().is_some();
        if !whole {
            access.hold_until(deadline, answer.progress);
        }
        let headers = response.headers_mut();
        drop_ours(headers, whole);
        access.cache = match inferences.and_then(|inferences| inferences.served()) {
            Some(served) => add_inference_status(headers, &served),
            None => {
                self.metrics.lookup(LookupResult::Bypass);
                add_bypass(headers)
            }
        };
        add_timing(headers, Duration::ZERO, Some(&report.timings));
        add_skipped(headers, &skipped(&report));
        Ok(response)
    }

    fn inferences(
        &self,
        work: &Work,
        lifetime: Duration,
        deadline: Instant,
    ) -> Arc<CachedInferences> {
        Arc::new(CachedInferences {
            cache: Arc::clone(&self.cache),
            found: work.found.clone(),
            tenant: Arc::clone(&work.principal.tenant),
            lifetime,
            control: work.control,
            patience: (deadline + GRACE).into(),
            served: Arc::new(Mutex::default()),
        })
    }
}

/// What is wrong with a request's body, as soon as it shows; never for a good one.
async fn flaw_of(flawed: &mut Option<oneshot::Receiver<HandleError>>) -> HandleError {
    if let Some(flawed) = flawed
        && let Ok(flaw) = flawed.await
    {
        return flaw;
    }
    std::future::pending().await
}

/// Sends an answer off. One that is on its way takes the request's line with it.
fn send(response: Response<HostBody>, mut access: Access) -> Response<Body> {
    let (head, body) = response.into_parts();
    let status = head.status;
    let bodiless = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = match body.as_whole() {
        Some(bytes) => {
            let sent = if access.is_head() || bodiless { 0 } else { bytes.len() as u64 };
            access.end(status, sent);
            Body::from(bytes.clone())
        }
        // The guest ends here: nobody will read the rest, and nobody knows its length.
        None if access.is_head() || bodiless => {
            access.end(status, 0);
            Body::from_stream(futures::stream::empty::<Result<bytes::Bytes, Infallible>>())
        }
        None => {
            access.begun(status);
            Body::new(Told::new(body, access))
        }
    };
    Response::from_parts(head, body)
}

/// A request that is let in, and the route that answers it.
struct Work {
    head: request::Parts,
    found: Found,
    principal: Principal,
    control: RequestControl,
}

impl Work {
    /// Other methods mean changes, which a policy for answers cannot cover.
    fn is_cacheable(&self) -> bool {
        let safe = matches!(self.head.method, Method::GET | Method::HEAD | Method::POST);
        safe && !self.control.no_store
    }

    /// The method that the plugin sees: a `HEAD` is a `GET` whose body is dropped at the end.
    fn method(&self) -> &Method {
        match self.head.method {
            Method::HEAD => &Method::GET,
            _ => &self.head.method,
        }
    }

    fn key(&self, body: &[u8]) -> Key {
        KeyParts {
            tenant: &self.principal.tenant,
            route: &self.found.route.pattern,
            identity: &self.found.route.identity,
            method: self.method(),
            authority: self.head.uri.authority().map_or("", |authority| authority.as_str()),
            path_and_query: self.head.uri.path_and_query().map_or("/", |path| path.as_str()),
            headers: &self.head.headers,
            body,
        }
        .key()
    }

    /// For whom models are asked.
    fn caller(&self) -> Arc<Caller> {
        let (tenant, route) = (Arc::clone(&self.principal.tenant), &self.found.route.pattern);
        Arc::new(Caller { tenant, route: route.as_str().into() })
    }

    /// What the first plugin sees.
    fn request(self, body: HostBody, request_id: &str) -> http::Request<HostBody> {
        let method = self.method().clone();
        let route = &self.found.route;
        let headers = match route.cache_ttl {
            // Between hooks nothing is kept but what their questions say.
            Some(_) if !route.chain.has_hooks() => keyed_headers(&self.head.headers),
            _ => all_headers(self.head.headers, request_id),
        };
        let mut request = http::Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.head.uri;
        *request.headers_mut() = headers;
        request
    }

    /// Runs the plugins to the end of their answer; the body counts as in memory until then.
    async fn run(
        self,
        admitted: Admitted,
        deadline: Instant,
        request_id: String,
    ) -> crate::cache::Made {
        let Admitted { body, counted: _counted } = admitted;
        let (found, caller) = (self.found.clone(), self.caller());
        refuse_early(&found, &caller, deadline)?;
        let request = self.request(HostBody::whole(body), &request_id);
        call_whole(found, request, Call { deadline, request_id, caller }).await
    }
}

/// What a plugin on a cached route sees: exactly the headers that are in the key.
fn keyed_headers(headers: &HeaderMap) -> HeaderMap {
    let mut keyed = HeaderMap::new();
    for name in &VARIED_HEADERS {
        for value in headers.get_all(name) {
            keyed.append(name, value.clone());
        }
    }
    keyed
}

fn all_headers(mut headers: HeaderMap, request_id: &str) -> HeaderMap {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    headers
}

fn respond(answer: &Answer) -> Response<HostBody> {
    let mut response = Response::new(HostBody::whole(answer.body.clone()));
    *response.status_mut() = answer.status;
    response.headers_mut().clone_from(&answer.headers);
    response
}

/// A path that exists, asked with a method that no route of it takes.
fn options(method: &Method, allow: String) -> Result<Response<HostBody>, Refused> {
    if method != Method::OPTIONS {
        return Err(Arc::new(HandleError::MethodNotAllowed { allow }));
    }
    let mut response = Response::new(HostBody::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allow = HeaderValue::from_str(&allow).expect("methods are header text");
    response.headers_mut().insert(ALLOW, allow);
    Ok(response)
}

fn refuse(error: &HandleError, access: &mut Access) -> Response<HostBody> {
    access.refuse(error);
    let mut response = error.response(&access.id).map(HostBody::whole);
    if let Some(timings) = error.timings() {
        access.took(&timings);
        add_timing(response.headers_mut(), Duration::ZERO, Some(&timings));
    }
    response
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
