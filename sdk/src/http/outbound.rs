//! Requests that a plugin sends, to the hosts that `http` in `gw.toml` grants it.
//!
//! A redirect is an answer like any other: following it is another request, which needs its own
//! grant.

use crate::{Response, host};

pub use crate::bindings::wasi::http::types::ErrorCode;
pub(crate) use crate::bindings::wasi::http::types::Scheme;

/// A request to another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The method in upper case, such as `POST`.
    pub method: String,
    /// An absolute URL.
    pub url: String,
    /// The headers; the host sets `host` itself.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Outgoing {
    /// A request without headers and body.
    pub fn new(method: &str, url: &str) -> Self {
        let (headers, body) = (Vec::new(), Vec::new());
        Self { method: method.to_owned(), url: url.to_owned(), headers, body }
    }

    /// The same request with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.as_bytes().to_vec()));
        self
    }

    /// The same request with this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it, and waits for the whole answer.
    ///
    /// # Errors
    /// What went wrong on the way: [`ErrorCode::HttpRequestDenied`] where the plugin is not granted
    /// the host, [`ErrorCode::DestinationIpProhibited`] where its address is not public and
    /// `private_network` is not granted.
    pub fn send(self) -> Result<Response, ErrorCode> {
        parts(&self.url).ok_or(ErrorCode::HttpRequestUriInvalid)?;
        host::send(&self)
    }
}

/// What a client is told when a plugin passes the error on with `?`.
impl From<ErrorCode> for crate::Error {
    #[track_caller]
    fn from(error: ErrorCode) -> Self {
        let (status, code) = match error {
            ErrorCode::ConnectionTimeout
            | ErrorCode::ConnectionReadTimeout
            | ErrorCode::ConnectionWriteTimeout
            | ErrorCode::HttpResponseTimeout
            | ErrorCode::DnsTimeout => (504, "outbound_timeout"),
            ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => {
                (500, "outbound_not_granted")
            }
            _ => (502, "outbound_failed"),
        };
        let fix = match error {
            ErrorCode::HttpRequestDenied => {
                "; add the host to `http` of this plugin's [[plugin]] in gw.toml"
            }
            ErrorCode::DestinationIpProhibited => {
                "; add `private_network = true` to this plugin's [[plugin]] in gw.toml"
            }
            ErrorCode::HttpRequestUriInvalid => "; a URL begins with https:// or http://",
            _ => "",
        };
        Self::new(status, code, format!("the request to another host failed: {error}{fix}"))
    }
}

/// Scheme, authority, and path with query.
pub(crate) fn parts(url: &str) -> Option<(Scheme, &str, &str)> {
    let (scheme, rest) = match url.split_once("://")? {
        ("https", rest) => (Scheme::Https, rest),
        ("http", rest) => (Scheme::Http, rest),
        _ => return None,
    };
    let rest = rest.split('#').next()?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    Some((scheme, authority, if path.is_empty() { "/" } else { path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let cases = [
            ("https://a.com/x?y#z", Some(("a.com", "/x?y"))),
            ("http://a.com:80", Some(("a.com:80", "/"))),
            ("http://[::1]:81?q", Some(("[::1]:81", "?q"))),
            ("ftp://a.com", None),
            ("a.com", None),
        ];
        for (url, expected) in cases {
            let found = parts(url).map(|(_, authority, path)| (authority, path));
            assert_eq!(found, expected, "{url}");
        }
    }
}
