//! `gw dev`: an app built, served, and rebuilt whenever its source changes.

mod watch;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use gw_artifact::bundle::BundleContent;
use gw_artifact::manifest::RouteEntry;
use gw_artifact::{Digest, FetchConfig};
use gw_deploy::Deployments;
use gw_inference::DeviceChoice;
use prometheus_client::registry::Registry;

use self::watch::Watch;
use crate::app::App;
use crate::config::Config;
use crate::node::{self, Node};
use crate::report;

/// A line to paste is read before it is sent; a body that is longer than this is not.
const INLINE_BYTES_MAX: usize = 200;

/// Build an app, serve it on this machine, and rebuild it when its source changes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gw dev examples/01-embed
  gw dev --device cpu --listen 127.0.0.1:0")]
pub(crate) struct Args {
    /// The app's folder, which holds gw.toml
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    /// The address to serve on; port 0 takes a free one
    #[arg(long, env = "GW_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// Where models run: auto, gpu, cpu, or a part of an adapter's name
    #[arg(long, env = "GW_DEVICE", value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// The node's limits and secrets [default: built in]
    #[arg(long, env = "GW_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve what is built now, and do not rebuild it
    #[arg(long, env = "GW_NO_WATCH", value_parser = clap::builder::FalseyValueParser::new())]
    no_watch: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // What can fail at once fails before the build, which takes its time.
    let app = App::open(&args.folder)?;
    let mut config = args.config.as_deref().map(Config::open).transpose()?.unwrap_or_default();
    gw_server::check_keys(args.listen, &config.server)?;
    node::check_device(&args.device, &config)?;
    let listener = node::listen(args.listen, "--listen")?;
    // From here on, so that an edit during the first build is not missed.
    let watch = if args.no_watch { None } else { Some(Watch::start(&app)?) };
    let content = app.build()?;
    let mut registry = Registry::default();
    let kept = FetchConfig::from_env()?.cache_dir;
    // Two apps in two terminals do not wait for each other, and each finds its buckets again.
    config.plugins.keyvalue.dir.get_or_insert_with(|| kept.join("keyvalue").join(own(&app)));
    let loader = node::loader(&config, &args.device, &kept, &mut registry)?;
    let models = Arc::clone(&loader.models);
    node::block_on(async {
        let deployments = Deployments::in_memory(loader)?;
        let live = install(&deployments, &app, content).await?;
        let greeting = banner(&app, &node::url(&listener)?);
        let watching = watch.map(|watch| {
            let (deployments, folder) = (Arc::clone(&deployments), args.folder.clone());
            tokio::spawn(rebuild_on_change(watch, deployments, folder, live))
        });
        let (admin, config) = (None, config.server);
        let node = Node { listener, admin, deployments, models, config, registry };
        let served = node.serve(greeting).await;
        if let Some(watching) = watching {
            // It has the folder of the content, too, which goes with the last who has it.
            watching.abort();
            let _ = watching.await;
        }
        served
    })
}

/// A folder's name for what belongs to the app in this place.
fn own(app: &App) -> String {
    let folder = app.folder.canonicalize().unwrap_or_else(|_| app.folder.clone());
    Digest::of(folder.as_os_str().as_encoded_bytes()).hex()
}

/// Makes a build live, and returns what it is called.
async fn install(
    deployments: &Arc<Deployments>,
    app: &App,
    content: BundleContent,
) -> anyhow::Result<Digest> {
    let base = app.folder.clone();
    Ok(deployments.install(app.manifest.clone(), content, base).await?.digest)
}

/// Builds and swaps after every change, for as long as the node runs. What does not build leaves
/// the old one serving.
async fn rebuild_on_change(
    mut watch: Watch,
    deployments: Arc<Deployments>,
    folder: PathBuf,
    mut live: Digest,
) {
    loop {
        watch.changed().await;
        report::note("building what changed");
        let start = Instant::now();
        match rebuild(&mut watch, &deployments, folder.clone()).await {
            // A file was touched, or changed back.
            Ok(digest) if digest == live => report::note("built: nothing changed"),
            Ok(digest) => {
                live = digest;
                report::note(format_args!("rebuilt in {:.1?}", start.elapsed()));
            }
            Err(error) => {
                report::note(report::describe(&error));
                report::note("the previous build serves on");
            }
        }
    }
}

async fn rebuild(
    watch: &mut Watch,
    deployments: &Arc<Deployments>,
    folder: PathBuf,
) -> anyhow::Result<Digest> {
    let app = App::open(&folder)?;
    watch.follow(&app);
    let (app, content) = tokio::task::spawn_blocking(move || {
        let content = app.build();
        (app, content)
    })
    .await?;
    install(deployments, &app, content?).await
}

/// The address, and a line to paste for every route.
fn banner(app: &App, url: &str) -> String {
    let mut text = format!("listening on {url}\n");
    for route in &app.manifest.routes {
        let _ = writeln!(text, "  {} {}", route.methods.join(","), route.path);
        let _ = writeln!(text, "    {}", curl(route, url, &app.folder));
    }
    text
}

