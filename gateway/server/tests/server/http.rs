//! A node on real sockets, with a real plugin behind it and a real client before it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gw_artifact::bundle::{BundleContent, pack};
use gw_artifact::keys::SigningKey;
use gw_artifact::manifest::Manifest;
use gw_artifact::{ByteSize, Digest};
use gw_server::{ServeError, ServerConfig, serve};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::node::{Node, guests, raw, send};

/// `/say` answers its body and is cached; `/raw` is not.
const MANIFEST: &str = r#"
[app]
name = "demo"
version = "0.1.0"

[[plugin]]
name = "moody"
path = "moody.wasm"

[[route]]
path = "/say"
methods = ["GET", "POST"]
plugins = ["moody"]
cache = { ttl = "10m" }

[[route]]
path = "/raw"
plugins = ["moody"]
"#;

async fn start() -> Node {
    start_with(ServerConfig::default()).await
}

/// A node that serves [`MANIFEST`].
async fn start_with(config: ServerConfig) -> Node {
    Node::serving(config, MANIFEST, content(MANIFEST)).await
}

fn bundle(node: &Node, version: &str) -> Bytes {
    let manifest = MANIFEST.replace("0.1.0", version);
    pack(&content(&manifest), &node.key).unwrap()
}

fn content(manifest: &str) -> BundleContent {
    BundleContent {
        manifest_text: manifest.to_owned(),
        plugins: vec![("moody".to_owned(), guests::component("moody"))],
        assets: Vec::new(),
        models: Vec::new(),
    }
}

#[tokio::test]
async fn the_second_request_is_a_hit_and_runs_no_plugin() {
    let node = start().await;
    let first = node.post("/say", "hello").await;
    assert_eq!((first.status, &*first.body), (200, "hello"));
    assert_eq!(first.header("cache-status"), "gw; fwd=miss; stored");
    let timing = first.header("server-timing");
    for entry in ["cache;dur=", "plugin;dur=", "queue;dur=", "infer;dur="] {
        assert!(timing.contains(entry), "{timing}");
    }
    let second = node.post("/say", "hello").await;
    assert_eq!((second.status, &*second.body), (200, "hello"));
    assert!(second.header("cache-status").starts_with("gw; hit; ttl="), "{second:?}");
    assert!(second.headers.contains_key("age"));
    assert!(!second.header("server-timing").contains("plugin"), "{second:?}");
    assert_eq!(second.header("content-type"), first.header("content-type"));
    assert_ne!(second.header("x-request-id"), first.header("x-request-id"));
    let runs = "gw_plugin_requests_total{plugin=\"moody\",outcome=\"ok\"}";
    assert!((node.metric(runs).await - 1.0).abs() < 0.1);
    let hits = node.metric("gw_cache_lookups_total{result=\"hit\"}").await;
    assert!((hits - 1.0).abs() < 0.1);
    assert!(node.metric("gw_cache_bytes").await > 500.0);
}

