//! What the node answers itself: `/healthz`, `/readyz`, `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use gw_deploy::Deployments;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::cache::Cache;
use crate::error::HandleError;
use crate::metrics::HttpMetrics;

/// An answer of another moment misleads whoever asks.
const NO_STORE: (HeaderName, &str) = (CACHE_CONTROL, "no-store");

/// The node's own state, as probes and scrapers see it.
pub(crate) struct Node {
    pub(crate) deployments: Arc<Deployments>,
    pub(crate) draining: AtomicBool,
    pub(crate) registry: Registry,
    pub(crate) cache: Arc<Cache>,
    pub(crate) http: HttpMetrics,
}

impl Node {
    /// `/healthz` and `/readyz`. They need no key and tell nothing but yes or no.
    pub(crate) fn probes(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/healthz", get(|| async { ([NO_STORE], "ok\n") }).fallback(only_read))
            .route("/readyz", get(ready).fallback(only_read))
            .with_state(Arc::clone(self))
    }

    /// `/metrics`.
    pub(crate) fn metrics(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/metrics", get(metrics).fallback(only_read))
            .with_state(Arc::clone(self))
    }
}

async fn only_read() -> HandleError {
    HandleError::MethodNotAllowed { allow: "GET, HEAD".to_owned() }
}

async fn ready(State(node): State<Arc<Node>>) -> impl IntoResponse {
    let (status, text) = if node.draining.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if node.deployments.live().is_empty() {
        (StatusCode::SERVICE_UNAVAILABLE, "nothing is deployed\n")
    } else {
        (StatusCode::OK, "ready\n")
    };
    (status, [NO_STORE], text)
}

async fn metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    let bytes = i64::try_from(node.cache.bytes().await).unwrap_or(i64::MAX);
    node.http.cache_bytes.set(bytes);
    let fallbacks = node.deployments.status().iter().filter(|app| app.fallback.is_some()).count();
    node.http.fallbacks.set(i64::try_from(fallbacks).unwrap_or(i64::MAX));
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    node.http.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
    // Models tell their gauges when they are looked at.
    node.deployments.models().budgets();
    let mut text = String::new();
    let encoded = encode(&mut text, &node.registry);
    let status = encoded.map_or(StatusCode::INTERNAL_SERVER_ERROR, |()| StatusCode::OK);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (status, [NO_STORE, (CONTENT_TYPE, kind)], text)
}
