//! The client of a node's admin API.

use std::fmt::Write as _;
use std::io::{Cursor, Read};
use std::time::Duration;

use anyhow::Context as _;
use gw_artifact::Progress;
use serde_json::{Value, json};
use ureq::http::request::Builder;
use ureq::http::{Method, Request, Response};
use ureq::{Agent, AsSendBody, Body, SendBody};

use crate::report::Advice;

/// The flag `--to`, shared by the commands that speak to a node.
#[derive(Debug, clap::Args)]
pub(crate) struct Node {
    /// The node's admin address
    #[arg(long, env = "GW_TO", value_name = "URL", default_value = "http://127.0.0.1:8788")]
    to: String,
    /// The key for a node that asks for one; better given in the environment
    #[arg(long, env = "GW_ADMIN_KEY", value_name = "KEY")]
    admin_key: Option<String>,
}

/// A connection to one node.
pub(crate) struct Client {
    agent: Agent,
    base: String,
    key: Option<String>,
}

impl Client {
    /// A client of the node's admin listener.
    ///
    /// # Errors
    /// Where the URL is none.
    pub(crate) fn new(node: &Node) -> anyhow::Result<Self> {
        let base = node.to.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") && !base.starts_with("https://") {
            let message = format!("--to {base}: expected a URL such as http://127.0.0.1:8788");
            return Err(Advice::new(message).usage().into());
        }
        // A node compiles and loads before it answers a push: only connecting has a limit.
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)));
        Ok(Self { agent: config.build().into(), base, key: node.admin_key.clone() })
    }

    /// What the node serves.
    pub(crate) fn status(&self) -> anyhow::Result<Value> {
        self.call(Method::GET, "/v1/status", ())
    }

    /// Its models, and the memory that they hold.
    pub(crate) fn models(&self) -> anyhow::Result<Value> {
        self.call(Method::GET, "/v1/models", ())
    }

    /// Loads one of its models, and says what that holds.
    pub(crate) fn load_model(&self, model: &str) -> anyhow::Result<Value> {
        self.call(Method::POST, &format!("/v1/models/{}/load", percent_encoded(model)), ())
    }

    /// Frees the memory of one of its models, until somebody asks it.
    pub(crate) fn unload_model(&self, model: &str) -> anyhow::Result<Value> {
        self.call(Method::POST, &format!("/v1/models/{}/unload", percent_encoded(model)), ())
    }

    /// Uploads a signed bundle; the node answers once it is live.
    pub(crate) fn push(
        &self,
        app: &str,
        bundle: &[u8],
        progress: &dyn Progress,
    ) -> anyhow::Result<Value> {
        let mut upload = Upload { rest: Cursor::new(bundle), progress };
        progress.begin(app, Some(bundle.len() as u64), 0);
        let request = self
            .request(Method::POST, "/v1/bundles")
            .header("content-type", "application/octet-stream")
            .header("content-length", bundle.len())
            .body(SendBody::from_reader(&mut upload))?;
        let response = self.agent.run(request);
        progress.end();
        self.answer(response)
    }

    /// Makes an earlier revision live; without one, that before the live one.
    pub(crate) fn rollback(&self, app: &str, revision: Option<&str>) -> anyhow::Result<Value> {
        let body = revision.map_or_else(|| json!({}), |revision| json!({ "revision": revision }));
        let path = format!("/v1/apps/{}/rollback", percent_encoded(app));
        self.call(Method::POST, &path, body.to_string())
    }

    fn request(&self, method: Method, path: &str) -> Builder {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        }
    }

    fn call(&self, method: Method, path: &str, body: impl AsSendBody) -> anyhow::Result<Value> {
        let request =
            self.request(method, path).header("content-type", "application/json").body(body)?;
        self.answer(self.agent.run(request))
    }

    fn not_admin(&self) -> Advice {
        Advice::new(format!("{} is not a node's admin address", self.base))
            .hint("give --to the address that gw serve prints as `admin on`, by default port 8788")
    }

    fn answer(&self, response: Result<Response<Body>, ureq::Error>) -> anyhow::Result<Value> {
        let mut response = response.with_context(|| {
            Advice::new(format!("the node at {} does not answer", self.base))
                .hint("is gw serve running there? --to is the address that it prints as `admin on`")
        })?;
        let text = response.body_mut().read_to_string().context("reading the node's answer")?;
        if response.status().is_success() {
            return serde_json::from_str(&text).with_context(|| self.not_admin());
        }
        let error = serde_json::from_str::<Value>(&text).unwrap_or_default()["error"].take();
        // The admin API knows every path that is asked for here.
        if error["code"] == "route_not_found" || response.status() == 404 && error.is_null() {
            return Err(self.not_admin().into());
        }
        let code = error["code"].as_str().map(|code| format!(" ({code})")).unwrap_or_default();
        let message = match error["message"].as_str() {
            Some(message) => format!("the node refused: {message}{code}"),
            None => format!("the node at {} answered {}", self.base, response.status()),
        };
        let advice = Advice::new(message);
        Err(match error["hint"].as_str() {
            Some(hint) => advice.hint(hint),
            None => advice,
        }
        .into())
    }
}

/// A body that tells how far it is read.
struct Upload<'a> {
    rest: Cursor<&'a [u8]>,
    progress: &'a dyn Progress,
}

impl Read for Upload<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.rest.read(buffer)?;
        self.progress.advance(read as u64);
        Ok(read)
    }
}

/// A JSON value of an answer, without the quotes of a string; what a node leaves out is a dash.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A path segment: what is not unreserved (RFC 3986) as `%XX`.
fn percent_encoded(segment: &str) -> String {
    let mut encoded = String::new();
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            // Writing to a string cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(percent_encoded("a/../b c"), "a%2F..%2Fb%20c");
        assert_eq!(percent_encoded("semantic-search"), "semantic-search");
    }
}
