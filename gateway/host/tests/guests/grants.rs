//! What a manifest grants: values, secrets, buckets, requests to other hosts. And nothing else.

mod server;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gw_artifact::manifest::Grants;
use gw_host::{GuestError, HostConfig, HostError, Plugin, PluginSpec, SecretSource};

use self::server::Server;
use crate::run;
use crate::support::{Node, ask_within, lasting, text};

/// A plugin of the guest `grants` that may do what `grants` says, and may take its time.
fn load(node: &Node, grants: Grants) -> Result<Arc<Plugin>, HostError> {
    let limits = lasting(Duration::from_mins(1));
    node.host.load(PluginSpec { grants, limits, ..node.spec("grants") })
}

/// Grants of `http`, and of the addresses of this machine.
fn local(http: &[&str]) -> Grants {
    let http = http.iter().map(|text| text.parse().expect("a grant")).collect();
    Grants { http, private_network: true, ..Grants::default() }
}

/// Has each command done, and gives the answers.
fn tell(plugin: &Arc<Plugin>, commands: &[&str]) -> Vec<String> {
    let answers = run(text(plugin, &commands.join("\n")));
    answers.lines().map(str::to_owned).collect()
}

/// A node with the secret `KEY`, which is `hunter2`.
fn with_secret() -> Node {
    let folder = tempfile::tempdir().expect("a temporary folder").keep();
    std::fs::write(folder.join("key"), "hunter2\n").expect("written");
    let source = SecretSource::File(folder.join("key"));
    let secrets = BTreeMap::from([("KEY".to_owned(), source)]);
    Node::with(HostConfig { secrets, ..HostConfig::default() })
}

fn with_buckets(dir: &Path) -> Node {
    let mut config = HostConfig::default();
    config.keyvalue.dir = Some(dir.to_owned());
    Node::with(config)
}

fn bucket(name: &str) -> Grants {
    Grants { keyvalue: [name.to_owned()].into(), ..Grants::default() }
}

#[test]
fn a_plugin_reads_its_values_and_its_secrets_and_lists_no_secret() {
    let node = with_secret();
    let config = BTreeMap::from([("mode".to_owned(), "fast".to_owned())]);
    let secrets = ["KEY".to_owned()].into();
    let plugin = load(&node, Grants { config, secrets, ..Grants::default() }).expect("it loads");
    let answers = tell(&plugin, &["config mode", "config KEY", "config PATH", "config-all"]);
    assert_eq!(answers, ["Some(\"fast\")", "Some(\"hunter2\")", "None", "[(\"mode\", \"fast\")]"]);
}

#[test]
fn what_is_told_of_an_error_holds_no_secret_and_is_short() {
    let node = with_secret();
    let secrets = ["KEY".to_owned()].into();
    let plugin = load(&node, Grants { secrets, ..Grants::default() }).expect("it loads");
    let chain = gw_host::Chain::of(plugin);
    assert_eq!(chain.mask("upstream refused key hunter2"), "upstream refused key ***");
    assert_eq!(chain.mask(&"x".repeat(1 << 20)).len(), 2 << 10);
}

#[test]
fn a_secret_that_the_node_lacks_refuses_the_plugin_with_the_fix() {
    let node = Node::start();
    let secrets = ["OPENAI_KEY".to_owned()].into();
    let error = load(&node, Grants { secrets, ..Grants::default() }).err().expect("refused");
    let text = error.to_string();
    assert!(text.contains("plugin grants needs the secret OPENAI_KEY"), "{text}");
    assert!(text.contains("[plugins.secrets]"), "{text}");
}

#[test]
fn what_is_not_granted_is_refused_with_what_would_grant_it() {
    let node = Node::start();
    let plugin = load(&node, Grants::default()).expect("it loads");
    let commands = ["config KEY", "config-all", "default get a", "send GET http://127.0.0.1/"];
    let answers = tell(&plugin, &commands);
    assert!(answers[0].contains("write `config` or `secrets` in its [[plugin]]"), "{answers:?}");
    assert_eq!(answers[0], answers[1]);
    assert!(answers[2].contains("add it to `keyvalue` in its [[plugin]]"), "{answers:?}");
    assert_eq!(answers[3], "ErrorCode::HttpRequestDenied");
}

