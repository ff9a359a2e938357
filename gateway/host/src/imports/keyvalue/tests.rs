//! One behaviour in two places: what a file does, a Redis does.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use futures::future::join_all;
use tempfile::TempDir;

use super::*;

fn small() -> KeyvalueConfig {
    KeyvalueConfig {
        key_bytes_max: 16,
        value_bytes_max: 100,
        bucket_bytes_max: 4000,
        keys_max: 20,
        batch_bytes_max: 500,
        ..KeyvalueConfig::default()
    }
}

fn local(dir: &Path) -> Store {
    Store::open(&KeyvalueConfig { dir: Some(dir.to_owned()), ..small() }).expect("it opens")
}

fn bucket(app: &str, name: &str) -> Bucket {
    Bucket { app: app.into(), name: name.into() }
}

fn pair(key: &str, value: &str) -> (String, Vec<u8>) {
    (key.to_owned(), value.as_bytes().to_vec())
}

fn refused<T: std::fmt::Debug>(result: Result<T, Fault>, with: &str) {
    match result {
        Err(Fault::Refused(reason)) => assert!(reason.contains(with), "{reason}"),
        other => panic!("{other:?} where {with:?} was expected"),
    }
}

async fn read_one(store: &Store, bucket: &Bucket, key: &str) -> Option<String> {
    let values = store.read(bucket, vec![key.to_owned()]).await.expect("read");
    values.into_iter().next().flatten().map(|value| String::from_utf8(value).expect("text"))
}

/// Every key, page by page.
async fn list_all(store: &Store, bucket: &Bucket) -> Vec<String> {
    let (mut keys, mut cursor) = (Vec::new(), None);
    loop {
        let (page, next) = store.list(bucket, cursor).await.expect("a page");
        keys.extend(page);
        match next {
            Some(_) => cursor = next,
            None => return keys,
        }
    }
}

async fn pairs_are_kept_by_app_and_bucket(store: &Store) {
    let [one, two, other] = [("a", "one"), ("a", "two"), ("b", "one")].map(|(a, b)| bucket(a, b));
    store.write(&one, vec![pair("k", "1"), pair("", "empty key")]).await.expect("written");
    store.write(&two, vec![pair("k", "2")]).await.expect("written");
    store.write(&one, vec![pair("k", "3"), pair("k", "4")]).await.expect("written");
    assert_eq!(read_one(store, &one, "k").await.as_deref(), Some("4"));
    assert_eq!(read_one(store, &one, "").await.as_deref(), Some("empty key"));
    assert_eq!(read_one(store, &two, "k").await.as_deref(), Some("2"));
    assert_eq!(read_one(store, &other, "k").await, None);
    assert!(store.exists(&one, "k".into()).await.expect("looked"));
    assert!(!store.exists(&other, "k".into()).await.expect("looked"));
    store.delete(&one, vec!["k".into(), "nothing".into()]).await.expect("deleted");
    assert_eq!(read_one(store, &one, "k").await, None);
    assert_eq!(read_one(store, &two, "k").await.as_deref(), Some("2"));
    assert_eq!(list_all(store, &one).await, [""]);
    let some = store.read(&two, vec!["x".into(), "k".into()]).await.expect("read");
    assert_eq!(some, [None, Some(b"2".to_vec())]);
}

async fn every_key_is_listed(store: &Store) {
    let bucket = bucket("a", "listed");
    let keys: BTreeSet<_> = (0..170).map(|n| format!("key-{n}")).collect();
    for key in &keys {
        store.write(&bucket, vec![pair(key, "")]).await.expect("written");
    }
    let listed = list_all(store, &bucket).await;
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), keys);
    assert_eq!(list_all(store, &self::bucket("a", "empty")).await, [""; 0]);
}

async fn counters_count(store: &Store) {
    let bucket = bucket("a", "counters");
    let add = |key: &str, delta| store.increment(&bucket, key.to_owned(), delta);
    assert_eq!(add("n", 5).await, Ok(5));
    assert_eq!(add("n", 0).await, Ok(5));
    let sums = join_all((0..50).map(|_| add("n", 2))).await;
    let sums: BTreeSet<_> = sums.into_iter().map(|sum| sum.expect("added")).collect();
    assert_eq!(sums, (1..=50).map(|n| 5 + 2 * n).collect(), "each sum once");
    assert_eq!(read_one(store, &bucket, "n").await.as_deref(), Some("105"));
    // Beyond what a float counts exactly.
    store.write(&bucket, vec![pair("big", "9007199254740993")]).await.expect("written");
    assert_eq!(add("big", 2).await, Ok(9_007_199_254_740_995));
    store
        .write(&bucket, vec![pair("text", "x"), pair("full", &u64::MAX.to_string())])
        .await
        .expect("written");
    refused(add("text", 1).await, "is no counter");
    refused(add("full", 1).await, "the value of \"full\"");
    assert_eq!(read_one(store, &bucket, "text").await.as_deref(), Some("x"));
}

