//! From a manifest and its content to a revision that can answer.

mod serving;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use gw_artifact::bundle::{BundleContent, BundledModel};
use gw_artifact::keys::PublicKey;
use gw_artifact::manifest::{
    DevicePreference, Failure, Grants, Limits, Manifest, ModelEntry, PluginEntry, RouteEntry,
};
use gw_artifact::{ByteSize, Digest, Fetcher, Hasher, Progress};
use gw_host::{Chain, Health, Host, Link, LoadGrant, Plugin, PluginSpec};
use gw_inference::{DeviceChoice, Model, ModelSpec, Models};
use http::Method;

use crate::content::{Content, ContentStore};
use crate::quarantine::Watch;
use crate::revision::{Identity, ModelIdentity, PluginIdentity};
use crate::{DeployError, Revision, Route};

/// Turns manifests into revisions: fetches and loads models, writes assets, compiles plugins.
#[derive(Clone)]
pub struct Loader {
    /// Compiles and runs plugins.
    pub host: Arc<Host>,
    /// Loads models.
    pub models: Arc<Models>,
    /// Fetches the models that a bundle names but does not hold.
    pub fetcher: Arc<Fetcher>,
    /// Where models run. [`DeviceChoice::Auto`] leaves it to each model's manifest entry; anything
    /// else is the operator's word and wins over it.
    pub device: DeviceChoice,
    /// Is told how downloads go.
    pub progress: Arc<dyn Progress>,
}

/// What a revision is made of.
pub(crate) struct Source {
    pub(crate) manifest: Manifest,
    pub(crate) content: BundleContent,
    pub(crate) digest: Digest,
    pub(crate) signer: Option<PublicKey>,
    /// Where relative `file:` sources start; none for bundles, which hold such files.
    pub(crate) base: Option<PathBuf>,
}

impl Loader {
    /// Loads everything that `source` names. It blocks for as long as downloads and compilation
    /// take, and changes nothing that is live.
    pub(crate) fn load(
        &self,
        source: Source,
        store: &ContentStore,
        watch: &Watch,
    ) -> Result<Revision, DeployError> {
        let Source { manifest, content, digest, signer, base } = source;
        check(&manifest, &content)?;
        let files = write_content(&content, &digest, store)?;
        let base = base.as_deref().unwrap_or(Path::new(""));
        let mut models = HashMap::new();
        for entry in &manifest.models {
            let bundled = bundled(&manifest, &content, entry)?;
            let model = self.load_model(&manifest, entry, bundled, &files, base)?;
            models.insert(entry.name.clone(), model);
        }
        let mut plugins = HashMap::new();
        for entry in &manifest.plugins {
            let health = watch.over(&manifest.app.name, digest, &entry.name);
            let plugin = self.load_plugin(&manifest, &content, entry, &models, &files, health)?;
            plugins.insert(entry.name.clone(), plugin);
        }
        let assets = assets_digest(&content);
        let mut routes = Vec::new();
        for entry in &manifest.routes {
            routes.push(Arc::new(route(&manifest, entry, &plugins, &models, &assets)?));
        }
        Ok(Revision {
            app: manifest.app.name.clone(),
            version: manifest.app.version.clone(),
            digest,
            signer,
            manifest,
            routes,
            plugins,
            models,
            _content: files,
        })
    }

    fn load_model(
        &self,
        manifest: &Manifest,
        entry: &ModelEntry,
        bundled: &BundledModel,
        files: &Content,
        base: &Path,
    ) -> Result<Arc<Model>, DeployError> {
        let name = entry.name.clone();
        let digest = bundled.digest;
        let path = if bundled.bytes.is_some() {
            files.model(&digest)
        } else {
            let (source, progress) = (&entry.source, self.progress.as_ref());
            let fetched = self.fetcher.fetch(&name, source, Some(&digest), base, progress);
            let refused =
                |error| DeployError::Fetch { model: name.clone(), source: Box::new(error) };
            fetched.map_err(refused)?.path
        };
        let device = match (&self.device, entry.device) {
            (DeviceChoice::Auto, DevicePreference::Auto) => DeviceChoice::Auto,
            (DeviceChoice::Auto, DevicePreference::Gpu) => DeviceChoice::Gpu,
            (DeviceChoice::Auto, DevicePreference::Cpu) => DeviceChoice::Cpu,
            (chosen, _) => chosen.clone(),
        };
        let policy = serving::policy(&entry.serving);
        let spec = ModelSpec { name, path, digest, device, policy };
        self.models.load(&spec).map_err(|error| serving::refused(manifest, entry, error))
    }

