//! Chains: what goes on, what comes back, and what happens where a plugin fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use gw_artifact::manifest::Failure::{self, Closed, Open};
use gw_host::{Answer, Body, Chain, GuestError, HostConfig, HostError, Link, Plugin};

use crate::run;
use crate::support::{Node, within};

/// A node, and its plugins by name.
struct Bench {
    node: Node,
}

impl Bench {
    fn new() -> Self {
        Self { node: Node::start() }
    }

    fn chain(&self, links: &[(&str, Failure)]) -> Chain {
        let link = |(name, failure): &(&str, Failure)| Link {
            plugin: self.plugin(name),
            failure: *failure,
        };
        Chain::new(links.iter().map(link).collect()).expect("a chain")
    }

    fn plugin(&self, name: &str) -> Arc<Plugin> {
        self.node.load(name).expect("it loads")
    }
}

/// What a chain answers to `body` with the header `x-relay`.
async fn ask(chain: &Chain, wish: &str, body: &str) -> Result<Whole, GuestError> {
    let request = http::Request::post("http://example.com/path?q=1")
        .header("x-relay", wish)
        .body(Body::whole(body.to_owned()));
    let call = within(Duration::from_mins(1));
    let Answer { response, progress } =
        chain.answer(request.expect("a request"), call, None).await?;
    let (head, body) = response.into_parts();
    let body = match body.collect(1 << 20).await {
        Ok(body) => body,
        Err(gw_host::BodyError::Guest(error)) => return Err(*error),
        Err(other) => panic!("{other}"),
    };
    let report = progress.report();
    let skipped = report.skipped.iter().map(|skipped| skipped.error.plugin().to_owned()).collect();
    let (status, headers) = (head.status.as_u16(), head.headers);
    Ok(Whole { status, headers, body: String::from_utf8(body.to_vec()).expect("text"), skipped })
}

#[derive(Debug)]
struct Whole {
    status: u16,
    headers: http::HeaderMap,
    body: String,
    skipped: Vec<String>,
}

