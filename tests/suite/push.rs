//! Deploying: `gw keys`, `gw push`, `gw status`, `gw rollback`, and what a node refuses.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use gw_tests::gateway::{Gateway, gw, run, send};
use gw_tests::repo;

/// A key, a state directory and an app to push.
pub(crate) struct Site {
    pub(crate) folder: TempDir,
    pub(crate) key: PathBuf,
    pub(crate) public: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key = folder.path().join("key");
        let (code, out, err) = run(&["keys", "new", "--out", text(&key)]);
        assert_eq!(code, 0, "{err}");
        let public = out
            .split_whitespace()
            .find(|word| word.starts_with("ed25519:"))
            .expect("the public key is printed")
            .to_owned();
        Self { folder, key, public }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn serve(&self) -> Gateway {
        Gateway::serve(&self.state(), &self.public, &["--device", "cpu"])
    }

    pub(crate) fn push(&self, app: &Path, node: &Gateway) -> (i32, String, String) {
        run(&["push", text(app), "--to", &node.admin, "--key", text(&self.key)])
    }

    /// A copy of the example whose plugin is already built, with its version changed.
    pub(crate) fn app(&self, version: &str) -> PathBuf {
        let source = repo().join("examples/01-embed");
        let copy = self.folder.path().join(format!("app-{version}"));
        copy_folder(&source, &copy);
        let manifest = copy.join("gw.toml");
        let written = fs::read_to_string(&manifest).expect("a manifest");
        let changed =
            written.replacen("version = \"0.1.0\"", &format!("version = \"{version}\""), 1);
        // The plugin lies beside the examples: point the copy at the repository's.
        fs::write(
            &manifest,
            changed.replace(
                "path = \"../../plugins/embed\"",
                &format!("path = {:?}", repo().join("plugins/embed")),
            ),
        )
        .expect("written");
        copy
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_file() {
            fs::copy(source, target).expect("copied");
        }
    }
}

/// The live revision of `app` by `gw status -o json`.
pub(crate) fn status(node: &Gateway) -> Value {
    let (code, out, err) = run(&["status", "--to", &node.admin, "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).expect("status is JSON")
}

pub(crate) fn answers(node: &Gateway) {
    let answer = node.post("/embed", &json!({ "input": "is anybody there" }).to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn a_pushed_app_is_served_survives_a_restart_and_rolls_back() {
    let site = Site::new();
    let mut node = site.serve();
    assert_eq!(node.get("/readyz").status, 503, "nothing is deployed yet");
    let (code, out, err) = site.push(&site.app("0.1.0"), &node);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("/embed"), "the routes are printed: {out}");
    answers(&node);
    let first = status(&node)["apps"][0]["live"].clone();

    let (code, _, err) = site.push(&site.app("0.2.0"), &node);
    assert_eq!(code, 0, "{err}");
    let second = status(&node)["apps"][0]["live"].clone();
    assert_ne!(first, second);
    answers(&node);

    assert_eq!(node.terminate(), 0);
    let mut node = site.serve();
    assert_eq!(status(&node)["apps"][0]["live"], second, "a restart changes nothing");
    answers(&node);

    let app = status(&node)["apps"][0]["app"].as_str().expect("a name").to_owned();
    let (code, _, err) = run(&["rollback", &app, "--to", &node.admin]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(status(&node)["apps"][0]["live"], first);
    answers(&node);
    node.kill();
    let node = site.serve();
    assert_eq!(status(&node)["apps"][0]["live"], first, "a rollback survives kill -9");
    answers(&node);
}

#[test]
fn bundles_that_are_not_ours_are_refused_and_the_old_revision_serves_on() {
    let site = Site::new();
    let node = site.serve();
    let (code, _, err) = site.push(&site.app("0.1.0"), &node);
    assert_eq!(code, 0, "{err}");
    let live = status(&node);

    let stranger = Site::new();
    let (code, _, err) =
        run(&["push", text(&site.app("0.2.0")), "--to", &node.admin, "--key", text(&stranger.key)]);
    assert_eq!(code, 1);
    assert!(err.contains("not trusted") || err.contains("untrusted"), "{err}");

    let bundles = format!("{}/v1/bundles", node.admin);
    for (name, body) in [("empty", vec![]), ("noise", vec![7; 4096])] {
        let answer = send("POST", &bundles, Some(&body));
        assert_eq!(answer.status, 400, "{name}: {}", answer.body);
        assert!(answer.json()["error"]["code"].is_string(), "{name}: {}", answer.body);
    }
    assert_eq!(status(&node), live);
    answers(&node);
}

#[test]
fn a_port_in_use_is_named_with_the_fix() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let site = Site::new();
    let output = gw(&["serve", "--state", text(&site.state()), "--listen", &address])
        .output()
        .expect("gw starts");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains(&address) && err.contains("in use"), "{err}");
    assert!(err.contains("--listen"), "the fix is named: {err}");
}