#[tokio::test]
async fn concurrent_identical_misses_run_the_plugin_once() {
    let node = start().await;
    let requests = (0..64).map(|_| node.post("/say", "the same"));
    for answer in futures::future::join_all(requests).await {
        assert_eq!((answer.status, &*answer.body), (200, "the same"));
    }
    let runs = "gw_plugin_requests_total{plugin=\"moody\",outcome=\"ok\"}";
    assert!((node.metric(runs).await - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn a_route_without_a_policy_is_never_cached() {
    let node = start().await;
    for _ in 0..2 {
        let answer = node.post("/raw", "hello").await;
        assert_eq!(answer.header("cache-status"), "gw; fwd=bypass");
        assert!(answer.header("server-timing").contains("plugin;dur="));
    }
    let no_store = [("cache-control", "no-store")];
    for _ in 0..2 {
        let answer = node.post_with("/say", "x", &no_store).await;
        assert_eq!(answer.header("cache-status"), "gw; fwd=bypass");
    }
}

#[tokio::test]
async fn a_plugins_own_error_passes_through_and_is_not_cached() {
    let node = start().await;
    for _ in 0..2 {
        let answer = node.post("/say", "refuse").await;
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, &body["error"]["code"]), (418, &json!("teapot")));
        assert_eq!(body["error"]["field"], "body");
        assert_eq!(answer.header("cache-status"), "gw; fwd=miss");
    }
}

#[tokio::test]
async fn a_trap_costs_its_own_request_and_no_other() {
    let node = start().await;
    for _ in 0..3 {
        let answer = node.post("/say", "panic").await;
        assert_eq!((answer.status, &*answer.code()), (502, "plugin_trapped"));
        assert_eq!(node.post("/say", "fine").await.status, 200);
    }
}

#[tokio::test]
async fn what_no_route_answers_is_refused_and_tells_nothing() {
    let node = start().await;
    let unknown = node.post("/nothing", "x").await;
    assert_eq!((unknown.status, &*unknown.code()), (404, "route_not_found"));
    assert!(!unknown.body.contains("say"), "{}", unknown.body);
    let wrong = node.get("/raw").await;
    assert_eq!(
        (wrong.status, &*wrong.code(), wrong.header("allow")),
        (405, "method_not_allowed", "POST")
    );
    let options = send(node.address, "OPTIONS", "/say", &[], Bytes::new()).await;
    assert_eq!((options.status, options.header("allow")), (204, "GET, HEAD, POST"));
    assert_eq!(options.header("content-length"), "", "RFC 9110 forbids it with 204");
    let none = "gw_http_requests_total{route=\"none\",method=\"POST\",code=\"404\"}";
    assert!((node.metric(none).await - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn a_head_request_gets_the_headers_of_a_get() {
    let node = start().await;
    let get = node.get("/say?x=1").await;
    let head = "HEAD /say?x=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = raw(node.address, head).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(answer.contains(&format!("content-length: {}\r\n", get.body.len())), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
}

#[tokio::test]
async fn a_large_body_is_refused_and_its_sender_hears_so() {
    let node = start().await;
    let answer = node.post("/say", &"x".repeat(10 << 20)).await;
    assert_eq!((answer.status, &*answer.code()), (413, "body_too_large"));
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["error"]["field"], "body");
    let patient = "POST /say HTTP/1.1\r\nhost: x\r\ncontent-length: 10485760\r\n\
                   expect: 100-continue\r\nconnection: close\r\n\r\n";
    let answer = raw(node.address, patient).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

/// Reads one answer of a connection that stays open: its head, in lower case.
async fn one(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            if body.len() == length.unwrap().parse::<usize>().unwrap() {
                return head.to_owned();
            }
        }
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "closed after {text:?}");
    }
}

#[tokio::test]
async fn a_refusal_that_reads_no_body_keeps_the_connection() {
    let config = ServerConfig { api_keys: vec![Digest::of(b"ours")], ..Default::default() };
    let node = start_with(config).await;
    let cases = [
        ("POST /nothing", "ours", 404),
        ("PUT /raw", "ours", 405),
        ("POST /healthz", "ours", 405),
        ("POST /metrics", "ours", 405),
        ("POST /raw", "theirs", 401),
    ];
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    let good = "POST /raw HTTP/1.1\r\nhost: x\r\nx-api-key: ours\r\ncontent-length: 5\r\n\r\nhello";
    for (line, key, status) in cases {
        for (framing, body) in [
            ("content-length: 5", "hello"),
            ("transfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
        ] {
            let head =
                format!("{line} HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n{framing}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            // The body comes when the refusal has long been decided.
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.write_all(body.as_bytes()).await.unwrap();
            let refused = one(&mut stream).await;
            assert!(refused.starts_with(&format!("http/1.1 {status}")), "{line}: {refused}");
            assert!(!refused.contains("connection: close"), "{line}: {refused}");
            stream.write_all(good.as_bytes()).await.unwrap();
            let answer = one(&mut stream).await;
            assert!(answer.starts_with("http/1.1 200"), "after {line}, {framing}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_worth_reading_ends_the_connection_and_says_so() {
    let node = start().await;
    // Larger than the bound; not sent before it is asked for; slower than the bound.
    for framing in [
        "content-length: 99999999",
        "content-length: 5\r\nexpect: 100-continue",
        "content-length: 5",
    ] {
        let head = format!("POST /nothing HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n");
        let answer = raw(node.address, &head).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 404"), "{framing}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{framing}: {answer}");
    }
}

#[tokio::test]
async fn a_request_over_the_limit_is_told_to_come_back() {
    let node = start_with(ServerConfig { requests_max: 0, ..Default::default() }).await;
    let answer = node.post("/say", "x").await;
    assert_eq!((answer.status, &*answer.code()), (503, "saturated"));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(node.get("/healthz").await.status, 200, "probes are always let in");
}

#[tokio::test]
async fn the_clients_request_id_comes_back_if_it_is_sane() {
    let node = start().await;
    let answer = node.post_with("/say", "x", &[("x-request-id", "abc-1")]).await;
    assert_eq!(answer.header("x-request-id"), "abc-1");
    let answer = node.post_with("/say", "x", &[("x-request-id", "a b")]).await;
    assert_eq!(answer.header("x-request-id").len(), 24);
}

#[tokio::test]
async fn probes_need_no_key_and_everything_else_checks_it() {
    let keys = vec![Digest::of(b"ours")];
    let config =
        ServerConfig { api_keys: keys.clone(), admin_keys: keys, ..ServerConfig::default() };
    let node = start_with(config).await;
    let get = async |address, path, key| {
        send(address, "GET", path, &[("authorization", key)], Bytes::new()).await
    };
    for address in [node.address, node.admin] {
        for path in ["/healthz", "/readyz"] {
            let answer = get(address, path, "Bearer theirs").await;
            assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"));
            assert_eq!(answer.header("x-request-id").len(), 24);
        }
        for path in ["/metrics", "/nothing"] {
            let answer = get(address, path, "Bearer theirs").await;
            assert_eq!((answer.status, &*answer.code()), (401, "unauthenticated"), "{path}");
        }
        let metrics = get(address, "/metrics", "Bearer ours").await;
        assert_eq!(metrics.status, 200);
        assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
        for path in ["/healthz", "/readyz", "/metrics"] {
            let key = [("authorization", "Bearer ours")];
            let wrong = send(address, "POST", path, &key, Bytes::new()).await;
            let said = (wrong.status, &*wrong.code(), wrong.header("allow"));
            assert_eq!(said, (405, "method_not_allowed", "GET, HEAD"), "{path}");
            let body: Value = serde_json::from_str(&wrong.body).unwrap();
            assert_eq!(body["error"]["field"], "method", "{path}");
        }
        let head = send(address, "HEAD", "/healthz", &[], Bytes::new()).await;
        assert_eq!((head.status, head.header("content-length"), &*head.body), (200, "3", ""));
    }
    let counted = "gw_http_requests_total{route=\"/healthz\",method=\"GET\",code=\"200\"}";
    assert!((node.metric(counted).await - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn tenants_share_no_cached_answer() {
    let keys = ["one", "two"].map(|key| Digest::of(key.as_bytes()));
    let config = ServerConfig { api_keys: keys.to_vec(), ..Default::default() };
    let node = start_with(config).await;
    for key in ["Bearer one", "Bearer two"] {
        let headers = [("authorization", key)];
        let first = node.post_with("/say", "x", &headers).await;
        assert_eq!(first.header("cache-status"), "gw; fwd=miss; stored");
        let second = node.post_with("/say", "x", &headers).await;
        assert!(second.header("cache-status").starts_with("gw; hit"));
    }
    let wrong = node.post_with("/say", "x", &[("x-api-key", "three")]).await;
    assert_eq!((wrong.status, &*wrong.code()), (401, "unauthenticated"));
}

#[tokio::test]
async fn a_node_that_others_can_reach_does_not_start_without_keys() {
    let node = start().await;
    let bind = || TcpListener::bind("0.0.0.0:0");
    let serve_on = |listener, admin, config| {
        let deployments = Arc::clone(&node.deployments);
        let never = std::future::pending();
        async move { serve(listener, admin, deployments, config, Registry::default(), never).await }
    };
    let open = serve_on(bind().await.unwrap(), None, ServerConfig::default()).await;
    assert!(matches!(open, Err(ServeError::NoKeys { key: "api_keys", .. })), "{open:?}");
    let config = ServerConfig { api_keys: vec![Digest::of(b"k")], ..Default::default() };
    let admin = Some(bind().await.unwrap());
    let open = serve_on(bind().await.unwrap(), admin, config).await;
    assert!(matches!(open, Err(ServeError::NoKeys { key: "admin_keys", .. })), "{open:?}");
}

#[tokio::test]
async fn a_bundle_is_pushed_shown_and_rolled_back() {
    let node = Node::empty(ServerConfig::default()).await;
    assert_eq!((node.get("/healthz").await.status, node.get("/readyz").await.status), (200, 503));
    let (status, first) = node.admin("POST", "/v1/bundles", bundle(&node, "0.1.0")).await;
    assert_eq!(status, 201, "{first}");
    assert_eq!(first["app"], "demo");
    assert_eq!(first["routes"], json!(["GET /say", "POST /say", "POST /raw"]));
    assert_eq!(node.get("/readyz").await.status, 200);
    assert_eq!(node.post("/say", "hello").await.body, "hello");

    let (_, second) = node.admin("POST", "/v1/bundles", bundle(&node, "0.2.0")).await;
    let (_, status) = node.admin("GET", "/v1/status", Bytes::new()).await;
    let app = &status["apps"][0];
    assert_eq!((&app["app"], &app["live"]), (&json!("demo"), &second["revision"]));
    assert_eq!(app["revisions"][0]["digest"], first["revision"]);
    assert_eq!(app["revisions"][1]["live"], true);
    assert_eq!(app["revisions"][1]["signer"], node.key.public().to_string());

    let (status, back) = node.admin("POST", "/v1/apps/demo/rollback", Bytes::new()).await;
    assert_eq!((status, &back["revision"]), (200, &first["revision"]));
    let named = json!({ "revision": second["revision"] }).to_string().into();
    let (status, forth) = node.admin("POST", "/v1/apps/demo/rollback", named).await;
    assert_eq!((status, &forth["revision"]), (200, &second["revision"]));
}

#[tokio::test]
async fn the_admin_api_refuses_by_code_and_changes_nothing() {
    let config = ServerConfig { bundle_bytes_max: ByteSize(8 << 20), ..Default::default() };
    let node = Node::empty(config).await;
    let pushed = node.admin("POST", "/v1/bundles", bundle(&node, "0.1.0")).await;
    assert_eq!(pushed.0, 201);
    let before = node.admin("GET", "/v1/status", Bytes::new()).await;
    let mut tampered = bundle(&node, "0.2.0").to_vec();
    *tampered.last_mut().unwrap() ^= 1;
    let stranger = SigningKey::generate().unwrap();
    let foreign = pack(&content(&MANIFEST.replace("0.1.0", "0.2.0")), &stranger).unwrap();
    let cases: [(&'static str, &str, Bytes, u16, &str); 10] = [
        ("POST", "/v1/bundles", Bytes::from_static(b"noise"), 400, "not_a_bundle"),
        ("POST", "/v1/bundles", tampered.into(), 403, "bundle_tampered"),
        ("POST", "/v1/bundles", foreign, 403, "bundle_untrusted"),
        ("POST", "/v1/bundles", vec![0; 9 << 20].into(), 413, "body_too_large"),
        ("GET", "/v1/bundles", Bytes::new(), 405, "method_not_allowed"),
        ("POST", "/v1/apps/demo/rollback", Bytes::new(), 409, "nothing_before"),
        ("POST", "/v1/apps/demo/rollback", Bytes::from_static(b"{\"rev\":1}"), 400, "bad_request"),
        ("POST", "/v1/apps/other/rollback", Bytes::new(), 404, "unknown_app"),
        ("POST", "/v1/apps/%ff/rollback", Bytes::new(), 400, "bad_request"),
        ("GET", "/v1/nothing", Bytes::new(), 404, "route_not_found"),
    ];
    for (method, path, body, status, code) in cases {
        let answer = node.admin(method, path, body).await;
        assert_eq!((answer.0, &answer.1["error"]["code"]), (status, &json!(code)), "{path}");
    }
    let page = [("origin", "https://evil.example")];
    for path in ["/v1/status", "/metrics"] {
        let answer = send(node.admin, "GET", path, &page, Bytes::new()).await;
        assert_eq!((answer.status, &*answer.code()), (400, "bad_request"), "{path}");
    }
    assert_eq!(node.admin("GET", "/v1/status", Bytes::new()).await, before);
    assert_eq!(node.post("/say", "still here").await.body, "still here");
}

#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_node_ends() {
    let mut node = start().await;
    let mut client = TcpStream::connect(node.address).await.unwrap();
    let head = "POST /raw HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhel";
    client.write_all(head.as_bytes()).await.unwrap();
    // The head has been read once the request counts as in flight.
    while node.metric("gw_http_in_flight").await < 2.0 {
        tokio::task::yield_now().await;
    }
    node.stop.take().unwrap().send(()).unwrap();
    loop {
        let ready = send(node.admin, "GET", "/readyz", &[], Bytes::new()).await;
        if ready.body == "draining\n" {
            assert_eq!(ready.status, 503);
            break;
        }
    }
    while TcpStream::connect(node.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    client.write_all(b"lo").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    node.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_never_finishes_is_cut_off() {
    let soon = Duration::from_millis(100);
    let config = ServerConfig {
        header_timeout: soon,
        body_timeout: soon,
        drain: soon,
        ..Default::default()
    };
    let mut node = start_with(config).await;
    for head in ["", "P", "POST /say HT", "GET /say HTTP/1.1\r\nhost: "] {
        assert_eq!(raw(node.address, head).await, "", "{head:?}");
    }
    let body = "POST /say HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhel";
    let answer = raw(node.address, body).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let mut idle = TcpStream::connect(node.address).await.unwrap();
    idle.write_all(b"POST /raw HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n").await.unwrap();
    node.stop.take().unwrap().send(()).unwrap();
    node.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_swap_drops_no_request() {
    let node = start().await;
    let swaps = async {
        for version in 2..6 {
            let text = MANIFEST.replace("0.1.0", &format!("0.{version}.0"));
            let manifest = Manifest::parse(&text, "gw.toml").unwrap();
            node.deployments.install(manifest, content(&text), PathBuf::new()).await.unwrap();
        }
    };
    let requests = async {
        for n in 0..200 {
            let text = format!("number {n}");
            let answer = node.post("/raw", &text).await;
            assert_eq!((answer.status, answer.body), (200, text));
        }
    };
    futures::join!(swaps, requests);
    assert_eq!(node.deployments.live().revisions()[0].version, "0.5.0");
}
