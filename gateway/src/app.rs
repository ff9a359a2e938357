//! An app's folder, built: what `gw dev` loads and what `gw push` signs.

mod ready;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gw_artifact::bundle::{BundleContent, BundledModel};
use gw_artifact::manifest::{Manifest, PluginEntry};
use gw_artifact::{Digest, FetchConfig, Fetcher, Source};

use crate::guest;
use crate::progress::Shown;
use crate::report::Advice;

/// An app as its author wrote it.
pub(crate) struct App {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
    text: String,
}

impl App {
    /// Reads `gw.toml` in `folder` and looks whether its plugins are there.
    ///
    /// # Errors
    /// All mistakes of the manifest at once, with their lines.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        if !folder.join("gw.toml").is_file() {
            let message = format!("there is no gw.toml in {}", folder.display());
            let hint = "name an app's folder, such as examples/01-embed";
            return Err(Advice::new(message).hint(hint).usage().into());
        }
        let (manifest, text) = Manifest::open(folder)?;
        for plugin in &manifest.plugins {
            check_plugin(folder, plugin)?;
        }
        Ok(Self { folder: folder.to_path_buf(), manifest, text })
    }

    /// Where a plugin's source or component lies.
    pub(crate) fn plugin_path(&self, plugin: &PluginEntry) -> PathBuf {
        self.folder.join(&plugin.path)
    }

    /// Fetches models and assets, builds the plugins and pre-initialises them.
    ///
    /// # Errors
    /// Where a source cannot be had or a plugin does not build.
    pub(crate) fn build(&self) -> anyhow::Result<BundleContent> {
        let config = FetchConfig::from_env()?;
        let prepared = config.cache_dir.join("plugins");
        let fetcher = Fetcher::new(config);
        let assets = self.fetch_assets(&fetcher)?;
        let models = self.fetch_models(&fetcher)?;
        let mut plugins = Vec::new();
        for plugin in &self.manifest.plugins {
            let wasm = self.component(plugin)?;
            let ready = ready::pre_initialise(&prepared, &wasm, &assets)
                .with_context(|| format!("pre-initialising plugin {}", plugin.name))?;
            plugins.push((plugin.name.clone(), ready));
        }
        Ok(BundleContent { manifest_text: self.text.clone(), plugins, assets, models })
    }

    fn component(&self, plugin: &PluginEntry) -> anyhow::Result<Vec<u8>> {
        let mut path = self.plugin_path(plugin);
        if path.is_dir() {
            guest::ensure_target(&path)?;
            path = guest::build(&plugin.name, &path)?;
        }
        std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
    }

    fn fetch_assets(&self, fetcher: &Fetcher) -> anyhow::Result<Vec<(String, bytes::Bytes)>> {
        let mut assets = Vec::new();
        for asset in &self.manifest.assets {
            let (bytes, _) = self
                .fetch(fetcher, &asset.name, &asset.source, asset.sha256.as_ref())
                .and_then(|(path, digest)| Ok((read(&path)?, digest)))
                .with_context(|| format!("asset {}", asset.name))?;
            assets.push((asset.name.clone(), bytes));
        }
        Ok(assets)
    }

    fn fetch_models(&self, fetcher: &Fetcher) -> anyhow::Result<Vec<BundledModel>> {
        let mut models = Vec::new();
        for model in &self.manifest.models {
            let (path, digest) = self
                .fetch(fetcher, &model.name, &model.source, model.sha256.as_ref())
                .with_context(|| format!("model {}", model.name))?;
            // A node can fetch what has an address; what is only here travels in the bundle.
            let local = matches!(model.source, Source::File { .. });
            let bytes = local.then(|| read(&path)).transpose()?;
            models.push(BundledModel { name: model.name.clone(), digest, bytes });
        }
        Ok(models)
    }

    fn fetch(
        &self,
        fetcher: &Fetcher,
        name: &str,
        source: &Source,
        expected: Option<&Digest>,
    ) -> anyhow::Result<(PathBuf, Digest)> {
        let fetched = fetcher.fetch(name, source, expected, &self.folder, &Shown::fetching())?;
        Ok((fetched.path, fetched.digest))
    }
}

fn read(path: &Path) -> anyhow::Result<bytes::Bytes> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(bytes.into())
}

/// Whether the plugin's path can be what it has to be: a crate or a component.
fn check_plugin(folder: &Path, plugin: &PluginEntry) -> anyhow::Result<()> {
    let path = folder.join(&plugin.path);
    let fault = if path.join("Cargo.toml").is_file() || path.is_file() {
        return Ok(());
    } else if path.is_dir() {
        format!("{} is a folder without a Cargo.toml", path.display())
    } else {
        format!("there is no {}", path.display())
    };
    Err(Advice::new(format!("plugin {}: {fault}", plugin.name))
        .hint("`path` in gw.toml is the folder of a crate, or a .wasm file, relative to gw.toml")
        .usage()
        .into())
}
