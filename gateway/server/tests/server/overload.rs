//! A node that has too much to do: what it refuses, how early, and for whom.

use bytes::Bytes;
use gw_artifact::Digest;
use gw_artifact::bundle::{BundleContent, BundledModel};
use gw_inference::InferenceConfig;
use gw_server::ServerConfig;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::double;
use crate::node::{Answer, Node, guests, raw};

/// `good` and `hooked` ask the model `double`. What `loader` and `script` do is up to them, since
/// they may bring models of their own.
const MANIFEST: &str = r#"
[app]
name = "overload"
version = "0.1.0"

[[model]]
name = "double"
source = "double.onnx"

[[plugin]]
name = "good"
path = "good.wasm"
models = ["double"]

[[plugin]]
name = "hooked"
path = "hooked.wasm"
models = ["double"]

[[plugin]]
name = "loader"
path = "good.wasm"
models = ["double"]
load = "1MiB"

[[plugin]]
name = "script"
path = "nn-script.wasm"
models = ["double"]
load = "1MiB"

[[plugin]]
name = "moody"
path = "moody.wasm"

[[route]]
path = "/good"
plugins = ["good"]

[[route]]
path = "/hooked"
plugins = ["hooked"]

[[route]]
path = "/cached"
plugins = ["good"]
cache = { ttl = "10m" }

[[route]]
path = "/cached-hooks"
plugins = ["hooked"]
cache = { ttl = "10m" }

[[route]]
path = "/loader"
plugins = ["loader"]

[[route]]
path = "/script"
plugins = ["script"]

[[route]]
path = "/plain"
plugins = ["moody"]
"#;

async fn start(config: ServerConfig, inference: InferenceConfig) -> Node {
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
            component("good", "good"),
            component("hooked", "hooked"),
            component("loader", "good"),
            component("script", "nn-script"),
            component("moody", "moody"),
        ],
        assets: Vec::new(),
        models: vec![model],
    };
    let node = Node::empty_with(config, inference).await;
    node.install(MANIFEST, content).await;
    node
}

/// A node whose models take no request.
async fn busy() -> Node {
    let inference = InferenceConfig { queue_max: 0, ..InferenceConfig::default() };
    start(ServerConfig::default(), inference).await
}

fn assert_sent_away(answer: &Answer, what: &str) {
    assert_eq!((answer.status, &*answer.code()), (503, "saturated"), "{what}");
    let when = (answer.header("retry-after"), answer.header("retry-after-ms"));
    assert_eq!(when, ("1", "500"), "{what}");
}

/// A counter, as text.
async fn count(node: &Node, series: &str) -> String {
    format!("{:.0}", node.metric(series).await)
}

async fn instances(node: &Node, plugin: &str) -> String {
    count(node, &format!("gw_plugin_instantiate_seconds_count{{plugin=\"{plugin}\"}}")).await
}

async fn shed(node: &Node, route: &str, reason: &str) -> String {
    let labels = format!("route=\"{route}\",reason=\"{reason}\"");
    count(node, &format!("gw_http_shed_total{{{labels}}}")).await
}

#[tokio::test]
async fn a_request_that_its_models_would_refuse_makes_no_instance() {
    let node = busy().await;
    let routes = [("/good", "good"), ("/hooked", "hooked"), ("/cached", "good")];
    for (route, plugin) in routes {
        assert_sent_away(&node.post(route, "1 2").await, route);
        assert_eq!(shed(&node, route, "queue_max").await, "1", "{route}");
        assert_eq!(instances(&node, plugin).await, "0", "{route}");
    }
    let known = [("cache-control", "only-if-cached")];
    let asked = node.post_with("/cached", "1 2", &known).await;
    assert_eq!((asked.status, &*asked.code()), (504, "not_cached"), "the cache is asked first");
    assert_eq!(node.post("/plain", "no model").await.body, "no model");
    assert_eq!(instances(&node, "moody").await, "1");
}

#[tokio::test]
async fn an_early_refusal_leaves_its_connection_to_the_next_request() {
    let node = busy().await;
    let text = "POST /good HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n1 2\
                POST /plain HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\n\
                hello";
    let answers = raw(node.address, text).await;
    assert!(answers.starts_with("HTTP/1.1 503"), "{answers}");
    assert!(answers.contains("HTTP/1.1 200") && answers.ends_with("hello"), "{answers}");
}

#[tokio::test]
async fn what_is_cached_is_served_however_busy_the_models_are() {
    let node = start(ServerConfig::default(), InferenceConfig::default()).await;
    for route in ["/cached", "/cached-hooks"] {
        let first = node.post(route, "1 2").await;
        assert_eq!((first.status, &*first.body), (200, "2 4"), "{route}");
        assert!(first.header("cache-status").starts_with("gw; fwd=miss; stored"), "{route}");
    }
    node.deployments.models().drain().await;
    for route in ["/cached", "/cached-hooks"] {
        let hit = node.post(route, "1 2").await;
        assert_eq!((hit.status, &*hit.body), (200, "2 4"), "{route}");
        assert!(hit.header("cache-status").starts_with("gw; hit"), "{route}");
        assert_sent_away(&node.post(route, "3 4").await, route);
        assert_eq!(shed(&node, route, "model_unloading").await, "1", "{route}");
    }
}

