//! What is told of models and of the memory that they hold.

use std::sync::Arc;
use std::time::Duration;

use gw_artifact::Digest;

use super::held::Held;
use super::slot::{ModelState, Slot};
use crate::Footprint;

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

/// A model that somebody may ask, in memory or not.
#[derive(Clone, Debug)]
pub struct ModelStatus {
    /// What it is called.
    pub name: String,
    /// The digest of its file.
    pub digest: Digest,
    /// Where it runs.
    pub device: Arc<str>,
    /// Whether it is in memory.
    pub state: ModelState,
    /// What it holds.
    pub footprint: Footprint,
    /// Whether it is never evicted.
    pub pinned: bool,
    /// How long it stays when nobody asks it; `None` until its room is needed.
    pub keep_alive: Option<Duration>,
    /// Since when nobody asks it.
    pub idle: Duration,
    /// Requests that wait for it.
    pub waiting: usize,
    /// How often it was loaded.
    pub loads: u64,
    /// How often it left memory to be loaded again when it is asked.
    pub evictions: u64,
}

/// The memory of one device.
#[derive(Clone, Debug)]
pub struct Budget {
    /// The device.
    pub device: Arc<str>,
    /// Bytes that models hold.
    pub used_bytes: u64,
    /// Bytes that they may hold; `None` where there is no limit.
    pub max_bytes: Option<u64>,
    /// Bytes of the host that they hold beside the device; 0 on the CPU.
    pub host_bytes: u64,
    /// Bytes that they may hold there; `None` where there is no limit.
    pub host_max_bytes: Option<u64>,
}

impl ModelStatus {
    pub(super) fn of(name: &str, slot: &Slot) -> Self {
        let holding = slot.holding();
        Self {
            name: name.to_owned(),
            digest: slot.tenure.digest,
            device: Arc::clone(&slot.known().device),
            state: holding.state,
            footprint: holding.footprint,
            pinned: slot.tenure.policy.pinned,
            keep_alive: slot.tenure.limits.keep_alive,
            idle: holding.idle,
            waiting: holding.waiting,
            loads: holding.loads,
            evictions: holding.evictions,
        }
    }
}

impl Budget {
    pub(super) fn of(device: Arc<str>, held: Held, max: Held) -> Self {
        let limit = |bytes: u64| Some(bytes).filter(|&bytes| bytes < u64::MAX);
        Self {
            device,
            used_bytes: held.device,
            max_bytes: limit(max.device),
            host_bytes: held.host,
            host_max_bytes: limit(max.host),
        }
    }
}
