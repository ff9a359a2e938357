//! Answers that are streamed, and chains of plugins, through a whole gateway. The client writes and
//! reads bytes: a library would hide how an answer ends.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use gw_tests::gateway::Gateway;
use gw_tests::guests;

#[path = "../../../gateway/host/tests/guests/double.rs"]
mod double;

/// An app of these plugins and routes, served.
fn serve(folder: &tempfile::TempDir, plugins: &[(&str, &str, &str)], routes: &str) -> Gateway {
    let mut manifest = "[app]\nname = \"streams\"\nversion = \"0.1.0\"\n\n[[model]]\n\
                        name = \"double\"\nsource = \"double.onnx\"\n"
        .to_owned();
    for (name, guest, more) in plugins {
        let path = guests::component(guest).display().to_string();
        writeln!(manifest, "\n[[plugin]]\nname = \"{name}\"\npath = \"{path}\"\n{more}")
            .expect("a string takes any text");
    }
    fs::write(folder.path().join("gw.toml"), manifest + routes).expect("written");
    fs::write(folder.path().join("double.onnx"), double::onnx()).expect("written");
    Gateway::dev(folder.path(), &["--no-watch", "--device", "cpu"])
}

/// Sends a POST without a body, with these headers and this id.
fn ask(gateway: &Gateway, path: &str, id: &str, headers: &str) -> TcpStream {
    let mut stream =
        TcpStream::connect(gateway.url.trim_start_matches("http://")).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a socket option");
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: gw\r\nx-request-id: {id}\r\ncontent-length: 0\r\n\
         {headers}\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    stream
}

/// Reads until `mark`, or to the end.
fn read_until(stream: &mut TcpStream, mark: &str) -> String {
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.contains(mark) {
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(count) => text += &String::from_utf8_lossy(&bytes[..count]),
        }
    }
    text
}

const STREAMER: (&str, &str, &str) = ("streamer", "streamer", "limits = { time = \"1m\" }");
const ROUTE: &str = "\n[[route]]\npath = \"/stream\"\nplugins = [\"streamer\"]\n";

#[test]
fn the_line_of_a_request_says_what_it_took_of_models() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let good = ("good", "good", "models = [\"double\"]");
    let route = "\n[[route]]\npath = \"/good\"\nplugins = [\"good\"]\n";
    let mut gateway = serve(&folder, &[good, STREAMER], &format!("{ROUTE}{route}"));
    let answer = gateway.post("/good", "1 2");
    assert_eq!((answer.status, &*answer.body), (200, "2 4"));
    let line = gateway.wait_for("path=\"/good\"");
    assert!(line.contains("queue_ms=") && line.contains("infer_ms="), "{line}");
    let mut whole = ask(&gateway, "/stream", "modelless", "x-do: slow\r\n");
    assert!(read_until(&mut whole, "0\r\n\r\n").ends_with("0\r\n\r\n"));
    let line = gateway.wait_for("modelless");
    assert!(!line.contains("infer_ms="), "it asked no model: {line}");
}

#[test]
fn how_a_streamed_answer_ended_is_the_last_line_of_its_request() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut gateway = serve(&folder, &[STREAMER], ROUTE);
    let mut leaving = ask(&gateway, "/stream", "leaving", "x-do: wait\r\n");
    assert!(read_until(&mut leaving, "first").ends_with("5\r\nfirst\r\n"));
    drop(leaving);
    let line = gateway.wait_for("leaving");
    assert!(line.contains("cut=\"client\"") && line.contains("bytes=5"), "{line}");

    let mut trapped = ask(&gateway, "/stream", "trapped", "x-do: trap\r\n");
    assert!(read_until(&mut trapped, "never").ends_with("4\r\nhalf\r\n"), "no last chunk");
    let line = gateway.wait_for("plugin trapped");
    assert!(line.contains("WARN"), "{line}");
    let line = gateway.wait_for("code=\"plugin_trapped\"");
    assert!(line.contains("cut=\"plugin\""), "{line}");

    let mut whole = ask(&gateway, "/stream", "whole", "x-do: slow\r\n");
    assert!(read_until(&mut whole, "0\r\n\r\n").ends_with("three\r\n0\r\n\r\n"));
    let line = gateway.wait_for("whole");
    assert!(line.contains("bytes=13") && !line.contains("cut="), "{line}");
    assert_eq!(gateway.terminate(), 0);
    let log = gateway.log();
    assert_eq!(
        log.lines().filter(|line| line.contains("trapped") && line.contains("WARN")).count(),
        1
    );
}

#[test]
fn handlers_and_hooks_answer_as_one_and_a_lenient_plugin_is_left_out() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plugins = [
        ("guard", "relay", "failure = \"open\""),
        ("shout", "relay", ""),
        ("double", "hooked", "models = [\"double\"]"),
    ];
    let routes = "\n[[route]]\npath = \"/double\"\nplugins = [\"guard\", \"shout\", \"double\"]\n\
                  cache = { ttl = \"10m\" }\n";
    let mut gateway = serve(&folder, &plugins, routes);
    let first = gateway.post("/double", "1 2 3");
    assert_eq!((first.status, &*first.body), (200, "2 4 6"), "{}", gateway.log());
    assert_eq!(first.header("x-relay-answer"), "yes");
    let second = gateway.post("/double", "1.0 2 3");
    assert_eq!(second.body, "2 4 6");
    assert!(second.header("cache-status").starts_with("gw; hit"), "{second:?}");
    let runs = gateway.metric("gw_infer_requests_total", &["model=\"double\""]);
    assert!((runs - 1.0).abs() < 0.1, "{runs}");

    let mut failing = ask(&gateway, "/double", "lenient", "x-relay: panic\r\n");
    // Both relays do as the header says; only the first may fail.
    let answer = read_until(&mut failing, "\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    let line = gateway.wait_for("failed plugin left out");
    assert!(line.contains("guard") && line.contains("lenient"), "{line}");
    let skipped = gateway.metric("gw_plugin_skipped_total", &["plugin=\"guard\""]);
    assert!((skipped - 1.0).abs() < 0.1, "{skipped}");
    assert_eq!(gateway.terminate(), 0);
}
