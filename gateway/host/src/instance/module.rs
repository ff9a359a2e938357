//! What one instance of a core module owns.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gw_inference::Caller;
use wasmtime::{Engine, Store};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtxBuilder, WasiView};

use super::{Growth, Over, interrupt};
use crate::HostConfig;
use crate::imports::ephemeral::Handles;
use crate::imports::nn::Nn;
use crate::plugin::{Grants, Meter};

/// Everything behind one instance of a core module. It lives for one run of `_start`.
pub(crate) struct ModuleState {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) growth: Growth,
    pub(crate) nn: Nn,
    pub(crate) handles: Handles,
}

impl Over for ModuleState {
    fn over(self) -> (Growth, Nn) {
        (self.growth, self.nn)
    }
}

/// How long one run may take.
pub(crate) struct Bounds {
    /// How long it may hold a thread.
    pub(crate) time: Duration,
    /// When it must be over, whatever it waits for.
    pub(crate) deadline: Instant,
    /// For whom models are asked.
    pub(crate) caller: Arc<Caller>,
}

/// A store for one run, with every limit in place. `meter` tells how long its guest ran.
pub(crate) fn store(
    engine: &Engine,
    config: &HostConfig,
    mut wasi: WasiCtxBuilder,
    grants: Arc<Grants>,
    bounds: &Bounds,
    meter: Meter,
) -> Store<ModuleState> {
    let mut wasi = wasi.build_p1();
    wasi.ctx().table.set_max_capacity(config.resources_max);
    let mut nn = Nn::new(grants, bounds.deadline, config.tensor_bytes_max);
    nn.device_time_max = config.device_time_max;
    nn.caller = Arc::clone(&bounds.caller);
    let state = ModuleState {
        wasi,
        growth: Growth::new(config),
        nn,
        handles: Handles::new(config.resources_max),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.growth);
    store.set_hostcall_fuel(config.hostcall_bytes_max);
    interrupt(&mut store, bounds.deadline, bounds.time, meter);
    store
}
