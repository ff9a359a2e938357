//! `kill -9` at random moments of a push and of a model download: the next start serves.
//!
//! Each loop goes on until it has interrupted 50 operations, or as many as `GW_CRASH_ROUNDS` says.
//! The moments lie evenly between the start and a little after the end of an operation, whose
//! duration is measured first; rounds whose operation was over before the kill are not counted.
//! Apps, models and keys are small, so that a round takes a second; the binary, its sockets and its
//! files are what a user has.

use std::collections::HashMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gw_artifact::Digest;
use tempfile::TempDir;

use crate::push::{Site, status, text};
use crate::tools::double_model;
use gw_tests::gateway::{Gateway, gw};
use gw_tests::guests;
use gw_tests::origin::Origin;
use gw_tests::random::Random;

/// How many operations each loop interrupts.
fn interruptions() -> usize {
    std::env::var("GW_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(50)
}

/// Rounds for each interruption that is wanted; one in eleven ends before its kill by design, and
/// on a busy machine some more do.
const ROUNDS_PER_INTERRUPTION: usize = 3;

/// A moment of an operation that takes `whole`, between 0 and 110 % of it.
fn moment(random: &mut Random, whole: Duration) -> Duration {
    whole.mul_f64(random.between(0, 1100) as f64 / 1000.0)
}

/// Printable characters, which hardly compress.
fn padding(random: &mut Random, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|_| b'!' + random.below(94) as u8).collect()
}

fn wait(limit: Duration) {
    // Nothing is ever sent: the channel is a clock that needs no sleep.
    let (_hold, clock) = mpsc::channel::<()>();
    let _ = clock.recv_timeout(limit);
}

fn quietly(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("gw starts")
}

/// Writes an app with a model: `/double` runs it.
fn write_app(folder: &Path, version: usize, source: &str, more: &str) {
    let good = guests::component("good");
    let manifest = format!(
        "[app]\nname = \"crash\"\nversion = \"0.{version}.0\"\n\n[[model]]\nname = \"double\"\n\
         {source}\n\n[[plugin]]\nname = \"good\"\npath = {good:?}\nmodels = [\"double\"]\n\n\
         [[route]]\npath = \"/double\"\nplugins = [\"good\"]\n{more}"
    );
    fs::create_dir_all(folder).expect("a folder");
    fs::write(folder.join("gw.toml"), manifest).expect("written");
}

fn doubles(node: &Gateway) {
    let answer = node.post("/double", "1 2 3 4");
    assert_eq!((answer.status, answer.body.as_str()), (200, "2 4 6 8"));
}

/// An app whose every version has its own model file, asset and prepared plugin: a revision that
/// was put together of two versions would show.
fn write_version(folder: &Path, version: usize, padding: &mut [u8]) {
    let prepared = guests::component("prepared");
    let more = format!(
        "\n[[asset]]\nname = \"table.txt\"\nsource = \"table.txt\"\n\n[[plugin]]\n\
         name = \"prepared\"\npath = {prepared:?}\n\n[[route]]\npath = \"/version\"\n\
         plugins = [\"prepared\"]\n"
    );
    write_app(folder, version, "source = \"double.onnx\"", &more);
    let name = format!("0.{version}.0");
    padding[..name.len()].copy_from_slice(name.as_bytes());
    fs::write(folder.join("double.onnx"), double_model(padding)).expect("written");
    fs::write(folder.join("table.txt"), name).expect("written");
}

/// The version that is live; its parts must be of that version, and answer.
fn whole_version(node: &Gateway) -> usize {
    let status = status(node);
    let app = &status["apps"][0];
    assert!(app["fallback"].is_null(), "a revision that was live does not load: {status}");
    let revisions = app["revisions"].as_array().expect("a list");
    let live = revisions.iter().find(|revision| revision["live"] == true);
    let version = live.expect("one is live")["version"].as_str().expect("a version").to_owned();
    let answer = node.post("/version", "");
    assert_eq!((answer.status, &answer.body), (200, &version));
    doubles(node);
    version.split('.').nth(1).and_then(|number| number.parse().ok()).expect("0.N.0")
}

