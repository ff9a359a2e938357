//! One request, from its head to its whole answer.
//!
//! Authenticate → route → admit → cache → plugin; the access log is always last.

pub(crate) mod access;
pub(crate) mod admit;
pub(crate) mod auth;
mod call;
mod headers;
pub(crate) mod request_id;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use bytes::Bytes;
use futures::FutureExt;
use gw_deploy::{Deployments, Found, Lookup};
use http::header::ALLOW;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, request};

use crate::cache::answer::Answer;
use crate::cache::control::RequestControl;
use crate::cache::key::{Key, KeyParts, VARIED_HEADERS};
use crate::cache::{Cache, Served};
use crate::error::HandleError;
use crate::handle::access::Access;
use crate::handle::admit::{Admission, Admitted};
use crate::handle::auth::{Keys, Principal};
use crate::handle::call::call;
use crate::handle::headers::{add_bypass, add_cache_status, add_timing};
use crate::handle::request_id::{REQUEST_ID, RequestIds};
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
        access.end(response.status());
        response.map(Body::from)
    }

    async fn answer(
        &self,
        request: Request,
        access: &mut Access,
    ) -> Result<Response<Bytes>, Refused> {
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
        // The request holds its revision; a swap meanwhile does not touch it.
        drop(table);
        let _place = self.admission.enter()?;
        let admitted = self.admission.read(body).await?;
        self.serve(Work { head, admitted, found, principal }, access).await
    }

    async fn serve(&self, work: Work, access: &mut Access) -> Result<Response<Bytes>, Refused> {
        let control = RequestControl::parse(&work.head.headers);
        let lifetime = work.found.route.cache_ttl.filter(|_| self.cache.enabled());
        let lifetime = lifetime.filter(|_| work.is_cacheable() && !control.no_store);
        let started = access.started();
        let deadline = started + work.found.route.timeout;
        let Some(lifetime) = lifetime else {
            self.metrics.lookup(LookupResult::Bypass);
            let answer = work.run(deadline, access.id.clone()).await?;
            let mut response = respond(&answer);
            access.cache = add_bypass(response.headers_mut());
            add_timing(response.headers_mut(), Duration::ZERO, Some(&answer.timings));
            return Ok(response);
        };
        let begun = Instant::now();
        let (key, id) = (work.key(), access.id.clone());
        let patience = (deadline + GRACE).into();
        let make = move || work.run(deadline, id);
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
        let mut response = respond(answer);
        access.cache = add_cache_status(response.headers_mut(), &served);
        add_timing(response.headers_mut(), cache_time, timings);
        Ok(response)
    }
}

/// A request that is let in, and the route that answers it.
struct Work {
    head: request::Parts,
    admitted: Admitted,
    found: Found,
    principal: Principal,
}

impl Work {
    /// Other methods mean changes, which a policy for answers cannot cover.
    fn is_cacheable(&self) -> bool {
        matches!(self.head.method, Method::GET | Method::HEAD | Method::POST)
    }

    /// The method that the plugin sees: a `HEAD` is a `GET` whose body is dropped at the end.
    fn method(&self) -> &Method {
        match self.head.method {
            Method::HEAD => &Method::GET,
            _ => &self.head.method,
        }
    }

    fn key(&self) -> Key {
        KeyParts {
            tenant: &self.principal.tenant,
            route: &self.found.route.pattern,
            identity: &self.found.route.identity,
            method: self.method(),
            authority: self.head.uri.authority().map_or("", |authority| authority.as_str()),
            path_and_query: self.head.uri.path_and_query().map_or("/", |path| path.as_str()),
            headers: &self.head.headers,
            body: &self.admitted.body,
        }
        .key()
    }

    /// Runs the plugin; the body counts as in memory until it has answered.
    async fn run(self, deadline: Instant, request_id: String) -> crate::cache::Made {
        let method = self.method().clone();
        let headers = match self.found.route.cache_ttl {
            Some(_) => keyed_headers(&self.head.headers),
            None => all_headers(self.head.headers, &request_id),
        };
        let mut request = http::Request::new(self.admitted.body.clone());
        *request.method_mut() = method;
        *request.uri_mut() = self.head.uri;
        *request.headers_mut() = headers;
        let _counted = self.admitted;
        call(self.found, request, deadline, request_id).await
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

fn respond(answer: &Answer) -> Response<Bytes> {
    let mut response = Response::new(answer.body.clone());
    *response.status_mut() = answer.status;
    response.headers_mut().clone_from(&answer.headers);
    response
}

/// A path that exists, asked with a method that no route of it takes.
fn options(method: &Method, allow: String) -> Result<Response<Bytes>, Refused> {
    if method != Method::OPTIONS {
        return Err(Arc::new(HandleError::MethodNotAllowed { allow }));
    }
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allow = HeaderValue::from_str(&allow).expect("methods are header text");
    response.headers_mut().insert(ALLOW, allow);
    Ok(response)
}

fn refuse(error: &HandleError, access: &mut Access) -> Response<Bytes> {
    access.refuse(error);
    let mut response = error.response(&access.id);
    if let Some(timings) = error.timings() {
        add_timing(response.headers_mut(), Duration::ZERO, Some(&timings));
    }
    response
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
