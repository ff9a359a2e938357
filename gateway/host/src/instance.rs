//! What one instance owns, and what it may grow to.

pub(crate) mod module;

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::config::{HEADER_BYTES, HostConfig, MEMORIES, TABLES};
use crate::imports::grants::Reach;
use crate::imports::keyvalue::KeyvalueView;
use crate::imports::log::Log;
use crate::imports::next::Onward;
use crate::imports::nn::Nn;
use crate::imports::nn::component::NnView;
use crate::imports::outbound::Outbound;
use crate::plugin::{Grants, Meter};
use crate::{Call, Plugin};

/// Everything behind one instance. It lives for one request.
pub(crate) struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    pub(crate) outbound: Onward<Outbound>,
    table: ResourceTable,
    grants: Arc<Grants>,
    pub(crate) log: Log,
    pub(crate) growth: Growth,
    pub(crate) nn: Nn,
}

impl State {
    /// The context for a fresh instance: no files but the plugin's assets, no environment, no
    /// arguments, no sockets, output to the log.
    fn new(plugin: &Plugin, call: &Call) -> wasmtime::Result<Self> {
        let config = &plugin.config;
        let grants = Arc::clone(&plugin.grants);
        let masks = grants.reach.masks.clone();
        let log = Log::new(&plugin.name, &call.request_id, config.log_bytes_max, masks);
        let (stdout, stderr) = log.outputs();
        let mut wasi = WasiCtx::builder();
        wasi.stdout(stdout).stderr(stderr);
        if let Some(assets) = &plugin.grants.assets {
            wasi.preopened_dir(assets, "/assets", FsPerms::ReadOnly)?;
        }
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(HEADER_BYTES);
        let mut table = ResourceTable::new();
        table.set_max_capacity(config.resources_max);
        let mut nn = Nn::new(Arc::clone(&plugin.grants), call.deadline, config.tensor_bytes_max);
        nn.device_time_max = config.device_time_max;
        nn.caller = Arc::clone(&call.caller);
        Ok(Self {
            wasi: wasi.build(),
            http,
            outbound: Onward::new(Outbound::new(Arc::clone(&grants), log.clone())),
            table,
            growth: Growth::new(config),
            nn,
            grants,
            log,
        })
    }

    /// The context in which a plugin's `init` runs: no models, no tensors, no grants.
    pub(crate) fn for_init(wasi: WasiCtx, memory_bytes_max: u64, deadline: Instant) -> Self {
        let grants = Arc::<Grants>::default();
        let log = Log::new(&grants.reach.plugin, "init", 0, grants.reach.masks.clone());
        Self {
            wasi,
            http: WasiHttpCtx::new(),
            outbound: Onward::new(Outbound::new(Arc::clone(&grants), log.clone())),
            table: ResourceTable::new(),
            growth: Growth::new(&HostConfig { memory_bytes_max, ..HostConfig::default() }),
            nn: Nn::new(Arc::clone(&grants), deadline, 0),
            grants,
            log,
        }
    }

    pub(crate) fn nn(&mut self) -> NnView<'_> {
        NnView { nn: &mut self.nn, table: &mut self.table }
    }

    pub(crate) fn keyvalue(&mut self) -> KeyvalueView<'_> {
        KeyvalueView { reach: &self.grants.reach, table: &mut self.table }
    }

    /// What the guest was granted.
    pub(crate) fn reach(&self) -> &Reach {
        &self.grants.reach
    }
}

/// A store for one request, with every limit in place. `meter` tells how long its guest ran.
pub(crate) fn store(plugin: &Plugin, call: &Call, meter: Meter) -> wasmtime::Result<Store<State>> {
    let state = State::new(plugin, call)?;
    let mut store = Store::new(plugin.engine(), state);
    store.limiter(|state| &mut state.growth);
    // A model is passed in one call, and one that is too large should be told so.
    let model = plugin.grants.load.as_ref().map_or(0, |loading| loading.grant.bytes_max);
    let model = usize::try_from(model).unwrap_or(usize::MAX);
    store.set_hostcall_fuel(plugin.config.hostcall_bytes_max.saturating_add(model));
    store.set_max_component_handles(plugin.config.resources_max);
    interrupt(&mut store, call.deadline, plugin.time, meter);
    Ok(store)
}

/// What is asked of an instance once it is over.
pub(crate) trait Over: Send + 'static {
    fn over(self) -> (Growth, Nn);
}

impl Over for State {
    fn over(self) -> (Growth, Nn) {
        (self.growth, self.nn)
    }
}

/// Interrupts the guest every tick, to let others run, and ends it at its limits of time.
pub(crate) fn interrupt<T>(store: &mut Store<T>, deadline: Instant, time: Duration, meter: Meter) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        if Instant::now() >= deadline || meter.time() >= time {
            return Ok(UpdateDeadline::Interrupt);
        }
        // tokio's own yield lets its timers and sockets be served before this guest goes on.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outbound }
    }
}

/// What an instance may grow to. Being refused does not end the guest; what it does next may.
pub(crate) struct Growth {
    /// Bytes of all memories together.
    bytes: usize,
    bytes_max: usize,
    refused: bool,
    table_elements_max: usize,
    core_instances_max: usize,
}

impl Growth {
    fn new(config: &HostConfig) -> Self {
        Self {
            bytes: 0,
            bytes_max: usize::try_from(config.memory_bytes_max).unwrap_or(usize::MAX),
            refused: false,
            table_elements_max: config.table_elements_max,
            core_instances_max: config.core_instances_max as usize,
        }
    }

    /// What all memories hold: they never shrink.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the guest was ever refused memory.
    pub(crate) fn memory_refused(&self) -> bool {
        self.refused
    }
}

impl ResourceLimiter for Growth {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // One sum over all memories, so that several of them gain a guest nothing.
        let sum = self.bytes.saturating_add(desired.saturating_sub(current));
        if sum > self.bytes_max {
            self.refused = true;
            return Ok(false);
        }
        self.bytes = sum;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = true;
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= self.table_elements_max)
    }

    fn instances(&self) -> usize {
        self.core_instances_max
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }

    fn memories(&self) -> usize {
        MEMORIES as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_memories_share_one_limit() {
        let mut growth =
            Growth::new(&HostConfig { memory_bytes_max: 100, ..HostConfig::default() });
        assert!(growth.memory_growing(0, 60, None).unwrap());
        assert!(growth.memory_growing(0, 40, None).unwrap());
        assert!(!growth.memory_refused());
        assert!(!growth.memory_growing(40, 41, None).unwrap());
        assert!(growth.memory_refused());
    }
}
