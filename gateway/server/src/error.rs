//! Every way in which a request is refused: one table of codes, statuses and whose fault it is.
//!
//! A body names the code, a message and the request id. For faults that are not the caller's the
//! message is only the table's; the log has the whole story. Where a request ran out of time, its
//! message says where the time went. A plugin that fails to answer is a bad gateway to its caller
//! (502), or one that was too slow (504) or too large (507).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::response::IntoResponse;
use bytes::Bytes;
use gw_artifact::bundle::BundleError;
use gw_deploy::DeployError;
use gw_host::{GuestError, Timings};
use gw_inference::{Fault as ModelFault, InferenceError};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

/// Who has to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Whoever sent the request.
    Caller,
    /// Whoever wrote the plugin.
    Guest,
    /// Whoever runs the node.
    Operator,
    /// Nobody: the same request may be answered later.
    Overload,
    /// Us.
    Ours,
}

macro_rules! codes {
    ($($variant:ident $code:literal $status:ident $fault:ident $message:literal,)*) => {
        /// The stable codes of refused requests.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $message] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As clients see it, in `error.code`.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The HTTP status.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// Whose fault it is.
            pub fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)* }
            }

            /// What it means, without the particulars of one request.
            pub fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)* }
            }
        }
    };
}

codes! {
    BadRequest "bad_request" BAD_REQUEST Caller "the request cannot be read",
    Unauthenticated "unauthenticated" UNAUTHORIZED Caller
        "a valid API key is needed: send `Authorization: Bearer KEY`",
    RouteNotFound "route_not_found" NOT_FOUND Caller "no route answers this path",
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED Caller
        "this path takes other methods, see the header Allow",
    BodyTimeout "body_timeout" REQUEST_TIMEOUT Caller "the request body did not arrive in time",
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE Caller "the request body is too large",
    Saturated "saturated" SERVICE_UNAVAILABLE Overload "the node is busy; try again",
    DeadlinePassed "deadline_passed" GATEWAY_TIMEOUT Overload
        "the answer was not ready in time; try again",
    DeviceLost "device_lost" SERVICE_UNAVAILABLE Ours
        "the device of the model was lost and is opened anew; try again",
    DeviceOutOfMemory "device_out_of_memory" SERVICE_UNAVAILABLE Overload
        "the device of the model has no memory left; try again",
    NotANumber "not_a_number" BAD_GATEWAY Operator
        "the model's answer is not a number, which its manifest refuses",
    NotCached "not_cached" GATEWAY_TIMEOUT Caller
        "no cached answer, and the request asked for nothing else",
    PluginTrapped "plugin_trapped" BAD_GATEWAY Guest "the plugin failed",
    PluginTimeout "plugin_timeout" GATEWAY_TIMEOUT Guest
        "the plugin did not answer in time",
    PluginOutOfMemory "plugin_out_of_memory" INSUFFICIENT_STORAGE Guest
        "the plugin ran out of its memory limit",
    PluginNoResponse "plugin_no_response" BAD_GATEWAY Guest "the plugin gave no response",
    PluginBadResponse "plugin_bad_response" BAD_GATEWAY Guest
        "the plugin's response cannot be passed on",
    PluginBadTensors "plugin_bad_tensors" BAD_GATEWAY Guest
        "the plugin's tensors do not fit its model",
    Internal "internal" INTERNAL_SERVER_ERROR Ours "the node failed; its log says how",
    NotABundle "not_a_bundle" BAD_REQUEST Caller "this is not a bundle",
    BundleUnsigned "bundle_unsigned" FORBIDDEN Caller "the bundle is not signed",
    BundleUntrusted "bundle_untrusted" FORBIDDEN Caller
        "the bundle is signed by a key that this node does not trust",
    BundleTampered "bundle_tampered" FORBIDDEN Caller "the bundle's signature is wrong",
    BundleCorrupt "bundle_corrupt" UNPROCESSABLE_ENTITY Caller "the bundle is damaged",
    ManifestInvalid "manifest_invalid" UNPROCESSABLE_ENTITY Caller "the manifest has mistakes",
    ModelUnavailable "model_unavailable" BAD_GATEWAY Operator "a model cannot be fetched",
    ModelRefused "model_refused" UNPROCESSABLE_ENTITY Caller "a model cannot be loaded",
    PluginRefused "plugin_refused" UNPROCESSABLE_ENTITY Caller "a plugin cannot be loaded",
    RouteConflict "route_conflict" CONFLICT Caller "two routes would answer the same request",
    UnknownApp "unknown_app" NOT_FOUND Caller "no app has this name",
    UnknownRevision "unknown_revision" NOT_FOUND Caller "the app has no such revision",
    NothingBefore "nothing_before" CONFLICT Caller "there is no older revision",
    StateFailed "state_failed" INTERNAL_SERVER_ERROR Operator
        "the node cannot write its state directory",
}