#[tokio::test]
async fn a_guest_hides_from_nobody_that_its_model_was_too_busy() {
    let node = busy().await;
    assert_sent_away(&node.post("/loader", "1 2").await, "an error of its own");
    let script = "tensor\tFP32\t1,1\t0000803f\ngraph\tdouble\ncontext\t0\ncompute\t0\tx\t0\npanic";
    assert_sent_away(&node.post("/script", script).await, "a trap");
    for (route, plugin) in [("/loader", "loader"), ("/script", "script")] {
        assert_eq!(instances(&node, plugin).await, "1", "only running it told");
        assert_eq!(shed(&node, route, "queue_max").await, "1", "{route}");
    }
    let own = node.post("/script", "panic").await;
    assert_eq!((own.status, &*own.code()), (502, "plugin_trapped"));
}

#[tokio::test]
async fn a_tenant_at_its_share_is_told_so_and_others_are_let_in() {
    let api_keys = ["one", "two"].map(|key| Digest::of(key.as_bytes())).to_vec();
    let config = ServerConfig { api_keys, requests_per_tenant_max: 1, ..ServerConfig::default() };
    let node = start(config, InferenceConfig::default()).await;
    let mut first = TcpStream::connect(node.address).await.unwrap();
    let head = "POST /plain HTTP/1.1\r\nhost: x\r\nx-api-key: one\r\nconnection: close\r\n\
                content-length: 5\r\n\r\nhel";
    first.write_all(head.as_bytes()).await.unwrap();
    // The scrape is a request too.
    while node.metric("gw_http_in_flight").await < 2.0 {
        tokio::task::yield_now().await;
    }
    let refused = node.post_with("/plain", "x", &[("x-api-key", "one")]).await;
    assert_eq!((refused.status, &*refused.code()), (429, "over_share"));
    assert_eq!((refused.header("retry-after"), refused.header("retry-after-ms")), ("1", "500"));
    assert_eq!(shed(&node, "/plain", "requests_per_tenant_max").await, "1");
    let other = node.post_with("/plain", "y", &[("x-api-key", "two")]).await;
    assert_eq!((other.status, &*other.body), (200, "y"));
    first.write_all(b"lo").await.unwrap();
    let mut answer = String::new();
    first.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn the_admin_api_tells_what_models_hold() {
    let node = start(ServerConfig::default(), InferenceConfig::default()).await;
    let (status, ledger) = node.admin("GET", "/v1/models", Bytes::new()).await;
    assert_eq!(status, 200, "{ledger}");
    let model = &ledger["models"][0];
    assert_eq!((&model["name"], &model["device"]), (&json!("double"), &json!("cpu")));
    assert_eq!(model["digest"], Digest::of(&double::onnx()).to_string());
    assert_eq!(model["state"], "loaded");
    let bytes = |kind: &str| model[kind].as_u64().unwrap();
    let parts = ["weight_bytes", "arena_bytes", "staging_bytes", "kept_bytes"];
    assert_eq!(bytes("total_bytes"), parts.map(bytes).iter().sum::<u64>());
    assert_eq!(ledger["models"].as_array().unwrap().len(), 1);
    let device = &ledger["devices"][0];
    assert_eq!((&device["device"], &device["max_bytes"]), (&json!("cpu"), &json!(null)));
    assert_eq!(device["used_bytes"], bytes("total_bytes"));
    let (status, _) = node.admin("POST", "/v1/models", Bytes::new()).await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn a_model_is_unloaded_until_somebody_asks_it_or_it_is_loaded() {
    let node = start(ServerConfig::default(), InferenceConfig::default()).await;
    let told = async |verb: &str| {
        let path = format!("/v1/models/double/{verb}");
        let (status, model) = node.admin("POST", &path, Bytes::new()).await;
        assert_eq!(status, 200, "{model}");
        model
    };
    let listed = async || node.admin("GET", "/v1/models", Bytes::new()).await.1["models"][0].take();
    let gone = async || {
        loop {
            // It leaves once nobody is answered by it, which takes a moment.
            let model = listed().await;
            if model["state"] == "unloaded" {
                return model;
            }
            tokio::task::yield_now().await;
        }
    };
    told("unload").await;
    assert_eq!(gone().await["total_bytes"], 0);
    assert_eq!(node.post("/good", "1 2").await.body, "2 4");
    let model = listed().await;
    assert_eq!((&model["state"], &model["loads"]), (&json!("loaded"), &json!(2)));
    told("unload").await;
    assert_eq!(gone().await["evictions"], 2);
    let model = told("load").await;
    assert_eq!((&model["state"], &model["loads"]), (&json!("loaded"), &json!(3)));
    for verb in ["load", "unload"] {
        let path = format!("/v1/models/other/{verb}");
        let (status, refused) = node.admin("POST", &path, Bytes::new()).await;
        assert_eq!((status, &refused["error"]["code"]), (404, &json!("unknown_model")));
        assert_eq!(refused["error"]["field"], "model");
    }
}
