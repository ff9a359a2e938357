//! `gw bench URL` against a small server, and `gw bench MODEL --cold` on a tiny model.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::{User, exists, onnx};

/// A request as the server saw it.
struct Seen {
    line: String,
    headers: Vec<String>,
    body: String,
}

/// A server that keeps connections, until the process ends.
struct Server {
    url: String,
    seen: mpsc::Receiver<Seen>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// `answer` is given the request's number and body, and returns a status and more headers.
    fn start(answer: fn(usize, &str) -> (u16, &'static str)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/embed", listener.local_addr().expect("an address"));
        let (tx, seen) = mpsc::channel();
        let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::default());
        let counter = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counter.fetch_add(1, Ordering::Relaxed);
                let (tx, requests) = (tx.clone(), Arc::clone(&requests));
                thread::spawn(move || serve(&stream, &tx, &requests, answer));
            }
        });
        Self { url, seen, connections }
    }

    /// What was asked so far.
    fn seen(&self) -> Vec<Seen> {
        self.seen.try_iter().collect()
    }
}

fn serve(
    mut stream: &TcpStream,
    seen: &mpsc::Sender<Seen>,
    requests: &AtomicUsize,
    answer: fn(usize, &str) -> (u16, &'static str),
) {
    stream.set_nodelay(true).expect("a socket option");
    let mut reader = BufReader::new(stream);
    loop {
        let mut lines = reader.by_ref().lines().map_while(Result::ok);
        let Some(line) = lines.next() else { return };
        let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        let length = headers.iter().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let body = String::from_utf8(body).expect("text");
        let number = requests.fetch_add(1, Ordering::Relaxed);
        let (status, more) = answer(number, &body);
        // The test may be over.
        let _ = seen.send(Seen { line, headers, body });
        let head = format!("HTTP/1.1 {status} X\r\n{more}content-length: 4\r\n\r\nbody");
        if stream.write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}

/// `gw bench URL` with these flags.
fn load<'a>(url: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    [&["bench", url][..], flags].concat()
}

const TIMED: &str = "server-timing: cache;dur=0.25, queue;dur=1.5;desc=\"a, b\"\r\n";

#[test]
fn a_load_tells_accepted_from_refused_and_from_the_rest() {
    let server = Server::start(|number, _| match number % 10 {
        0..=6 => (200, TIMED),
        7 => (429, ""),
        8 => (503, ""),
        _ => (404, ""),
    });
    let user = User::new();
    user.write("bodies", "one\ntwo\n");
    let flags = ["--requests", "50", "--warmup", "0s", "-c", "3", "--lines", "bodies"];
    let args = load(&server.url, &flags);
    let header = ["--header", "x-a: b", "-o", "json"];
    let mut command = user.command(&[&args[..], &header].concat());
    let figures = crate::ended(command.env("GW_API_KEY", "secret")).done().json();
    assert_eq!((&figures["requests"], &figures["ok"]), (&50.into(), &35.into()), "{figures}");
    let statuses = serde_json::json!({"200": 35, "404": 5, "429": 5, "503": 5});
    assert_eq!(figures["statuses"], statuses);
    assert_eq!(figures["accepted"]["count"], 35);
    assert_eq!(figures["refused"]["count"], 10);
    assert!(figures["accepted"]["p50_ms"].as_f64() <= figures["accepted"]["max_ms"].as_f64());
    assert_eq!(figures["server_timing_ms"], serde_json::json!({"cache": 0.25, "queue": 1.5}));
    assert_eq!((&figures["bytes_sent"], &figures["bytes_received"]), (&150.into(), &200.into()));

    let seen = server.seen();
    assert_eq!(seen.len(), 50);
    assert_eq!(seen.iter().filter(|seen| seen.body == "one").count(), 25);
    let expected = ["authorization: Bearer secret", "content-type: application/json", "x-a: b"];
    for Seen { line, headers, .. } in &seen {
        assert_eq!(line, "POST /embed HTTP/1.1");
        assert!(expected.iter().all(|line| headers.iter().any(|h| h == line)), "{headers:?}");
    }
    // One more sees whether somebody is there.
    let connections = server.connections.load(Ordering::Relaxed);
    assert!((2..=4).contains(&connections), "{connections} connections");

    let text = user.gw(&args).done().out;
    for line in [
        "ok          35",
        "statuses    35 x 200",
        "refused     p50",
        "server      p50 of cache 0.25",
    ] {
        assert!(text.contains(line), "{line:?} is missing in:\n{text}");
    }
}

#[test]
fn the_warm_up_is_not_counted() {
    let server = Server::start(|number, _| if number == 0 { (500, "") } else { (200, "") });
    let flags = ["--requests", "5", "--warmup", "1s", "-c", "1", "-o", "json"];
    let figures = User::new().gw(&load(&server.url, &flags)).done().json();
    assert_eq!(figures["statuses"], serde_json::json!({"200": 5}));
    assert!(server.seen().len() > 5, "the warm-up sends requests too");
}

#[test]
fn latencies_at_a_rate_begin_when_requests_were_due() {
    // The first answer is 400 ms late; the others were due 10 to 90 ms after the first request,
    // and there is one connection for all.
    let server = Server::start(|number, _| {
        if number == 0 {
            // Nothing is ever sent: the channel is a clock.
            let (_hold, clock) = mpsc::channel::<()>();
            let _ = clock.recv_timeout(Duration::from_millis(400));
        }
        (200, "")
    });
    let flags = ["--rate", "100", "--arrivals", "even", "--requests", "10", "--warmup", "0s"];
    let flags = [&flags[..], &["-c", "1", "-o", "json"]].concat();
    let figures = User::new().gw(&load(&server.url, &flags)).done().json();
    let p50 = |of: &str| figures[of]["p50_ms"].as_f64().unwrap();
    assert!(p50("accepted") >= 300.0, "the wait for the connection is missing: {figures}");
    assert!(p50("late") >= 300.0, "{figures}");
    assert_eq!(figures["ok"], 10);
}

#[test]
fn a_load_without_one_success_fails_with_its_figures() {
    let server = Server::start(|_, _| (503, ""));
    let flags = ["--requests", "4", "--warmup", "0s", "-o", "json"];
    let said = User::new().gw(&load(&server.url, &flags));
    said.refused(1, &["no answer of http://127.0.0.1", "hint:"]);
    assert_eq!(said.json()["refused"]["count"], 4);
    assert!(server.seen().iter().all(|seen| seen.line.starts_with("GET /embed ")));
}

#[test]
fn answers_that_break_off_are_errors_by_kind() {
    // Its head promises more than comes before the connection ends.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            if lines.by_ref().any(|line| line.is_empty()) {
                let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
            }
        }
    });
    let flags = ["--requests", "3", "--warmup", "0s", "-c", "1", "-o", "json"];
    let said = User::new().gw(&load(&url, &flags));
    said.refused(1, &["no answer of"]);
    let figures = said.json();
    assert_eq!(figures["errors"], serde_json::json!({"closed": 3}), "{figures}");
    assert!(figures["first_error"].is_string() && figures["accepted"].is_null(), "{figures}");
}