/// The whole log of this process, because guests run on threads of their own.
#[test]
fn the_log_names_the_plugin_and_never_a_secret() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&written);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || Written(Arc::clone(&writer)))
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("the first one");
    let node = with_secret();
    let secrets = ["KEY".to_owned()].into();
    let plugin = load(&node, Grants { secrets, ..local(&["http://127.0.0.1"]) }).expect("it loads");
    let commands = [
        "print key=hunter2",
        "log key=hunter2",
        "send GET http://hunter2.example.com/",
        "send GET http://127.0.0.1:81/hunter2",
    ];
    tell(&plugin, &commands);
    let log = String::from_utf8(written.lock().expect("unpoisoned").clone()).expect("text");
    let ours: Vec<_> = log.lines().filter(|line| line.contains("gw_host")).collect();
    assert_eq!(ours.iter().filter(|line| line.contains("***")).count(), 3, "{ours:#?}");
    assert!(ours.iter().all(|line| line.contains("plugin=\"grants\"")), "{ours:#?}");
    assert!(ours.iter().any(|line| line.contains("WARN") && line.contains("context=\"guest\"")));
    let refused = "`http` of the plugin in gw.toml does not grant it";
    assert_eq!(ours.iter().filter(|line| line.contains(refused)).count(), 2, "{ours:#?}");
    assert!(!log.contains("hunter2"), "{log}");
}

struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_bucket_does_what_the_interface_says() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = with_buckets(folder.path());
    let plugin = load(&node, bucket("default")).expect("it loads");
    let cases = [
        ("default get a", "None"),
        ("default set a 1", "()"),
        ("default get a", "Some(\"1\")"),
        ("default add a 41", "42"),
        ("default add counter 7", "7"),
        ("default set a text", "()"),
        ("default exists a", "true"),
        ("default exists b", "false"),
        ("default set-many b c", "()"),
        ("default get-many c a nothing", "[Some(\"many\"), Some(\"text\"), None]"),
        ("default list", "([\"a\", \"counter\", \"b\", \"c\"], None)"),
        ("default delete-many a b nothing", "()"),
        ("default delete nothing", "()"),
        ("default list", "([\"counter\", \"c\"], None)"),
    ];
    let commands: Vec<_> = cases.iter().map(|(command, _)| *command).collect();
    let answers = tell(&plugin, &commands);
    for ((command, expected), answer) in cases.iter().zip(&answers) {
        assert_eq!(answer, expected, "{command}");
    }
    let answers = tell(&plugin, &["default add c 1", "other get a"]);
    assert!(answers[0].contains("is no counter"), "{answers:?}");
    assert!(answers[1].contains("is not granted the bucket \\\"other\\\""), "{answers:?}");
}

#[test]
fn a_bucket_outlives_the_node_and_belongs_to_its_app() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    {
        let node = with_buckets(folder.path());
        let plugin = load(&node, bucket("default")).expect("it loads");
        tell(&plugin, &["default set key mine"]);
    }
    let node = with_buckets(folder.path());
    let spec = PluginSpec { grants: bucket("default"), ..node.spec("grants") };
    let same = node.host.load(spec.clone()).expect("it loads");
    let other = node.host.load(PluginSpec { app: "other".to_owned(), ..spec }).expect("it loads");
    assert_eq!(tell(&same, &["default get key"]), ["Some(\"mine\")"]);
    assert_eq!(tell(&other, &["default get key"]), ["None"]);
    assert_eq!(tell(&other, &["default set key its", "default list"])[1], "([\"key\"], None)");
    assert_eq!(tell(&same, &["default get key"]), ["Some(\"mine\")"]);
}

