//! The models of a node: each file is loaded once per device, however many names it has.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use bytes::Bytes;
use gw_artifact::Digest;
use prometheus_client::registry::Registry;

use crate::backend::{Backend, BackendKind, ModelSource, open_backend};
use crate::metrics::LoadOutcome;
use crate::worker::{Core, Limits, Turn};
use crate::{
    DeviceChoice, Footprint, InferenceConfig, InferenceError, InferenceMetrics, Model, ModelPolicy,
};

/// What to load.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// What to call it; errors and metrics use the name.
    pub name: String,
    /// The ONNX file.
    pub path: PathBuf,
    /// The digest of the file, already verified by whoever fetched it.
    pub digest: Digest,
    /// Where to run it.
    pub device: DeviceChoice,
    /// How to serve it.
    pub policy: ModelPolicy,
}

/// One entry of the ledger: a model whose weights are in memory.
#[derive(Clone, Debug)]
pub struct Resident {
    /// The digest of its file.
    pub digest: Digest,
    /// The device that holds it.
    pub device: Arc<str>,
    /// What it holds.
    pub footprint: Footprint,
}

/// Every model of a node, and the devices that they run on.
///
/// A GPU runs one batch at a time, and its models take turns. On the CPU every model has its own
/// worker, over one pool of threads.
pub struct Models {
    config: InferenceConfig,
    metrics: InferenceMetrics,
    lanes: Mutex<HashMap<DeviceChoice, Lane>>,
    flights: Mutex<HashMap<Key, Arc<Flight>>>,
    names: Mutex<HashMap<String, Weak<Model>>>,
}

/// One load: what to call the model, what it is, and where its bytes are.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    name: &'a str,
    digest: Digest,
    source: ModelSource<'a>,
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

/// A device with its queue discipline.
#[derive(Clone)]
struct Lane {
    backend: Arc<dyn Backend>,
    turn: Option<Arc<Turn>>,
}

/// One load of one file on one device, shared by all who ask meanwhile and after.
#[derive(Default)]
struct Flight(OnceLock<Result<Weak<Core>, InferenceError>>);

impl Flight {
    /// Whether nothing is loaded by it any more.
    fn is_over(&self) -> bool {
        match self.0.get() {
            None => false,
            Some(Ok(core)) => core.strong_count() == 0,
            Some(Err(_)) => true,
        }
    }
}

impl Models {
    /// No models yet; devices are opened when the first model needs them.
    ///
    /// `registry` gets the metrics under their full names, which start with `gw_`.
    pub fn new(config: InferenceConfig, registry: &mut Registry) -> Self {
        Self {
            config,
            metrics: InferenceMetrics::register(registry),
            lanes: Mutex::default(),
            flights: Mutex::default(),
            names: Mutex::default(),
        }
    }

    /// Loads a model, or shares it where the same file is already loaded on the same device. It
    /// blocks; concurrent loads of one file wait for one of them. With [`DeviceChoice::Auto`] a
    /// model with an operator that the GPU lacks is loaded on the CPU.
    ///
    /// # Errors
    /// [`InferenceError::Load`], [`InferenceError::Unsupported`], [`InferenceError::NoDevice`],
    /// [`InferenceError::Policy`].
    pub fn load(&self, spec: &ModelSpec) -> Result<Arc<Model>, InferenceError> {
        let ModelSpec { name, path, digest, device, policy } = spec;
        let wanted = Wanted { name, digest: *digest, source: ModelSource::File(path), policy };
        let model = self.open(device, &wanted)?;
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
        let (source, policy) = (ModelSource::Bytes(bytes), &ModelPolicy::default());
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
        let mut resident: Vec<Resident> = (self.cores(|_| true).iter())
            .map(|core| Resident {
                digest: core.digest,
                device: Arc::clone(&core.device),
                footprint: core.footprint(),
            })
            .collect();
        resident.sort_by(|a, b| (a.digest, &a.device).cmp(&(b.digest, &b.device)));
        resident
    }

    /// Unloads a file from every device: requests that wait are answered, new ones are refused,
    /// and the memory is free when this returns. Without it a model goes when its last
    /// [`Model`] is dropped.
    pub async fn unload(&self, digest: &Digest) {
        let cores = self.cores(|loaded| loaded == digest);
        locked(&self.flights).retain(|key, _| key.digest != *digest);
        finish(&cores).await;
    }

    /// Unloads everything, as [`Self::unload`]: the last step of a shutdown.
    pub async fn drain(&self) {
        finish(&self.cores(|_| true)).await;
    }

    fn cores(&self, wanted: impl Fn(&Digest) -> bool) -> Vec<Arc<Core>> {
        let flights = locked(&self.flights);
        let loaded = flights.iter().filter(|(key, _)| wanted(&key.digest));
        loaded.filter_map(|(_, flight)| flight.0.get()?.as_ref().ok()?.upgrade()).collect()
    }