#[test]
fn an_endpoint_that_is_not_there_is_named_before_the_load() {
    // A port that was free a moment ago, and that nobody listens to.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}/embed");
    User::new().gw(&["bench", &url]).refused(1, &[&format!("{address} does not answer"), "hint:"]);
}

#[test]
fn flags_of_the_other_kind_are_refused() {
    let user = User::new();
    let model = user.write("add.onnx", onnx::model("Add"));
    let url = "http://127.0.0.1:1/embed";
    let cases: [(&[&str], &[&str]); 8] = [
        (&[url, "--runs", "5"], &["--runs is for models", "hint:"]),
        (&[url, "--cold"], &["--cold is for models"]),
        (&[&model, "--rate", "5"], &["--rate is for endpoints", "hint:"]),
        (&[url, "--arrivals", "even"], &["--rate"]),
        (&[url, "--requests", "1", "--duration", "1s"], &["--duration"]),
        (&[url, "--duration", "10"], &["--duration", "not a duration"]),
        (&[url, "--header", "x"], &["NAME:VALUE"]),
        (&[url, "--data", "@gone"], &["--data: cannot read gone"]),
    ];
    for (args, texts) in cases {
        user.gw(&[&["bench"][..], args].concat()).refused(2, texts);
    }
    user.gw(&["bench", &model, "--cold", "--profile"]).refused(2, &["--cold", "--profile"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_load_early_with_its_figures() {
    let server = Server::start(|_, _| (200, ""));
    let user = User::new();
    let mut child = user
        .command(&load(&server.url, &["--duration", "1h", "--warmup", "0s", "-o", "json"]))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("gw starts");
    for _ in 0..100 {
        server.seen.recv_timeout(Duration::from_mins(1)).expect("requests come");
    }
    let interrupt = format!("-INT {}", child.id());
    let mut kill = std::process::Command::new("kill");
    crate::ended(kill.args(interrupt.split(' '))).done();
    let mut out = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let figures: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(figures["interrupted"], true);
    assert!(figures["ok"].as_u64().is_some_and(|ok| ok > 50), "{figures}");
}

#[test]
fn two_starts_of_a_model_are_told_with_their_parts() {
    let user = User::new();
    let model = user.write("add.onnx", onnx::model("Add"));
    for (device, prepares) in [("noop", true), ("cpu", false)] {
        let args = ["bench", &model, "--device", device, "--cold", "--shape", "a=2x3"];
        let figures = user.gw(&[&args[..], &["-o", "json"]].concat()).done().json();
        assert_eq!(figures["first"]["prepare_ms"].is_number(), prepares, "{figures}");
        assert_eq!(figures["first"]["adapter"], figures["second"]["adapter"]);
        let total = |start: &str| {
            let of = |key: &str| figures[start][key].as_f64().unwrap_or_default();
            let parts = ["open_ms", "load_ms", "prepare_ms", "first_run_ms", "rest_ms"].map(of);
            assert!(parts.iter().all(|&part| part >= 0.0), "{figures}");
            assert!((parts.iter().sum::<f64>() - of("total_ms")).abs() < 1e-6, "{figures}");
            of("total_ms")
        };
        let ratio = total("first") / total("second");
        assert!((figures["ratio"].as_f64().unwrap() - ratio).abs() < 1e-9, "{figures}");
    }
    assert!(!exists(&user.path("cache/plans")), "the caches are temporary ones");
}

#[test]
fn a_start_keeps_its_plans_for_the_next() {
    let user = User::new();
    let model = user.write("add.onnx", onnx::model("Add"));
    let args = ["bench", &model, "--device", "noop", "--plans", "plans"];
    let told = user.gw(&args).done().json();
    assert!(told["first_run_ms"].is_number(), "{told}");
    let kept = || std::fs::read_dir(user.path("plans")).unwrap().count();
    let first = kept();
    assert!(first > 0, "a plan is kept");
    user.gw(&args).done();
    assert_eq!(kept(), first, "and found again");
}

#[test]
fn a_cold_start_that_fails_says_once_why() {
    let user = User::new();
    let model = user.write("odd.onnx", onnx::model("Frobnicate"));
    let said = user.gw(&["bench", &model, "--device", "cpu", "--cold"]);
    said.refused(1, &["Frobnicate"]);
    assert_eq!(said.err.matches("error:").count(), 1, "{}", said.err);
    let add = user.write("add.onnx", onnx::model("Add"));
    user.gw(&["bench", &add, "--cold", "--shape", "x=1"]).refused(1, &["no input \"x\""]);
}
