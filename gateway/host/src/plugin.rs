//! A loaded plugin, and one request through it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gw_artifact::Digest;
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::engine::Ticker;
use crate::instance::State;
use crate::metrics::{HostMetrics, Outcome};
use crate::{GuestError, Handled, HostConfig, exchange};

/// What to load, and what it may do.
#[derive(Clone)]
pub struct PluginSpec {
    /// The plugin's name in the manifest; logs, errors and metrics use it.
    pub name: String,
    /// The component.
    pub wasm: Bytes,
    /// Its memory limit, in bytes, over all its memories.
    pub memory_bytes: u64,
    /// How long a guest may run for one request. Waiting, for a model above all, is not in it: the
    /// deadline of a [`Call`] bounds that.
    pub time: Duration,
    /// The models that it may load by name. There are no others for it.
    pub models: HashMap<String, Arc<gw_inference::Model>>,
    /// The directory that it sees, read-only, as `/assets`.
    pub assets: Option<PathBuf>,
}

/// What a call brings beside the request itself.
#[derive(Clone, Debug)]
pub struct Call {
    /// When the whole answer must be there, whatever it waits for; the plugin's own time limit may
    /// end earlier.
    pub deadline: Instant,
    /// Names the request in the guest's log lines.
    pub request_id: String,
}

/// A compiled and linked plugin. Every request gets a fresh instance of it.
pub struct Plugin {
    pub(crate) name: Arc<str>,
    pub(crate) digest: Digest,
    pub(crate) pre: ProxyPre<State>,
    pub(crate) memory_bytes: u64,
    pub(crate) time: Duration,
    pub(crate) grants: Arc<Grants>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) config: Arc<HostConfig>,
    pub(crate) metrics: HostMetrics,
    /// Busy guests are interrupted for as long as any plugin lives.
    pub(crate) _ticker: Arc<Ticker>,
}

/// What the guests of one plugin may reach.
#[derive(Default)]
pub(crate) struct Grants {
    pub(crate) models: HashMap<String, Arc<gw_inference::Model>>,
    pub(crate) assets: Option<PathBuf>,
}

impl Plugin {
    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digest of the component.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Answers one request with a fresh instance. Dropping the future ends the guest, and its
    /// inference with it.
    ///
    /// # Errors
    /// How the guest failed; nothing that it does reaches another request.
    ///
    /// # Panics
    /// Outside a tokio runtime with its timer enabled.
    pub async fn handle(
        &self,
        request: http::Request<Bytes>,
        call: Call,
    ) -> Result<Handled, GuestError> {
        let result = Box::pin(self.answer(request, call)).await;
        self.metrics.handled(
            &self.name,
            Outcome::of(&result),
            match &result {
                Ok(handled) => handled.timings.instantiate,
                Err(error) => error.timings().instantiate,
            },
        );
        result
    }

    async fn answer(
        &self,
        request: http::Request<Bytes>,
        call: Call,
    ) -> Result<Handled, GuestError> {
        let (given, limit) = (request.body().len(), self.config.request_bytes_max);
        if given > limit {
            return Err(GuestError::RequestTooLarge { plugin: self.name.clone(), given, limit });
        }
        let Some(_permit) = self.gate.enter(call.deadline).await else {
            let (plugin, instances) = (self.name.clone(), self.gate.instances);
            return Err(GuestError::Saturated { plugin, instances });
        };
        exchange::run(self, request, call.deadline, &call.request_id).await
    }
}

/// Lets in as many requests as there are instances, and lets a bounded number wait.
pub(crate) struct Gate {
    permits: Semaphore,
    instances: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
}

impl Gate {
    pub(crate) fn new(instances: usize, waiting_max: usize) -> Self {
        let permits = Semaphore::new(instances);
        Self { permits, instances, waiting: AtomicUsize::new(0), waiting_max }
    }

    /// A permit, or nothing where too many wait or the deadline passes first.
    async fn enter(&self, deadline: Instant) -> Option<SemaphorePermit<'_>> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Some(permit);
        }
        let _waiting = Waiting::join(self)?;
        tokio::time::timeout_at(deadline.into(), self.permits.acquire()).await.ok()?.ok()
    }
}

/// One who waits; leaving the queue in any way, a dropped future included, makes room.
struct Waiting<'a>(&'a Gate);

impl<'a> Waiting<'a> {
    fn join(gate: &'a Gate) -> Option<Self> {
        let waiting = Self(gate);
        (gate.waiting.fetch_add(1, Ordering::Relaxed) < gate.waiting_max).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