#[test]
fn two_nodes_do_not_share_one_folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (first, second) = (with_buckets(folder.path()), with_buckets(folder.path()));
    let _plugin = load(&first, bucket("default")).expect("it loads");
    let error = load(&second, bucket("default")).err().expect("refused");
    assert!(error.to_string().contains("another process"), "{error}");
}

#[test]
fn a_granted_host_is_reached_and_no_other() {
    let server = Server::start(|head| format!("200 OK\r\n\r\n{head}"));
    let (port, other) = (server.port, Server::start(|_| "200 OK\r\n\r\n".to_owned()).port);
    let node = Node::start();
    let plugin = load(&node, local(&[&format!("http://127.0.0.1:{port}")])).expect("it loads");
    let answers = run(text(&plugin, &format!("send POST http://127.0.0.1:{port}/x?y=z 3")));
    assert!(answers.starts_with("200 POST /x?y=z HTTP/1.1"), "{answers}");
    assert!(answers.contains(&format!("host: 127.0.0.1:{port}")), "{answers}");
    let denied = [
        format!("http://127.0.0.1:{other}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://a.127.0.0.1:{port}/"),
    ];
    for url in &denied[..4] {
        assert_eq!(tell(&plugin, &[&format!("send GET {url}")]), ["ErrorCode::HttpRequestDenied"]);
    }
    let odd = [
        denied[4].clone(),
        format!("http://127.0.0.1:{port}@localhost:{other}/"),
        format!("http://2130706433:{port}/"),
    ];
    for url in odd {
        let answer = tell(&plugin, &[&format!("send GET {url}")]);
        assert_eq!(answer, ["ErrorCode::HttpRequestUriInvalid"], "{url}");
    }
    let connect = format!("send CONNECT http://127.0.0.1:{port}/");
    assert_eq!(tell(&plugin, &[&connect]), ["ErrorCode::HttpRequestMethodInvalid"]);
    assert_eq!(server.answered(), 1, "nothing but the granted request arrived");
}

#[test]
fn this_machine_is_not_reached_without_a_grant_of_private_networks() {
    let server = Server::start(|_| "200 OK\r\n\r\n".to_owned());
    let hosts = ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"];
    let http = hosts.map(|host| format!("http://{host}:{}", server.port));
    let node = Node::start();
    let granted = local(&http.each_ref().map(String::as_str));
    let plugin = load(&node, Grants { private_network: false, ..granted }).expect("it loads");
    for url in &http {
        let answer = tell(&plugin, &[&format!("send GET {url}/")]);
        assert_eq!(answer, ["ErrorCode::DestinationIpProhibited"], "{url}");
    }
    assert_eq!(server.answered(), 0);
}

#[test]
fn a_redirect_is_a_request_that_is_checked_again() {
    let inner = Server::start(|_| "200 OK\r\n\r\nmetadata".to_owned());
    let target = format!("http://127.0.0.1:{}/secret", inner.port);
    let location = target.clone();
    let outer = Server::start(move |_| format!("302 Found\r\nlocation: {location}\r\n\r\n"));
    let start = format!("follow http://127.0.0.1:{}/", outer.port);
    let (first, second) =
        (format!("http://127.0.0.1:{}", outer.port), format!("http://127.0.0.1:{}", inner.port));
    let node = Node::start();
    let one = load(&node, local(&[&first])).expect("it loads");
    let denied = format!("ErrorCode::HttpRequestDenied at {target}");
    assert_eq!(tell(&one, &[&start]), [denied]);
    assert_eq!(inner.answered(), 0);
    let both = load(&node, local(&[&first, &second])).expect("it loads");
    assert_eq!(tell(&both, &[&start]), ["metadata"]);
}

