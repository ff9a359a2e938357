//! Hooks: `pre`, a model without any instance, `post`.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use gw_host::preinit::pre_initialise;
use gw_host::{
    Answered, Body, BodyError, Call, Chain, GuestError, HostConfig, HostError, Inferences,
    PluginSpec, Question, Refusal,
};
use tokio::sync::Notify;

use crate::run;
use crate::support::{Node, ask, guest, text, within};

#[test]
fn numbers_go_in_and_a_model_and_post_answer() {
    let node = Node::start();
    let hooked = node.load("hooked").expect("it loads");
    run(async {
        assert_eq!(text(&hooked, "1 2.5").await, "2 5");
        let handled = ask(&hooked, "3").await.expect("an answer");
        assert_eq!(handled.response.headers()["content-type"], "text/plain");
        let timings = handled.timings;
        assert!(timings.infer > Duration::ZERO && timings.plugin >= timings.instantiate);
        assert_eq!(timings.device.as_deref(), Some("cpu"));
        let early = ask(&hooked, "respond").await.expect("an answer").response;
        assert_eq!((early.status().as_u16(), &early.body()[..]), (418, &b"early"[..]));
    });
    let metrics = node.metrics();
    assert!(metrics.contains(r#"gw_plugin_requests_total{plugin="hooked",outcome="ok"} 3"#));
    assert!(metrics.contains(r#"gw_plugin_instantiate_seconds_count{plugin="hooked"} 5"#));
    assert!(metrics.contains(r#"gw_plugin_guest_seconds_count{plugin="hooked"} 5"#));
}

#[test]
fn hooks_of_the_sdk_have_a_state_an_init_and_errors_of_their_own() {
    let node = Node::start();
    let empty = tempfile::tempdir().expect("a temporary folder");
    let prepared = pre_initialise(&guest("typed-hooks"), empty.path()).expect("prepared");
    let spec = PluginSpec { wasm: prepared.into(), ..node.spec("typed-hooks") };
    let plugins = [node.host.load(spec), node.load("typed-hooks")];
    run(async {
        for typed in plugins.map(|plugin| plugin.expect("it loads")) {
            assert_eq!(text(&typed, "[1, 2.5]").await, "init says 8 [2.0, 5.0]");
            let refused = ask(&typed, "[1, true]").await.expect("an answer").response;
            assert_eq!(refused.status().as_u16(), 422);
            let body = String::from_utf8_lossy(refused.body());
            assert!(body.contains(r#""code":"invalid_type""#), "{body}");
            assert!(body.contains(r#""field":"[1]""#), "{body}");
        }
    });
}

/// What a body asks for, and how its request must end.
struct Case {
    body: &'static str,
    ends: fn(&GuestError) -> bool,
}

#[test]
fn what_hooks_do_wrong_costs_their_own_request() {
    let unusable = |error: &GuestError, with: &str| match error {
        GuestError::BadResponse { reason, .. } => reason.contains(with),
        _ => false,
    };
    let cases = [
        Case { body: "panic", ends: |e| matches!(e, GuestError::Trap { .. }) },
        Case { body: "post-panic 1", ends: |e| matches!(e, GuestError::Trap { .. }) },
        Case { body: "spin", ends: |e| matches!(e, GuestError::Timeout { .. }) },
        Case {
            body: "error",
            ends: |e| matches!(e, GuestError::Failed { reason, .. } if reason == "no luck"),
        },
        Case { body: "status", ends: |e| matches!(e, GuestError::BadResponse { .. }) },
        Case { body: "header", ends: |e| matches!(e, GuestError::BadResponse { .. }) },
        Case { body: "method", ends: |e| matches!(e, GuestError::BadResponse { .. }) },
        Case { body: "misfit", ends: |e| matches!(e, GuestError::Inference { .. }) },
    ];
    let node = Node::start();
    let hooked = node.load("hooked").expect("it loads");
    run(async {
        for Case { body, ends } in cases {
            let error = ask(&hooked, body).await.expect_err(body);
            assert!(ends(&error), "{body}: {error:?}");
            assert_eq!(error.plugin(), "hooked");
            assert_eq!(text(&hooked, "4").await, "8", "after {body}");
        }
        for (body, with) in [
            ("ungranted", "the model \"secret\", which it is not granted"),
            ("lie", "its tensor \"x\": a f32 tensor of shape [1, 7] has 28 bytes, not 4"),
            ("pass", "no plugin comes after it"),
            ("watch", "no plugin comes after it"),
        ] {
            let error = ask(&hooked, body).await.expect_err(body);
            assert!(unusable(&error, with), "{body}: {error:?}");
        }
    });
    assert!(node.metrics().contains(r#"{plugin="hooked",outcome="inference"} 1"#));
}

/// A model that answers when it is told to.
#[derive(Default)]
struct Held {
    asked: Arc<Notify>,
    told: Arc<Notify>,
    /// The inputs that it was asked with.
    inputs: Mutex<Vec<Vec<f32>>>,
}

impl Inferences for Held {
    fn answer(&self, question: Question) -> BoxFuture<'static, Result<Answered, Refusal>> {
        let x = question.inputs[0].1.to_vec::<f32>().expect("floats");
        self.inputs.lock().expect("no panic").push(x);
        self.asked.notify_one();
        let told = Arc::clone(&self.told);
        async move {
            told.notified().await;
            let inference = question.ask().await.map_err(|error| -> Refusal { Arc::new(error) })?;
            Ok(Answered { inference: Arc::new(inference), fresh: true })
        }
        .boxed()
    }
}

#[test]
fn no_instance_is_held_while_the_model_works() {
    // One instance in all: a second request could not run if the first held it.
    let config = HostConfig { instances_max: 1, waiting_max: 0, ..HostConfig::default() };
    let node = Node::with(config);
    let (hooked, good) = (node.load("hooked").expect("it loads"), node.good());
    let held = Arc::new(Held::default());
    run(async {
        let chain = Chain::of(hooked);
        let request = http::Request::post("/").body(Body::whole("7")).expect("a request");
        let inferences: Arc<dyn Inferences> = Arc::clone(&held) as _;
        let call = Call { request_id: String::new(), ..within(Duration::from_mins(1)) };
        let first =
            tokio::spawn(async move { chain.answer(request, call, Some(inferences)).await });
        held.asked.notified().await;
        assert_eq!(text(&good, "1").await, "2");
        held.told.notify_one();
        let answered = first.await.expect("no panic").expect("an answer");
        assert_eq!(&answered.response.body().as_whole().expect("whole")[..], b"14");
    });
    assert_eq!(*held.inputs.lock().expect("no panic"), [[7.0]]);
}

#[test]
fn tensors_and_answers_of_hooks_have_limits() {
    let config = HostConfig {
        tensor_bytes_max: 16,
        response_bytes_max: 8,
        request_bytes_max: 64,
        ..HostConfig::default()
    };
    let node = Node::with(config);
    let hooked = node.load("hooked").expect("it loads");
    run(async {
        assert_eq!(text(&hooked, "1 2 3 4").await, "2 4 6 8");
        for (body, with) in [("1 2 3 4 5", "16 are allowed"), ("1e20", "more than 8 bytes")] {
            let error = ask(&hooked, body).await.expect_err(body);
            assert!(error.to_string().contains(with), "{error}");
        }
        let error = ask(&hooked, &"1".repeat(65)).await.expect_err("too large");
        assert!(matches!(error, GuestError::RequestTooLarge { given: 65, limit: 64, .. }));
    });
}

#[test]
fn a_plugin_is_a_handler_or_hooks() {
    let node = Node::start();
    let Err(both) = node.load("two-kinds") else { panic!("it was loaded") };
    assert!(matches!(both, HostError::TwoKinds { .. }), "{both}");
    let neither = wat::parse_str("(component)").expect("a component").into();
    let Err(neither) = node.host.load(PluginSpec { wasm: neither, ..node.spec("hooked") }) else {
        panic!("it was loaded")
    };
    let told = neither.to_string();
    assert!(told.contains("incoming-handler") && told.contains("`pre`"), "{told}");
}

#[test]
fn a_body_that_breaks_off_reaches_no_hook() {
    let node = Node::start();
    let hooked = node.load("hooked").expect("it loads");
    let broken = BodyError::Broken(Arc::new(std::io::Error::other("gone")));
    let frames = futures::stream::iter([Err(broken)]);
    run(async {
        let body = Body::stream(http_body_util::StreamBody::new(frames));
        let call = within(Duration::from_mins(1));
        let error = Chain::of(hooked).answer(http::Request::new(body), call, None).await;
        let error = error.expect_err("it broke off");
        assert!(matches!(error, GuestError::RequestBroken { .. }), "{error:?}");
    });
    assert!(!node.metrics().contains("gw_plugin_instantiate_seconds_count"));
}
