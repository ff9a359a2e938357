//! The models of a node: each file is loaded once per device, however many names it has.
//!
//! - [`slot`]: the place of one model, whether it is in memory or not.
//! - [`residency`]: who may be in the memory of a device; `held`: bytes of it, and of the host.
//! - `ledger`: what is told of both.
//! - `source`: where its file is.
//! - `spare`: how a model is loaded where it goes on once its GPU is gone.

mod held;
mod ledger;
mod residency;
mod slot;
mod source;
mod spare;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use gw_artifact::{ByteSize, Digest};
use prometheus_client::registry::Registry;

use self::held::Held;
pub use self::ledger::{Budget, ModelStatus, Resident};
use self::residency::Residency;
pub use self::slot::ModelState;
pub(crate) use self::slot::Slot;
pub(crate) use self::slot::Tenure;
use self::source::Source;
use crate::backend::{Backend, BackendKind, open_backend};
use crate::metrics::{EvictionReason, LoadOutcome};
use crate::queue::{QueueLimits, Shares};
use crate::worker::lane::Lane;
use crate::worker::{Core, Limits};
use crate::{DeviceChoice, InferenceConfig, InferenceError, InferenceMetrics, Model, ModelPolicy};

/// What to load.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// What to call it; errors and metrics use the name.
    pub name: String,
    /// The ONNX file. It must stay: the model is read from it whenever it comes to memory again.
    pub path: PathBuf,
    /// The digest of the file, already verified by whoever fetched it.
    pub digest: Digest,
    /// Where to run it.
    pub device: DeviceChoice,
    /// How to serve it.
    pub policy: ModelPolicy,
}

/// Every model of a node, and the devices that they run on.
///
/// A GPU runs one batch at a time, and its models take turns. On the CPU runs share the threads.
pub struct Models {
    config: InferenceConfig,
    metrics: InferenceMetrics,
    devices: Mutex<HashMap<DeviceChoice, Arc<Residency>>>,
    slots: Mutex<HashMap<Key, Weak<Slot>>>,
    names: Mutex<HashMap<String, Weak<Model>>>,
}

/// One load: what to call the model, what it is, and where its bytes are.
struct Wanted<'a> {
    name: &'a str,
    digest: Digest,
    source: Source,
    policy: &'a ModelPolicy,
}

/// What is loaded once.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    digest: Digest,
    /// A file may have weights in files beside it, which its digest does not cover: whoever only
    /// brings the same bytes must not get those.
    in_memory: bool,
    device: String,
    policy: ModelPolicy,
}

impl Models {
    /// No models yet; devices are opened when the first model needs them.
    ///
    /// `registry` gets the metrics under their full names, which start with `gw_`.
    pub fn new(config: InferenceConfig, registry: &mut Registry) -> Self {
        Self {
            config,
            metrics: InferenceMetrics::register(registry),
            devices: Mutex::default(),
            slots: Mutex::default(),
            names: Mutex::default(),
        }
    }

    /// Loads a model, or shares it where the same file is already loaded on the same device. It
    /// blocks; concurrent loads of one file wait for one of them. With [`DeviceChoice::Auto`] a
    /// model with an operator that the GPU lacks is loaded on the CPU, and so is one whose GPU was
    /// lost and does not open.
    ///
    /// # Errors
    /// [`InferenceError::Load`], [`InferenceError::Unsupported`], [`InferenceError::NoDevice`],
    /// [`InferenceError::Policy`], where it does not fit [`InferenceError::TooLarge`],
    /// [`InferenceError::NoRoom`] and [`InferenceError::OutOfMemory`], and
    /// [`InferenceError::DeviceGone`] where the CPU was ruled out.
    pub fn load(&self, spec: &ModelSpec) -> Result<Arc<Model>, InferenceError> {
        let ModelSpec { name, path, digest, device, policy } = spec;
        let source = Source::File(path.clone());
        let model = self.open(device, &Wanted { name, digest: *digest, source, policy })?;
        let mut names = locked(&self.names);
        names.retain(|_, model| model.strong_count() > 0);
        names.insert(name.clone(), Arc::downgrade(&model));
        Ok(model)
    }

