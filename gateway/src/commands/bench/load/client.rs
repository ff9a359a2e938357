//! Who asks: one connection to an endpoint, kept from request to request.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use gw_artifact::source::ShownUrl;
use ureq::config::Config;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

use super::Flags;
use crate::report::Advice;

/// How long the first connection may take, which only sees that somebody is there.
const CONNECT: Duration = Duration::from_secs(10);
/// What a body is, unless the user says otherwise.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What is asked: the head of all requests, and the bodies that they have in turn.
pub(super) struct Asked {
    head: Request<()>,
    /// Empty where requests have none.
    bodies: Vec<Vec<u8>>,
}

impl Asked {
    /// What the user said of the requests to `url`.
    ///
    /// # Errors
    /// Where a flag is wrong, or a file of bodies cannot be read.
    pub(super) fn new(url: &str, flags: &Flags) -> anyhow::Result<Self> {
        let bodies = bodies(flags)?;
        let default = if bodies.is_empty() { Method::GET } else { Method::POST };
        let method = flags.method.clone().unwrap_or(default);
        if matches!(method, Method::HEAD | Method::CONNECT | Method::TRACE) && !bodies.is_empty() {
            let message = format!("--method {method}: such a request has no body");
            return Err(Advice::new(message).hint("leave out --data and --lines").usage().into());
        }
        let mut headers: HeaderMap = flags.header.iter().cloned().collect();
        if let Some(given) = &flags.content_type {
            headers.insert(CONTENT_TYPE, given.clone());
        } else if !bodies.is_empty() {
            headers.entry(CONTENT_TYPE).or_insert(JSON);
        }
        if let Some(key) = &flags.api_key {
            let value = HeaderValue::from_str(&format!("Bearer {key}"));
            let mut value = value.map_err(|_| {
                Advice::new("--api-key holds characters that no header may have").usage()
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut head = Request::new(());
        *head.method_mut() = method;
        *head.headers_mut() = headers;
        *head.uri_mut() = url.parse::<Uri>().with_context(|| not_a_url(url))?;
        Ok(Self { head, bodies })
    }

    /// The body of the request of this index. A method that is made for bodies gets an empty one.
    fn body(&self, index: u64) -> Option<&[u8]> {
        let at = index.checked_rem(self.bodies.len() as u64);
        match at.and_then(|at| usize::try_from(at).ok()) {
            Some(at) => Some(&self.bodies[at]),
            None => matches!(*self.head.method(), Method::POST | Method::PUT | Method::PATCH)
                .then_some(&[]),
        }
    }
}

fn not_a_url(url: &str) -> Advice {
    Advice::new(format!("{} is no URL", ShownUrl::from(url)))
        .hint("give one such as http://127.0.0.1:8787/embed")
        .usage()
}

/// The bodies that `--data` or `--lines` gives.
fn bodies(flags: &Flags) -> anyhow::Result<Vec<Vec<u8>>> {
    let read = |flag: &str, path: &Path| {
        let advice = || Advice::new(format!("--{flag}: cannot read {}", path.display())).usage();
        fs::read(path).with_context(advice)
    };
    if let Some(data) = &flags.data {
        let body = match data.strip_prefix('@') {
            Some(file) => read("data", file.as_ref())?,
            None => data.clone().into_bytes(),
        };
        return Ok(vec![body]);
    }
    let Some(path) = &flags.lines else { return Ok(Vec::new()) };
    let text = read("lines", path)?;
    let lines = text.split(|&byte| byte == b'\n').map(|line| line.trim_ascii().to_vec());
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        let message = format!("--lines: {} has no lines", path.display());
        return Err(Advice::new(message).hint("write one body on each line").usage().into());
    }
    Ok(lines)
}

/// An address that answers. Names are resolved once: a lookup per request would be measured too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolved(SocketAddr);

impl Resolved {
    /// Connects once, so that a load to where nobody is ends before it begins.
    ///
    /// # Errors
    /// Where nobody takes connections.
    pub(super) fn of(asked: &Asked) -> anyhow::Result<Self> {
        let uri = asked.head.uri();
        let url = uri.to_string();
        let host = uri.host().ok_or_else(|| not_a_url(&url))?;
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default);
        let unreachable = || {
            Advice::new(format!("{host}:{port} does not answer"))
                .hint("is it running? gw dev and gw serve print their address as `listening on`")
        };
        // The brackets of an IPv6 address belong to the URL.
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = (name, port).to_socket_addrs().with_context(unreachable)?;
        let mut failed = anyhow!("the name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(_) => return Ok(Self(address)),
                Err(error) => failed = error.into(),
            }
        }
        Err(failed.context(unreachable()))
    }
}

impl Resolver for Resolved {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut addresses = self.empty();
        addresses.push(self.0);
        Ok(addresses)
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    /// The durations of `Server-Timing`, by name.
    pub(super) parts: Vec<(String, Duration)>,
}

/// Why nothing came back.
#[derive(Debug)]
pub(super) struct Failure {
    /// One of a few words.
    pub(super) kind: &'static str,
    pub(super) reason: String,
}

/// One connection.
pub(super) struct Client<'a> {
    agent: Agent,
    asked: &'a Asked,
}