async fn limits_hold(store: &Store) {
    let bucket = bucket("a", "limited");
    let write = |key: String, bytes: usize| store.write(&bucket, vec![(key, vec![b'x'; bytes])]);
    refused(write("k".repeat(17), 1).await, "`key_bytes_max` of this node is 16");
    refused(write("k".into(), 101).await, "`value_bytes_max` of this node is 100");
    refused(store.read(&bucket, vec!["k".into(); 21]).await, "`keys_max` is 20");
    let batch = (0..6).map(|n| (format!("{n}"), vec![0; 100])).collect();
    refused(store.write(&bucket, batch).await, "`batch_bytes_max` of this node is 500");
    // Forty pairs of 100 bytes: all that fits.
    for n in 10..50 {
        write(format!("{n}"), 98).await.expect("it fits");
    }
    refused(write("x".into(), 0).await, "`bucket_bytes_max` of this node is 4000");
    refused(write("10".into(), 99).await, "would have 4001 bytes");
    refused(store.increment(&bucket, "n".into(), 1).await, "would have 4002 bytes");
    assert_eq!(read_one(store, &bucket, "n").await, None, "a refused counter is not there");
    write("10".into(), 98).await.expect("the same size");
    let keys = (10..16).map(|n| format!("{n}")).collect();
    refused(store.read(&bucket, keys).await, "`batch_bytes_max` of this node is 500");
    store.delete(&bucket, vec!["10".into(), "10".into()]).await.expect("deleted");
    write("y".into(), 99).await.expect("there is room again");
    refused(write("z".into(), 0).await, "would have 4001 bytes");
}

async fn behaves(store: &Store) {
    pairs_are_kept_by_app_and_bucket(store).await;
    every_key_is_listed(store).await;
    counters_count(store).await;
    limits_hold(store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_behaves() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    behaves(&local(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_misses_no_key_while_others_come_and_go() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (store, bucket) = (local(folder.path()), bucket("a", "b"));
    for n in 0..60 {
        store.write(&bucket, vec![pair(&format!("{n}"), "")]).await.expect("written");
    }
    let (first, cursor) = store.list(&bucket, None).await.expect("a page");
    store.delete(&bucket, first.clone()).await.expect("deleted");
    store.write(&bucket, vec![pair("new", ""), pair("59", "changed")]).await.expect("written");
    let (second, cursor) = store.list(&bucket, cursor).await.expect("a page");
    let (third, cursor) = store.list(&bucket, cursor).await.expect("a page");
    let (last, end) = store.list(&bucket, cursor).await.expect("a page");
    assert_eq!((last.as_slice(), end), (&["new".to_owned()][..], None));
    let listed: Vec<_> = [first, second, third].concat();
    assert_eq!(listed, (0..60).map(|n| format!("{n}")).collect::<Vec<_>>());
    assert_eq!(store.list(&bucket, Some(u64::MAX)).await, Ok((Vec::new(), None)));
}

/// What a killed process had been told is there.
#[test]
fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "imports::keyvalue::tests::counts_until_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD_FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let acknowledged = |line: String| line.strip_prefix("counted ")?.parse::<u64>().ok();
    let counts = lines.map_while(Result::ok).filter_map(acknowledged);
    let last = counts.take(50).last().expect("it counts");
    child.kill().expect("killed");
    child.wait().expect("ended");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let (store, bucket) = (local(folder.path()), bucket("a", "b"));
        let found = store.increment(&bucket, "n".into(), 0).await.expect("it opens");
        assert!(found >= last, "{found} of {last}");
        assert_eq!(store.increment(&bucket, "n".into(), 1).await, Ok(found + 1));
        assert_eq!(list_all(&store, &bucket).await, ["n"]);
    });
}

const CHILD_FOLDER: &str = "GW_TEST_KEYVALUE_FOLDER";

/// The other process of the test above.
#[tokio::test]
#[ignore = "runs in a process that is killed"]
async fn counts_until_killed() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    let (store, bucket) = (local(Path::new(&folder)), bucket("a", "b"));
    loop {
        let sum = store.increment(&bucket, "n".into(), 1).await.expect("added");
        // Not by `println!`, which the house keeps out of libraries.
        writeln!(std::io::stdout(), "counted {sum}").expect("someone reads");
    }
}

/// A Redis of its own, on a socket in a temporary folder.
struct Redis {
    server: Child,
    folder: TempDir,
}

impl Redis {
    /// None where it is not installed and nobody insists.
    fn start() -> Option<Self> {
        let (redis, is_ready) = Self::launch(&[])?;
        assert!(is_ready, "it starts");
        Some(redis)
    }

