//! A revision: one release of an app, loaded and ready to answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gw_artifact::Digest;
use gw_artifact::keys::PublicKey;
use gw_artifact::manifest::Manifest;
use gw_host::{Chain, Plugin};
use gw_inference::Model;
use http::Method;

use crate::content::Content;

/// One release of an app. It never changes; requests that began on it end on it, and its plugins,
/// models and files are freed when the last of them has.
pub struct Revision {
    /// The app that it belongs to.
    pub app: String,
    /// The version in its manifest, for people.
    pub version: String,
    /// Its name: the digest of the bundle.
    pub digest: Digest,
    /// Who signed the bundle; none in `gw dev`, which serves a working directory.
    pub signer: Option<PublicKey>,
    /// What it was built from.
    pub manifest: Manifest,
    /// What it answers, in the order of the manifest.
    pub routes: Vec<Arc<Route>>,
    /// Its plugins by name.
    pub plugins: HashMap<String, Arc<Plugin>>,
    /// Its models by name.
    pub models: HashMap<String, Arc<Model>>,
    /// Keeps the files on the disk that plugins and models read.
    pub(crate) _content: Arc<Content>,
}

/// One route of a revision.
pub struct Route {
    /// The pattern, such as `/v1/{name}`; bounded by the manifest, so it may label metrics.
    pub pattern: String,
    /// The methods that it answers.
    pub methods: Vec<Method>,
    /// The plugins that answer.
    pub chain: Chain,
    /// How long a whole answer may take.
    pub timeout: Duration,
    /// How long answers may be kept, or those of models where the chain has hooks; none where each
    /// request must reach the plugins.
    pub cache_ttl: Option<Duration>,
    /// What decides its answers besides the request.
    pub identity: Identity,
}

/// Everything deployed that decides the answers of a route: equal identities answer equally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The app.
    pub app: String,
    /// The plugins, in order.
    pub plugins: Vec<PluginIdentity>,
    /// The models that they may load, ordered by name.
    pub models: Vec<ModelIdentity>,
}

/// A plugin as far as it decides an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginIdentity {
    /// The digest of the component.
    pub component: Digest,
    /// The digest of the assets that it reads and of its limits, grants and policy.
    pub config: Digest,
}

/// A model as far as it decides an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelIdentity {
    /// The name under which the plugin loads it.
    pub name: String,
    /// The digest of its file.
    pub digest: Digest,
    /// Where it runs: devices differ in the last bits of an answer.
    pub device: String,
    /// The digest of how it is served, as far as that decides an answer.
    pub policy: Digest,
}

impl std::fmt::Debug for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revision")
            .field("app", &self.app)
            .field("version", &self.version)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route")
            .field("pattern", &self.pattern)
            .field("methods", &self.methods)
            .finish_non_exhaustive()
    }
}
