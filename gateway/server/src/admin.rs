//! The admin API, on its own listener: push, status, rollback, models.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/bundles`, a signed bundle | 201 `{"app", "revision", "version", "routes"}` |
//! | `GET /v1/status` | 200 `{"apps": [{"app", "live", "revisions": […]}]}` |
//! | `POST /v1/apps/{app}/rollback`, `{"revision"?}` | 200, as for a push |
//! | `POST /v1/models/{model}/load`, `…/unload` | 200, as an entry of the list below |
//! | `GET /v1/models` | 200 `{"models": [{"name", "state", …}], "devices": [{"device", …}]}` |
//!
//! `/healthz`, `/readyz` and `/metrics` are here too. A browser on the same machine can reach a
//! loopback listener on behalf of any web page, so a request that carries a page's marks is
//! refused.

mod models;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use gw_artifact::Digest;
use gw_deploy::{Deployments, Revision};
use http::header::{CONTENT_TYPE, ORIGIN};
use http::{HeaderName, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::error::HandleError;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Bundles that may be in memory at once; pushes are rare and bundles are large.
const PUSHES_MAX: usize = 2;
/// A rollback names one digest.
const ROLLBACK_BYTES_MAX: u64 = 4 << 10;

/// The admin API.
pub(crate) struct Admin {
    deployments: Arc<Deployments>,
    bundle_bytes_max: u64,
    pushes: Semaphore,
}

/// The body of a rollback: a revision, or nothing for the one before the live one.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rollback {
    revision: Option<Digest>,
}

impl Admin {
    pub(crate) fn new(deployments: Arc<Deployments>, bundle_bytes_max: u64) -> Self {
        Self { deployments, bundle_bytes_max, pushes: Semaphore::new(PUSHES_MAX) }
    }

    /// The API, with `metrics` beside it. Whoever serves it adds keys, probes and the log.
    pub(crate) fn routes(self, metrics: Router) -> Router {
        Router::new()
            .route("/v1/status", get(status).fallback(|| async { takes("GET, HEAD") }))
            .route("/v1/models", get(ledger).fallback(|| async { takes("GET, HEAD") }))
            .route("/v1/models/{model}/load", post(load).fallback(|| async { takes("POST") }))
            .route("/v1/models/{model}/unload", post(unload).fallback(|| async { takes("POST") }))
            .route("/v1/bundles", post(push).fallback(|| async { takes("POST") }))
            .route("/v1/apps/{app}/rollback", post(roll_back).fallback(|| async { takes("POST") }))
            .fallback(|| async { HandleError::RouteNotFound })
            .with_state(Arc::new(self))
            .merge(metrics)
            .layer(from_fn(refuse_pages))
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    json_text(&json!({ "apps": admin.deployments.status() }))
}

async fn ledger(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    json_text(&models::ledger(admin.deployments.models()))
}

async fn load(
    State(admin): State<Arc<Admin>>,
    model: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, HandleError> {
    let Path(model) = model.map_err(|error| unreadable("model", &error))?;
    Ok(json_text(&models::load(admin.deployments.models(), model).await?))
}

async fn unload(
    State(admin): State<Arc<Admin>>,
    model: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, HandleError> {
    let Path(model) = model.map_err(|error| unreadable("model", &error))?;
    Ok(json_text(&models::unload(admin.deployments.models(), &model).await?))
}

async fn push(
    State(admin): State<Arc<Admin>>,
    body: Body,
) -> Result<impl IntoResponse, HandleError> {
    let _place = (admin.pushes.try_acquire())
        .map_err(|_| HandleError::Saturated { what: "pushes at once" })?;
    let bundle = read(body, admin.bundle_bytes_max).await?;
    let revision = admin.deployments.push(bundle).await?;
    Ok((StatusCode::CREATED, json_text(&describe(&revision))))
}

async fn roll_back(
    State(admin): State<Arc<Admin>>,
    app: Result<Path<String>, PathRejection>,
    body: Body,
) -> Result<impl IntoResponse, HandleError> {
    let Path(app) = app.map_err(|error| unreadable("app", &error))?;
    let body = read(body, ROLLBACK_BYTES_MAX).await?;
    let rollback = match &*body {
        [] => Rollback::default(),
        text => serde_json::from_slice(text).map_err(|error| HandleError::BadRequest {
            field: "body",
            reason: format!("the body is not {{\"revision\"?: DIGEST}}: {error}"),
        })?,
    };
    let revision = admin.deployments.rollback(&app, rollback.revision).await?;
    Ok(json_text(&describe(&revision)))
}

fn describe(revision: &Revision) -> Value {
    let routes = revision
        .routes
        .iter()
        .flat_map(|route| route.methods.iter().map(|method| format!("{method} {}", route.pattern)));
    json!({
        "app": revision.app,
        "revision": revision.digest,
        "version": revision.version,
        "routes": routes.collect::<Vec<_>>(),
    })
}

/// One line, so that it reads well in a terminal.
fn json_text(value: &Value) -> impl IntoResponse + use<> {
    ([(CONTENT_TYPE, "application/json")], format!("{value}\n"))
}

fn unreadable(field: &'static str, error: &PathRejection) -> HandleError {
    HandleError::BadRequest { field, reason: error.body_text() }
}

fn takes(methods: &str) -> HandleError {
    HandleError::MethodNotAllowed { allow: methods.to_owned() }
}

async fn refuse_pages(request: Request, next: Next) -> Result<Response, HandleError> {
    let headers = request.headers();
    if headers.contains_key(ORIGIN) || headers.contains_key(FETCH_SITE) {
        let field = if headers.contains_key(ORIGIN) { "origin" } else { "sec-fetch-site" };
        let reason = "the admin API does not answer web pages".to_owned();
        return Err(HandleError::BadRequest { field, reason });
    }
    Ok(next.run(request).await)
}

async fn read(body: Body, limit: u64) -> Result<Bytes, HandleError> {
    let bytes_max = usize::try_from(limit).unwrap_or(usize::MAX);
    match Limited::new(body, bytes_max).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(HandleError::BodyTooLarge { limit }),
        Err(error) => {
            let reason = format!("the request body broke off: {error}");
            Err(HandleError::BadRequest { field: "body", reason })
        }
    }
}
