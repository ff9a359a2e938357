//! Requests and responses as a plugin sees them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::error::Error;

pub(crate) mod error;
pub(crate) mod extract;
pub mod outbound;
pub(crate) mod within;

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
    /// A request without headers and body, as tests and hooks make them.
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), ..Self::default() }
    }

    /// The same request with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.as_bytes().to_vec()));
        self
    }

    /// The same request with this body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The first header of this name, in any letter case, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// What follows the question mark of the path; empty where there is none.
    pub fn query_string(&self) -> &str {
        self.path.split_once('?').map_or("", |(_, query)| query)
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// Those of [`Json`](crate::Json).
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        extract::json(&self.body)
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

    /// The same response with another status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The same response with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.as_bytes().to_vec()));
        self
    }

    /// The first header of this name, in any letter case, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

fn find<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_in_any_letter_case() {
        let request = Request::new("GET", "/").with_header("Accept", "text/plain");
        assert_eq!(request.headers[0].0, "accept");
        assert_eq!(request.header("ACCEPT"), Some("text/plain"));
        assert_eq!(request.header("host"), None);
    }

    #[test]
    fn a_query_is_what_follows_the_first_question_mark() {
        for (path, query) in [("/a", ""), ("/a?", ""), ("/a?b=c?d", "b=c?d")] {
            assert_eq!(Request::new("GET", path).query_string(), query);
        }
    }
}
