//! Every way in which a request is refused: one table of codes, statuses and whose fault it is.
//!
//! A body names the code, a message and the request id. For faults that are not the caller's the
//! message is only the table's; the log has the whole story. Where a request ran out of time, its
//! message says where the time went. A plugin that fails to answer is a bad gateway to its caller
//! (502), or one that was too slow (504) or too large (507).

mod codes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::response::IntoResponse;
use bytes::Bytes;
use gw_deploy::DeployError;
use gw_host::{GuestError, Timings};
use gw_inference::InferenceError;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};

pub(crate) use self::codes::guest_code;
use self::codes::{deploy_code, inference_code};

/// `Retry-After` in milliseconds, which some clients of model APIs look at first.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// The least that a client stays away: sooner, it would meet those whom it was refused for.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(500);

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
    OverShare "over_share" TOO_MANY_REQUESTS Overload
        "this API key has as many requests under way as one may; try again",
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
    UnknownModel "unknown_model" NOT_FOUND Caller "no app uses a model of this name",
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
    /// As `Saturated`, of what one tenant may have.
    #[error("the tenant is at its {what}")]
    OverShare { what: &'static str },
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
    /// An operator asked for the model, who may see why it does not come.
    #[error(transparent)]
    ModelLoad(Box<InferenceError>),
    #[error("no app uses a model named {name:?}; `gw model ls` lists them")]
    UnknownModel { name: String },
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
            Self::OverShare { .. } => Code::OverShare,
            Self::Inference { source, .. } | Self::ModelLoad(source) => inference_code(source),
            Self::NotCached => Code::NotCached,
            Self::UnknownModel { .. } => Code::UnknownModel,
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
            Code::UnknownModel => Some("model"),
            // What is left is the body that came: all of it, or the bundle that it is.
            code if code.fault() == Fault::Caller => Some("body"),
            _ => None,
        }
    }

    /// What a model said, where that is why, however it came here.
    fn inference(&self) -> Option<&InferenceError> {
        match self {
            Self::Inference { source, .. } | Self::ModelLoad(source) => Some(source),
            Self::Guest(error) => match &**error {
                GuestError::Inference { source, .. } => {
                    // What hooks were refused through the cache.
                    let kept = || source.downcast_ref::<Self>()?.inference();
                    source.downcast_ref().or_else(kept)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// What was full, where the request is turned away for that: the key of a limit, or what a
    /// model lacked. Metrics use it, so there are few.
    pub(crate) fn shed(&self) -> Option<&'static str> {
        let code = self.code();
        if code.fault() != Fault::Overload || !is_for_now(code) {
            return None;
        }
        Some(match self {
            Self::Saturated { what } | Self::OverShare { what } => what,
            _ => match self.inference() {
                Some(InferenceError::QueueFull { .. }) => "queue_max",
                Some(InferenceError::Busy { .. }) => "model_wait",
                Some(InferenceError::Unloading { .. }) => "model_unloading",
                Some(InferenceError::NoRoom { .. } | InferenceError::OutOfMemory { .. }) => {
                    "model_memory"
                }
                Some(_) => "model",
                None => "instances",
            },
        })
    }

    /// How long to stay away. Overload lasts as long as a few inferences, or as what waits is known
    /// to take; a lost device is tried again when it is said.
    fn retry_after(&self) -> Duration {
        let known = match self.inference() {
            Some(InferenceError::Busy { wait, may, .. }) => wait.saturating_sub(*may),
            Some(InferenceError::DeviceGone { retry, .. }) => *retry,
            _ => Duration::ZERO,
        };
        known.max(RETRY_AFTER_MIN)
    }

    /// The answer that tells the caller.
    pub(crate) fn response(&self, request_id: &str) -> Response<Bytes> {
        let code = self.code();
        // Other faults may hold what only the operator should see.
        let message = match code.fault() {
            _ if matches!(self, Self::ModelLoad(_)) => chain(self),
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
        if is_for_now(code) {
            let later = self.retry_after();
            let millis = u64::try_from(later.as_millis()).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, HeaderValue::from(later.as_secs().saturating_add(1)));
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
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

/// Whether the same request may be answered soon, and its client is told when.
fn is_for_now(code: Code) -> bool {
    matches!(code.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
}

/// Carries the error to `access::log`, which knows the request's id and writes the body.
impl IntoResponse for HandleError {
    fn into_response(self) -> axum::response::Response {
        (self.code().status(), Extension(Arc::new(self))).into_response()
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
    use gw_artifact::bundle::BundleError;

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
    fn an_operator_sees_why_a_model_does_not_come_and_a_client_does_not() {
        let (model, device) = ("minilm".to_owned(), "cpu".to_owned());
        let full = InferenceError::NoRoom { model, device, needed: 7, used: 5, max: 9 };
        let message = |error: &HandleError| {
            let response = error.response("id-1");
            assert_eq!(response.status(), 503);
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            body["error"]["message"].as_str().unwrap().to_owned()
        };
        let told = message(&HandleError::ModelLoad(Box::new(full.clone())));
        assert!(told.contains("where 5 of 9 are held") && told.contains("unpin one"), "{told}");
        let (source, timings) = (Box::new(full), Box::default());
        let hidden = message(&HandleError::Inference { source, timings });
        assert_eq!(hidden, Code::Saturated.message());
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
        struct Case(HandleError, u16, &'static str, &'static str);
        let queued = || InferenceError::QueueFull { model: "m".into(), queue_max: 1 };
        let busy = |wait, may| {
            let (wait, may) = (Duration::from_millis(wait), Duration::from_millis(may));
            InferenceError::Busy { model: "m".into(), wait, may }
        };
        let inference =
            |error| HandleError::Inference { source: Box::new(error), timings: Box::default() };
        let hooks = |source: gw_host::Refusal| {
            let (plugin, timings) = ("p".into(), Timings::default());
            HandleError::Guest(Box::new(GuestError::Inference { plugin, source, timings }))
        };
        let instances = GuestError::Saturated { plugin: "p".into(), instances: 1 };
        let (model, device, reason) = ("m".into(), "gpu".into(), "no driver".into());
        let retry = Duration::from_millis(2500);
        let gone = InferenceError::DeviceGone { model, device, reason, retry };
        let cases = [
            Case(HandleError::Saturated { what: "requests_max" }, 503, "1", "500"),
            Case(HandleError::OverShare { what: "requests_per_tenant_max" }, 429, "1", "500"),
            Case(HandleError::Guest(Box::new(instances)), 503, "1", "500"),
            Case(inference(queued()), 503, "1", "500"),
            Case(inference(InferenceError::Unloading { model: "m".into() }), 503, "1", "500"),
            Case(inference(busy(40_000, 30_000)), 503, "11", "10000"),
            Case(inference(busy(3_200, 2_000)), 503, "2", "1200"),
            Case(inference(gone), 503, "3", "2500"),
            Case(hooks(Arc::new(busy(3_200, 2_000))), 503, "2", "1200"),
            Case(hooks(Arc::new(inference(busy(3_200, 2_000)))), 503, "2", "1200"),
        ];
        for (n, Case(error, status, seconds, millis)) in cases.into_iter().enumerate() {
            let refused = error.response("x");
            assert_eq!(refused.status(), status, "case {n}");
            assert_eq!(refused.headers()[RETRY_AFTER], seconds, "case {n}");
            assert_eq!(refused.headers()[RETRY_AFTER_MS], millis, "case {n}");
        }
        let wrong = HandleError::MethodNotAllowed { allow: "POST".into() }.response("x");
        assert_eq!(
            (wrong.status().as_u16(), &wrong.headers()[ALLOW]),
            (405, &"POST".parse().unwrap())
        );
    }
}
