//! `gw dev`, `gw push` and `gw serve`: what they refuse before they begin.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::{User, exists};

/// The smallest component: a plugin that is there, though it handles nothing.
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";

const APP: &str = r#"
[app]
name = "tiny"
version = "0.1.0"

[[plugin]]
name = "echo"
path = "echo.wasm"

[[route]]
path = "/echo"
methods = ["POST"]
plugins = ["echo"]
"#;

/// A model that cannot be had.
const GONE: &str = "[[model]]\nname = \"gone\"\nsource = \"file:gone.onnx\"\n";

fn app(user: &User, manifest: &str) -> String {
    user.write("app/echo.wasm", COMPONENT);
    user.write("app/gw.toml", manifest);
    user.path("app")
}

#[test]
fn every_mistake_in_a_manifest_is_told_at_once_with_its_line() {
    let user = User::new();
    let manifest = APP.replace("version =", "vershun =").replace("[\"echo\"]", "[\"ehco\"]");
    let folder = app(&user, &manifest);
    for command in ["dev", "push"] {
        let said = user.gw(&[command, &folder]);
        said.refused(2, &["gw.toml:4", "vershun", "`version`", "gw.toml:13", "ehco", "`echo`"]);
    }
}

#[test]
fn a_plugin_that_is_not_there_is_a_mistake_in_the_manifest() {
    let user = User::new();
    let folder = app(&user, &APP.replace("echo.wasm", "gone"));
    user.gw(&["dev", &folder]).refused(2, &["echo", "gone"]);
    std::fs::create_dir(user.path("app/gone")).unwrap();
    let markers = ["echo", "Cargo.toml", "package.json", "pyproject.toml"];
    user.gw(&["dev", &folder]).refused(2, &markers);
}

#[test]
fn a_folder_without_a_manifest_is_refused() {
    let user = User::new();
    user.gw(&["dev"]).refused(2, &["gw.toml", "hint:"]);
    user.gw(&["push", "nowhere"]).refused(2, &["gw.toml in nowhere"]);
}

#[test]
fn a_port_in_use_is_named_with_the_fix() {
    let user = User::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = app(&user, APP);
    let fix = "--listen 127.0.0.1:0";
    user.gw(&["dev", &folder, "--listen", &address]).refused(1, &[&address, "in use", fix]);
    let state = user.path("state");
    let serve = ["serve", "--state", &state, "--listen"];
    user.gw(&[&serve[..], &[&address]].concat()).refused(1, &[&address, "in use", fix]);
    let admin = ["127.0.0.1:0", "--admin", &address];
    user.gw(&[&serve[..], &admin].concat())
        .refused(1, &[&address, "in use", "--admin 127.0.0.1:0"]);
    assert!(!exists(&state), "what does not start leaves nothing behind");
}

#[test]
fn a_device_that_is_not_there_is_refused_before_the_build() {
    let user = User::new();
    // Its build would fail, so a refusal of the device shows that there was none.
    let folder = app(&user, &format!("{APP}\n{GONE}"));
    let args = ["--device", "no-such-gpu", "--listen", "127.0.0.1:0"];
    let said = user.gw(&[&["dev", &folder], &args[..]].concat());
    said.refused(1, &["no-such-gpu"]);
    assert!(!said.err.contains("gone.onnx"), "{}", said.err);
    let state = user.path("state");
    let serve = ["serve", "--state", &state, "--admin", "127.0.0.1:0"];
    user.gw(&[&serve[..], &args].concat()).refused(1, &["no-such-gpu"]);
}

#[test]
fn the_main_address_of_a_node_is_not_its_admin_address() {
    // Whatever answers like a route that is not there.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // A request is small, and comes in one piece.
        let read = stream.read(&mut [0; 4096]).unwrap();
        assert!(read > 0);
        let body = r#"{"error":{"code":"route_not_found","message":"no route answers this path"}}"#;
        let length = body.len();
        write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    });
    User::new()
        .gw(&["status", "--to", &url])
        .refused(1, &[&url, "is not a node's admin address", "hint:", "admin on"]);
    answering.join().unwrap();
}

#[test]
fn an_address_that_others_reach_is_refused_before_the_build() {
    let user = User::new();
    // Its build would fail, so a refusal of the address shows that there was none.
    let folder = app(&user, &format!("{APP}\n{GONE}"));
    user.gw(&["dev", &folder, "--listen", "127.0.0.1:0"]).refused(1, &["gone.onnx"]);
    let said = user.gw(&["dev", &folder, "--listen", "0.0.0.0:0"]);
    said.refused(2, &["0.0.0.0:0 is reachable from other machines", "127.0.0.1"]);
}

#[test]
fn a_push_without_a_key_says_how_to_make_one() {
    let user = User::new();
    let folder = app(&user, APP);
    user.gw(&["push", &folder]).refused(1, &["there is no key", "gw keys new"]);
}

#[test]
fn a_configuration_with_a_typo_is_refused_with_a_suggestion() {
    let user = User::new();
    let config = user.write("gateway.toml", "[inference]\nqueue_maxx = 3\n");
    let state = user.path("state");
    user.gw(&["serve", "--state", &state, "--config", &config])
        .refused(2, &["gateway.toml:2", "queue_maxx", "did you mean `queue_max`"]);
    user.gw(&["serve", "--state", &state, "--config", "gone.toml"]).refused(2, &["gone.toml"]);
}

#[test]
fn a_trusted_key_that_is_none_is_refused() {
    let user = User::new();
    let state = user.path("state");
    user.gw(&["serve", "--state", &state, "--trust", "nonsense"]).refused(2, &["nonsense"]);
    let noise = user.write("keys", "# a comment\ned25519:short\n");
    user.gw(&["serve", "--state", &state, "--trust", &noise]).refused(2, &["keys:2"]);
}
