//! One line per request, always the last thing that happens to it: where an answer is streamed, the
//! line comes when its body has ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use gw_host::{Chain, Progress, Timings};
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use crate::error::{Code, Fault, HandleError, chain};
use crate::handle::auth::Principal;
use crate::handle::request_id::{REQUEST_ID, RequestIds};
use crate::metrics::{HttpMetrics, NO_ROUTE};

/// The longest path that is logged whole, in characters.
const PATH_CHARS_MAX: usize = 256;
/// What is logged for a client that went away before its answer, as nginx does.
const CLIENT_CLOSED: u16 = 499;

/// What is known of a request so far. Logged and counted when it is dropped, so a request whose
/// client went away has its line too.
pub(crate) struct Access {
    pub(crate) id: String,
    pub(crate) app: String,
    pub(crate) route: String,
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) cache: &'static str,
    pub(crate) code: Option<Code>,
    /// Bytes of the answer's body that were handed over to be sent.
    pub(crate) bytes: u64,
    /// Who ended an answer before its end.
    pub(crate) cut: Option<Cut>,
    /// Those that answer it.
    pub(crate) plugins: Option<Chain>,
    /// What it waited for models, and what they took.
    inference: Option<(Duration, Duration)>,
    /// Where plugins may still be at work for it.
    progress: Option<Progress>,
    /// What the request takes of the node's limits until its end.
    held: Vec<OwnedSemaphorePermit>,
    released: Option<Released>,
    method: Method,
    path: String,
    status: u16,
    started: Instant,
    metrics: HttpMetrics,
}

impl Access {
    pub(crate) fn begin(id: String, request: &Request, metrics: &HttpMetrics) -> Self {
        metrics.in_flight.inc();
        Self {
            id,
            app: String::new(),
            route: NO_ROUTE.to_owned(),
            tenant: None,
            cache: "",
            code: None,
            bytes: 0,
            cut: None,
            plugins: None,
            inference: None,
            progress: None,
            held: Vec::new(),
            released: None,
            method: request.method().clone(),
            path: request.uri().path().chars().take(PATH_CHARS_MAX).collect(),
            status: CLIENT_CLOSED,
            started: Instant::now(),
            metrics: metrics.clone(),
        }
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Notes why the request is refused. What the operator should know gets a line of its own.
    pub(crate) fn refuse(&mut self, error: &HandleError) {
        let code = error.code();
        self.code = Some(code);
        if let Some(reason) = error.shed() {
            self.metrics.shed(&self.route, reason);
        }
        let (id, reason) = (&self.id, || chain(error));
        match (code.fault(), error) {
            (Fault::Ours | Fault::Operator, _) => {
                tracing::error!(id, reason = reason(), "request failed");
            }
            // A refused push is worth a line, whoever's fault it is.
            (_, HandleError::Deploy(_)) => {
                tracing::warn!(id, reason = reason(), "deployment refused");
            }
            _ => {}
        }
    }

    /// Notes what the request took of models.
    pub(crate) fn took(&mut self, timings: &Timings) {
        let (queue, infer) = (timings.queue, timings.infer);
        self.inference = Some((queue, infer)).filter(|_| queue + infer > Duration::ZERO);
    }

    /// Keeps a part of a limit until the request's end.
    pub(crate) fn hold(&mut self, part: Option<OwnedSemaphorePermit>) {
        self.held.extend(part);
    }

    /// The answer is on its way, and nobody works for it after `deadline`: from then on a client
    /// that does not read it keeps nobody else out.
    pub(crate) fn hold_until(&mut self, deadline: Instant, progress: Progress) {
        self.progress = Some(progress);
        let held = std::mem::take(&mut self.held);
        let released = tokio::spawn(async move {
            tokio::time::sleep_until(deadline.into()).await;
            drop(held);
        });
        self.released = Some(Released(released));
    }

    /// The head of the answer is on its way.
    pub(crate) fn begun(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    /// All of the answer was handed over; what comes after a failure is no end.
    pub(crate) fn whole(&mut self) {
        if self.cut != Some(Cut::Plugin) {
            self.cut = None;
        }
    }

    /// The answer is whole and on its way.
    pub(crate) fn end(mut self, status: StatusCode, bytes: u64) {
        self.begun(status);
        self.bytes = bytes;
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }
}

/// A task that holds parts of limits; they are free when it or the request ends.
struct Released(JoinHandle<()>);

impl Drop for Released {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Who ended an answer before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The client went away.
    Client,
    /// The plugin that wrote it failed.
    Plugin,
}

impl Cut {
    fn text(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Plugin => "plugin",
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        if let Some(report) = self.progress.take().map(|progress| progress.report()) {
            self.took(&report.timings);
        }
        let (queue, infer) = self.inference.unzip();
        self.metrics.in_flight.dec();
        self.metrics.handled(&self.route, &self.method, self.status, took);
        tracing::info!(
            target: "access",
            id = self.id,
            method = %self.method,
            path = self.path,
            status = self.status,
            bytes = self.bytes,
            cut = self.cut.map(Cut::text),
            ms = millis(took),
            queue_ms = queue.map(millis),
            infer_ms = infer.map(millis),
            app = self.app,
            route = self.route,
            cache = self.cache,
            // The start of a digest tells tenants apart and gives nothing away.
            tenant = self.tenant.as_deref().map(|tenant| tenant.get(..12).unwrap_or(tenant)),
            code = self.code.map(Code::text),
            fault = self.code.map(|code| code.fault().to_string()),
        );
    }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

/// What [`log`] needs to know.
pub(crate) struct Log {
    pub(crate) ids: RequestIds,
    pub(crate) metrics: HttpMetrics,
    /// What the requests are counted as; `None` where each path below is a route.
    pub(crate) route: Option<&'static str>,
}

/// The outermost layer around the node's own routes: it gives a request its id and its line, and
/// an error its body.
pub(crate) async fn log(State(log): State<Arc<Log>>, request: Request, next: Next) -> Response {
    let id = log.ids.name(request.headers());
    let mut access = Access::begin(id.clone(), &request, &log.metrics);
    log.route.unwrap_or(request.uri().path()).clone_into(&mut access.route);
    let mut response = next.run(request).await;
    let extensions = response.extensions_mut();
    access.tenant = extensions.remove::<Principal>().map(|principal| principal.tenant);
    if let Some(error) = extensions.remove::<Arc<HandleError>>() {
        access.refuse(&error);
        response = error.response(&id).map(Body::from);
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let bytes = response.body().size_hint().exact().unwrap_or_default();
    access.end(response.status(), bytes);
    response
}
