//! What a handler takes of a request, and what becomes a response.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, Request, Response};

pub(crate) use self::json::json;

mod handler;
mod json;

pub use self::handler::Handler;

/// What a handler can take as an argument.
///
/// ```
/// use gw_sdk::{Error, FromRequest, Request, handler};
///
/// /// Who asks.
/// struct Tenant(String);
///
/// impl FromRequest for Tenant {
///     fn from_request(request: &Request) -> Result<Self, Error> {
///         let name = request.header("x-tenant");
///         let missing = || Error::new(400, "missing_header", "say who asks in `x-tenant`");
///         Ok(Self(name.ok_or_else(missing)?.to_owned()))
///     }
/// }
///
/// #[handler]
/// fn greet(Tenant(name): Tenant) -> String {
///     format!("hello, {name}")
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler cannot take `{Self}` as an argument",
    label = "not something to be read from a request",
    note = "take `Json<T>` for a body in JSON, `Query<T>`, `Body` for the bytes, or `Request` for \
            all of it; or implement `gw_sdk::FromRequest` for `{Self}`"
)]
pub trait FromRequest: Sized {
    /// Reads it from the request.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn from_request(request: &Request) -> Result<Self, Error>;

    /// The same of a request that nobody else needs, as for the last argument of a handler: the
    /// body need not be copied.
    ///
    /// # Errors
    /// As [`FromRequest::from_request`].
    fn from_owned_request(request: Request) -> Result<Self, Error> {
        Self::from_request(&request)
    }
}

/// What a handler can answer.
#[diagnostic::on_unimplemented(
    message = "a handler cannot answer with `{Self}`",
    label = "not a response",
    note = "answer with `Json<T>` where `T` is `serde::Serialize`, with `Response`, text, or a \
            `Result` of one of them and `gw_sdk::Error`"
)]
pub trait IntoResponse {
    /// The response.
    fn into_response(self) -> Response;
}

/// A value that is read from a body in JSON, or answered as one with status 200.
///
/// A body that is no JSON is a 400 `invalid_json`. One that does not fit the type is a 422 whose
/// field is the path of the wrong value, such as `input[3].text`: `missing_field`,
/// `unknown_field`, `invalid_type` or `invalid_value`.
///
/// ```
/// use gw_sdk::{FromRequest, Json, Request};
///
/// let request = Request::new("POST", "/").with_body(r#"{"input": ["a", 3]}"#);
/// type Input = std::collections::BTreeMap<String, Vec<String>>;
/// let error = Json::<Input>::from_request(&request).unwrap_err();
/// assert_eq!(error.status, 422);
/// assert_eq!(error.field.as_deref(), Some("input[1]"));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// The parameters of the path, as in `/search?q=cat&limit=3`.
///
/// What does not fit the type is a 422 `invalid_query` that names the parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query<T>(pub T);

/// The body as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body(pub Vec<u8>);

impl FromRequest for Request {
    fn from_request(request: &Request) -> Result<Self, Error> {
        Ok(request.clone())
    }

    fn from_owned_request(request: Request) -> Result<Self, Error> {
        Ok(request)
    }
}

impl FromRequest for Body {
    fn from_request(request: &Request) -> Result<Self, Error> {
        Ok(Self(request.body.clone()))
    }

    fn from_owned_request(request: Request) -> Result<Self, Error> {
        Ok(Self(request.body))
    }
}

impl<T: DeserializeOwned> FromRequest for Json<T> {
    fn from_request(request: &Request) -> Result<Self, Error> {
        Ok(Self(request.json()?))
    }
}

impl<T: DeserializeOwned> FromRequest for Query<T> {
    fn from_request(request: &Request) -> Result<Self, Error> {
        let pairs = form_urlencoded::parse(request.query_string().as_bytes());
        let value = serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs));
        value.map(Self).map_err(|error| {
            let message = error.inner().to_string();
            let field = json::missing_name(&message).map(str::to_owned);
            let field = field.unwrap_or_else(|| error.path().to_string());
            let field = if field == "." { "query".to_owned() } else { field };
            Error::new(422, "invalid_query", message).field(field)
        })
    }
}

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        self.into()
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        Response::json(&self.0).unwrap_or_else(Response::from)
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Response {
        Response::new(200, "text/plain; charset=utf-8", self)
    }
}

impl IntoResponse for &str {
    fn into_response(self) -> Response {
        self.to_owned().into_response()
    }
}

/// 204: there is nothing to say.
impl IntoResponse for () {
    fn into_response(self) -> Response {
        Response { status: 204, headers: Vec::new(), body: Vec::new() }
    }
}

impl<T: IntoResponse, E: Into<Error>> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(answer) => answer.into_response(),
            Err(error) => Response::from(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
