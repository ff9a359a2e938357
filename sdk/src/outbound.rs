//! Requests that a plugin sends, to the hosts that `http` in `gw.toml` grants it.
//!
//! A redirect is an answer like any other: following it is another request, which needs its own
//! grant.

use crate::Response;
use crate::bindings::wasi::http::outgoing_handler;
use crate::bindings::wasi::http::types::{
    Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme, http_error_code,
};
use crate::bindings::wasi::io::streams::StreamError;
use crate::serve::{read_body, write_body};

pub use crate::bindings::wasi::http::types::ErrorCode;

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
        let (scheme, authority, path) = parts(&self.url).ok_or(ErrorCode::HttpRequestUriInvalid)?;
        let headers = Fields::from_list(&self.headers).map_err(|_| ErrorCode::HttpProtocolError)?;
        let request = OutgoingRequest::new(headers);
        let set = request
            .set_method(&method(&self.method))
            .and_then(|()| request.set_scheme(Some(&scheme)))
            .and_then(|()| request.set_authority(Some(authority)))
            .and_then(|()| request.set_path_with_query(Some(path)));
        set.map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
        let body = request.body().map_err(|()| ErrorCode::InternalError(None))?;
        let answer = outgoing_handler::handle(request, None)?;
        let stream = body.write().map_err(|()| ErrorCode::InternalError(None))?;
        // Whoever refuses the body has answered already, or the answer says what is wrong.
        let written = write_body(&stream, &self.body);
        drop(stream);
        if written.is_ok() {
            OutgoingBody::finish(body, None)?;
        }
        answer.subscribe().block();
        let response = answer.get().ok_or(ErrorCode::InternalError(None))?;
        read(&response.map_err(|()| ErrorCode::InternalError(None))??)
    }
}

/// Scheme, authority, and path with query.
fn parts(url: &str) -> Option<(Scheme, &str, &str)> {
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

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn read(response: &IncomingResponse) -> Result<Response, ErrorCode> {
    let (status, headers) = (response.status(), response.headers().entries());
    let incoming = response.consume().map_err(|()| ErrorCode::InternalError(None))?;
    let body = read_body(&incoming).map_err(|error| match &error {
        // Not every host keeps a code for what happens within a body.
        StreamError::LastOperationFailed(error) => http_error_code(error)
            .unwrap_or_else(|| ErrorCode::InternalError(Some(error.to_debug_string()))),
        StreamError::Closed => ErrorCode::HttpResponseIncomplete,
    })?;
    Ok(Response { status, headers, body })
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