/// Why one request is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandleError {
    #[error("no valid API key")]
    Unauthenticated,
    #[error("no such route")]
    RouteNotFound,
    #[error("the path takes {allow}")]
    MethodNotAllowed { allow: String },
    #[error("{reason}")]
    BadRequest { field: &'static str, reason: String },
    #[error("the request body did not arrive within {limit:?}")]
    BodyTimeout { limit: Duration },
    #[error("the request body is larger than {limit} bytes")]
    BodyTooLarge { limit: u64 },
    #[error("{what} is at its limit")]
    Saturated { what: &'static str },
    #[error("no answer was ready before the deadline")]
    DeadlinePassed,
    #[error("no cached answer")]
    NotCached,
    #[error(transparent)]
    Guest(Box<GuestError>),
    /// The plugin answered with a 5xx because its inference was refused or failed, and not for
    /// what it asked.
    #[error("inference")]
    Inference { source: Box<InferenceError>, timings: Box<Timings> },
    #[error("a request panicked: {reason}")]
    Panicked { reason: String },
    #[error(transparent)]
    Deploy(#[from] DeployError),
}

impl HandleError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Unauthenticated => Code::Unauthenticated,
            Self::RouteNotFound => Code::RouteNotFound,
            Self::MethodNotAllowed { .. } => Code::MethodNotAllowed,
            Self::BadRequest { .. } => Code::BadRequest,
            Self::BodyTimeout { .. } => Code::BodyTimeout,
            Self::BodyTooLarge { .. } => Code::BodyTooLarge,
            Self::DeadlinePassed => Code::DeadlinePassed,
            Self::Saturated { .. } => Code::Saturated,
            Self::Inference { source, .. } => inference_code(source),
            Self::NotCached => Code::NotCached,
            Self::Guest(error) => guest_code(error),
            Self::Panicked { .. } => Code::Internal,
            Self::Deploy(error) => deploy_code(error),
        }
    }

    /// What the request took until it failed, where a plugin had it.
    pub(crate) fn timings(&self) -> Option<Timings> {
        match self {
            Self::Guest(error) => Some(error.timings()),
            Self::Inference { timings, .. } => Some((**timings).clone()),
            _ => None,
        }
    }

    /// The part of the request that is wrong, where the caller is at fault.
    fn field(&self) -> Option<&'static str> {
        match self.code() {
            Code::BadRequest => match self {
                Self::BadRequest { field, .. } => Some(field),
                _ => None,
            },
            Code::Unauthenticated => Some("authorization"),
            Code::RouteNotFound => Some("path"),
            Code::MethodNotAllowed => Some("method"),
            Code::NotCached => Some("cache-control"),
            Code::UnknownApp | Code::NothingBefore => Some("app"),
            Code::UnknownRevision => Some("revision"),
            // What is left is the body that came: all of it, or the bundle that it is.
            code if code.fault() == Fault::Caller => Some("body"),
            _ => None,
        }
    }

    /// When to come back, in whole seconds. Overload lasts as long as a few inferences, or as what
    /// waits is known to take.
    fn retry_after(&self) -> u64 {
        match self {
            Self::Inference { source, .. } => match **source {
                InferenceError::Busy { wait, left, .. } => {
                    wait.saturating_sub(left).as_secs().saturating_add(1)
                }
                InferenceError::DeviceGone { retry, .. } => retry.as_secs().saturating_add(1),
                _ => 1,
            },
            Self::Guest(error) => match &**error {
                // What hooks were refused through the cache.
                GuestError::Inference { source, .. } => {
                    source.downcast_ref().map_or(1, Self::retry_after)
                }
                _ => 1,
            },
            _ => 1,
        }
    }

    /// The answer that tells the caller.
    pub(crate) fn response(&self, request_id: &str) -> Response<Bytes> {
        let code = self.code();
        // Other faults may hold what only the operator should see.
        let message = match code.fault() {
            Fault::Caller => chain(self),
            Fault::Guest | Fault::Operator | Fault::Overload | Fault::Ours => {
                code.message().to_owned()
            }
        };
        let message = match (self, self.timings()) {
            (Self::Unauthenticated | Self::RouteNotFound | Self::NotCached, _) => {
                code.message().into()
            }
            (_, Some(timings)) if code.status() == StatusCode::GATEWAY_TIMEOUT => {
                format!("{message}; it took {timings}")
            }
            _ => message,
        };
        let mut error = serde_json::json!({
            "code": code.text(), "message": message, "request_id": request_id
        });
        if let Some(field) = self.field() {
            error["field"] = field.into();
        }
        let body = serde_json::json!({ "error": error });
        let mut response = Response::new(Bytes::from(format!("{body}\n")));
        *response.status_mut() = code.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if code.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from(self.retry_after()));
        }
        match self {
            Self::Unauthenticated => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::MethodNotAllowed { allow } => {
                let allow = HeaderValue::from_str(allow).expect("methods are header text");
                headers.insert(ALLOW, allow);
            }
            _ => {}
        }
        response
    }
}