    fn load_plugin(
        &self,
        manifest: &Manifest,
        content: &BundleContent,
        entry: &PluginEntry,
        models: &HashMap<String, Arc<Model>>,
        files: &Content,
        health: Health,
    ) -> Result<Arc<Plugin>, DeployError> {
        let component = content.plugins.iter().find(|(name, _)| *name == entry.name);
        let wasm: Bytes = match component {
            Some((_, wasm)) => wasm.clone(),
            None => return Err(missing(manifest, "plugin", &entry.name)),
        };
        let granted = entry.models.iter().filter_map(|name| models.get_key_value(name));
        let spec = PluginSpec {
            name: entry.name.clone(),
            wasm,
            limits: entry.limits,
            models: granted.map(|(name, model)| (name.clone(), Arc::clone(model))).collect(),
            load: entry.load.map(|ByteSize(bytes_max)| LoadGrant {
                bytes_max,
                models: Arc::clone(&self.models),
                device: self.device.clone(),
            }),
            assets: Some(files.assets()),
            health,
            app: manifest.app.name.clone(),
            grants: entry.grants.clone(),
            wasi_nn: entry.wasi_nn,
        };
        let plugin = entry.name.clone();
        self.host
            .load(spec)
            .map_err(|source| DeployError::Plugin { plugin, source: Box::new(source) })
    }
}

/// Refuses what would fail late, before anything is downloaded or compiled.
fn check(manifest: &Manifest, content: &BundleContent) -> Result<(), DeployError> {
    for asset in &manifest.assets {
        if !content.assets.iter().any(|(name, _)| *name == asset.name) {
            return Err(missing(manifest, "asset", &asset.name));
        }
    }
    Ok(())
}

fn write_content(
    content: &BundleContent,
    digest: &Digest,
    store: &ContentStore,
) -> Result<Arc<Content>, DeployError> {
    let assets = content.assets.iter().map(|(name, bytes)| (name.as_str(), bytes.as_ref()));
    let models = content
        .models
        .iter()
        .filter_map(|model| Some((&model.digest, model.bytes.as_ref()?.as_ref())));
    store
        .put(digest, assets, models)
        .map_err(DeployError::state("writing the files of a revision below", store.root()))
}

/// What the bundle says about a model, which must agree with the manifest.
fn bundled<'c>(
    manifest: &Manifest,
    content: &'c BundleContent,
    entry: &ModelEntry,
) -> Result<&'c BundledModel, DeployError> {
    let bundled = content
        .models
        .iter()
        .find(|model| model.name == entry.name)
        .ok_or_else(|| missing(manifest, "model", &entry.name))?;
    match entry.sha256 {
        Some(pinned) if pinned != bundled.digest => Err(DeployError::ModelMismatch {
            model: entry.name.clone(),
            pinned,
            bundled: bundled.digest,
        }),
        _ => Ok(bundled),
    }
}

fn route(
    manifest: &Manifest,
    entry: &RouteEntry,
    plugins: &HashMap<String, Arc<Plugin>>,
    models: &HashMap<String, Arc<Model>>,
    assets: &Digest,
) -> Result<Route, DeployError> {
    let bad_route = |reason: String| DeployError::BadRoute {
        app: manifest.app.name.clone(),
        path: entry.path.clone(),
        reason,
    };
    let mut links = Vec::with_capacity(entry.plugins.len());
    let mut settings = Vec::with_capacity(entry.plugins.len());
    for name in &entry.plugins {
        let plugin = plugins.get(name).ok_or_else(|| missing(manifest, "plugin", name))?;
        let entries = manifest.plugins.iter().find(|plugin| plugin.name == *name);
        let entry = entries.ok_or_else(|| missing(manifest, "plugin", name))?;
        links.push(Link { plugin: Arc::clone(plugin), failure: entry.failure });
        settings.push(entry);
    }
    if links.is_empty() {
        return Err(bad_route("it names no plugin".to_owned()));
    }
    let identity = identity(manifest, &settings, &links, models, assets);
    let chain = Chain::new(links).map_err(|error| bad_route(error.to_string()))?;
    let method = |text: &String| {
        Method::from_bytes(text.as_bytes()).map_err(|_| bad_route(format!("method {text:?}")))
    };
    Ok(Route {
        pattern: entry.path.clone(),
        methods: entry.methods.iter().map(method).collect::<Result<_, _>>()?,
        chain,
        timeout: entry.timeout,
        cache_ttl: entry.cache.as_ref().map(|cache| cache.ttl),
        identity,
    })
}

fn identity(
    manifest: &Manifest,
    settings: &[&PluginEntry],
    links: &[Link],
    models: &HashMap<String, Arc<Model>>,
    assets: &Digest,
) -> Identity {
    let granted: BTreeSet<&String> = settings.iter().flat_map(|entry| &entry.models).collect();
    let granted = granted.into_iter().filter_map(|name| models.get_key_value(name));
    let model = |(name, model): (&String, &Arc<Model>)| ModelIdentity {
        name: name.clone(),
        digest: model.digest(),
        device: model.device().to_owned(),
        policy: model.policy().answers_digest(),
    };
    let plugin = |(link, entry): (&Link, &&PluginEntry)| PluginIdentity {
        component: link.plugin.digest(),
        config: config_digest(entry, assets),
    };
    Identity {
        app: manifest.app.name.clone(),
        plugins: links.iter().zip(settings).map(plugin).collect(),
        models: granted.map(model).collect(),
    }
}