#[test]
fn a_handler_changes_the_request_and_the_response_of_what_comes_next() {
    let bench = Bench::new();
    let chain = bench.chain(&[("relay", Closed), ("echo-head", Closed)]);
    run(async {
        let answer = ask(&chain, "", "hello").await.expect("an answer");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["x-relay-answer"], "yes");
        // The next plugin sees the same request, with what its neighbour added.
        assert_eq!(answer.body, "POST /path?q=1 relayed=yes hello");
        let shout = ask(&chain, "shout", "hello").await.expect("an answer");
        assert_eq!(shout.body, "POST /PATH?Q=1 RELAYED=YES HELLO");
        let early = ask(&chain, "early", "hello").await.expect("an answer");
        assert_eq!((early.status, &*early.body), (203, "early"));
    });
    let metrics = bench.node.metrics();
    assert!(metrics.contains(r#"gw_plugin_requests_total{plugin="relay",outcome="ok"} 3"#));
    assert!(metrics.contains(r#"gw_plugin_requests_total{plugin="echo-head",outcome="ok"} 2"#));
}

#[test]
fn the_way_on_is_there_once_and_leads_nowhere_else() {
    let bench = Bench::new();
    let chain = bench.chain(&[("relay", Closed), ("moody", Closed)]);
    let alone = bench.chain(&[("relay", Closed)]);
    run(async {
        let again = ask(&chain, "twice", "x").await.expect("an answer");
        assert!(again.body.contains("Err"), "{}", again.body);
        let other = ask(&chain, "elsewhere", "x").await.expect("an answer");
        assert!(other.body.contains("Err"), "{}", other.body);
        let last = ask(&alone, "", "x").await.expect("an answer");
        assert_eq!(last.status, 502);
        assert!(last.body.starts_with("next failed"), "{}", last.body);
    });
}

#[test]
fn hooks_pass_change_and_watch() {
    let bench = Bench::new();
    let chain = bench.chain(&[("hooked", Closed), ("echo-head", Closed)]);
    run(async {
        let passed = ask(&chain, "", "pass").await.expect("an answer");
        assert_eq!(passed.body, "POST /path?q=1 relayed= pass");
        let changed = ask(&chain, "", "rewrite hello you").await.expect("an answer");
        assert_eq!(changed.body, "POST /path?q=1 relayed= hello you");
        let watched = ask(&chain, "", "watch hello").await.expect("an answer");
        assert_eq!(watched.body, "POST /PATH?Q=1 RELAYED= HELLO");
        assert_eq!(watched.headers["x-post"], "watch");
        let answered = ask(&chain, "", "1 2").await.expect("an answer");
        assert_eq!(answered.body, "2 4");
    });
    let metrics = bench.node.metrics();
    assert!(metrics.contains(r#"gw_plugin_requests_total{plugin="hooked",outcome="ok"} 4"#));
    assert!(metrics.contains(r#"gw_plugin_requests_total{plugin="echo-head",outcome="ok"} 3"#));
}

#[test]
fn hooks_of_the_sdk_watch() {
    let bench = Bench::new();
    let chain = bench.chain(&[("typed-hooks", Closed), ("echo-head", Closed)]);
    run(async {
        let watched = ask(&chain, "", "word").await.expect("an answer");
        assert_eq!(watched.body, "init says 4 POST /PATH?Q=1 RELAYED= WORD");
    });
}

#[test]
fn handlers_and_hooks_mix_in_any_order() {
    let bench = Bench::new();
    let relayed = bench.chain(&[("relay", Closed), ("hooked", Closed)]);
    let deep = bench.chain(&[
        ("hooked", Closed),
        ("relay", Closed),
        ("relay", Closed),
        ("hooked", Closed),
        ("moody", Closed),
    ]);
    run(async {
        assert_eq!(ask(&relayed, "", "21").await.expect("an answer").body, "42");
        let answer = ask(&deep, "", "watch rewrite hello").await.expect("an answer");
        assert_eq!(answer.body, "HELLO");
        assert_eq!(answer.headers["x-relay-answer"], "yes");
    });
}

/// A chain whose first plugin fails, and how.
struct Case {
    plugin: &'static str,
    wish: &'static str,
    body: &'static str,
}

const FAILING: [Case; 6] = [
    Case { plugin: "relay", wish: "panic", body: "hello" },
    Case { plugin: "relay", wish: "read-panic", body: "hello" },
    // It has gone on already; nothing of its response was sent.
    Case { plugin: "relay", wish: "late-panic", body: "hello" },
    Case { plugin: "hooked", wish: "", body: "error" },
    Case { plugin: "hooked", wish: "", body: "post-panic 1" },
    Case { plugin: "hooked", wish: "", body: "status" },
];

#[test]
fn a_plugin_that_fails_open_is_left_out_and_said_to_be() {
    let bench = Bench::new();
    run(async {
        for Case { plugin, wish, body } in FAILING {
            let open = bench.chain(&[(plugin, Open), ("moody", Closed)]);
            let answer = ask(&open, wish, body).await.expect("an answer");
            assert_eq!(answer.body, body, "the original request");
            assert_eq!(answer.skipped, [plugin], "{wish} {body}");
            let closed = bench.chain(&[(plugin, Closed), ("moody", Closed)]);
            let error = ask(&closed, wish, body).await.expect_err("it fails");
            assert_eq!(error.plugin(), plugin, "{wish} {body}");
        }
        // What it would have changed passes unchanged.
        let watching = bench.chain(&[("hooked", Open), ("moody", Closed)]);
        let answer = ask(&watching, "", "watch-panic hello").await.expect("an answer");
        assert_eq!((&*answer.body, &*answer.skipped), ("hello", &["hooked".to_owned()][..]));
        // A failure of what comes next is not its own.
        let error = ask(&watching, "", "rewrite panic").await.expect_err("moody panics");
        assert_eq!(error.plugin(), "moody");
        // Nobody comes after the last.
        let last = bench.chain(&[("moody", Open)]);
        assert!(ask(&last, "", "panic").await.is_err());
    });
    let metrics = bench.node.metrics();
    assert!(metrics.contains(r#"gw_plugin_skipped_total{plugin="relay"} 3"#), "{metrics}");
    assert!(metrics.contains(r#"gw_plugin_skipped_total{plugin="hooked"} 4"#), "{metrics}");
}

#[test]
fn what_comes_after_a_plugin_that_is_left_out_runs_once() {
    let bench = Bench::new();
    let chain = bench.chain(&[("relay", Open), ("relay", Open), ("moody", Closed)]);
    run(async {
        let answer = ask(&chain, "late-panic", "hello").await.expect("an answer");
        assert_eq!(answer.body, "hello");
        assert_eq!(answer.skipped, ["relay", "relay"]);
        // The second makes an answer of its own of it, which the first then does not give.
        let answer = ask(&chain, "late-panic", "panic").await.expect("an answer");
        assert!(answer.body.starts_with("next failed"), "{}", answer.body);
        assert_eq!(answer.skipped, ["relay"]);
    });
    let metrics = bench.node.metrics();
    for outcome in ["ok", "trap"] {
        let once = format!(r#"{{plugin="moody",outcome="{outcome}"}} 1"#);
        assert!(metrics.contains(&once), "{once} in {metrics}");
    }
}

#[test]
fn a_handler_hears_that_the_rest_failed_and_the_host_remembers_how() {
    let bench = Bench::new();
    let chain = bench.chain(&[("relay", Closed), ("moody", Closed)]);
    run(async {
        let request = http::Request::post("/").body(Body::whole("panic")).expect("a request");
        let call = within(Duration::from_mins(1));
        let answer = chain.answer(request, call, None).await.expect("an answer");
        assert_eq!(answer.response.status(), 502, "relay's own");
        let inner = answer.progress.report().inner_error.expect("it is remembered");
        assert!(matches!(&inner, GuestError::Trap { plugin, .. } if &**plugin == "moody"));
    });
}

#[test]
fn chains_share_the_instances_of_a_node_without_waiting_for_each_other() {
    // Three instances, and chains that need two at once: taken one by one, they would lock.
    let config = HostConfig { instances_max: 3, ..HostConfig::default() };
    let bench = Bench { node: Node::with(config) };
    let chain = bench.chain(&[("relay", Closed), ("moody", Closed)]);
    let links = |count: usize| {
        let plugin = bench.plugin("relay");
        let link = || Link { plugin: Arc::clone(&plugin), failure: Closed };
        (0..count).map(|_| link()).collect()
    };
    let refused = Chain::new(links(4)).map(drop).expect_err("it could never run");
    assert!(matches!(refused, HostError::ChainTooLong { needed: 4, instances: 3, .. }));
    assert!(Chain::new(links(3)).is_ok());
    run(async {
        let asked = (0..32).map(|_| {
            let chain = chain.clone();
            tokio::spawn(async move { ask(&chain, "", "hello").await.expect("an answer").body })
        });
        for answer in join_all(asked).await {
            assert_eq!(answer.expect("no panic"), "hello");
        }
    });
}

#[test]
fn one_deadline_holds_for_the_whole_chain() {
    let bench = Bench::new();
    let chain = bench.chain(&[("relay", Open), ("sleeper", Closed)]);
    run(async {
        let request = http::Request::post("/").body(Body::default()).expect("a request");
        let began = Instant::now();
        let call = within(Duration::from_millis(200));
        let error = chain.answer(request, call, None).await.expect_err("it is late");
        assert!(matches!(error, GuestError::DeadlinePassed { .. }), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(10));
    });
}