/// Carries the error to `access::log`, which knows the request's id and writes the body.
impl IntoResponse for HandleError {
    fn into_response(self) -> axum::response::Response {
        (self.code().status(), Extension(Arc::new(self))).into_response()
    }
}

fn inference_code(error: &InferenceError) -> Code {
    match (error, error.fault()) {
        (InferenceError::DeadlinePassed { .. }, _) => Code::DeadlinePassed,
        (InferenceError::DeviceLost { .. } | InferenceError::DeviceGone { .. }, _) => {
            Code::DeviceLost
        }
        (InferenceError::OutOfMemory { .. }, _) => Code::DeviceOutOfMemory,
        (InferenceError::NotANumber { .. }, _) => Code::NotANumber,
        (_, ModelFault::Overload) => Code::Saturated,
        (_, ModelFault::Caller) => Code::PluginBadTensors,
        (_, ModelFault::Operator | ModelFault::Ours) => Code::Internal,
    }
}

pub(crate) fn guest_code(error: &GuestError) -> Code {
    match error {
        GuestError::Trap { .. } | GuestError::Failed { .. } => Code::PluginTrapped,
        GuestError::Inference { source, .. } => {
            let kept = source.downcast_ref::<HandleError>().map(HandleError::code);
            let asked = || source.downcast_ref().map(inference_code);
            kept.or_else(asked).unwrap_or(Code::Internal)
        }
        // The guest could do nothing about a model that did not answer.
        GuestError::DeadlinePassed { timings, .. } if timings.awaited.is_some() => {
            Code::DeadlinePassed
        }
        GuestError::Timeout { .. } | GuestError::DeadlinePassed { .. } => Code::PluginTimeout,
        GuestError::OutOfMemory { .. } => Code::PluginOutOfMemory,
        GuestError::NoResponse { .. } => Code::PluginNoResponse,
        // The request that broke off was a plugin's: the client's own are read before.
        GuestError::BadResponse { .. } | GuestError::RequestBroken { .. } => {
            Code::PluginBadResponse
        }
        GuestError::RequestTooLarge { .. } => Code::BodyTooLarge,
        GuestError::Saturated { .. } => Code::Saturated,
    }
}

