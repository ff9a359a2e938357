//! Answers what it was asked, as JSON: what a plugin sees of a request, made visible.

use gw_sdk::{Json, Request, handler};
use serde::Serialize;

/// The request as the plugin sees it.
#[derive(Serialize)]
struct Seen {
    method: String,
    path: String,
    /// Names and values in their order; bytes that are not text are replaced.
    headers: Vec<(String, String)>,
    body: String,
}

#[handler]
fn echo(request: Request) -> Json<Seen> {
    let Request { method, path, headers, body } = request;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let headers = headers.into_iter().map(|(name, value)| (name, text(value))).collect();
    Json(Seen { method, path, headers, body: text(body) })
}

#[cfg(test)]
mod tests {
    use gw_sdk::testing::Host;

    use super::*;

    #[test]
    fn a_request_comes_back_whole() {
        let request = Request::new("POST", "/echo?a=1").with_header("X-One", "two");
        let response = Host::new().call(echo, request.with_body(*b"hello \xff"));
        assert_eq!(response.status, 200);
        let body = String::from_utf8(response.body).unwrap();
        let expected = "{\"method\":\"POST\",\"path\":\"/echo?a=1\",\
                        \"headers\":[[\"x-one\",\"two\"]],\"body\":\"hello \u{fffd}\"}";
        assert_eq!(body, expected);
    }
}
