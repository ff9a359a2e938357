//! The admin API, on its own listener: push, status, rollback.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/bundles`, a signed bundle | 201 `{"app", "revision", "version", "routes"}` |
//! | `GET /v1/status` | 200 `{"apps": [{"app", "live", "revisions": […]}]}` |
//! | `POST /v1/apps/{app}/rollback`, `{"revision"?}` | 200, as for a push |
//!
//! `/healthz`, `/readyz` and `/metrics` are here too. A browser on the same machine can reach a
//! loopback listener on behalf of any web page, so a request that carries a page's marks is
//! refused.

use std::sync::Arc;

use bytes::Bytes;
use gw_artifact::Digest;
use gw_deploy::{Deployments, Revision};
use http::header::{CONTENT_TYPE, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::error::{Fault, HandleError, chain};
use crate::handle::access::Access;
use crate::handle::admit;
use crate::handle::auth::Keys;
use crate::handle::request_id::{REQUEST_ID, RequestIds};
use crate::metrics::HttpMetrics;
use crate::node::Node;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Bundles that may be in memory at once; pushes are rare and bundles are large.
const PUSHES_MAX: usize = 2;
/// A rollback names one digest.
const ROLLBACK_BYTES_MAX: u64 = 4 << 10;

/// The admin API.
pub(crate) struct Admin {
    deployments: Arc<Deployments>,
    keys: Keys,
    node: Arc<Node>,
    bundle_bytes_max: u64,
    metrics: HttpMetrics,
    ids: RequestIds,
    pushes: Semaphore,
}

/// The body of a rollback: a revision, or nothing for the one before the live one.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rollback {
    revision: Option<Digest>,
}

type Answered = Result<Response<Bytes>, HandleError>;

impl Admin {
    pub(crate) fn new(
        deployments: Arc<Deployments>,
        keys: Keys,
        node: Arc<Node>,
        bundle_bytes_max: u64,
        metrics: HttpMetrics,
    ) -> Self {
        let (ids, pushes) = (RequestIds::default(), Semaphore::new(PUSHES_MAX));
        Self { deployments, keys, node, bundle_bytes_max, metrics, ids, pushes }
    }

    /// Answers one request.
    pub(crate) async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response<Bytes> {
        let id = self.ids.name(request.headers());
        let mut access = Access::begin(id.clone(), &request, &self.metrics);
        "admin".clone_into(&mut access.route);
        let mut response = match self.answer(request).await {
            Ok(response) => response,
            Err(error) => {
                access.code = Some(error.code());
                report(&error, &id);
                error.response(&id)
            }
        };
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        access.end(response.status());
        response
    }

    async fn answer(&self, request: Request<Incoming>) -> Answered {
        let (mut head, body) = request.into_parts();
        if let Some(response) = self.node.probe(&head) {
            return Ok(response);
        }
        self.keys.admit(&mut head.headers)?;
        refuse_pages(&head.headers)?;
        if let Some(response) = self.node.metrics(&head).await {
            return Ok(response);
        }
        let segments: Vec<&str> = head.uri.path().trim_start_matches('/').split('/').collect();
        match (&head.method, segments.as_slice()) {
            (&Method::GET, ["v1", "status"]) => {
                Ok(json_response(StatusCode::OK, &json!({ "apps": self.deployments.status() })))
            }
            (&Method::POST, ["v1", "bundles"]) => self.push(body).await,
            (&Method::POST, ["v1", "apps", app, "rollback"]) => self.roll_back(app, body).await,
            (_, ["v1", "status"]) => Err(allow("GET")),
            (_, ["v1", "bundles"] | ["v1", "apps", _, "rollback"]) => Err(allow("POST")),
            _ => Err(HandleError::RouteNotFound),
        }
    }

    async fn push(&self, body: Incoming) -> Answered {
        let _place = (self.pushes.try_acquire())
            .map_err(|_| HandleError::Saturated { what: "pushes at once" })?;
        let bundle = read(body, self.bundle_bytes_max).await?;
        let revision = self.deployments.push(bundle).await?;
        Ok(json_response(StatusCode::CREATED, &describe(&revision)))
    }

    async fn roll_back(&self, app: &str, body: Incoming) -> Answered {
        let body = read(body, ROLLBACK_BYTES_MAX).await?;
        let rollback = match &*body {
            [] => Rollback::default(),
            text => serde_json::from_slice(text).map_err(|error| HandleError::BadRequest {
                reason: format!("the body is not {{\"revision\"?: DIGEST}}: {error}"),
            })?,
        };
        let revision = self.deployments.rollback(app, rollback.revision).await?;
        Ok(json_response(StatusCode::OK, &describe(&revision)))
    }
}

fn describe(revision: &Revision) -> serde_json::Value {
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

fn refuse_pages(headers: &HeaderMap) -> Result<(), HandleError> {
    if headers.contains_key(ORIGIN) || headers.contains_key(FETCH_SITE) {
        let reason = "the admin API does not answer web pages".to_owned();
        return Err(HandleError::BadRequest { reason });
    }
    Ok(())
}

async fn read(mut body: Incoming, limit: u64) -> Result<Bytes, HandleError> {
    let bytes_max = usize::try_from(limit).unwrap_or(usize::MAX);
    match Limited::new(&mut body, bytes_max).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            admit::discard(&mut body).await;
            Err(HandleError::BodyTooLarge { limit })
        }
        Err(error) => {
            Err(HandleError::BadRequest { reason: format!("the request body broke off: {error}") })
        }
    }
}

fn allow(method: &str) -> HandleError {
    HandleError::MethodNotAllowed { allow: method.to_owned() }
}

fn json_response(status: StatusCode, value: &impl Serialize) -> Response<Bytes> {
    let text = serde_json::to_string(value).expect("these values have text keys only");
    let mut response = Response::new(Bytes::from(text + "\n"));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// A refused push is worth a line for whoever runs the node, whoever's fault it is.
fn report(error: &HandleError, id: &str) {
    let (fault, reason) = (error.code().fault(), chain(error));
    match (fault, error) {
        (Fault::Ours | Fault::Operator, _) => tracing::error!(id, reason, "admin request failed"),
        (_, HandleError::Deploy(_)) => tracing::warn!(id, reason, "deployment refused"),
        _ => {}
    }
}
