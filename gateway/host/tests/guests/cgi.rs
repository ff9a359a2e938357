//! Core modules that answer requests the CGI way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gw_host::{Call, GuestError, Handled, HostConfig, HostError, Plugin, PluginSpec};

use crate::support::{Node, command, lasting};
use crate::{ask_good, run};

fn plugin(node: &Node) -> Arc<Plugin> {
    node.host.load(spec(node)).expect("it loads")
}

fn spec(node: &Node) -> PluginSpec {
    let limits = lasting(Duration::from_secs(10));
    PluginSpec { name: "cgi".to_owned(), wasm: command("cgi"), limits, ..node.spec("trap") }
}

async fn ask(plugin: &Arc<Plugin>, path: &str, body: &str) -> Result<Handled, GuestError> {
    let request = http::Request::post(path)
        .header("host", "api.example:81")
        .header("x-trace", "7")
        .body(Bytes::from(body.to_owned()));
    let call = Call {
        deadline: Instant::now() + Duration::from_mins(1),
        request_id: "t".into(),
        caller: Arc::default(),
    };
    plugin.handle(request.expect("a request"), call).await
}

async fn body(plugin: &Arc<Plugin>, path: &str, body: &str) -> String {
    let handled = ask(plugin, path, body).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8(handled.response.into_body().to_vec()).expect("text")
}

#[test]
fn a_request_is_answered_by_what_a_program_prints() {
    let node = Node::start();
    let cgi = plugin(&node);
    run(async {
        let long = "all of it\n".repeat(10_000);
        assert_eq!(body(&cgi, "/echo", &long).await, long);
        let variables = body(&cgi, "/variables?q=%20a", "four").await;
        for line in [
            "CONTENT_LENGTH=4",
            "GATEWAY_INTERFACE=CGI/1.1",
            "HTTP_X_TRACE=7",
            "PATH_INFO=/variables",
            "QUERY_STRING=q=%20a",
            "REQUEST_METHOD=POST",
            "SERVER_NAME=api.example",
            "SERVER_PORT=81",
        ] {
            assert!(variables.lines().any(|given| given == line), "{line} in\n{variables}");
        }
        let missing = ask(&cgi, "/missing", "").await.expect("an answer").response;
        assert_eq!((missing.status().as_u16(), &missing.body()[..]), (404, &b"nothing"[..]));
        let moved = ask(&cgi, "/moved", "").await.expect("an answer").response;
        assert_eq!(moved.status(), 302);
        assert_eq!(moved.headers()["location"], "/elsewhere");
    });
}

#[test]
fn a_program_infers_and_says_what_it_took() {
    let node = Node::start();
    let cgi = plugin(&node);
    run(async {
        let Handled { response, timings, .. } = ask(&cgi, "/double", "1 2.5").await.expect("fine");
        assert_eq!(response.body(), "2 5");
        assert!(timings.instantiate > Duration::ZERO && timings.infer > Duration::ZERO);
        assert!(timings.plugin >= timings.instantiate, "{timings:?}");
        assert_eq!(timings.device.as_deref(), Some("cpu"));
    });
}

#[test]
fn a_program_sees_its_assets() {
    let node = Node::start();
    let assets = node.folder.path().join("assets");
    std::fs::create_dir(&assets).expect("a folder");
    std::fs::write(assets.join("table.txt"), "table").expect("written");
    let cgi = node.host.load(PluginSpec { assets: Some(assets), ..spec(&node) }).expect("loads");
    assert_eq!(run(async { body(&cgi, "/asset", "").await }), "table");
}

#[test]
fn a_failing_program_costs_its_own_request_and_no_other() {
    type Ends = fn(&GuestError) -> bool;
    let cases: [(&str, Ends, &str); 6] = [
        ("/exit", |e| matches!(e, GuestError::Trap { .. }), "exited with status 3"),
        ("/panic", |e| matches!(e, GuestError::Trap { .. }), "trapped"),
        ("/silent", |e| matches!(e, GuestError::BadResponse { .. }), "printed nothing"),
        ("/chatty", |e| matches!(e, GuestError::BadResponse { .. }), "Content-Type: text/plain"),
        ("/flood", |e| matches!(e, GuestError::BadResponse { .. }), "more than"),
        ("/endless", |e| matches!(e, GuestError::Timeout { .. }), "ran for more than its"),
    ];
    let node = Node::with(HostConfig { response_bytes_max: 1 << 20, ..HostConfig::default() });
    let good = node.good();
    let spec = PluginSpec { limits: lasting(Duration::from_millis(500)), ..spec(&node) };
    let cgi = node.host.load(spec).expect("it loads");
    run(async {
        for (path, ends, says) in cases {
            let (failed, ()) = tokio::join!(ask(&cgi, path, ""), ask_good(Arc::clone(&good), 16));
            let error = failed.expect_err(path);
            assert!(ends(&error) && error.to_string().contains(says), "{path}: {error}");
            assert_eq!(body(&cgi, "/echo", "still here").await, "still here");
        }
    });
}

#[test]
fn the_memory_of_a_program_is_limited() {
    let node = Node::start();
    let wasm = wat::parse_str(
        "(module (memory 1) (func (export \"_start\") (loop (br_if 0 (i32.ne (memory.grow \
         (i32.const 16)) (i32.const -1)))) unreachable))",
    );
    let bomb = PluginSpec { wasm: wasm.expect("a module").into(), ..spec(&node) };
    let bomb = node.host.load(bomb).expect("it loads");
    let error = run(async { ask(&bomb, "/", "").await.expect_err("no memory") });
    assert!(matches!(error, GuestError::OutOfMemory { limit: 0x100_0000, .. }), "{error}");
    // A page, and 15 times 16 more, of 256.
    let sum = "gw_plugin_memory_bytes_sum{plugin=\"cgi\"} 15794176";
    assert!(node.metrics().contains(sum), "{}", node.metrics());
    let large = wat::parse_str("(module (memory 4096) (func (export \"_start\")))");
    let large = PluginSpec { wasm: large.expect("a module").into(), ..spec(&node) };
    let refused = node.host.load(large).err().expect("refused");
    assert!(matches!(refused, HostError::InitialMemory { .. }), "{refused}");
}

#[test]
fn compiled_modules_are_kept_sealed_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let load = || {
        let node = Node::with(HostConfig {
            compiled_dir: Some(folder.path().join("compiled")),
            seal_key: Some(folder.path().join("seal.key")),
            ..HostConfig::default()
        });
        assert_eq!(run(async { body(&plugin(&node), "/double", "4").await }), "8");
        node.metrics().contains(r#"gw_plugin_loads_total{code="disk"} 1"#)
    };
    assert!(!load(), "the first start compiles");
    assert!(load(), "the second takes the code from the disk");
}

#[test]
fn what_a_core_module_cannot_use_is_not_granted_to_it() {
    let node = Node::start();
    let grants = gw_artifact::manifest::Grants { private_network: true, ..Default::default() };
    let refused = node.host.load(PluginSpec { grants, ..spec(&node) }).err().expect("refused");
    assert!(refused.to_string().contains("leave them out"), "{refused}");
}