fn deploy_code(error: &DeployError) -> Code {
    match error {
        DeployError::Bundle(error) => match error {
            BundleError::NotABundle { .. } => Code::NotABundle,
            BundleError::Unsigned => Code::BundleUnsigned,
            BundleError::UntrustedKey { .. } => Code::BundleUntrusted,
            BundleError::BadSignature => Code::BundleTampered,
            BundleError::Manifest(_) => Code::ManifestInvalid,
            BundleError::Corrupt { .. } => Code::BundleCorrupt,
        },
        DeployError::Missing { .. } | DeployError::ModelMismatch { .. } => Code::BundleCorrupt,
        DeployError::Fetch { .. } => Code::ModelUnavailable,
        DeployError::Model { .. } => Code::ModelRefused,
        DeployError::Plugin { .. } => Code::PluginRefused,
        DeployError::BadRoute { .. } | DeployError::ModelPolicy { .. } => Code::ManifestInvalid,
        DeployError::RouteConflict { .. } => Code::RouteConflict,
        DeployError::UnknownApp { .. } => Code::UnknownApp,
        DeployError::UnknownRevision { .. } => Code::UnknownRevision,
        DeployError::NothingBefore { .. } => Code::NothingBefore,
        DeployError::Locked { .. }
        | DeployError::State { .. }
        | DeployError::StoredBundle { .. } => Code::StateFailed,
        DeployError::Panicked { .. } => Code::Internal,
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        // A transparent variant and its source print the same.
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

/// As the access log writes it.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "caller",
            Self::Guest => "guest",
            Self::Operator => "operator",
            Self::Overload => "overload",
            Self::Ours => "ours",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_codes_is_stable() {
        let rows: Vec<String> = Code::ALL
            .iter()
            .map(|code| format!("{} {} {}", code.text(), code.status().as_u16(), code.fault()))
            .collect();
        insta::assert_snapshot!(rows.join("\n"));
    }

    #[test]
    fn a_refusal_names_its_code_and_request_and_hides_what_is_not_the_callers() {
        let trap = GuestError::Trap {
            plugin: "embed".into(),
            message: "secret".into(),
            backtrace: String::new(),
            timings: gw_host::Timings::default(),
        };
        let response = HandleError::Guest(Box::new(trap)).response("id-1");
        assert_eq!(response.status(), 502);
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({ "error": {
                "code": "plugin_trapped", "message": "the plugin failed", "request_id": "id-1"
            }})
        );
    }

    #[test]
    fn a_request_that_ran_out_of_time_says_where_it_went() {
        let mut timings = Timings {
            plugin: Duration::from_micros(312),
            queue: Duration::from_millis(1900),
            infer: Duration::from_millis(100),
            awaited: Some("minilm".into()),
            ..Timings::default()
        };
        let mut told = |awaited: bool| {
            timings.awaited = timings.awaited.take().filter(|_| awaited);
            let (plugin, after) = ("embed".into(), Duration::from_secs(2));
            let error = GuestError::DeadlinePassed { plugin, after, timings: timings.clone() };
            let response = HandleError::Guest(Box::new(error)).response("id-1");
            assert_eq!(response.status(), 504);
            String::from_utf8(response.into_body().to_vec()).unwrap()
        };
        insta::assert_snapshot!([told(true), told(false)].concat(), @r#"
        {"error":{"code":"deadline_passed","message":"the answer was not ready in time; try again; it took 312.0µs in the plugin, 1.9s in the queue of the model minilm, 100.0ms in runs","request_id":"id-1"}}
        {"error":{"code":"plugin_timeout","message":"the plugin did not answer in time; it took 312.0µs in the plugin, 1.9s in the queue of its models, 100.0ms in runs","request_id":"id-1"}}
        "#);
    }

    #[test]
    fn what_the_caller_did_wrong_names_its_field() {
        let cases = [
            (HandleError::BodyTooLarge { limit: 1 }, Some("body")),
            (HandleError::BodyTimeout { limit: Duration::ZERO }, Some("body")),
            (HandleError::RouteNotFound, Some("path")),
            (HandleError::MethodNotAllowed { allow: "GET".into() }, Some("method")),
            (HandleError::Unauthenticated, Some("authorization")),
            (HandleError::Deploy(BundleError::Unsigned.into()), Some("body")),
            (HandleError::BadRequest { field: "app", reason: "no".into() }, Some("app")),
            (HandleError::Saturated { what: "x" }, None),
            (HandleError::Panicked { reason: "x".into() }, None),
        ];
        for (error, field) in cases {
            let body: serde_json::Value =
                serde_json::from_slice(error.response("x").body()).unwrap();
            assert_eq!(body["error"]["field"].as_str(), field, "{error}");
        }
    }

    #[test]
    fn overload_says_when_to_come_back_and_a_wrong_method_says_which_is_right() {
        let busy = HandleError::Saturated { what: "requests_max" }.response("x");
        assert_eq!(
            (busy.status().as_u16(), &busy.headers()[RETRY_AFTER]),
            (503, &"1".parse().unwrap())
        );
        let (wait, left) = (Duration::from_secs(40), Duration::from_secs(30));
        let source = Box::new(InferenceError::Busy { model: "m".into(), wait, left });
        let busy = HandleError::Inference { source, timings: Box::default() }.response("x");
        assert_eq!(
            (busy.status().as_u16(), &busy.headers()[RETRY_AFTER]),
            (503, &"11".parse().unwrap())
        );
        let (model, device, reason) = ("m".into(), "gpu".into(), "no driver".into());
        let retry = Duration::from_millis(2500);
        let source = Box::new(InferenceError::DeviceGone { model, device, reason, retry });
        let gone = HandleError::Inference { source, timings: Box::default() }.response("x");
        assert_eq!(
            (gone.status().as_u16(), &gone.headers()[RETRY_AFTER]),
            (503, &"3".parse().unwrap())
        );
        let wrong = HandleError::MethodNotAllowed { allow: "POST".into() }.response("x");
        assert_eq!(
            (wrong.status().as_u16(), &wrong.headers()[ALLOW]),
            (405, &"POST".parse().unwrap())
        );
    }
}