#[test]
fn what_goes_wrong_on_the_way_has_its_code() {
    let server = Server::start(|head| match head.split(' ').nth(1) {
        Some("/large") => format!("200 OK\r\ncontent-length: 4000\r\n\r\n{}", "x".repeat(4000)),
        Some("/short") => "200 OK\r\ncontent-length: 10\r\n\r\nshort".to_owned(),
        Some("/head") => format!("200 OK\r\nx: {}\r\n\r\n", "x".repeat(100_000)),
        Some("/garbage") => "\0".to_owned(),
        _ => "200 OK\r\n\r\n".to_owned(),
    });
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("its address").port()
    };
    let mut config = HostConfig::default();
    (config.outbound.request_bytes_max, config.outbound.response_bytes_max) = (1000, 1000);
    let node = Node::with(config);
    let url = format!("http://127.0.0.1:{}", server.port);
    let dead = format!("http://127.0.0.1:{nobody}");
    let nowhere = "http://nowhere.invalid";
    let plugin = load(&node, local(&[&url, &dead, nowhere])).expect("it loads");
    let cases = [
        (format!("send POST {url}/ 1000"), "200"),
        (format!("send POST {url}/ 1001"), "ErrorCode::HttpRequestBodySize(Some(1000))"),
        (format!("send GET {url}/large"), "body size exceeds limit: 1000"),
        (format!("send GET {url}/short"), "error reading a body from connection"),
        (format!("send GET {url}/head"), "ErrorCode::HttpResponseHeaderSectionSize(None)"),
        (format!("send GET {url}/garbage"), "ErrorCode::HttpProtocolError"),
        (format!("send GET {dead}/"), "ErrorCode::ConnectionRefused"),
        (format!("send GET {nowhere}/"), "ErrorCode::DnsError"),
    ];
    for (command, expected) in cases {
        let answer = tell(&plugin, &[&command]);
        assert!(answer[0].contains(expected), "{command}: {answer:?}");
    }
}

#[test]
fn a_host_that_never_answers_costs_its_own_request_until_the_deadline() {
    let server = Server::silent();
    let mut config = HostConfig::default();
    config.outbound.connections_max = 1;
    config.outbound.connect_timeout = Duration::from_millis(100);
    let node = Node::with(config);
    let url = format!("http://127.0.0.1:{}", server.port);
    let plugin = load(&node, local(&[&url])).expect("it loads");
    let command = format!("send GET {url}/");
    run(async {
        let first = ask_within(&plugin, &command, Duration::from_secs(2));
        let second = async {
            // Once the first has the only connection, there is none for anyone else.
            let accepted = Arc::clone(&server.accepted);
            accepted.notified().await;
            text(&plugin, &command).await
        };
        let (first, second) = tokio::join!(first, second);
        assert!(matches!(first, Err(GuestError::DeadlinePassed { .. })), "{first:?}");
        assert_eq!(second, "ErrorCode::ConnectionTimeout");
    });
    // The connection went with the request that had it.
    let again = run(ask_within(&plugin, &command, Duration::from_millis(300)));
    assert!(matches!(again, Err(GuestError::DeadlinePassed { .. })), "{again:?}");
}

#[test]
fn tls_needs_a_certificate_that_names_the_host() {
    let server = Server::tls("200 OK\r\ncontent-length: 6\r\n\r\nsealed");
    let url = format!("https://localhost:{}", server.port);
    let address = format!("https://127.0.0.1:{}", server.port);
    let trusting = || {
        let mut config = HostConfig::default();
        config.outbound.ca_file = Some(server::pem("ca.pem"));
        config
    };
    let get = |config: HostConfig, url: &str| {
        let node = Node::with(config);
        let plugin = load(&node, local(&[url])).expect("it loads");
        tell(&plugin, &[&format!("send GET {url}/")]).remove(0)
    };
    assert_eq!(get(trusting(), &url), "200 sealed");
    assert_eq!(get(HostConfig::default(), &url), "ErrorCode::TlsCertificateError");
    assert_eq!(get(trusting(), &address), "ErrorCode::TlsCertificateError");

    let mut config = HostConfig::default();
    config.outbound.ca_file = Some(server::pem("localhost.key"));
    let error = load(&Node::with(config), local(&[&url])).err().expect("refused");
    assert!(error.to_string().contains("it holds no certificate in PEM"), "{error}");
}
