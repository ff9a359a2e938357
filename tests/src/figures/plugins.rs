//! What running a plugin costs, against wasmtime's own server on the same machine.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use gw_artifact::manifest::{Grants, Limits, NnDialect};
use gw_host::{Call, Health, Host, HostConfig, Plugin, PluginSpec};
use prometheus_client::registry::Registry;
use serde_json::json;

use super::process::resident_kib;
use super::{Row, median, say};
use crate::gateway::{Gateway, send};
use crate::{guests, repo};

/// Both sides are measured in turn, this often.
const ROUNDS: usize = 5;
/// Connections that each have one request on its way.
const CONNECTIONS: &str = "64";
/// Of one measurement.
const SECONDS: &str = "5s";

/// What a load generator saw.
struct Load {
    rps: f64,
    p99_ms: f64,
}

pub(super) fn handler_rps() -> Result<Row> {
    against_wasmtime("handler-rps", "hello", 1.5, ">= 1.5x, p99 no worse")
}

pub(super) fn hooks_rps() -> Result<Row> {
    against_wasmtime("hooks-rps", "hello-hooks", 2.5, ">= 2.5x, p99 no worse")
}

/// The guest on gw and the hello handler on `wasmtime serve`, each with a fresh instance for every
/// request.
fn against_wasmtime(key: &'static str, guest: &str, least: f64, bar: &'static str) -> Result<Row> {
    let theirs = Wasmtime::serve(&guests::component("hello"))?;
    let app = tempfile::tempdir()?;
    write_app(app.path(), guest)?;
    let ours = Gateway::dev(app.path(), &["--no-watch", "--device", "cpu"]);
    let url = format!("{}/", ours.url);
    for url in [&url, &theirs.url] {
        let answer = send("GET", url, None);
        ensure!(answer.status == 200 && answer.body == "hello", "{url}: {}", answer.body);
        load(url, "2s")?;
    }
    let (mut rps, mut p99) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..ROUNDS {
        for (side, url) in [&url, &theirs.url].into_iter().enumerate() {
            let load = load(url, SECONDS)?;
            rps[side].push(load.rps);
            p99[side].push(load.p99_ms);
        }
    }
    let [ours, peer] = rps.map(|mut values| median(&mut values));
    let [our_p99, peer_p99] = p99.map(|mut values| median(&mut values));
    let ratio = ours / peer;
    say(&format!("p99 {our_p99:.2} ms, peer {peer_p99:.2} ms"));
    let holds = ratio >= least && our_p99 <= peer_p99;
    let (peer, ratio, unit) = (Some(peer), Some(ratio), "requests/s");
    Ok(Row { key, ours, peer, ratio, unit, runs: ROUNDS, bar, holds })
}

fn write_app(folder: &Path, guest: &str) -> Result<()> {
    let wasm = guests::component(guest);
    let manifest = format!(
        "[app]\nname = \"hello\"\nversion = \"1.0.0\"\n\
         [[plugin]]\nname = \"hello\"\npath = \"{}\"\n\
         [[route]]\npath = \"/\"\nmethods = [\"GET\"]\nplugins = [\"hello\"]\n",
        wasm.display()
    );
    std::fs::write(folder.join("gw.toml"), manifest)?;
    Ok(())
}

/// A running `wasmtime serve`.
struct Wasmtime {
    child: Child,
    url: String,
}

impl Wasmtime {
    fn serve(component: &Path) -> Result<Self> {
        let peers = repo().join("tests/peers/run");
        let installed = Command::new(&peers).arg("wasmtime").status().context("tests/peers/run")?;
        ensure!(installed.success(), "wasmtime is not installed; the reason is above");
        let mut child = Command::new(&peers)
            .args(["wasmtime", "serve", "-Scli", "--addr", "127.0.0.1:0"])
            .arg(component)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let mut peer = Self { child, url: String::new() };
        let mut lines = BufReader::new(stderr).lines();
        for line in lines.by_ref() {
            let line = line?;
            if let Some((_, url)) = line.split_once("Serving HTTP on ") {
                url.trim().clone_into(&mut peer.url);
                break;
            }
            say(&line);
        }
        ensure!(!peer.url.is_empty(), "wasmtime serve does not listen; its words are above");
        // What it goes on to say still has to be read.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(peer)
    }
}

