//! One line per request, always the last thing that happens to it.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, Request, StatusCode};

use crate::error::Code;
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
    method: Method,
    path: String,
    status: u16,
    started: Instant,
    metrics: HttpMetrics,
}

impl Access {
    pub(crate) fn begin<B>(id: String, request: &Request<B>, metrics: &HttpMetrics) -> Self {
        metrics.in_flight.inc();
        Self {
            id,
            app: String::new(),
            route: NO_ROUTE.to_owned(),
            tenant: None,
            cache: "",
            code: None,
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

    /// The answer is whole and on its way.
    pub(crate) fn end(mut self, status: StatusCode) {
        self.status = status.as_u16();
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        self.metrics.in_flight.dec();
        self.metrics.handled(&self.route, &self.method, self.status, took);
        tracing::info!(
            target: "access",
            id = self.id,
            method = %self.method,
            path = self.path,
            status = self.status,
            ms = took.as_secs_f64() * 1e3,
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
