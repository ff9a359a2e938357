//! Answers what it was asked, as JSON: what a plugin sees of a request, made visible.

use gw_sdk::{Error, Plugin, Request, Response};
use serde::Serialize;

struct Echo;

gw_sdk::export!(Echo);

/// The request as the plugin sees it.
#[derive(Serialize)]
struct Seen {
    method: String,
    path: String,
    /// Names and values in their order; bytes that are not text are replaced.
    headers: Vec<(String, String)>,
    body: String,
}

impl Plugin for Echo {
    fn handle(request: Request) -> Result<Response, Error> {
        let Request { method, path, headers, body } = request;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let headers = headers.into_iter().map(|(name, value)| (name, text(value))).collect();
        Response::json(&Seen { method, path, headers, body: text(body) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_back_whole() {
        let request = Request {
            method: "POST".to_owned(),
            path: "/echo?a=1".to_owned(),
            headers: vec![("x-one".to_owned(), b"two".to_vec())],
            body: b"hello \xff".to_vec(),
        };
        let response = Echo::handle(request).unwrap();
        assert_eq!(response.status, 200);
        let body = String::from_utf8(response.body).unwrap();
        let expected = "{\"method\":\"POST\",\"path\":\"/echo?a=1\",\
                        \"headers\":[[\"x-one\",\"two\"]],\"body\":\"hello \u{fffd}\"}";
        assert_eq!(body, expected);
    }
}
