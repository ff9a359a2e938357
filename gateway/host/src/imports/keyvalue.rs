//! `wasi:keyvalue`: buckets of an app, on this node's disk or in a Redis.
//!
//! A plugin opens the buckets that `keyvalue` in its manifest names. A bucket belongs to the app:
//! plugins of one app share it, and two apps never meet in one. A value is there when `set`
//! returns. A counter is decimal text, so `get` reads what `increment` wrote.
#![expect(unreachable_pub, reason = "the generated bindings re-export the types of resources")]

mod local;
mod redis;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use self::bindings::wasi::keyvalue::store::{self, Error, KeyResponse};
use self::bindings::wasi::keyvalue::{atomics, batch};
use self::local::LocalStore;
use self::redis::RedisStore;
use crate::HostError;
use crate::imports::grants::Reach;
use crate::imports::secret::Secret;
use crate::instance::State;
use crate::metrics::Reached;

#[allow(clippy::pedantic, unreachable_pub, reason = "generated code")]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit/deps/keyvalue.wit",
        world: "imports",
        imports: {
            "wasi:keyvalue/store.open": trappable,
            "wasi:keyvalue/store.[drop]bucket": trappable,
            default: async | trappable,
        },
        with: { "wasi:keyvalue/store.bucket": super::Bucket },
    });
}

/// Section `[plugins.keyvalue]` of the node's configuration: where buckets are, and how large.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyvalueConfig {
    /// The folder that keeps buckets. By default one in the state folder.
    pub dir: Option<PathBuf>,
    /// A Redis that keeps them instead, as `redis://[[user]:password@]host[:port][/database]`, or
    /// `rediss://` for TLS. Nodes that name the same one share the buckets of their apps.
    pub redis: Option<Secret>,
    /// The largest key. Default 1 KiB.
    #[serde(with = "gw_artifact::size")]
    pub key_bytes_max: usize,
    /// The largest value. Default 1 MiB.
    #[serde(with = "gw_artifact::size")]
    pub value_bytes_max: usize,
    /// All keys and values of one bucket together. Default 256 MiB.
    #[serde(with = "gw_artifact::size")]
    pub bucket_bytes_max: u64,
    /// The keys that one batch may name, and the keys of one page of `list-keys`. Default 1000.
    pub keys_max: usize,
    /// The values that one batch may bring or take, together. Default 16 MiB.
    #[serde(with = "gw_artifact::size")]
    pub batch_bytes_max: usize,
}

impl Default for KeyvalueConfig {
    fn default() -> Self {
        Self {
            dir: None,
            redis: None,
            key_bytes_max: 1 << 10,
            value_bytes_max: 1 << 20,
            bucket_bytes_max: 256 << 20,
            keys_max: 1000,
            batch_bytes_max: 16 << 20,
        }
    }
}

/// Why an operation was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    /// The guest asked for what it may not have: it is told.
    Refused(String),
    /// The store failed: the log is told.
    Failed(String),
}

/// The buckets of all apps.
pub(crate) struct Store {
    config: KeyvalueConfig,
    place: Place,
}

enum Place {
    Local(LocalStore),
    Redis(Box<RedisStore>),
}

impl Store {
    /// Opens what the configuration names. A Redis is not asked yet: a node starts without it.
    ///
    /// # Errors
    /// [`HostError::Keyvalue`].
    pub(crate) fn open(config: &KeyvalueConfig) -> Result<Self, HostError> {
        let place = match &config.redis {
            Some(url) => Place::Redis(Box::new(RedisStore::new(url)?)),
            None => Place::Local(LocalStore::open(config.dir.as_deref())?),
        };
        Ok(Self { config: config.clone(), place })
    }

    /// The values of keys, in their order.
    async fn read(
        &self,
        bucket: &Bucket,
        keys: Vec<String>,
    ) -> Result<Vec<Option<Vec<u8>>>, Fault> {
        self.check_keys(keys.iter())?;
        let bytes_max = self.config.batch_bytes_max;
        match &self.place {
            Place::Local(local) => local.read(bucket, keys, bytes_max).await,
            Place::Redis(redis) => redis.read(bucket, &keys, bytes_max).await,
        }
    }