impl Drop for Wasmtime {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `wrk` on a URL for so long.
fn load(url: &str, duration: &str) -> Result<Load> {
    let line = ["wrk", "-t1", "-c", CONNECTIONS, "-d", duration, "--latency", url];
    let output = Command::new(repo().join("tests/peers/run")).args(line).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk: {text}{}", String::from_utf8_lossy(&output.stderr));
    if let Some(line) =
        text.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket"))
    {
        bail!("wrk at {url}: {line}");
    }
    let field = |start: &str| {
        let mut lines = text.lines().map(str::trim);
        let line = lines.find(|line| line.starts_with(start))?;
        line.split_whitespace().nth(1).map(str::to_owned)
    };
    let rps = field("Requests/sec:").and_then(|text| text.parse().ok());
    let p99_ms = field("99%").as_deref().and_then(milliseconds);
    let (rps, p99_ms) = rps.zip(p99_ms).with_context(|| format!("wrk said {text}"))?;
    Ok(Load { rps, p99_ms })
}

/// A time as `wrk` prints it: `812.00us`, `3.52ms`, `1.20s`.
fn milliseconds(text: &str) -> Option<f64> {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3)];
    let (number, factor) =
        units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    Some(number.parse::<f64>().ok()? * factor)
}

/// Requests whose instances are timed, and all over which memory must stay.
const TIMED: usize = 20_000;
const REQUESTS: usize = 200_000;

/// The row is the median; it holds where the 99th percentile and memory do too.
pub(super) fn instantiate_us() -> Result<Row> {
    let host = Host::new(HostConfig::default(), &mut Registry::default())?;
    let plugin = host.load(PluginSpec {
        name: "hello".to_owned(),
        wasm: std::fs::read(guests::component("hello"))?.into(),
        limits: Limits::default(),
        app: "hello".to_owned(),
        grants: Grants::default(),
        wasi_nn: NnDialect::default(),
        models: std::collections::HashMap::new(),
        load: None,
        assets: None,
        health: Health::default(),
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut times = runtime.block_on(instantiations(&plugin, TIMED))?;
    times.sort_by(f64::total_cmp);
    let (p50, p99) = (times[TIMED / 2], times[TIMED * 99 / 100]);
    let before = resident_kib("self")?;
    runtime.block_on(instantiations(&plugin, REQUESTS - TIMED))?;
    let after = resident_kib("self")?;
    let mut line = format!("p99 {p99:.1} us; resident {before} KiB after {TIMED} requests, ");
    let _ = write!(line, "{after} KiB after {REQUESTS}");
    say(&line);
    Ok(Row {
        key: "instantiate-us",
        ours: p50,
        peer: None,
        ratio: None,
        unit: "us",
        runs: TIMED,
        bar: "<= 10, p99 <= 50",
        holds: p50 <= 10.0 && p99 <= 50.0 && after <= before + before / 20,
    })
}

async fn instantiations(plugin: &Arc<Plugin>, count: usize) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let request = http::Request::get("http://localhost/").body(Bytes::new())?;
        let deadline = Instant::now() + Duration::from_secs(10);
        let call = Call { deadline, request_id: "figure".to_owned(), caller: Arc::default() };
        let handled = plugin.handle(request, call).await?;
        times.push(handled.timings.instantiate.as_secs_f64() * 1e6);
    }
    Ok(times)
}

/// Gateways that are started for it; each has one first request.
const STARTS: usize = 5;

/// Guest time outside its model, so that a cold model does not count.
pub(super) fn preinit() -> Result<Row> {
    let mut beyond = Vec::new();
    for _ in 0..STARTS {
        let gateway =
            Gateway::dev(&repo().join("examples/01-embed"), &["--no-watch", "--device", "cpu"]);
        let mut times = Vec::new();
        for index in 0..100 {
            let input = json!({ "input": format!("the cat sat on the mat {index}") });
            let answer = gateway.post("/embed", &input.to_string());
            ensure!(answer.status == 200, "{}", answer.body);
            times.push(answer.timing("plugin").context("`plugin` is in Server-Timing")?);
        }
        beyond.push(times[0] - times[99]);
    }
    let ours = median(&mut beyond);
    Ok(Row {
        key: "preinit",
        ours,
        peer: None,
        ratio: None,
        unit: "ms",
        runs: STARTS,
        bar: "<= 1",
        holds: ours <= 1.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(milliseconds("812.00us"), Some(0.812));
        assert_eq!(milliseconds("3.52ms"), Some(3.52));
        assert_eq!(milliseconds("1.20s"), Some(1200.0));
        assert_eq!(milliseconds("12"), None);
    }
}