#[test]
fn after_a_push_is_killed_the_next_start_serves_the_old_or_the_new_revision() {
    let (site, mut random) = (Site::new(), Random(20_261_123));
    let app = site.folder.path().join("app");
    let mut padding = padding(&mut random, 1 << 20);
    let mut node = site.serve();
    let mut whole = Duration::ZERO;
    let mut live = 0;
    // The first push warms caches, the others are measured.
    while live < 3 {
        live += 1;
        write_version(&app, live, &mut padding);
        let start = Instant::now();
        let (code, _, err) = site.push(&app, &node);
        assert_eq!(code, 0, "{err}");
        whole = start.elapsed();
    }
    let wanted = interruptions();
    let (mut interrupted, mut at_work, mut kept, mut round) = ([0, 0], 0, 0, 0);
    while interrupted[0] < wanted / 2 || interrupted[1] < wanted.div_ceil(2) {
        assert!(round < wanted * ROUNDS_PER_INTERRUPTION, "only {interrupted:?} of {round}");
        let version = 4 + round;
        write_version(&app, version, &mut padding);
        let before = files_below(&site.state());
        let args = ["push", text(&app), "--to", &node.admin, "--key", text(&site.key)];
        let mut push = quietly(&mut gw(&args));
        wait(moment(&mut random, whole));
        let kills_the_node = round % 2 == 0;
        if kills_the_node {
            node.kill();
            at_work += usize::from(files_below(&site.state()) != before);
        } else {
            push.kill().expect("it was not waited for");
        }
        let ended = push.wait().expect("a push ends");
        if !kills_the_node {
            // The node may be about to swap, so two questions could get answers of two revisions.
            let answer = node.post("/version", "");
            let either = [live, version].map(|version| format!("0.{version}.0"));
            assert!(answer.status == 200 && either.contains(&answer.body), "{}", answer.body);
            node.kill();
        }
        node = site.serve();
        let now = whole_version(&node);
        let pushed = ended.success();
        assert!(now == version || now == live && !pushed, "round {round}: {live} became {now}");
        let cut = if kills_the_node { !pushed } else { ended.signal().is_some() };
        interrupted[round % 2] += usize::from(cut);
        kept += usize::from(cut && now == live);
        live = now;
        round += 1;
    }
    println!(
        "a push takes {whole:.1?}; of {round}, {interrupted:?} (node, client) were interrupted, \
         {kept} of them kept the old revision; {at_work} nodes had begun to write"
    );
}

/// Every file with its length.
fn files_below(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push((path, entry.metadata().map_or(0, |metadata| metadata.len())));
        }
    }
    files.sort();
    files
}

/// A wheel with the model inside.
fn wheel(folder: &Path, model: &[u8]) -> Vec<u8> {
    let package = folder.join("padded_model");
    fs::create_dir(&package).expect("a folder");
    fs::write(package.join("model.onnx"), model).expect("written");
    let wheel = folder.join("padded_model-1.0.0-py3-none-any.whl");
    let packed = Command::new("python3")
        .args(["-m", "zipfile", "-c", text(&wheel), text(&package)])
        .status()
        .expect("python3 starts");
    assert!(packed.success());
    fs::read(wheel).expect("it was written")
}

/// A model on a server, and apps that fetch it from there.
struct Download {
    origin: Origin,
    digest: Digest,
    bytes: u64,
    apps: [PathBuf; 2],
    /// A cache without the model, so that a round need not compile the plugin again.
    warm: TempDir,
    folder: TempDir,
}