/// Taken apart in full, so that a new key of the manifest cannot be forgotten here.
fn config_digest(settings: &PluginEntry, assets: &Digest) -> Digest {
    let PluginEntry { name, path: _, models, load, failure, limits, grants, wasi_nn } = settings;
    let Grants { config, secrets, keyvalue, http, private_network } = grants;
    let mut hasher = Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    field(name.as_bytes());
    // The values of secrets are the node's, and no part of a name that others may see.
    let config = config.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect();
    let (secrets, keyvalue) = (secrets.iter().cloned(), keyvalue.iter().cloned());
    let http = http.iter().map(ToString::to_string);
    for list in [models.clone(), config, secrets.collect(), keyvalue.collect(), http.collect()] {
        field(&list.len().to_le_bytes());
        for text in &list {
            field(text.as_bytes());
        }
    }
    field(&load.map_or(0, |load| load.0).to_le_bytes());
    field(&[u8::from(*private_network), u8::from(*failure == Failure::Open)]);
    for word in limit_words(limits) {
        field(&word.to_le_bytes());
    }
    field(wasi_nn.name().as_bytes());
    field(assets.as_bytes());
    hasher.finish()
}

/// As [`config_digest`]. What is not said differs from every number.
fn limit_words(limits: &Limits) -> [u128; 10] {
    let Limits {
        memory,
        time,
        request,
        response,
        tensors,
        hostcall,
        device_time,
        table_elements,
        core_instances,
        resources,
    } = limits;
    let count = |count: &Option<u64>| count.map_or(u128::MAX, u128::from);
    let bytes = |size: &Option<ByteSize>| count(&size.map(|size| size.0));
    [
        memory.0.into(),
        time.as_nanos(),
        bytes(request),
        bytes(response),
        bytes(tensors),
        bytes(hostcall),
        device_time.map_or(u128::MAX, |time| time.as_nanos()),
        count(table_elements),
        count(core_instances),
        count(resources),
    ]
}

fn assets_digest(content: &BundleContent) -> Digest {
    let mut assets: Vec<_> = content.assets.iter().collect();
    assets.sort_by(|a, b| a.0.cmp(&b.0));
    let mut hasher = Hasher::new();
    for (name, bytes) in assets {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    hasher.finish()
}

/// The name of an unsigned revision: the digest of everything that it is made of.
pub(crate) fn content_digest(content: &BundleContent) -> Digest {
    let BundleContent { manifest_text, plugins, assets: _, models } = content;
    let mut hasher = Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    field(manifest_text.as_bytes());
    field(&plugins.len().to_le_bytes());
    for (name, wasm) in plugins {
        field(name.as_bytes());
        field(Digest::of(wasm).as_bytes());
    }
    for model in models {
        field(model.name.as_bytes());
        field(model.digest.as_bytes());
    }
    field(assets_digest(content).as_bytes());
    hasher.finish()
}

fn missing(manifest: &Manifest, kind: &'static str, name: &str) -> DeployError {
    DeployError::Missing { app: manifest.app.name.clone(), kind, name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest of a plugin with these lines in its manifest.
    fn digest(lines: &str) -> Digest {
        let text = format!(
            "[app]\nname = \"a\"\nversion = \"1\"\n[[plugin]]\nname = \"p\"\npath = \"p\"\n{lines}\n"
        );
        let manifest = Manifest::parse(&text, "gw.toml").expect("no mistakes");
        config_digest(&manifest.plugins[0], &Digest::of(b""))
    }

    #[test]
    fn whatever_is_granted_decides_the_identity() {
        let grants = [
            "",
            "limits = { time = \"1s\" }",
            "config = { a = \"b\" }",
            "config = { a = \"c\" }",
            "config = { ab = \"\" }",
            "config = { a = \"b\", c = \"d\" }",
            "secrets = [\"a\"]",
            "secrets = [\"a\", \"b\"]",
            "keyvalue = [\"a\"]",
            "secrets = [\"a\"]\nkeyvalue = [\"b\"]",
            "http = [\"http://a.com\"]",
            "http = [\"https://a.com\"]",
            "http = [\"https://a.com:444\"]",
            "http = [\"https://*.a.com\"]",
            "private_network = true",
        ];
        for (index, one) in grants.iter().enumerate() {
            for other in &grants[index + 1..] {
                assert_ne!(digest(one), digest(other), "{one} and {other}");
            }
        }
        let (one, other) = ("secrets = [\"a\", \"b\"]", "secrets = [\"b\", \"a\"]");
        assert_eq!(digest(one), digest(other), "the order of a set says nothing");
    }
}
