//! A node that serves sentence embeddings without a cache, and how to load it.

use std::fmt::Write as _;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gw_artifact::Digest;
use gw_artifact::manifest::Manifest;
use tempfile::TempDir;

use super::load::{Arrivals, Load, post};
use super::texts::{body, texts};
use crate::figures::dispatches::model;
use crate::gateway::Gateway;
use crate::{fetch, repo};

/// How many texts are asked in turn, so that lengths mix.
const TEXTS: usize = 248;

/// The plugin `plugins/embed` in front of `MiniLM` in single precision, whose rows depend
/// on nothing but themselves: those of the example's model share the scale of their batch.
pub(super) struct Site {
    _folder: TempDir,
    /// The file of the model.
    pub(super) model: String,
    /// The file of its tokenizer.
    pub(super) tokenizer: String,
    pub(super) gateway: Gateway,
}

impl Site {
    /// A node on `device` with these routes and this configuration, which has run once.
    pub(super) fn start(device: &str, routes: &[&str], config: &str) -> Result<Self> {
        let (manifest, _) = Manifest::open(&repo().join("examples/01-embed"))?;
        let asset = manifest.assets.first().context("the example has a tokenizer")?;
        let tokenizer = fetch(&asset.source, asset.sha256.as_ref())?;
        let tokenizer = tokenizer.to_str().context("the cache's path is text")?.to_owned();
        let model = model("minilm-f32")?;
        let plugin = repo().join("plugins/embed");
        let mut app = format!(
            "[app]\nname = \"embeddings\"\nversion = \"1.0.0\"\n\
             [[model]]\nname = \"minilm\"\nsource = \"{model}\"\n\
             [[asset]]\nname = \"tokenizer.json\"\nsource = \"{tokenizer}\"\n\
             [[plugin]]\nname = \"embed\"\npath = \"{}\"\nmodels = [\"minilm\"]\n",
            plugin.display()
        );
        for route in routes {
            writeln!(app, "[[route]]\npath = \"{route}\"\nplugins = [\"embed\"]")?;
        }
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("gateway.toml");
        std::fs::write(folder.path().join("gw.toml"), app)?;
        std::fs::write(&file, config)?;
        let file = file.to_str().context("a temporary path is text")?;
        let args = ["--no-watch", "--device", device, "--config", file];
        let gateway = Gateway::dev(folder.path(), &args);
        let site = Self { _folder: folder, model, tokenizer, gateway };
        for route in routes {
            let answer = site.gateway.post(route, r#"{"input": "is anybody there"}"#);
            ensure!(answer.status == 200, "{route}: {}", answer.body);
        }
        Ok(site)
    }

    /// The node's number.
    pub(super) fn process(&self) -> String {
        self.gateway.process().to_string()
    }

    /// A load of single texts on one of its routes, for a tenant or for nobody in particular.
    pub(super) fn load(&self, route: &str, key: Option<&str>) -> Load {
        load(&self.gateway.url, route, key)
    }

    /// Waits until nothing is queued and no run is under way, as far as the node counts.
    pub(super) fn rest(&self) {
        let busy = || self.gateway.metric("gw_device_busy_seconds_total", &[]);
        let mut before = busy();
        loop {
            pause(Duration::from_secs(1));
            let now = busy();
            if now == before && self.gateway.metric("gw_queue_depth", &[]) == 0.0 {
                return;
            }
            before = now;
        }
    }
}

/// Single texts in turn, as fast as sixteen connections go.
pub(super) fn load(url: &str, route: &str, key: Option<&str>) -> Load {
    let requests = texts(TEXTS).iter().map(|text| post(route, key, &body(text))).collect();
    Load {
        address: url.trim_start_matches("http://").to_owned(),
        requests,
        arrivals: Arrivals::Closed,
        connections: 16,
        leaves: 0,
        length: Duration::from_secs(10),
    }
}

/// The line of a node's configuration that lets these keys in.
pub(super) fn api_keys(keys: &[&str]) -> String {
    let digests = keys.iter().map(|key| format!("\"{}\"", Digest::of(key.as_bytes()).hex()));
    format!("[server]\napi_keys = [{}]\n", digests.collect::<Vec<_>>().join(", "))
}

/// A wait that nothing ends: what is waited for tells nobody.
pub(super) fn pause(time: Duration) {
    let (_hold, clock) = mpsc::channel::<()>();
    let _ = clock.recv_timeout(time);
}
