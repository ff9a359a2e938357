//! Requests, responses and errors as a plugin sees them.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The method in upper case, such as `POST`.
    pub method: String,
    /// The path with its query, such as `/embed?lang=fr`.
    pub path: String,
    /// The headers in their order; names are in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of this name, in any letter case, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// 400 `invalid_json`, with the parser's words and the place; the field is `body`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::new(400, "invalid_json", error.to_string()).field("body"))
    }
}

/// An answer, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status, such as 200.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// A response with a body of this media type.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.as_bytes().to_vec())];
        Self { status, headers, body: body.into() }
    }

    /// 200 with `value` as JSON.
    ///
    /// # Errors
    /// 500 `unserialisable` where the value has no JSON form, such as a map with lists as keys.
    pub fn json(value: &impl Serialize) -> Result<Self, Error> {
        match serde_json::to_vec(value) {
            Ok(body) => Ok(Self::new(200, "application/json", body)),
            Err(error) => Err(Error::new(500, "unserialisable", error.to_string())),
        }
    }

    /// The same response with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.as_bytes().to_vec()));
        self
    }
}

/// An answer that says what is wrong, as `{"error": {"code", "message", "field"}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The status, such as 422.
    pub status: u16,
    /// A stable `snake_case` code for programs.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The part of the request that is wrong, such as `input[3]`.
    pub field: Option<String>,
}

impl Error {
    /// An error that concerns the request as a whole.
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), field: None }
    }

    /// The same error, about one field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{}: {field}: {}", self.code, self.message),
            None => write!(f, "{}: {}", self.code, self.message),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Response {
    fn from(error: Error) -> Self {
        #[derive(Serialize)]
        struct Body<'a> {
            error: Detail<'a>,
        }
        #[derive(Serialize)]
        struct Detail<'a> {
            code: &'a str,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            field: Option<&'a str>,
        }
        let Error { status, code, message, field } = &error;
        let body = Body { error: Detail { code, message, field: field.as_deref() } };
        let body = serde_json::to_vec(&body).expect("strings always have a JSON form");
        Self::new(*status, "application/json", body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_answers_as_json_with_its_field() {
        let error = Error::new(422, "empty_list", "give at least one text").field("input");
        let response = Response::from(error);
        assert_eq!(response.status, 422);
        let body = String::from_utf8(response.body).unwrap();
        assert_eq!(
            body,
            r#"{"error":{"code":"empty_list","message":"give at least one text","field":"input"}}"#
        );
    }

    #[test]
    fn a_body_that_is_not_json_is_a_400() {
        let request = Request { body: b"{oops".to_vec(), ..Request::default() };
        let error = request.json::<serde_json::Value>().unwrap_err();
        assert_eq!((error.status, error.code.as_str()), (400, "invalid_json"));
        assert_eq!(error.field.as_deref(), Some("body"));
        assert!(error.message.contains("line 1 column 2"), "{}", error.message);
    }

    #[test]
    fn headers_are_found_in_any_letter_case() {
        let headers = vec![("accept".to_owned(), b"text/plain".to_vec())];
        let request = Request { headers, ..Request::default() };
        assert_eq!(request.header("Accept"), Some("text/plain"));
        assert_eq!(request.header("host"), None);
    }
}