    fn open(
        &self,
        device: &DeviceChoice,
        wanted: &Wanted<'_>,
    ) -> Result<Arc<Model>, InferenceError> {
        let core = match self.load_on(device, wanted) {
            Err(error @ InferenceError::Unsupported { .. })
                if *device == DeviceChoice::Auto
                    && self.lane(device)?.backend.kind() == BackendKind::Gpu =>
            {
                tracing::warn!(%error, "using the cpu for this model");
                self.load_on(&DeviceChoice::Cpu, wanted)?
            }
            result => result?,
        };
        Ok(Arc::new(Model::new(wanted.name, wanted.policy.clone(), core, &self.metrics)))
    }

    fn load_on(
        &self,
        device: &DeviceChoice,
        wanted: &Wanted<'_>,
    ) -> Result<Arc<Core>, InferenceError> {
        let lane = self.lane(device);
        if lane.is_err() {
            self.count_load(wanted, &device.to_string(), &lane);
        }
        let lane = lane?;
        let key = Key {
            digest: wanted.digest,
            in_memory: matches!(wanted.source, ModelSource::Bytes(_)),
            device: lane.backend.device().to_owned(),
            policy: wanted.policy.clone(),
        };
        loop {
            let flight = self.flight(&key);
            // Whoever loads keeps the model alive until it is handed out.
            let mut loaded = None;
            let result = flight.0.get_or_init(|| {
                let core = self.load_now(&lane, wanted);
                self.count_load(wanted, lane.backend.device(), &core);
                let core = Arc::new(core?);
                loaded = Some(Arc::clone(&core));
                Ok(Arc::downgrade(&core))
            });
            match result {
                Ok(core) => {
                    if let Some(core) = core.upgrade() {
                        return Ok(core);
                    }
                    // It was loaded once and dropped since.
                    self.land(&key, &flight);
                }
                // Those who waited share the failure; whoever asks next tries again.
                Err(error) => {
                    self.land(&key, &flight);
                    return Err(error.clone());
                }
            }
        }
    }

    fn count_load<T>(&self, wanted: &Wanted<'_>, device: &str, result: &Result<T, InferenceError>) {
        self.metrics.count_load(wanted.name, device, LoadOutcome::of(result));
    }

    /// The flight of this key. Those that are over are forgotten: guests may load ever new models.
    fn flight(&self, key: &Key) -> Arc<Flight> {
        let mut flights = locked(&self.flights);
        flights.retain(|other, flight| other == key || !flight.is_over());
        Arc::clone(flights.entry(key.clone()).or_default())
    }

    fn load_now(&self, lane: &Lane, wanted: &Wanted<'_>) -> Result<Core, InferenceError> {
        let Wanted { name, digest, source, policy } = *wanted;
        let started = Instant::now();
        let mut model = lane.backend.load(name, source)?;
        policy.check(model.signature()).map_err(|problem| InferenceError::Policy {
            model: name.to_owned(),
            problem: Box::new(problem),
        })?;
        model.keep_always(policy.state.keys().cloned().collect());
        model.warm_up()?;
        let InferenceConfig { queue_max, batch_max, run_time, gpu_keep_bytes_min, .. } =
            self.config;
        let keep_bytes_min = gpu_keep_bytes_min;
        let limits = Limits { queue_max, batch_max, run_time, keep_bytes_min };
        let took = started.elapsed();
        let metrics = self.metrics.model(name, lane.backend.device());
        metrics.loaded(took);
        let core = Core::start(name, digest, model, lane.turn.clone(), limits, metrics)?;
        tracing::info!(model = %name, device = %core.device, ?took, "model loaded");
        Ok(core)
    }

    /// Forgets a flight that is over, unless another took its place.
    fn land(&self, key: &Key, flight: &Arc<Flight>) {
        let mut flights = locked(&self.flights);
        if flights.get(key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            flights.remove(key);
        }
    }

    /// The device that a choice means; opened once, and shared by choices that mean the same.
    fn lane(&self, choice: &DeviceChoice) -> Result<Lane, InferenceError> {
        let mut lanes = locked(&self.lanes);
        if let Some(lane) = lanes.get(choice) {
            return Ok(lane.clone());
        }
        let backend = open_backend(choice, &self.config)?;
        let known = lanes.values().find(|lane| lane.backend.device() == backend.device());
        let lane = known.cloned().unwrap_or_else(|| Lane {
            turn: (backend.kind() == BackendKind::Gpu).then(Arc::default),
            backend,
        });
        lanes.insert(choice.clone(), lane.clone());
        Ok(lane)
    }
}

/// Closes all queues first, so that they empty side by side.
async fn finish(cores: &[Arc<Core>]) {
    for core in cores {
        core.close();
    }
    for core in cores {
        core.finished().await;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section here is one insertion or removal, so a poisoned lock is still good.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
