//! Bodies on their way: pieces as they come, trailers, limits, and readers that leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gw_host::{Answer, Body, BodyError, Chain, GuestError, Health, HostConfig, PluginSpec};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::mpsc;

use crate::run;
use crate::support::{Node, ask as ask_plugin, lasting, text, within};

type Pieces = mpsc::Sender<Result<Frame<Bytes>, BodyError>>;

/// A body that is written while it is read.
fn piped() -> (Pieces, Body) {
    let (pieces, receiver) = mpsc::channel(1);
    let frames = futures::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    (pieces, Body::stream(StreamBody::new(Box::pin(frames))))
}

async fn ask(chain: &Chain, wish: &str, body: Body) -> Result<Answer, GuestError> {
    ask_with(chain, &[("x-do", wish)], body, Duration::from_mins(1)).await
}

async fn ask_with(
    chain: &Chain,
    headers: &[(&str, &str)],
    body: Body,
    timeout: Duration,
) -> Result<Answer, GuestError> {
    let mut request = http::Request::post("http://localhost/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    chain.answer(request.body(body).expect("a request"), within(timeout), None).await
}

fn guest_error(error: BodyError) -> GuestError {
    match error {
        BodyError::Guest(error) => *error,
        other => panic!("{other}"),
    }
}

/// Both ends at once: a piece goes in, comes out, and only then the next goes in.
#[test]
fn pieces_come_back_before_the_next_are_sent_and_trailers_pass() {
    let node = Node::start();
    let spec = |name| PluginSpec { limits: lasting(Duration::from_mins(1)), ..node.spec(name) };
    let streamer = node.host.load(spec("streamer")).expect("it loads");
    let relay = node.host.load(spec("relay")).expect("it loads");
    let link = |plugin: &Arc<_>| gw_host::Link {
        plugin: Arc::clone(plugin),
        failure: gw_artifact::manifest::Failure::Closed,
    };
    run(async {
        let alone = Chain::of(Arc::clone(&streamer));
        let (pieces, body) = piped();
        let answer = ask(&alone, "echo", body).await.expect("its head");
        let mut body = answer.response.into_body();
        for text in ["one", "two", "three"] {
            pieces.send(Ok(Frame::data(text.into()))).await.expect("it is read");
            let frame = body.frame().await.expect("a frame").expect("a good one");
            assert_eq!(frame.into_data().expect("data"), text);
        }
        let trailers = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-sent"),
            http::HeaderValue::from_static("all"),
        )]);
        pieces.send(Ok(Frame::trailers(trailers))).await.expect("it is read");
        drop(pieces);
        let frame = body.frame().await.expect("a frame").expect("a good one");
        let trailers = frame.into_trailers().expect("trailers");
        assert_eq!(
            (&trailers["x-sum"], &trailers["x-sent"]),
            (&"11 all".parse().unwrap(), &"all".parse().unwrap())
        );
        assert!(body.frame().await.is_none());

        // A handler before it reads its request whole, and passes the answer as it comes.
        let chain = Chain::new(vec![link(&relay), link(&streamer)]).expect("a chain");
        let began = Instant::now();
        let answer = ask(&chain, "slow", Body::default()).await.expect("its head");
        let mut body = answer.response.into_body();
        let first = body.frame().await.expect("a frame").expect("a good one");
        assert_eq!(first.into_data().expect("data"), "one ");
        assert!(began.elapsed() < Duration::from_secs(50));
        assert_eq!(body.collect(usize::MAX).await.expect("the rest"), "two three");
        let answer = ask(&chain, "echo", Body::whole("hello")).await.expect("its head");
        let whole = BodyExt::collect(answer.response.into_body()).await.expect("whole");
        assert_eq!(whole.trailers().expect("trailers")["x-sum"], "5 ");
    });
    let metrics = node.metrics();
    assert!(metrics.contains(r#"gw_plugin_requests_total{plugin="streamer",outcome="ok"} 3"#));
}

#[test]
fn a_body_without_end_ends_at_the_limit_and_at_the_deadline() {
    let config = HostConfig { response_bytes_max: 1 << 20, ..HostConfig::default() };
    let node = Node::with(config);
    let spec = PluginSpec { limits: lasting(Duration::from_mins(1)), ..node.spec("streamer") };
    let chain = Chain::of(node.host.load(spec).expect("it loads"));
    run(async {
        let answer = ask(&chain, "endless", Body::default()).await.expect("its head");
        let error = answer.response.into_body().collect(usize::MAX).await.expect_err("too much");
        let error = guest_error(error);
        assert!(matches!(&error, GuestError::BadResponse { .. }), "{error:?}");
        assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");

        // Nobody reads: the guest waits, and its time ends all the same.
        let soon = Duration::from_millis(300);
        let answer = ask_with(&chain, &[("x-do", "endless")], Body::default(), soon).await;
        let mut body = answer.expect("its head").response.into_body();
        tokio::time::sleep(Duration::from_millis(600)).await;
        let error = loop {
            match body.frame().await.expect("it does not end well") {
                Ok(frame) => drop(frame),
                Err(error) => break guest_error(error),
            }
        };
        assert!(matches!(error, GuestError::DeadlinePassed { .. }), "{error:?}");

        let far = [("x-do", "x"), ("x-length", "1048577")];
        let declared = ask_with(&chain, &far, Body::default(), Duration::from_mins(1)).await;
        assert!(matches!(declared, Err(GuestError::BadResponse { .. })));
    });
    let metrics = node.metrics();
    assert!(metrics.contains(r#"{plugin="streamer",outcome="bad_response"} 2"#), "{metrics}");
    assert!(metrics.contains(r#"{plugin="streamer",outcome="timeout"} 1"#), "{metrics}");
}

#[test]
fn a_guest_that_fails_in_the_middle_gives_no_whole_body() {
    let node = Node::start();
    let chain = Chain::of(node.load("streamer").expect("it loads"));
    run(async {
        for (wish, trap) in [("trap", true), ("drop", false)] {
            for length in ["", "4"] {
                let headers = [("x-do", wish), ("x-length", length)];
                let headers = if length.is_empty() { &headers[..1] } else { &headers[..] };
                // What it declares it has given, and still it failed.
                let minute = Duration::from_mins(1);
                let answer = ask_with(&chain, headers, Body::default(), minute).await;
                let body = answer.expect("its head").response.into_body();
                if wish == "drop" && !length.is_empty() {
                    continue;
                }
                let error = guest_error(body.collect(usize::MAX).await.expect_err(wish));
                assert_eq!(matches!(error, GuestError::Trap { .. }), trap, "{wish}: {error:?}");
            }
        }
    });
}

#[test]
fn a_reader_that_leaves_ends_the_guest_and_frees_its_place() {
    let config = HostConfig { instances_max: 1, waiting_max: 8, ..HostConfig::default() };
    let node = Node::with(config);
    let spec = PluginSpec { limits: lasting(Duration::from_hours(1)), ..node.spec("streamer") };
    let (chain, good) = (Chain::of(node.host.load(spec).expect("it loads")), node.good());
    run(async {
        for wish in ["wait", "endless"] {
            let answer = ask(&chain, wish, Body::default()).await.expect("its head");
            let mut body = answer.response.into_body();
            assert!(body.frame().await.expect("a frame").is_ok());
            drop(body);
            let began = Instant::now();
            assert_eq!(text(&good, "1").await, "2");
            assert!(began.elapsed() < Duration::from_secs(10), "{wish} held its place");
        }
    });
}

#[test]
fn a_request_that_breaks_off_is_heard_by_its_guest_and_not_held_against_it() {
    let node = Node::start();
    let alarms = Arc::new(AtomicUsize::new(0));
    let rung = Arc::clone(&alarms);
    let ring = move |_| {
        rung.fetch_add(1, Ordering::Relaxed);
    };
    let health = Health::watched(1, Arc::new(ring));
    let spec = PluginSpec { health, ..node.spec("streamer") };
    let chain = Chain::of(node.host.load(spec).expect("it loads"));
    run(async {
        let (pieces, body) = piped();
        let answer = ask(&chain, "echo", body).await.expect("its head");
        let gone = BodyError::Broken(Arc::new(std::io::Error::other("gone")));
        pieces.send(Err(gone)).await.expect("it is read");
        let error = answer.response.into_body().collect(usize::MAX).await.expect_err("it panics");
        assert!(matches!(guest_error(error), GuestError::Trap { .. }));
        assert_eq!(alarms.load(Ordering::Relaxed), 0);
        let answer = ask(&chain, "trap", Body::default()).await.expect("its head");
        answer.response.into_body().collect(usize::MAX).await.expect_err("it traps");
        assert_eq!(alarms.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_small_answer_is_whole_with_its_head() {
    let node = Node::start();
    let moody = node.load("moody").expect("it loads");
    run(async {
        let call = within(Duration::from_mins(1));
        let request = http::Request::post("/").body(Body::whole("calm")).expect("a request");
        let answer = Chain::of(Arc::clone(&moody)).answer(request, call, None).await;
        let body = answer.expect("an answer").response.into_body();
        assert_eq!(&body.as_whole().expect("no task was needed")[..], b"calm");
        assert!(ask_plugin(&moody, "exit").await.is_err());
    });
}
