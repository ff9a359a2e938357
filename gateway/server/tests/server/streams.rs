//! Streams, chains and hooks on real sockets. The client writes and reads bytes, because a library
//! would hide how an answer ends.

mod leaving;

use std::time::Duration;

use gw_artifact::bundle::{BundleContent, BundledModel};
use gw_artifact::{ByteSize, Digest};
use gw_server::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::double;
use crate::node::{Node, guests, raw};

const MANIFEST: &str = r#"
[app]
name = "streams"
version = "0.1.0"

[[model]]
name = "double"
source = "double.onnx"

[[plugin]]
name = "streamer"
path = "streamer.wasm"
limits = { time = "1m" }

[[plugin]]
name = "relay"
path = "relay.wasm"

[[plugin]]
name = "lenient"
path = "relay.wasm"
failure = "open"

[[plugin]]
name = "hooked"
path = "hooked.wasm"
models = ["double"]

[[plugin]]
name = "moody"
path = "moody.wasm"

[[route]]
path = "/stream"
methods = ["GET", "POST"]
plugins = ["streamer"]

[[route]]
path = "/relayed"
plugins = ["relay", "streamer"]

[[route]]
path = "/lenient"
plugins = ["lenient", "moody"]

[[route]]
path = "/lenient-cached"
plugins = ["lenient", "moody"]
cache = { ttl = "10m" }

[[route]]
path = "/strict"
plugins = ["relay", "moody"]

[[route]]
path = "/double"
plugins = ["hooked"]
cache = { ttl = "10m" }

[[route]]
path = "/late"
plugins = ["streamer"]
timeout = "500ms"
"#;

async fn start() -> Node {
    start_with(ServerConfig::default()).await
}

async fn start_with(config: ServerConfig) -> Node {
    let component = |name: &str, guest| (name.to_owned(), guests::component(guest));
    let onnx = double::onnx();
    let model = BundledModel {
        name: "double".to_owned(),
        digest: Digest::of(&onnx),
        bytes: Some(onnx.into()),
    };
    let content = BundleContent {
        manifest_text: MANIFEST.to_owned(),
        plugins: vec![
            component("streamer", "streamer"),
            component("relay", "relay"),
            component("lenient", "relay"),
            component("hooked", "hooked"),
            component("moody", "moody"),
        ],
        assets: Vec::new(),
        models: vec![model],
    };
    Node::serving(config, MANIFEST, content).await
}

/// A connection that is read piece by piece.
struct Wire {
    stream: TcpStream,
    unread: String,
}

impl Wire {
    async fn open(node: &Node) -> Self {
        let stream = TcpStream::connect(node.address).await.unwrap();
        Self { stream, unread: String::new() }
    }

    async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// What comes until `mark`, with it; all that comes where the connection ends first.
    async fn until(&mut self, mark: &str) -> String {
        loop {
            if let Some(at) = self.unread.find(mark) {
                let rest = self.unread.split_off(at + mark.len());
                return std::mem::replace(&mut self.unread, rest);
            }
            let mut bytes = [0; 4096];
            let read = timeout(Duration::from_mins(1), self.stream.read(&mut bytes)).await;
            let count = read.expect("something comes").unwrap_or(0);
            if count == 0 {
                return std::mem::take(&mut self.unread);
            }
            self.unread += std::str::from_utf8(&bytes[..count]).unwrap();
        }
    }
}

fn post(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")
}