impl<'a> Client<'a> {
    /// It connects with its first request, and again only where the server ended the connection.
    pub(super) fn new(asked: &'a Asked, resolved: Resolved, timeout: Duration) -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .user_agent(concat!("gw/", env!("CARGO_PKG_VERSION")))
            // What another server or a proxy does is not what is measured.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_idle_age(Duration::MAX)
            .timeout_global(Some(timeout))
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), resolved);
        Self { agent, asked }
    }

    /// Sends the request of this index and reads the answer to its end.
    pub(super) fn send(&self, index: u64) -> Result<Answer, Failure> {
        self.exchange(index).map_err(|error| Failure::of(&error))
    }

    fn exchange(&self, index: u64) -> Result<Answer, Error> {
        let (head, body) = (self.asked.head.clone(), self.asked.body(index));
        let mut response = match body {
            Some(body) => self.agent.run(head.map(|()| body))?,
            None => self.agent.run(head)?,
        };
        let bytes_received =
            io::copy(&mut response.body_mut().as_reader(), &mut io::sink()).map_err(Error::from)?;
        let timings = response.headers().get_all(SERVER_TIMING).iter();
        Ok(Answer {
            status: response.status().as_u16(),
            bytes_sent: body.map_or(0, |body| body.len() as u64),
            bytes_received,
            parts: timings.filter_map(|value| value.to_str().ok()).flat_map(parts).collect(),
        })
    }
}

impl Failure {
    fn of(error: &Error) -> Self {
        let kind = match error {
            Error::Timeout(_) => "timeout",
            Error::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::AddrNotAvailable => "connect",
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof => "closed",
                _ => "io",
            },
            Error::ConnectionFailed => "connect",
            Error::Tls(_) | Error::Rustls(_) | Error::TlsRequired => "tls",
            _ => "protocol",
        };
        Self { kind, reason: error.to_string() }
    }
}

/// The durations of a `Server-Timing` header, such as `queue;dur=0.1, infer;dur=4;desc="a, b"`.
fn parts(header: &str) -> impl Iterator<Item = (String, Duration)> {
    let mut is_quoted = false;
    let entries = header.split(move |c: char| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    });
    entries.filter_map(|entry| {
        let mut fields = entry.split(';').map(str::trim);
        let name = fields.next()?.to_owned();
        let millis: f64 = fields.find_map(|field| field.strip_prefix("dur="))?.parse().ok()?;
        Some((name, Duration::try_from_secs_f64(millis / 1e3).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn asked(line: &[&str]) -> anyhow::Result<Asked> {
        let flags = Line::try_parse_from([&["gw"][..], line].concat())?.flags;
        Asked::new("http://h/x", &flags)
    }

    #[test]
    fn a_request_with_a_body_is_a_post_of_json_unless_the_user_says_otherwise() {
        type Case<'a> = (&'a [&'a str], &'a str, Option<&'a str>, Option<&'a [u8]>);
        let cases: [Case<'_>; 6] = [
            (&[], "GET", None, None),
            (&["--method", "PUT"], "PUT", None, Some(b"")),
            (&["--data", "{}"], "POST", Some("application/json"), Some(b"{}")),
            (&["--data", "x", "--content-type", "a/b"], "POST", Some("a/b"), Some(b"x")),
            (&["--data", "x", "--header", "Content-Type: c/d"], "POST", Some("c/d"), Some(b"x")),
            (&["--data", "x", "--method", "QUERY"], "QUERY", Some("application/json"), Some(b"x")),
        ];
        for (line, method, content_type, body) in cases {
            let asked = asked(line).unwrap();
            let given = asked.head.headers().get(CONTENT_TYPE);
            assert_eq!(asked.head.method(), method, "{line:?}");
            assert_eq!(given.map(|value| value.to_str().unwrap()), content_type, "{line:?}");
            assert_eq!(asked.body(7), body, "{line:?}");
        }
    }

    #[test]
    fn lines_are_bodies_in_turn() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bodies");
        fs::write(&file, "one\r\n\ntwo\n").unwrap();
        let path = file.to_str().unwrap();
        let by_line = asked(&["--lines", path]).unwrap();
        let bodies = [0, 1, 2].map(|index| by_line.body(index).unwrap());
        assert_eq!(bodies, [b"one", b"two", b"one"]);
        let whole = asked(&["--data", &format!("@{path}")]).unwrap();
        assert_eq!(whole.body(1).unwrap(), b"one\r\n\ntwo\n");
        fs::write(&file, "\n").unwrap();
        let error = asked(&["--lines", path]).err().unwrap();
        assert!(error.to_string().contains("has no lines"), "{error}");
    }

    #[test]
    fn a_key_is_sent_as_a_bearer_and_headers_as_they_are() {
        let asked = asked(&["--api-key", "k", "--header", "a:1", "--header", "a: 2:3"]).unwrap();
        let headers = asked.head.headers();
        assert_eq!(headers[AUTHORIZATION], "Bearer k");
        let given: Vec<_> = headers.get_all("a").iter().collect();
        assert_eq!(given, ["1", "2:3"]);
    }

    #[test]
    fn timings_are_read_with_commas_in_their_descriptions() {
        let header = [
            "cache;dur=0.012, queue;dur=2",
            "infer;dur=4.25;desc=\"llvmpipe (15, 256 bits)\", skipped;desc=\"auth\", odd;dur=-1",
        ]
        .join(", ");
        let micros: Vec<_> = parts(&header).map(|(name, took)| (name, took.as_micros())).collect();
        let expected = [("cache", 12), ("queue", 2_000), ("infer", 4_250)];
        assert_eq!(micros, expected.map(|(name, micros)| (name.to_owned(), micros)));
    }

    #[test]
    fn failures_are_told_by_what_the_user_can_do_about_them() {
        let io = |kind| Error::Io(io::Error::from(kind));
        let cases = [
            (Error::Timeout(ureq::Timeout::Global), "timeout"),
            (io(io::ErrorKind::ConnectionRefused), "connect"),
            (io(io::ErrorKind::UnexpectedEof), "closed"),
            (Error::Tls("no certificate"), "tls"),
            (Error::LargeResponseHeader(2, 1), "protocol"),
        ];
        for (error, kind) in cases {
            assert_eq!(Failure::of(&error).kind, kind, "{error}");
        }
    }
}
