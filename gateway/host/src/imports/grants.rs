//! What the guests of one plugin reach beside models and assets: what its manifest grants, out of
//! what the node has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use gw_artifact::manifest::{Grants, HttpGrant};

use crate::imports::keyvalue::Store;
use crate::imports::outbound::Client;
use crate::imports::secret::{self, Masks, Secret, SecretSource};
use crate::{HostConfig, HostError, HostMetrics, KeyvalueConfig, OutboundConfig};

/// What a node has to give. What costs something is opened for the first plugin that is granted
/// it, so a node that needs none of it has none of it.
pub(crate) struct Services {
    secrets: BTreeMap<String, SecretSource>,
    keyvalue: (KeyvalueConfig, Opened<Store>),
    outbound: (OutboundConfig, Opened<Client>),
    metrics: HostMetrics,
}

/// Something that is made when it is asked for first.
struct Opened<T>(Mutex<Option<Arc<T>>>);

impl<T> Opened<T> {
    fn get(&self, open: impl FnOnce() -> Result<T, HostError>) -> Result<Arc<T>, HostError> {
        // It holds nothing or something whole, whatever panicked.
        let mut opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = &*opened {
            return Ok(Arc::clone(value));
        }
        let value = Arc::new(open()?);
        *opened = Some(Arc::clone(&value));
        Ok(value)
    }
}

impl Services {
    pub(crate) fn new(config: &HostConfig, metrics: HostMetrics) -> Self {
        Self {
            secrets: config.secrets.clone(),
            keyvalue: (config.keyvalue.clone(), Opened(Mutex::default())),
            outbound: (config.outbound.clone(), Opened(Mutex::default())),
            metrics,
        }
    }

    /// What `grants` gives to the plugin of this name and app.
    ///
    /// # Errors
    /// [`HostError::Secret`], [`HostError::Keyvalue`] and [`HostError::Outbound`], where the node
    /// does not have what is granted.
    pub(crate) fn grant(
        &self,
        app: &str,
        plugin: &str,
        grants: Grants,
    ) -> Result<Reach, HostError> {
        let Grants { config, secrets, keyvalue, http, private_network } = grants;
        let secrets = secret::read(plugin, secrets.iter(), &self.secrets)?;
        let (settings, store) = &self.keyvalue;
        let store = match keyvalue.is_empty() {
            true => None,
            false => Some(store.get(|| Store::open(settings))?),
        };
        let (settings, client) = &self.outbound;
        let client = match http.is_empty() {
            true => None,
            false => Some(client.get(|| Client::new(settings))?),
        };
        Ok(Reach {
            app: app.into(),
            plugin: plugin.into(),
            masks: Masks::new(secrets.values()),
            config,
            secrets,
            buckets: keyvalue,
            store,
            http,
            private_network,
            client,
            metrics: Some(self.metrics.clone()),
        })
    }
}

/// What the guests of one plugin reach; nothing by default.
#[derive(Default)]
pub(crate) struct Reach {
    pub(crate) app: Arc<str>,
    pub(crate) plugin: Arc<str>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// What its log must not show.
    pub(crate) masks: Masks,
    pub(crate) buckets: BTreeSet<String>,
    /// Where the buckets are; none without buckets.
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) http: Vec<HttpGrant>,
    pub(crate) private_network: bool,
    /// What sends requests; none without `http`.
    pub(crate) client: Option<Arc<Client>>,
    /// Where it is counted; nowhere while a plugin is built.
    pub(crate) metrics: Option<HostMetrics>,
}
