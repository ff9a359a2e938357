//! An app's folder, built: what `gw dev` loads and what `gw push` signs.

mod check;
mod ready;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gw_artifact::bundle::{BundleContent, BundledModel};
use gw_artifact::manifest::{FILE_NAME, Manifest, PluginEntry};
use gw_artifact::{Digest, FetchConfig, Fetcher, Source};
use gw_host::Inspection;

pub(crate) use self::check::{Lack, key_of};
use crate::guest::{self, Language};
use crate::progress::Shown;
use crate::report::{self, Advice};

/// An app as its author wrote it.
pub(crate) struct App {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
    text: String,
}

/// A plugin, built.
pub(crate) struct Built {
    pub(crate) name: String,
    /// Its component or core module.
    pub(crate) path: PathBuf,
    wasm: Vec<u8>,
    pub(crate) inspection: Inspection,
    /// Grants that it needs and does not have.
    pub(crate) lacks: Vec<Lack>,
}

impl Built {
    pub(crate) fn bytes(&self) -> u64 {
        self.wasm.len() as u64
    }
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
        for built in self.compile()? {
            for lack in &built.lacks {
                report::note(format_args!("warning: {lack}"));
            }
            let ready = ready::pre_initialise(&prepared, &built.wasm, &assets)
                .with_context(|| format!("pre-initialising plugin {}", built.name))?;
            plugins.push((built.name, ready));
        }
        Ok(BundleContent { manifest_text: self.text.clone(), plugins, assets, models })
    }

    /// Builds the plugins, in the manifest's order, and looks at what they import.
    ///
    /// # Errors
    /// Where a plugin does not build, or what it builds is no plugin.
    pub(crate) fn compile(&self) -> anyhow::Result<Vec<Built>> {
        self.manifest.plugins.iter().map(|plugin| self.compile_one(plugin)).collect()
    }

    fn compile_one(&self, plugin: &PluginEntry) -> anyhow::Result<Built> {
        let mut path = self.plugin_path(plugin);
        let language = Language::of(&path);
        if path.is_dir() {
            path = guest::build(&plugin.name, &path)?;
        }
        let wasm = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let inspection = gw_host::inspect(&plugin.name, &wasm)?;
        let file = self.folder.join(FILE_NAME).display().to_string();
        let manifest = (file.as_str(), self.text.as_str());
        let lacks = check::lacks(plugin, language, &self.manifest, &inspection, manifest);
        Ok(Built { name: plugin.name.clone(), path, wasm, inspection, lacks })
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

/// Whether the plugin's path can be what it has to be: source in a language that gw builds, or a
/// component.
fn check_plugin(folder: &Path, plugin: &PluginEntry) -> anyhow::Result<()> {
    let path = folder.join(&plugin.path);
    let fault = if path.is_file() || Language::of(&path).is_some() {
        return Ok(());
    } else if path.is_dir() {
        let [rust, javascript, python] = Language::ALL.map(Language::marker);
        format!("{} is a folder without a {rust}, {javascript} or {python}", path.display())
    } else {
        format!("there is no {}", path.display())
    };
    let hint = "`path` in gw.toml is the folder of a plugin's source, or a .wasm file, relative to \
                gw.toml";
    Err(Advice::new(format!("plugin {}: {fault}", plugin.name)).hint(hint).usage().into())
}
