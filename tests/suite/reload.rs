//! Editing a plugin while `gw dev` runs: rebuilt and swapped without dropping a request.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use gw_tests::gateway::{Gateway, gw, try_send};
use gw_tests::repo;

/// An app of one plugin that answers a fixed text, written as a user would write it.
fn write_app(folder: &Path, answer: &str) {
    let plugin = folder.join("plugin");
    fs::create_dir_all(plugin.join("src")).expect("a folder");
    let sdk = repo().join("sdk");
    fs::write(
        folder.join("gw.toml"),
        "[app]\nname = \"hello\"\nversion = \"0.1.0\"\n\n[[plugin]]\nname = \"hello\"\n\
         path = \"plugin\"\n\n[[route]]\npath = \"/hello\"\nmethods = [\"POST\"]\n\
         plugins = [\"hello\"]\n",
    )
    .expect("written");
    fs::write(
        plugin.join("Cargo.toml"),
        format!(
            "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[lib]\n\
             crate-type = [\"cdylib\"]\n\n[dependencies]\ngw-sdk = {{ path = {sdk:?} }}\n\n\
             [workspace]\n"
        ),
    )
    .expect("written");
    write_answer(folder, answer);
}

fn write_answer(folder: &Path, answer: &str) {
    let template = fs::read_to_string(repo().join("tests/fixtures/hello_plugin.rs.txt"))
        .expect("the plugin's source");
    fs::write(folder.join("plugin/src/lib.rs"), template.replace("ANSWER", answer))
        .expect("written");
}

#[test]
fn an_edited_plugin_is_swapped_without_dropping_a_request() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_app(folder.path(), "first");
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let app = folder.path().to_str().expect("a temporary path is text");
    let mut command = gw(&["dev", app, "--device", "cpu", "--listen", "127.0.0.1:0"]);
    command.env("TMPDIR", temporary.path());
    let mut gateway = Gateway::start(command);
    assert_eq!(gateway.post("/hello", "{}").body, "first");

    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (url, stop) = (format!("{}/hello", gateway.url), Arc::clone(&stop));
            thread::spawn(move || {
                let mut seen = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let answer = try_send("POST", &url, Some(b"{}"));
                    let answer =
                        answer.unwrap_or_else(|error| panic!("a request was lost: {error}"));
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    if seen.last() != Some(&answer.body) {
                        seen.push(answer.body);
                    }
                }
                seen
            })
        })
        .collect();

    write_answer(folder.path(), "broken\" +");
    gateway.wait_for("error");
    write_answer(folder.path(), "second");
    while gateway.post("/hello", "{}").body != "second" {
        assert!(callers.iter().all(|caller| !caller.is_finished()), "a caller failed");
        thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        let seen = caller.join().expect("no request was lost");
        assert!(seen == ["first", "second"] || seen == ["first"], "{seen:?}");
    }
    let left = || fs::read_dir(temporary.path()).expect("it is there").count();
    assert!(left() > 0, "the app lies there");
    assert_eq!((gateway.terminate(), left()), (0, 0), "nothing of it is left");
}

/// Plugins are tested where a plugin author would: natively.
#[test]
fn plugins_pass_their_own_tests() {
    let status = Command::new("cargo")
        .args(["test", "--quiet", "--workspace", "--lib", "--tests"])
        .current_dir(repo().join("plugins"))
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo starts");
    assert!(status.success(), "a plugin fails its own tests");
}

#[test]
fn a_first_party_plugin_is_served() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plugin = repo().join("plugins/echo");
    let manifest = format!(
        "[app]\nname = \"echo\"\nversion = \"0.1.0\"\n\n[[plugin]]\nname = \"echo\"\n\
         path = {plugin:?}\n\n[[route]]\npath = \"/echo\"\nplugins = [\"echo\"]\n"
    );
    fs::write(folder.path().join("gw.toml"), manifest).expect("written");
    let gateway = Gateway::dev(folder.path(), &["--no-watch", "--device", "cpu"]);
    let seen = gateway.post("/echo?a=1", "hello").json();
    assert_eq!((&seen["method"], &seen["body"]), (&"POST".into(), &"hello".into()), "{seen}");
}
