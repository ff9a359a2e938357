//! What the node answers itself: `/healthz`, `/readyz`, `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use gw_deploy::Deployments;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode, request};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::cache::Cache;
use crate::metrics::HttpMetrics;

/// The node's own state, as probes and scrapers see it.
pub(crate) struct Node {
    pub(crate) deployments: Arc<Deployments>,
    pub(crate) draining: AtomicBool,
    pub(crate) registry: Registry,
    pub(crate) cache: Arc<Cache>,
    pub(crate) http: HttpMetrics,
}

impl Node {
    /// Answers `/healthz` and `/readyz`. They need no key and tell nothing but yes or no.
    pub(crate) fn probe(&self, head: &request::Parts) -> Option<Response<Bytes>> {
        let (status, text) = match head.uri.path() {
            "/healthz" => (StatusCode::OK, "ok\n"),
            "/readyz" if self.draining.load(Ordering::Relaxed) => {
                (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
            }
            "/readyz" if self.deployments.live().is_empty() => {
                (StatusCode::SERVICE_UNAVAILABLE, "nothing is deployed\n")
            }
            "/readyz" => (StatusCode::OK, "ready\n"),
            _ => return None,
        };
        Some(read_only(head, || plain(status, "text/plain; charset=utf-8", text.into())))
    }

    /// Answers `/metrics`.
    pub(crate) async fn metrics(&self, head: &request::Parts) -> Option<Response<Bytes>> {
        if head.uri.path() != "/metrics" {
            return None;
        }
        let bytes = i64::try_from(self.cache.bytes().await).unwrap_or(i64::MAX);
        self.http.cache_bytes.set(bytes);
        Some(read_only(head, || {
            let mut text = String::new();
            let encoded = encode(&mut text, &self.registry);
            let status = encoded.map_or(StatusCode::INTERNAL_SERVER_ERROR, |()| StatusCode::OK);
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            plain(status, kind, text.into())
        }))
    }
}

fn read_only(head: &request::Parts, respond: impl FnOnce() -> Response<Bytes>) -> Response<Bytes> {
    if matches!(head.method, Method::GET | Method::HEAD) {
        return respond();
    }
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "text/plain", Bytes::new());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn plain(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