impl Download {
    fn new(random: &mut Random) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let model = double_model(&padding(random, 2 << 20));
        let file = "padded_model-1.0.0-py3-none-any.whl";
        let index = format!("{{\"files\": [{{\"filename\": \"{file}\", \"url\": \"/{file}\"}}]}}");
        let files = HashMap::from([
            ("/simple/padded-model/".to_owned(), index.into_bytes()),
            (format!("/{file}"), wheel(folder.path(), &model)),
            ("/model.onnx".to_owned(), model.clone()),
        ]);
        // 4 MB a second at most: half a second for the file.
        let origin = Origin::start(files, Duration::from_millis(4));
        let digest = Digest::of(&model);
        let sources = [
            format!(
                "source = \"pypi:padded-model==1.0.0#padded_model/model.onnx\"\nsha256 = \"{}\"",
                digest.hex()
            ),
            format!("source = \"{}/model.onnx\"", origin.url),
        ];
        let apps = ["pypi", "http"].map(|name| folder.path().join(name));
        for (app, source) in apps.iter().zip(sources) {
            write_app(app, 1, &source, "");
        }
        let warm = tempfile::tempdir().expect("a temporary folder");
        Self { origin, digest, bytes: model.len() as u64, apps, warm, folder }
    }

    fn dev(&self, app: &Path, cache: &Path) -> Command {
        let listen = ["--listen", "127.0.0.1:0", "--no-watch", "--device", "cpu"];
        let mut command = gw(&["dev", text(app)]);
        command.args(listen).env("GW_CACHE_DIR", cache);
        command.env("PIP_INDEX_URL", format!("{}/simple", self.origin.url));
        command
    }

    /// A cache in which this model never was.
    fn fresh_cache(&self) -> TempDir {
        let cache = tempfile::tempdir_in(self.folder.path()).expect("a temporary folder");
        for entry in fs::read_dir(self.warm.path()).expect("a folder") {
            let source = entry.expect("an entry").path();
            let target = cache.path().join(source.file_name().expect("a name"));
            let fetched = ["blobs", "sources", "partial"].iter().any(|name| source.ends_with(name));
            if source.is_file() {
                fs::copy(source, target).expect("copied");
            } else if !fetched {
                copy_files(&source, &target);
            }
        }
        cache
    }

    fn blob(&self, cache: &Path) -> PathBuf {
        cache.join("blobs").join(self.digest.hex())
    }
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

/// The bytes that wait in a cache for the rest of their file.
fn waiting_bytes(cache: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(cache.join("partial")) else { return 0 };
    let parts = entries.map(|entry| entry.expect("an entry").path());
    let parts = parts.filter(|path| path.extension().is_some_and(|end| end == "part"));
    parts.map(|path| path.metadata().map_or(0, |metadata| metadata.len())).sum()
}

#[test]
fn after_a_download_is_killed_the_next_start_fetches_the_rest_and_serves() {
    let mut random = Random(50);
    let download = Download::new(&mut random);
    let mut whole = Duration::ZERO;
    for app in &download.apps {
        let start = Instant::now();
        doubles(&Gateway::start(download.dev(app, download.warm.path())));
        whole = start.elapsed();
    }
    let wanted = interruptions();
    let (mut interrupted, mut resumed, mut round) = (0, 0, 0);
    while interrupted < wanted {
        assert!(round < wanted * ROUNDS_PER_INTERRUPTION, "only {interrupted} of {round}");
        let app = &download.apps[round % 2];
        let cache = download.fresh_cache();
        let before = download.origin.sent();
        let mut first = quietly(&mut download.dev(app, cache.path()));
        wait(moment(&mut random, whole));
        first.kill().expect("it was not waited for");
        first.wait().expect("a killed process ends");
        let begun = download.origin.sent() > before;
        let waiting = waiting_bytes(cache.path());
        interrupted += usize::from(begun && !download.blob(cache.path()).exists());

        let before = download.origin.sent();
        doubles(&Gateway::start(download.dev(app, cache.path())));
        let kept = fs::read(download.blob(cache.path())).expect("the file is kept");
        assert_eq!(Digest::of(&kept), download.digest, "round {round}");
        assert_eq!(waiting_bytes(cache.path()), 0, "round {round}: nothing half is left");
        // A wheel's directory is read anew: some 64 KiB.
        if waiting > 128 << 10 && waiting < download.bytes {
            let sent = download.origin.sent() - before;
            let most = download.bytes - waiting + (64 << 10);
            assert!(sent <= most, "round {round}: {waiting} bytes were here, and {sent} came");
            resumed += 1;
        }
        round += 1;
    }
    assert!(resumed >= wanted / 4, "only {resumed} of {round} downloads went on");
    println!(
        "a start takes {whole:.1?}; of {round} downloads {interrupted} were interrupted, and \
         {resumed} went on where they stopped"
    );
}
