//! What the node adds to an answer: `Cache-Status`, `Server-Timing`, `Age`.

use std::fmt::Write;
use std::time::Duration;

use gw_host::Timings;
use gw_inference::Inference;
use http::header::{AGE, CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::cache::Served;
use crate::handle::request_id::REQUEST_ID;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Headers that belong to one connection, or that only this node sets.
const DROPPED: [HeaderName; 8] = [
    AGE,
    CACHE_STATUS,
    CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    REQUEST_ID,
];
/// Those that tell how a body comes that is on its way.
const FRAMING: [HeaderName; 2] = [CONTENT_LENGTH, TRAILER];

/// Drops what a plugin may not say of this node's answer; `whole` is whether its body is.
pub(crate) fn drop_ours(headers: &mut HeaderMap, whole: bool) {
    for name in DROPPED.iter().chain(FRAMING.iter().filter(|_| whole)) {
        headers.remove(name);
    }
}

/// `Cache-Status` of an answer whose hooks asked a model through the cache. The response itself is
/// new, so it has no `Age`.
pub(crate) fn add_inference_status(
    headers: &mut HeaderMap,
    served: &Served<Inference>,
) -> &'static str {
    let (value, word) = status(served);
    let value = HeaderValue::from_str(&format!("{value}; detail=inference"));
    headers.insert(CACHE_STATUS, value.expect("words and numbers are header text"));
    word
}

/// `Cache-Status` (RFC 9211) of an answer from or through the cache, and its `Age`.
pub(crate) fn add_cache_status(headers: &mut HeaderMap, served: &Served) -> &'static str {
    let (value, word) = status(served);
    if let Served::Hit { age, .. } = served {
        headers.insert(AGE, HeaderValue::from(age.as_secs()));
    }
    let value = HeaderValue::from_str(&value).expect("words and numbers are header text");
    headers.insert(CACHE_STATUS, value);
    word
}

/// The value of `Cache-Status`, and the word of the access log.
fn status<V>(served: &Served<V>) -> (String, &'static str) {
    let (value, word) = match served {
        Served::Hit { age, lifetime, .. } => {
            let ttl = lifetime.saturating_sub(*age).as_secs();
            return (format!("gw; hit; ttl={ttl}"), "hit");
        }
        // `request`: the request's own directives kept it from the cache.
        Served::Made { stored, collapsed, forced, .. } => match (forced, collapsed, stored) {
            (true, _, true) => ("gw; fwd=request; stored", "forced"),
            (true, _, false) => ("gw; fwd=request", "forced"),
            (false, true, true) => ("gw; fwd=miss; stored; collapsed", "collapsed"),
            (false, true, false) => ("gw; fwd=miss; collapsed", "collapsed"),
            (false, false, true) => ("gw; fwd=miss; stored", "miss"),
            (false, false, false) => ("gw; fwd=miss", "miss"),
        },
    };
    (value.to_owned(), word)
}

/// `Cache-Status` of an answer that the cache was never asked for.
pub(crate) fn add_bypass(headers: &mut HeaderMap) -> &'static str {
    headers.insert(CACHE_STATUS, HeaderValue::from_static("gw; fwd=bypass"));
    "bypass"
}

/// Adds `Server-Timing` in milliseconds; a plugin's own entries stay beside it.
pub(crate) fn add_timing(headers: &mut HeaderMap, cache: Duration, plugin: Option<&Timings>) {
    let mut text = format!("cache;dur={:.3}", millis(cache));
    if let Some(timings) = plugin {
        let entries =
            [("plugin", timings.plugin), ("queue", timings.queue), ("infer", timings.infer)];
        for (name, took) in entries {
            // Writing to a string cannot fail.
            let _ = write!(text, ", {name};dur={:.3}", millis(took));
        }
        if let Some(device) = &timings.device {
            let _ = write!(text, ";desc=\"{}\"", quotable(device));
        }
    }
    let value = HeaderValue::from_str(&text).expect("only printable characters are left");
    headers.append(SERVER_TIMING, value);
}

/// Says in `Server-Timing` which plugins were left out.
pub(crate) fn add_skipped(headers: &mut HeaderMap, skipped: &[String]) {
    for plugin in skipped {
        let value = HeaderValue::from_str(&format!("skipped;desc=\"{}\"", quotable(plugin)));
        headers.append(SERVER_TIMING, value.expect("only printable characters are left"));
    }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

/// A driver may call its device anything; a quoted string takes printable ASCII.
fn quotable(device: &str) -> String {
    let allowed = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
    device.chars().filter(allowed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::answer::Answer;

    #[test]
    fn the_cache_says_what_it_did() {
        let answer = Answer::text("x");
        let made = |stored, collapsed, forced| Served::Made {
            answer: answer.clone(),
            stored,
            collapsed,
            forced,
        };
        let hit = Served::Hit {
            answer: answer.clone(),
            age: Duration::from_millis(2900),
            lifetime: Duration::from_mins(10),
        };
        let cases = [
            (hit, "gw; hit; ttl=597"),
            (made(true, false, false), "gw; fwd=miss; stored"),
            (made(false, true, false), "gw; fwd=miss; collapsed"),
            (made(true, false, true), "gw; fwd=request; stored"),
        ];
        for (served, expected) in cases {
            let mut headers = HeaderMap::new();
            add_cache_status(&mut headers, &served);
            assert_eq!(headers[CACHE_STATUS], expected);
            let age = matches!(served, Served::Hit { .. }).then(|| HeaderValue::from(2));
            assert_eq!(headers.get(AGE), age.as_ref());
        }
    }

    #[test]
    fn timings_are_in_milliseconds_and_name_the_device() {
        let timings = Timings {
            instantiate: Duration::from_micros(60),
            plugin: Duration::from_micros(312),
            queue: Duration::from_micros(5),
            infer: Duration::from_micros(4_250),
            device: Some("llvmpipe (\"LLVM\" 15, 256 bits)\n".into()),
            awaited: None,
        };
        let mut headers = HeaderMap::new();
        add_timing(&mut headers, Duration::from_micros(12), Some(&timings));
        assert_eq!(
            headers[SERVER_TIMING],
            "cache;dur=0.012, plugin;dur=0.312, queue;dur=0.005, infer;dur=4.250;\
             desc=\"llvmpipe (LLVM 15, 256 bits)\""
        );
    }
}