    /// With TLS too, as `localhost`; and its port.
    fn start_tls() -> Option<(Self, u16)> {
        let file = |name: &str| format!("{}/tests/guests/tls/{name}", env!("CARGO_MANIFEST_DIR"));
        let (ca, certificate, key) = (file("ca.pem"), file("localhost.pem"), file("localhost.key"));
        // It chooses no port by itself, and another process may take one that was free.
        for _ in 0..10 {
            let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
            let port = free.expect("a free port").port();
            let (redis, is_ready) = Self::launch(&[
                ["--bind", "127.0.0.1"],
                ["--tls-port", &port.to_string()],
                ["--tls-ca-cert-file", &ca],
                ["--tls-cert-file", &certificate],
                ["--tls-key-file", &key],
                ["--tls-auth-clients", "no"],
            ])?;
            if is_ready {
                return Some((redis, port));
            }
        }
        panic!("redis-server does not start with TLS");
    }

    /// And whether it accepts connections.
    fn launch(settings: &[[&str; 2]]) -> Option<(Self, bool)> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let server = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(folder.path().join("socket"))
            .args(settings.as_flattened())
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn();
        let mut server = match server {
            Ok(server) => server,
            Err(error) if std::env::var("GW_REQUIRE_REDIS").as_deref() == Ok("1") => {
                panic!("redis-server: {error}; install it, or unset GW_REQUIRE_REDIS")
            }
            Err(_) => return None,
        };
        let output = BufReader::new(server.stdout.take().expect("piped"));
        let mut lines = output.lines().map_while(Result::ok);
        let is_ready = lines.any(|line| line.contains("ready to accept connections"));
        // Whoever writes into a closed pipe fails; what is left is read to its end.
        std::thread::spawn(move || lines.for_each(drop));
        Some((Self { server, folder }, is_ready))
    }

    fn store(&self) -> Store {
        at(&format!("redis+unix://{}", self.folder.path().join("socket").display()))
    }
}

fn at(url: &str) -> Store {
    Store::open(&KeyvalueConfig { redis: Some(Secret::new(url)), ..small() }).expect("a URL")
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It is killed at most twice, and nothing of it is kept.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_behaves() {
    let Some(redis) = Redis::start() else { return };
    behaves(&redis.store()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_share_the_buckets_of_a_redis() {
    let Some(redis) = Redis::start() else { return };
    let (one, two, bucket) = (redis.store(), redis.store(), bucket("a", "b"));
    one.write(&bucket, vec![pair("k", "v")]).await.expect("written");
    assert_eq!(read_one(&two, &bucket, "k").await.as_deref(), Some("v"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_gone_fails_the_operation_and_no_more() {
    let Some(mut redis) = Redis::start() else { return };
    let (store, bucket) = (redis.store(), bucket("a", "b"));
    store.write(&bucket, vec![pair("k", "v")]).await.expect("written");
    redis.server.kill().expect("killed");
    redis.server.wait().expect("ended");
    for _ in 0..2 {
        let failed = store.exists(&bucket, "k".into()).await;
        assert!(matches!(failed, Err(Fault::Failed(_))), "{failed:?}");
    }
}

async fn no_certificate(store: &Store) {
    let failed = store.exists(&bucket("a", "b"), "k".into()).await;
    let Err(Fault::Failed(reason)) = failed else { panic!("{failed:?}") };
    assert!(reason.contains("invalid peer certificate"), "{reason}");
    assert!(reason.contains("`SSL_CERT_FILE`"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_of_an_authority_that_nobody_trusts_is_refused() {
    let Some((_redis, port)) = Redis::start_tls() else { return };
    no_certificate(&at(&format!("rediss://localhost:{port}"))).await;
}

#[test]
fn a_redis_of_a_trusted_authority_behaves_over_tls() {
    let Some((_redis, port)) = Redis::start_tls() else { return };
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "imports::keyvalue::tests::behaves_over_tls", "--ignored"])
        .env("SSL_CERT_FILE", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests/tls/ca.pem"))
        .env_remove("SSL_CERT_DIR")
        .env(CHILD_PORT, port.to_string())
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

const CHILD_PORT: &str = "GW_TEST_KEYVALUE_PORT";

/// The other process of the test above.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in a process that trusts the authority of the tests"]
async fn behaves_over_tls() {
    let Ok(port) = std::env::var(CHILD_PORT) else { return };
    behaves(&at(&format!("rediss://localhost:{port}"))).await;
    // The certificate is for the name only.
    no_certificate(&at(&format!("rediss://127.0.0.1:{port}"))).await;
}

#[test]
fn a_store_that_cannot_be_had_says_why_and_shows_no_password() {
    let open = |config: KeyvalueConfig| Store::open(&config).err().expect("refused").to_string();
    let url = Secret::new("redis//user:hunter2@host");
    let error = open(KeyvalueConfig { redis: Some(url), ..small() });
    assert!(error.contains("[plugins.keyvalue]") && !error.contains("hunter2"), "{error}");
    assert!(open(small()).contains("set `dir`"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("buckets.redb"), "not a store").expect("written");
    let error = open(KeyvalueConfig { dir: Some(folder.path().to_owned()), ..small() });
    assert!(error.contains("buckets.redb"), "{error}");
}
