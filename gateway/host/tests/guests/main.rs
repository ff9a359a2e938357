//! What guests may do, and what it costs when they do what they may not.

mod cgi;
mod chains;
mod double;
mod ephemeral;
mod grants;
mod hooks;
mod nn;
mod preinit;
mod streams;
mod support;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use futures::poll;
use gw_artifact::ByteSize;
use gw_artifact::manifest::Limits;
use gw_host::{Call, GuestError, Handled, HostConfig, HostError, Plugin, PluginSpec};
use support::{Node, ask, growing, guest, lasting, text, within};

/// Runs a future on two threads, as a small node would.
fn run<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().expect("a runtime").block_on(future)
}

/// Asks the good neighbour many times at once; every answer must be right.
async fn ask_good(good: Arc<Plugin>, times: usize) {
    let asked = (0..times).map(|n| {
        let good = Arc::clone(&good);
        tokio::spawn(async move {
            assert_eq!(text(&good, &format!("{n} 0.5")).await, format!("{} 1", 2 * n));
        })
    });
    for answer in join_all(asked).await {
        answer.expect("the neighbour's answer");
    }
}

/// A guest, what it is told (the header `x-do`, and the body), and how it must end.
struct Case(&'static str, [&'static str; 2], fn(&GuestError) -> bool);

/// The guests that fail, what they are told to do, and how their requests must end.
const CASES: [Case; 14] = {
    use GuestError::{BadResponse, DeadlinePassed, NoResponse, OutOfMemory, Timeout, Trap};
    [
        Case("trap", ["", ""], |e| matches!(e, Trap { .. })),
        Case("endless-loop", ["", ""], |e| matches!(e, Timeout { .. })),
        Case("sleeper", ["", ""], |e| matches!(e, DeadlinePassed { .. })),
        Case("memory-bomb", ["", ""], |e| matches!(e, OutOfMemory { limit: 0x100_0000, .. })),
        Case("stack-overflow", ["", ""], |e| matches!(e, Trap { .. })),
        Case("table-bomb", ["", ""], |e| matches!(e, Trap { .. })),
        Case("no-response", ["", ""], |e| matches!(e, NoResponse { .. })),
        Case("big-response", ["", ""], |e| matches!(e, BadResponse { .. })),
        Case("handle-flood", ["", ""], |e| matches!(e, Trap { .. })),
        Case("hostcall-flood", ["", ""], |e| matches!(e, Timeout { .. })),
        Case("giant-tensors", ["", ""], |e| matches!(e, Trap { .. })),
        Case("streamer", ["endless", ""], |e| matches!(e, BadResponse { .. })),
        Case("streamer", ["dawdle", "a request that is read very slowly"], |e| {
            matches!(e, DeadlinePassed { .. })
        }),
        Case("hooked", ["", "post-panic 1 2"], |e| matches!(e, Trap { .. })),
    ]
};

#[test]
fn a_misbehaving_guest_costs_its_own_requests_and_no_others() {
    let trapped = |error: &GuestError, with: &str| match error {
        GuestError::Trap { message, .. } => message.contains(with),
        _ => false,
    };
    let node = Node::with(HostConfig { response_bytes_max: 1 << 20, ..HostConfig::default() });
    let good = node.good();
    run(async {
        for Case(guest, told, ends) in CASES {
            // A flood that ends only at a limit of time proves nothing about its own bound.
            let (quarter, minute) = (Duration::from_millis(250), Duration::from_mins(1));
            let (time, timeout) = match guest {
                "endless-loop" | "hostcall-flood" => (quarter, minute),
                // What it waits for is no time of its own.
                "sleeper" => (quarter, Duration::from_secs(1)),
                _ if told[0] == "dawdle" => (minute, Duration::from_secs(1)),
                _ => (minute, Duration::from_mins(10)),
            };
            let limits = Limits { tensors: Some(ByteSize(1 << 20)), ..lasting(time) };
            let bad = node.host.load(PluginSpec { limits, ..node.spec(guest) }).expect("it loads");
            let failing = join_all((0..8).map(|_| tell(&bad, told, timeout)));
            let (failed, ()) = tokio::join!(failing, ask_good(Arc::clone(&good), 64));
            for result in failed {
                let error = result.expect_err(guest);
                assert!(ends(&error), "{guest}: {error:?}");
                assert_eq!(error.plugin(), guest);
            }
        }
        let stack = node.load("stack-overflow").expect("it loads");
        let error = ask(&stack, "").await.expect_err("it overflows");
        assert!(trapped(&error, "stack"), "{error}");
    });
}