/// A request that the route takes, from whatever folder it is sent.
fn curl(route: &RouteEntry, url: &str, folder: &Path) -> String {
    let path: String = route.path.chars().filter(|c| !"{}*".contains(*c)).collect();
    let method = match route.methods.iter().find(|method| *method == "POST") {
        Some(post) => post,
        None => route.methods.first().map_or("POST", String::as_str),
    };
    let body = example_body(folder);
    let target = shell_quoted(&format!("{url}{path}"));
    match method {
        "GET" => format!("curl -s {target}"),
        "HEAD" => format!("curl -sI {target}"),
        // With a body, this is what curl sends by itself.
        "POST" => format!("curl -s {target} {body}"),
        "DELETE" | "OPTIONS" => format!("curl -s -X {method} {target}"),
        _ => format!("curl -s -X {method} {target} {body}"),
    }
}

/// What tells curl the body: the app's `request.json` where there is one, the JSON itself if it
/// fits the line, or another file that is called `request`, byte by byte.
fn example_body(folder: &Path) -> String {
    let Some(file) = example_file(folder) else { return "-d '{}'".to_owned() };
    let is_json = file.extension().is_some_and(|extension| extension == "json");
    if is_json {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let text = text.trim();
        // What curl is given as data is a file's name where it begins with `@`.
        let is_short = text.len() <= INLINE_BYTES_MAX && !text.contains(char::is_control);
        if is_short && text.starts_with(['{', '[']) {
            return format!("-d {}", shell_quoted(text));
        }
    }
    // As `-d`, curl would leave out line ends.
    let flag = if is_json { "-d" } else { "--data-binary" };
    let path = std::path::absolute(&file).unwrap_or(file);
    format!("{flag} {}", shell_quoted(&format!("@{}", path.display())))
}

/// The file that shows what a request holds, `request.json` before any other.
fn example_file(folder: &Path) -> Option<PathBuf> {
    let is_example =
        |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == "request") && path.is_file();
    let entries = std::fs::read_dir(folder).ok()?;
    let files = entries.flatten().map(|entry| entry.path()).filter(is_example);
    files.min_by_key(|path| {
        (path.extension().is_none_or(|extension| extension != "json"), path.clone())
    })
}

/// A word that a shell takes as it is.
fn shell_quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str, methods: &[&str]) -> RouteEntry {
        RouteEntry {
            path: path.to_owned(),
            methods: methods.iter().map(|&method| method.to_owned()).collect(),
            plugins: vec![],
            timeout: std::time::Duration::from_secs(30),
            cache: None,
        }
    }

    #[test]
    fn every_route_has_a_line_to_paste() {
        let folder = tempfile::tempdir().unwrap();
        let url = "http://127.0.0.1:8787";
        let cases = [
            ("/embed", &["POST"][..], "curl -s http://127.0.0.1:8787/embed -d '{}'"),
            ("/embed", &["GET", "POST"], "curl -s http://127.0.0.1:8787/embed -d '{}'"),
            ("/v1/{name}", &["GET"], "curl -s http://127.0.0.1:8787/v1/name"),
            ("/{*rest}", &["PUT"], "curl -s -X PUT http://127.0.0.1:8787/rest -d '{}'"),
        ];
        for (path, methods, expected) in cases {
            assert_eq!(curl(&route(path, methods), url, folder.path()), expected);
        }
    }

    #[test]
    fn the_example_request_of_an_app_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path().join("my app");
        std::fs::create_dir(&app).unwrap();
        let line = |request: &str| {
            std::fs::write(app.join("request.json"), request).unwrap();
            curl(&route("/embed", &["POST"]), "http://h", &app)
        };
        assert_eq!(
            line("{\"input\": \"it's short\"}\n"),
            r#"curl -s http://h/embed -d '{"input": "it'\''s short"}'"#
        );
        let file = format!("curl -s http://h/embed -d '@{}/request.json'", app.display());
        assert_eq!(line(&format!("{{\"input\": \"{}\"}}", "long ".repeat(50))), file);
        assert_eq!(line("{\n}"), file);
    }

    #[test]
    fn a_request_that_is_no_json_is_sent_byte_by_byte() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(example_body(folder.path()), "-d '{}'");
        std::fs::write(folder.path().join("request.wav"), [0, 159]).unwrap();
        std::fs::write(folder.path().join("requests.txt"), "").unwrap();
        let file = format!("--data-binary @{}/request.wav", folder.path().display());
        assert_eq!(example_body(folder.path()), file);
        std::fs::write(folder.path().join("request.json"), "[1]").unwrap();
        assert_eq!(example_body(folder.path()), "-d '[1]'", "JSON goes first");
    }

    #[test]
    fn a_file_in_the_line_is_found_from_any_folder() {
        let here = Path::new(".").canonicalize().unwrap();
        let app = tempfile::tempdir_in(&here).unwrap();
        std::fs::write(app.path().join("request.json"), "{\n}").unwrap();
        let relative = app.path().strip_prefix(&here).unwrap();
        let expected = format!("-d @{}/request.json", app.path().display());
        assert_eq!(example_body(relative), expected);
    }
}
