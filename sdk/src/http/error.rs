//! [`Error`]: an answer that says what is wrong.

use std::fmt;
use std::panic::Location;

use serde::Serialize;

use crate::{Response, host};

/// An answer that says what is wrong, as `{"error": {"code", "message", "field"}}`. One of 500 and
/// more is the plugin's own trouble: it is logged, with the line where it was made or passed on by
/// `?`.
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
    place: Place,
}

/// Where an error was made, which makes it no other.
#[derive(Clone, Copy, Debug)]
struct Place(&'static Location<'static>);

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

impl Error {
    /// An error that concerns the request as a whole.
    #[track_caller]
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        let (code, message, place) = (code.to_owned(), message.into(), Place(Location::caller()));
        Self { status, code, message, field: None, place }
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
        let Error { status, code, message, field, place } = &error;
        if *status >= 500 {
            host::complain(&format!("{}: {error}", place.0));
        }
        let body = Body { error: Detail { code, message, field: field.as_deref() } };
        let body = serde_json::to_vec(&body).expect("strings always have a JSON form");
        Self::new(*status, "application/json", body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;
    use crate::nn::Graph;
    use crate::testing::Host;

    #[test]
    fn the_plugins_own_trouble_is_logged_with_its_line() {
        fn loads(_: Request) -> Result<String, Error> {
            Graph::load("nothing")?;
            Ok(String::new())
        }
        fn refuses(_: Request) -> Result<String, Error> {
            Err(Error::new(422, "no", "a client's trouble"))
        }
        let host = Host::new();
        let response = host.call(loads, Request::new("POST", "/"));
        assert_eq!(response.status, 500);
        assert_eq!(host.call(refuses, Request::new("POST", "/")).status, 422);
        let [logged] = &host.logs()[..] else { panic!("one message") };
        let line = include_str!("error.rs").lines().position(|line| line.contains("nothing\")?"));
        let place = format!("error.rs:{}:", line.unwrap() + 1);
        assert!(logged.message.contains(&place), "{}", logged.message);
        assert!(logged.message.contains("model_not_found"), "{}", logged.message);
    }

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