/// A request whose guest is told what to do.
async fn tell(
    plugin: &Arc<Plugin>,
    [wish, body]: [&'static str; 2],
    timeout: Duration,
) -> Result<Handled, GuestError> {
    let request = http::Request::post("http://localhost/guest").header("x-do", wish);
    let request = request.body(Bytes::from(body)).expect("a request");
    plugin.handle(request, within(timeout)).await
}

#[test]
fn a_plugins_own_limits_hold() {
    let node = Node::start();
    let one = |limits: Limits, guest: &str| {
        node.host.load(PluginSpec { limits, ..node.spec(guest) }).expect("it loads")
    };
    let limits = lasting(Duration::from_mins(1));
    let response = one(Limits { response: Some(ByteSize(1 << 10)), ..limits }, "big-response");
    let resources = one(Limits { resources: Some(8), ..limits }, "handle-flood");
    let request = one(Limits { request: Some(ByteSize(4)), ..limits }, "moody");
    let tensors = one(Limits { tensors: Some(ByteSize(64)), ..limits }, "good");
    run(async {
        let error = ask(&response, "").await.expect_err("too long");
        assert!(error.to_string().contains("more than 1024 bytes"), "{error}");
        let error = ask(&resources, "").await.expect_err("too many");
        assert!(matches!(error, GuestError::Trap { .. }), "{error}");
        let error = ask(&request, "12345").await.expect_err("too long");
        assert!(matches!(error, GuestError::RequestTooLarge { limit: 4, .. }), "{error}");
        assert_eq!(text(&request, "1234").await, "1234");
        let many = ask(&tensors, &"1 ".repeat(40)).await.expect("an answer").response;
        assert_eq!(many.status(), 500, "{many:?}");
        assert_eq!(text(&tensors, "1 2").await, "2 4");
    });
    let device = Limits { device_time: Some(Duration::from_nanos(1)), ..limits };
    let error = run(async { ask(&one(device, "giant-tensors"), "").await.expect_err("twice") });
    assert!(error.to_string().contains("trap"), "{error}");
    let instances = node.host.load(PluginSpec {
        limits: Limits { core_instances: Some(1), ..limits },
        ..node.spec("good")
    });
    let error = run(async { ask(&instances.expect("it loads"), "1").await.expect_err("two") });
    assert!(matches!(error, GuestError::Trap { .. }), "{error}");
}

#[test]
fn a_trap_costs_exactly_one_request() {
    let node = Node::start();
    let moody = node.load("moody").expect("it loads");
    run(async {
        for n in 0..50 {
            if n % 5 == 0 {
                let error = ask(&moody, "panic").await.expect_err("it panics");
                assert!(matches!(error, GuestError::Trap { .. }), "{error}");
            } else {
                assert_eq!(text(&moody, "calm").await, "calm");
            }
        }
    });
    let metrics = node.metrics();
    assert!(metrics.contains(r#"gw_plugin_requests_total{plugin="moody",outcome="ok"} 40"#));
    assert!(metrics.contains(r#"gw_plugin_requests_total{plugin="moody",outcome="trap"} 10"#));
}

#[test]
fn an_exit_and_a_panic_say_what_they_are() {
    let node = Node::start();
    let moody = node.load("moody").expect("it loads");
    run(async {
        let error = ask(&moody, "exit").await.expect_err("it exits");
        assert!(error.to_string().contains("exited with status"), "{error}");
        let GuestError::Trap { backtrace, .. } = ask(&moody, "panic").await.expect_err("panics")
        else {
            panic!("another error");
        };
        assert!(backtrace.contains("moody"), "{backtrace}");
    });
}

#[test]
fn errors_and_broken_headers_of_a_plugin_are_answers() {
    let node = Node::start();
    let moody = node.load("moody").expect("it loads");
    run(async {
        let refused = ask(&moody, "refuse").await.expect("an answer").response;
        assert_eq!(refused.status(), 418);
        assert_eq!(
            refused.body(),
            r#"{"error":{"code":"teapot","message":"no coffee","field":"body"}}"#
        );
        assert_eq!(ask(&moody, "header").await.expect("an answer").response.status(), 500);
        assert_eq!(text(&moody, "print").await, "print");
    });
}

#[test]
fn lies_about_tensors_are_refused_with_their_code() {
    let node = Node::with(HostConfig { tensor_bytes_max: 8 << 20, ..HostConfig::default() });
    let liar =
        node.host.load(PluginSpec { limits: growing(64 << 20), ..node.spec("lying-tensors") });
    let answer = run(async { text(&liar.expect("it loads"), "").await });
    let lies: Vec<_> = answer.lines().collect();
    assert_eq!(lies.len(), 11, "{answer}");
    for lie in lies {
        let code = match lie.split(':').next() {
            Some("too much at once") => "ErrorCode::TooLarge",
            _ => "ErrorCode::InvalidArgument",
        };
        assert!(lie.ends_with(code), "{lie}");
    }
}

#[test]
fn only_granted_models_are_loaded_and_none_from_bytes() {
    let node = Node::start();
    let plugin = node.load("ungranted-model").expect("it loads");
    let answer = run(async { text(&plugin, "").await });
    let (names, bytes) = answer.trim_end().rsplit_once('\n').expect("lines");
    assert_eq!(names.lines().count(), 5);
    for line in names.lines() {
        assert!(line.ends_with("Err(ErrorCode::NotFound)"), "{line}");
    }
    assert_eq!(bytes, "bytes: Err(ErrorCode::Security)");
}

#[test]
fn a_guest_reaches_its_assets_and_nothing_else() {
    let node = Node::start();
    let assets = node.folder.path().join("assets");
    std::fs::create_dir(&assets).expect("a folder");
    std::fs::write(assets.join("table.txt"), "table").expect("written");
    std::fs::write(node.folder.path().join("secret.txt"), "secret").expect("written");
    #[cfg(unix)]
    std::os::unix::fs::symlink("../secret.txt", assets.join("link.txt")).expect("a link");
    let time = Duration::from_secs(10);
    let spec = PluginSpec {
        assets: Some(assets.clone()),
        limits: lasting(time),
        ..node.spec("outside-assets")
    };
    let plugin = node.host.load(spec).expect("it loads");
    assert_eq!(run(async { text(&plugin, "").await }), "asset");
    assert_eq!(std::fs::read_to_string(assets.join("table.txt")).expect("there"), "table");
}

#[test]
fn an_answer_says_what_it_took_and_where_it_ran() {
    let node = Node::start();
    let good = node.good();
    let timings = run(async { ask(&good, "1 2").await.expect("an answer").timings });
    assert!(timings.instantiate > Duration::ZERO);
    assert!(timings.plugin >= timings.instantiate, "{timings:?}");
    assert!(timings.infer > Duration::ZERO);
    assert_eq!(timings.device.as_deref(), Some("cpu"));
}

#[test]
fn the_clients_deadline_ends_a_guest_before_its_own_limit() {
    let node = Node::start();
    let time = Duration::from_hours(1);
    let spec = PluginSpec { limits: lasting(time), ..node.spec("endless-loop") };
    let plugin = node.host.load(spec).expect("it loads");
    run(async {
        let deadline = Instant::now() + Duration::from_millis(30);
        let call = Call { deadline, request_id: String::new(), caller: Arc::default() };
        let error = plugin.handle(http::Request::new(Bytes::new()), call).await.expect_err("late");
        assert!(
            matches!(error, GuestError::DeadlinePassed { after, .. } if after < time),
            "{error:?}"
        );
    });
}

#[test]
fn a_full_node_refuses_and_a_client_that_leaves_makes_room() {
    let config = HostConfig { instances_max: 1, waiting_max: 0, ..HostConfig::default() };
    let node = Node::with(config);
    let time = Duration::from_hours(1);
    let spec = PluginSpec { limits: lasting(time), ..node.spec("sleeper") };
    let sleeper = node.host.load(spec).expect("it loads");
    let good = node.good();
    run(async {
        {
            let mut first = pin!(ask(&sleeper, ""));
            assert!(poll!(first.as_mut()).is_pending());
            let error = ask(&good, "1").await.expect_err("refused");
            assert!(matches!(error, GuestError::Saturated { instances: 1, .. }), "{error:?}");
        }
        assert_eq!(text(&good, "1").await, "2");
    });
}

#[test]
fn more_requests_than_instances_wait_their_turn() {
    let node = Node::with(HostConfig { instances_max: 2, ..HostConfig::default() });
    let good = node.good();
    run(ask_good(good, 100));
}

#[test]
fn a_request_over_the_limit_never_reaches_the_guest() {
    let node = Node::with(HostConfig { request_bytes_max: 4, ..HostConfig::default() });
    let moody = node.load("moody").expect("it loads");
    run(async {
        let error = ask(&moody, "panic").await.expect_err("refused");
        assert!(matches!(error, GuestError::RequestTooLarge { given: 5, limit: 4, .. }));
    });
}

#[test]
fn what_cannot_run_is_refused_when_it_is_loaded() {
    let node = Node::start();
    let refused = |spec: PluginSpec| node.host.load(spec).err().expect("refused");
    let bytes =
        |wasm: &[u8]| PluginSpec { wasm: Bytes::copy_from_slice(wasm), ..node.spec("trap") };

    let HostError::MissingImport { imports, .. } = refused(node.spec("missing-import")) else {
        panic!("another error");
    };
    assert_eq!(imports, ["wasi:keyvalue/store@0.2.0-draft2"]);

    let module = refused(bytes(&wat::parse_str("(module)").expect("a module")));
    assert!(module.to_string().contains("wasm32-wasip2"), "{module}");
    let silent = refused(bytes(&wat::parse_str("(component)").expect("a component")));
    assert!(matches!(silent, HostError::NotAPlugin { .. }), "{silent}");
    let garbage = refused(bytes(b"not wasm"));
    assert!(matches!(garbage, HostError::Compile { .. }), "{garbage}");
    // Text is for tests; a node takes binaries.
    assert!(matches!(refused(bytes(b"(component)")), HostError::Compile { .. }));

    let small = refused(PluginSpec { limits: growing(1 << 16), ..node.spec("good") });
    assert!(matches!(small, HostError::InitialMemory { limit: 0x10000, .. }), "{small}");
    let large = refused(PluginSpec { limits: growing(1 << 40), ..node.spec("good") });
    assert!(matches!(large, HostError::OverLimit { key: "memory", .. }), "{large}");
    let nowhere = Some(node.folder.path().join("nowhere"));
    let assets = refused(PluginSpec { assets: nowhere, ..node.spec("good") });
    assert!(matches!(assets, HostError::Assets { .. }), "{assets}");
}

#[test]
fn compiled_code_is_kept_sealed_and_made_anew_when_touched() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = || HostConfig {
        compiled_dir: Some(folder.path().join("compiled")),
        seal_key: Some(folder.path().join("seal.key")),
        ..HostConfig::default()
    };
    let load = || {
        let node = Node::with(config());
        run(async { assert_eq!(text(&node.load("good").expect("it loads"), "4").await, "8") });
        let metrics = node.metrics();
        let from =
            |code: &str| metrics.contains(&format!("gw_plugin_loads_total{{code=\"{code}\"}} 1"));
        assert_ne!(from("compiler"), from("disk"), "{metrics}");
        from("disk")
    };
    assert!(!load(), "the first start compiles");
    assert!(load(), "the second takes the code from the disk");

    let mut entries = std::fs::read_dir(folder.path().join("compiled")).expect("the folder");
    let file = entries.next().expect("one file").expect("its entry").path();
    assert!(entries.next().is_none(), "nothing else is left there");
    let mut sealed = std::fs::read(&file).expect("the code");
    let middle = sealed.len() / 2;
    sealed[middle] ^= 1;
    std::fs::write(&file, &sealed).expect("tampered");
    assert!(!load(), "touched code is not run");
    assert!(load(), "and was replaced");

    // Sealed code of one component is not accepted under the name of another.
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    let other = gw_artifact::Digest::of(&guest("moody")).hex();
    let (_, engine) = name.split_once('-').expect("digest and engine");
    std::fs::copy(&file, file.with_file_name(format!("{other}-{engine}"))).expect("copied");
    let node = Node::with(config());
    let moody = node.load("moody").expect("it loads");
    assert_eq!(run(async { text(&moody, "calm").await }), "calm");
    assert!(node.metrics().contains(r#"gw_plugin_loads_total{code="compiler"} 1"#));
}