    /// Writes all pairs or none; of a key that is given twice, the last value.
    async fn write(&self, bucket: &Bucket, pairs: Vec<(String, Vec<u8>)>) -> Result<(), Fault> {
        self.check_keys(pairs.iter().map(|(key, _)| key))?;
        let KeyvalueConfig { value_bytes_max, batch_bytes_max, bucket_bytes_max, .. } = self.config;
        for (key, value) in &pairs {
            within(value.len(), value_bytes_max, "value_bytes_max", || {
                format!("the value of {key:?}")
            })?;
        }
        let bytes = pairs.iter().map(|(_, value)| value.len()).sum();
        within(bytes, batch_bytes_max, "batch_bytes_max", || "the batch".to_owned())?;
        let pairs: BTreeMap<_, _> = pairs.into_iter().collect();
        match &self.place {
            Place::Local(local) => local.write(bucket, pairs, bucket_bytes_max).await,
            Place::Redis(redis) => redis.write(bucket, &pairs, bucket_bytes_max).await,
        }
    }

    async fn delete(&self, bucket: &Bucket, keys: Vec<String>) -> Result<(), Fault> {
        self.check_keys(keys.iter())?;
        match &self.place {
            Place::Local(local) => local.delete(bucket, keys).await,
            Place::Redis(redis) => redis.delete(bucket, &keys).await,
        }
    }

    async fn exists(&self, bucket: &Bucket, key: String) -> Result<bool, Fault> {
        self.check_keys([&key].into_iter())?;
        match &self.place {
            Place::Local(local) => local.exists(bucket, key).await,
            Place::Redis(redis) => redis.exists(bucket, &key).await,
        }
    }

    /// A page of keys behind `cursor`, and the cursor of the next page where there is one.
    async fn list(
        &self,
        bucket: &Bucket,
        cursor: Option<u64>,
    ) -> Result<(Vec<String>, Option<u64>), Fault> {
        let keys_max = self.config.keys_max;
        match &self.place {
            Place::Local(local) => local.list(bucket, cursor, keys_max).await,
            Place::Redis(redis) => redis.list(bucket, cursor, keys_max).await,
        }
    }

    async fn increment(&self, bucket: &Bucket, key: String, delta: u64) -> Result<u64, Fault> {
        self.check_keys([&key].into_iter())?;
        let bytes_max = self.config.bucket_bytes_max;
        match &self.place {
            Place::Local(local) => local.increment(bucket, key, delta, bytes_max).await,
            Place::Redis(redis) => redis.increment(bucket, &key, delta, bytes_max).await,
        }
    }

    fn check_keys<'k>(&self, keys: impl ExactSizeIterator<Item = &'k String>) -> Result<(), Fault> {
        let KeyvalueConfig { keys_max, key_bytes_max, .. } = self.config;
        if keys.len() > keys_max {
            let text = format!("{} keys in one batch; `keys_max` is {keys_max}", keys.len());
            return Err(Fault::Refused(text));
        }
        for key in keys {
            within(key.len(), key_bytes_max, "key_bytes_max", || "a key".to_owned())?;
        }
        Ok(())
    }
}

/// Refuses what is larger than a limit, which is called `key` in the node's configuration.
fn within(bytes: usize, max: usize, key: &str, what: impl FnOnce() -> String) -> Result<(), Fault> {
    if bytes <= max {
        return Ok(());
    }
    Err(Fault::Refused(format!("{} has {bytes} bytes; `{key}` of this node is {max}", what())))
}

/// The error of a bucket that would grow beyond its limit.
fn bucket_full(bucket: &str, bytes: u64, max: u64) -> Fault {
    Fault::Refused(format!(
        "bucket {bucket:?} would have {bytes} bytes; `bucket_bytes_max` of this node is {max}"
    ))
}

/// A bucket that a guest opened.
#[derive(Clone)]
pub struct Bucket {
    app: Arc<str>,
    name: Arc<str>,
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<_, Interface>(linker, State::keyvalue)?;
    atomics::add_to_linker::<_, Interface>(linker, State::keyvalue)?;
    batch::add_to_linker::<_, Interface>(linker, State::keyvalue)
}

struct Interface;

impl HasData for Interface {
    type Data<'a> = KeyvalueView<'a>;
}