    /// As [`Self::load`], of bytes in memory: nothing else is read for it, [`Self::find`] does not
    /// find it, and it shares what was loaded from the same bytes in memory, not from a file.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_bytes(
        &self,
        name: &str,
        bytes: &Bytes,
        digest: Digest,
        device: &DeviceChoice,
    ) -> Result<Arc<Model>, InferenceError> {
        let (source, policy) = (Source::Bytes(bytes.clone()), &ModelPolicy::default());
        self.open(device, &Wanted { name, digest, source, policy })
    }

    /// The model that was last loaded under this name and is still in use.
    ///
    /// # Errors
    /// [`InferenceError::NotFound`].
    pub fn find(&self, name: &str) -> Result<Arc<Model>, InferenceError> {
        let found = locked(&self.names).get(name).and_then(Weak::upgrade);
        found.ok_or_else(|| InferenceError::NotFound { name: name.to_owned() })
    }

    /// The ledger: what is in memory now, ordered by digest and device.
    pub fn resident(&self) -> Vec<Resident> {
        let core = |slot: Arc<Slot>| {
            let core = slot.core()?;
            let (digest, device) = (core.digest, Arc::clone(&core.device));
            Some(Resident { digest, device, footprint: core.footprint() })
        };
        let mut resident: Vec<_> = self.all(|_| true).into_iter().filter_map(core).collect();
        resident.sort_by(|a, b| (a.digest, &a.device).cmp(&(b.digest, &b.device)));
        resident
    }

    /// Every model that somebody may ask, in memory or not, ordered by name; one with two names is
    /// there twice.
    pub fn list(&self) -> Vec<ModelStatus> {
        let named: Vec<Arc<Model>> =
            locked(&self.names).values().filter_map(Weak::upgrade).collect();
        let mut list: Vec<ModelStatus> =
            named.iter().map(|model| ModelStatus::of(model.name(), model.slot())).collect();
        for slot in self.all(|_| true) {
            if !named.iter().any(|model| Arc::ptr_eq(model.slot(), &slot)) && slot.is_known() {
                list.push(ModelStatus::of(&slot.tenure.name, &slot));
            }
        }
        list.sort_by(|a, b| (&a.name, &a.device).cmp(&(&b.name, &b.device)));
        list
    }

    /// The memory of every device that was opened.
    pub fn budgets(&self) -> Vec<Budget> {
        let mut budgets: Vec<Budget> = Vec::new();
        for residency in locked(&self.devices).values() {
            let device: Arc<str> = residency.backend.device().into();
            if budgets.iter().all(|budget| budget.device != device) {
                budgets.push(Budget::of(device, residency.held(), residency.max));
            }
        }
        budgets.sort_by(|a, b| a.device.cmp(&b.device));
        budgets
    }

    /// Frees the memory of a model until somebody asks it, once nobody is being answered by it.
    /// `false` where it is not in memory.
    ///
    /// # Errors
    /// [`InferenceError::NotFound`].
    pub fn evict(&self, name: &str) -> Result<bool, InferenceError> {
        Ok(self.find(name)?.slot().leave(EvictionReason::Asked))
    }

    /// Brings a model back to memory; it blocks.
    ///
    /// # Errors
    /// [`InferenceError::NotFound`], and those of [`Self::load`].
    pub fn bring(&self, name: &str) -> Result<(), InferenceError> {
        self.find(name)?.slot().ready_blocking()
    }

    /// Unloads a file from every device: requests that wait are answered, new ones are refused,
    /// and the memory is free when this returns. Without it a model goes when its last
    /// [`Model`] is dropped.
    pub async fn unload(&self, digest: &Digest) {
        let slots = self.all(|key| key.digest == *digest);
        locked(&self.slots).retain(|key, _| key.digest != *digest);
        finish(&slots).await;
    }

    /// Unloads everything, as [`Self::unload`]: the last step of a shutdown.
    pub async fn drain(&self) {
        finish(&self.all(|_| true)).await;
    }

    fn all(&self, wanted: impl Fn(&Key) -> bool) -> Vec<Arc<Slot>> {
        let slots = locked(&self.slots);
        let wanted = slots.iter().filter(|(key, _)| wanted(key));
        wanted.filter_map(|(_, slot)| slot.upgrade()).collect()
    }

    fn open(
        &self,
        device: &DeviceChoice,
        wanted: &Wanted<'_>,
    ) -> Result<Arc<Model>, InferenceError> {
        let (slot, spare) = match self.load_on(device, wanted) {
            Err(
                error @ (InferenceError::Unsupported { .. } | InferenceError::DeviceGone { .. }),
            ) if spare::may_move(device, &*self.device(device)?) => {
                tracing::warn!(%error, "using the cpu for this model");
                (self.load_on(&DeviceChoice::Cpu, wanted)?, None)
            }
            result => (result?, self.spare(device, wanted)?),
        };
        Ok(Arc::new(Model::new(wanted.name, slot, spare, &self.metrics)))
    }

    fn load_on(
        &self,
        device: &DeviceChoice,
        wanted: &Wanted<'_>,
    ) -> Result<Arc<Slot>, InferenceError> {
        let residency = self.device(device);
        if let Err(error) = &residency {
            let (device, outcome) = (device.to_string(), LoadOutcome::of_error(error));
            self.metrics.count_load(wanted.name, &device, outcome);
        }
        let slot = self.slot(wanted, &residency?);
        slot.ready_blocking()?;
        Ok(slot)
    }

    /// The place of a model. Those that nobody holds are forgotten: guests may load ever new ones.
    fn slot(&self, wanted: &Wanted<'_>, residency: &Arc<Residency>) -> Arc<Slot> {
        let Wanted { name, digest, source, policy } = wanted;
        let key = Key {
            digest: *digest,
            in_memory: matches!(source, Source::Bytes(_)),
            device: residency.backend.device().to_owned(),
            policy: (*policy).clone(),
        };
        let mut slots = locked(&self.slots);
        if let Some(slot) = slots.get(&key).and_then(Weak::upgrade) {
            slot.found(source);
            return slot;
        }
        let slot = Slot::new(Tenure {
            name: (*name).to_owned(),
            digest: *digest,
            source: source.clone(),
            policy: (*policy).clone(),
            limits: self.limits(policy),
            metrics: self.metrics.clone(),
            residency: Arc::clone(residency),
        });
        // The same file served in another way is known to take as much.
        let same = |known: &Slot| {
            known.tenure.digest == *digest && Arc::ptr_eq(&known.tenure.residency, residency)
        };
        let same = slots.values().filter_map(Weak::upgrade).find(|known| same(known));
        if let Some(same) = same {
            slot.expect_as(&same);
        }
        residency.enter(&slot);
        slots.retain(|_, slot| slot.strong_count() > 0);
        slots.insert(key, Arc::downgrade(&slot));
        slot
    }

    fn limits(&self, policy: &ModelPolicy) -> Limits {
        let config = &self.config;
        let (max, wait_max) = (config.queue_max, config.wait_max);
        let run_time = config.run_time.min(wait_max / 4);
        Limits {
            queue: QueueLimits { max, run_time, wait_max },
            batch_max: config.batch_max,
            keep_bytes_min: config.gpu_keep_bytes_min,
            keep_alive: policy.keep_alive.or(config.keep_alive).filter(|_| !policy.pinned),
            nice: config.cpu_nice,
        }
    }

    /// The device that a choice means; opened once, and shared by choices that mean the same.
    fn device(&self, choice: &DeviceChoice) -> Result<Arc<Residency>, InferenceError> {
        let mut devices = locked(&self.devices);
        if let Some(residency) = devices.get(choice) {
            return Ok(Arc::clone(residency));
        }
        let backend = open_backend(choice, &self.config)?;
        let known = devices.values().find(|known| known.backend.device() == backend.device());
        let residency = known.cloned().unwrap_or_else(|| self.residency(backend));
        devices.insert(choice.clone(), Arc::clone(&residency));
        Ok(residency)
    }

    fn residency(&self, backend: Arc<dyn Backend>) -> Arc<Residency> {
        backend.watch(&self.metrics);
        let bytes = |max: Option<ByteSize>| max.map_or(u64::MAX, |ByteSize(bytes)| bytes);
        let host = bytes(self.config.memory_max);
        let max = match backend.kind() {
            BackendKind::Cpu => Held { device: host, host: u64::MAX },
            BackendKind::Gpu => Held { device: bytes(self.config.gpu_memory_max), host },
        };
        for (device, bytes) in [(backend.device(), max.device), ("host", max.host)] {
            if bytes < u64::MAX {
                self.metrics.limit_memory(device, bytes);
            }
        }
        let shares = Shares::new(self.config.tenant_weights.clone());
        let lane = Lane::new(backend.slots(), shares, self.metrics.device(backend.device()));
        Residency::new(backend, Arc::new(lane), max)
    }
}

/// Closes all queues first, so that they empty side by side.
async fn finish(slots: &[Arc<Slot>]) {
    let cores: Vec<Arc<Core>> = slots.iter().filter_map(|slot| slot.close()).collect();
    for core in cores {
        core.finished().await;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section here is one insertion or removal, so a poisoned lock is still good.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