#[tokio::test]
async fn pieces_go_both_ways_at_once_and_trailers_pass() {
    let node = start().await;
    let mut wire = Wire::open(&node).await;
    let chunked = "transfer-encoding: chunked\r\nte: trailers\r\ntrailer: x-sent\r\nx-do: echo\r\n";
    wire.write(&post("/stream", chunked)).await;
    wire.write("3\r\none\r\n").await;
    let head = wire.until("\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(
        head.contains("transfer-encoding: chunked") && head.contains("trailer: x-sum"),
        "{head}"
    );
    assert!(head.contains("cache-status: gw; fwd=bypass"), "{head}");
    assert_eq!(wire.until("one\r\n").await, "3\r\none\r\n");
    wire.write("3\r\ntwo\r\n").await;
    assert_eq!(wire.until("two\r\n").await, "3\r\ntwo\r\n");
    wire.write("0\r\nx-sent: all\r\n\r\n").await;
    let end = wire.until("\r\n\r\n").await.to_lowercase();
    assert!(end.starts_with("0\r\n") && end.contains("x-sum: 6 all\r\n"), "{end}");
    // The connection is good for another request.
    wire.write(&post("/stream", "content-length: 0\r\nx-do: fine\r\n")).await;
    let head = wire.until("\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(wire.until("fine").await.ends_with("fine"));
}

#[tokio::test]
async fn an_answer_that_fails_in_the_middle_has_no_end() {
    let node = start().await;
    let mut wire = Wire::open(&node).await;
    wire.write(&post("/stream", "content-length: 0\r\nx-do: trap\r\n")).await;
    let all = wire.until("never").await;
    assert!(all.starts_with("HTTP/1.1 200"), "{all}");
    assert!(all.ends_with("4\r\nhalf\r\n"), "no last chunk, and the connection ends: {all:?}");
    let mut wire = Wire::open(&node).await;
    wire.write(&post("/stream", "content-length: 0\r\nx-do: trap\r\nx-length: 8\r\n")).await;
    let all = wire.until("never").await;
    assert!(all.contains("content-length: 8\r\n") && all.ends_with("\r\n\r\nhalf"), "{all:?}");
    let mut wire = Wire::open(&node).await;
    wire.write(&post("/late", "content-length: 0\r\nx-do: wait\r\n")).await;
    let all = wire.until("never").await;
    assert!(all.ends_with("5\r\nfirst\r\n"), "{all:?}");
    let traps = "gw_plugin_requests_total{plugin=\"streamer\",outcome=\"trap\"}";
    assert!((node.metric(traps).await - 2.0).abs() < 0.1);
    let late = "gw_plugin_requests_total{plugin=\"streamer\",outcome=\"timeout\"}";
    assert!((node.metric(late).await - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_guest() {
    let node = start().await;
    // Four instances in all; every one of these would wait for a minute.
    for _ in 0..12 {
        let mut wire = Wire::open(&node).await;
        wire.write(&post("/stream", "content-length: 0\r\nx-do: wait\r\n")).await;
        assert!(wire.until("first").await.ends_with("first"));
    }
    let answer = timeout(Duration::from_secs(20), node.post("/strict", "hello")).await;
    assert_eq!(answer.expect("there is room").body, "hello");
    // Only the scrape itself is left.
    while node.metric("gw_http_in_flight").await > 1.5 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_slow_reader_holds_the_guest_back_and_an_endless_one_ends_at_the_limit() {
    let node = start().await;
    let mut wire = Wire::open(&node).await;
    wire.write(&post("/stream", "content-length: 0\r\nx-do: endless\r\n")).await;
    wire.until("\r\n\r\n").await;
    // While nobody reads, nothing is written beyond what buffers hold.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut bytes = 0;
    let mut piece = vec![0; 1 << 16];
    loop {
        let count = wire.stream.read(&mut piece).await.unwrap_or(0);
        if count == 0 {
            break;
        }
        bytes += count;
    }
    // 32 MiB, in chunks with their sizes.
    assert!((32 << 20..34 << 20).contains(&bytes), "{bytes}");
    let bad = "gw_plugin_requests_total{plugin=\"streamer\",outcome=\"bad_response\"}";
    assert!((node.metric(bad).await - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn a_body_that_grows_too_large_or_stops_is_refused_in_the_middle() {
    let config = ServerConfig {
        body_bytes_max: ByteSize(1000),
        body_timeout: Duration::from_millis(200),
        ..Default::default()
    };
    let node = start_with(config).await;
    let head = post("/strict", "transfer-encoding: chunked\r\nconnection: close\r\n");
    let piece = format!("258\r\n{}\r\n", "x".repeat(600));
    let all = raw(node.address, &format!("{head}{piece}{piece}")).await;
    assert!(all.starts_with("HTTP/1.1 413") && all.contains("body_too_large"), "{all}");
    let all = raw(node.address, &format!("{head}{piece}")).await;
    assert!(all.starts_with("HTTP/1.1 408") && all.contains("body_timeout"), "{all}");
    let declared = post("/strict", "content-length: 1001\r\nconnection: close\r\n");
    let all = raw(node.address, &declared).await;
    assert!(all.starts_with("HTTP/1.1 413"), "{all}");
}

#[tokio::test]
async fn a_head_and_an_empty_status_have_no_body_and_end_the_guest() {
    let node = start().await;
    let head = "HEAD /stream HTTP/1.1\r\nhost: x\r\nx-do: wait\r\nconnection: close\r\n\r\n";
    let all = timeout(Duration::from_secs(20), raw(node.address, head)).await.unwrap();
    assert!(all.starts_with("HTTP/1.1 200") && all.ends_with("\r\n\r\n"), "{all:?}");
    assert!(!all.to_lowercase().contains("content-length: 0"), "its length is not known: {all:?}");
}

#[tokio::test]
async fn a_chain_answers_in_order_and_says_what_it_left_out() {
    let node = start().await;
    let relayed = node.post_with("/relayed", "hello", &[("x-do", "echo")]).await;
    assert_eq!((relayed.status, &*relayed.body), (200, "hello"));
    assert_eq!(relayed.header("x-relay-answer"), "yes");
    let strict = node.post_with("/strict", "hello", &[("x-relay", "panic")]).await;
    assert_eq!((strict.status, &*strict.code()), (502, "plugin_trapped"));
    let early = node.post_with("/strict", "hello", &[("x-relay", "early")]).await;
    assert_eq!((early.status, &*early.body), (203, "early"));
    // What the next plugin did is what its client hears, whatever its neighbour makes of it.
    let inner = node.post("/strict", "panic").await;
    assert_eq!((inner.status, &*inner.code()), (502, "plugin_trapped"));

    let fine = node.post("/lenient", "hello").await;
    assert_eq!((fine.status, &*fine.body), (200, "hello"));
    let open = node.post_with("/lenient", "hello", &[("x-relay", "read-panic")]).await;
    assert_eq!((open.status, &*open.body), (200, "hello"));
    let timings = open.headers.get_all("server-timing").iter();
    let skipped = timings.filter(|value| *value == "skipped;desc=\"lenient\"");
    assert_eq!(skipped.count(), 1, "{open:?}");
    let skipped = node.metric("gw_plugin_skipped_total{plugin=\"lenient\"}").await;
    assert!((skipped - 1.0).abs() < 0.1);
    for _ in 0..2 {
        let cached = node.post("/lenient-cached", "hello").await;
        assert_eq!(cached.body, "hello");
    }
}

#[tokio::test]
async fn between_hooks_tensors_are_cached_and_post_runs_for_each() {
    let node = start().await;
    let first = node.post_with("/double", "1 2", &[("x-tag", "a")]).await;
    assert_eq!((first.status, &*first.body), (200, "2 4a"));
    assert_eq!(first.header("cache-status"), "gw; fwd=miss; stored; detail=inference");
    // Another request with the same tensors, and an answer of its own.
    let second = node.post_with("/double", "1   2.0", &[("x-tag", "b")]).await;
    assert_eq!(second.body, "2 4b");
    let status = second.header("cache-status");
    assert!(status.starts_with("gw; hit; ttl=") && status.ends_with("; detail=inference"));
    assert_eq!(second.header("age"), "", "the response is new");
    let other = node.post("/double", "3").await;
    assert_eq!(other.body, "6");
    let bypass = node.post_with("/double", "1 2", &[("cache-control", "no-store")]).await;
    assert_eq!((&*bypass.body, bypass.header("cache-status")), ("2 4", "gw; fwd=bypass"));
    let only = [("cache-control", "only-if-cached")];
    assert_eq!(node.post_with("/double", "1 2", &only).await.body, "2 4");
    let missing = node.post_with("/double", "9", &only).await;
    assert_eq!((missing.status, &*missing.code()), (504, "not_cached"));
    let early = node.post("/double", "respond").await;
    assert_eq!((early.status, early.header("cache-status")), (418, "gw; fwd=bypass"));
    let misfit = node.post("/double", "misfit").await;
    assert_eq!((misfit.status, &*misfit.code()), (502, "plugin_bad_tensors"));

    let requests = (0..32).map(|_| node.post("/double", "8 8 8"));
    for answer in futures::future::join_all(requests).await {
        assert_eq!(answer.body, "16 16 16");
    }
    let misses = node.metric("gw_cache_lookups_total{result=\"miss\"}").await;
    // 1 2, 3, 9 (only if cached), the misfit, 8 8 8.
    assert!((misses - 5.0).abs() < 0.1, "{misses}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let config =
        ServerConfig { write_timeout: Duration::from_millis(200), ..ServerConfig::default() };
    let node = start_with(config).await;
    let mut wire = Wire::open(&node).await;
    wire.write(&post("/stream", "content-length: 0\r\nx-do: endless\r\n")).await;
    wire.until("\r\n\r\n").await;
    // It stays open and reads no more; the guest would write for half a minute.
    let left = async {
        while node.metric("gw_http_in_flight").await > 1.5 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), left).await.expect("the connection is given up");
}