/// The buckets of one instance, with the table that holds those it opened.
pub(crate) struct KeyvalueView<'a> {
    pub(crate) reach: &'a Reach,
    pub(crate) table: &'a mut ResourceTable,
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl KeyvalueView<'_> {
    /// The store, and a bucket of it that is open.
    fn opened(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<(&Store, Bucket)> {
        let bucket = self.table.get(bucket)?.clone();
        let store = self.reach.store.as_deref();
        Ok((store.expect("a bucket was granted, or none were open"), bucket))
    }

    /// A result as the guest sees it; what the store is to blame for is logged.
    fn told<T>(&self, bucket: &Bucket, result: Result<T, Fault>) -> Result<T, Error> {
        if let Some(metrics) = &self.reach.metrics {
            let outcome = match &result {
                Ok(_) => Reached::ok,
                Err(Fault::Refused(_)) => Reached::refused,
                Err(Fault::Failed(_)) => Reached::failed,
            };
            metrics.operated(&self.reach.plugin, outcome);
        }
        result.map_err(|fault| match fault {
            Fault::Refused(reason) => Error::Other(reason),
            Fault::Failed(reason) => {
                let (plugin, bucket) = (&*self.reach.plugin, &*bucket.name);
                tracing::error!(plugin, bucket, reason, "the key-value store failed");
                Error::Other("the store failed; the node's log says how".to_owned())
            }
        })
    }
}

impl store::Host for KeyvalueView<'_> {
    fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        let Reach { app, plugin, buckets, .. } = self.reach;
        if !buckets.contains(&identifier) {
            let mut name = identifier;
            name.truncate(name.floor_char_boundary(64));
            return Ok(Err(Error::Other(format!(
                "plugin {plugin} is not granted the bucket {name:?}: add it to `keyvalue` in its \
                 [[plugin]] of gw.toml"
            ))));
        }
        let bucket = Bucket { app: Arc::clone(app), name: identifier.into() };
        Ok(Ok(self.table.push(bucket)?))
    }
}

impl store::HostBucket for KeyvalueView<'_> {
    async fn get(&mut self, this: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let (store, bucket) = self.opened(&this)?;
        let values = store.read(&bucket, vec![key]).await;
        Ok(self.told(&bucket, values.map(|values| values.into_iter().next().flatten())))
    }

    async fn set(&mut self, this: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let (store, bucket) = self.opened(&this)?;
        let written = store.write(&bucket, vec![(key, value)]).await;
        Ok(self.told(&bucket, written))
    }

    async fn delete(&mut self, this: Resource<Bucket>, key: String) -> Answer<()> {
        let (store, bucket) = self.opened(&this)?;
        let deleted = store.delete(&bucket, vec![key]).await;
        Ok(self.told(&bucket, deleted))
    }

    async fn exists(&mut self, this: Resource<Bucket>, key: String) -> Answer<bool> {
        let (store, bucket) = self.opened(&this)?;
        let exists = store.exists(&bucket, key).await;
        Ok(self.told(&bucket, exists))
    }

    async fn list_keys(
        &mut self,
        this: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> Answer<KeyResponse> {
        let (store, bucket) = self.opened(&this)?;
        let page = store.list(&bucket, cursor).await;
        Ok(self.told(&bucket, page.map(|(keys, cursor)| KeyResponse { keys, cursor })))
    }

    fn drop(&mut self, this: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl atomics::Host for KeyvalueView<'_> {
    async fn increment(&mut self, this: Resource<Bucket>, key: String, delta: u64) -> Answer<u64> {
        let (store, bucket) = self.opened(&this)?;
        let count = store.increment(&bucket, key, delta).await;
        Ok(self.told(&bucket, count))
    }
}

impl batch::Host for KeyvalueView<'_> {
    async fn get_many(
        &mut self,
        this: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        let (store, bucket) = self.opened(&this)?;
        let values = store.read(&bucket, keys.clone()).await;
        let pairs = values.map(|values| {
            let pairs = keys.into_iter().zip(values);
            pairs.map(|(key, value)| value.map(|value| (key, value))).collect()
        });
        Ok(self.told(&bucket, pairs))
    }

    async fn set_many(
        &mut self,
        this: Resource<Bucket>,
        pairs: Vec<(String, Vec<u8>)>,
    ) -> Answer<()> {
        let (store, bucket) = self.opened(&this)?;
        let written = store.write(&bucket, pairs).await;
        Ok(self.told(&bucket, written))
    }

    async fn delete_many(&mut self, this: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        let (store, bucket) = self.opened(&this)?;
        let deleted = store.delete(&bucket, keys).await;
        Ok(self.told(&bucket, deleted))
    }
}

#[cfg(test)]
mod tests;
