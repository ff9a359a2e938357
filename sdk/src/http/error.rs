//! [`Error`]: an answer that says what is wrong.

use std::fmt;

use serde::Serialize;

use crate::Response;

/// An answer that says what is wrong, as `{"error": {"code", "message", "field"}}`.
///
/// ```
/// use gw_sdk::{Error, Response};
///
/// let error = Error::new(422, "empty_list", "give at least one text").field("input");
/// let response = Response::from(error);
/// assert_eq!(response.status, 422);
/// ```
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
}
