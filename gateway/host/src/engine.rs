//! The settings of the Wasm engines, and the ticker that interrupts busy guests.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::HostError;
use crate::config::{
    HostConfig, INSTANCE_BYTES, MEMORIES, MEMORY_BYTES_KEPT, TABLE_BYTES_KEPT, TABLES, TICK,
    WARM_SLOTS,
};

/// The engines of a node, which differ in what their pools keep of an instance's memory.
#[derive(Clone)]
pub(crate) struct Engines {
    /// For memories that begin with at most [`MEMORY_BYTES_KEPT`]: they are overwritten for the
    /// next instance and not given back. That would interrupt the other cores, and fault each page
    /// in again.
    pub(crate) small: Engine,
    /// For others: most of such a memory is given back anyway, so nothing is kept.
    pub(crate) large: Engine,
}

impl Engines {
    /// Instances come from pools of reserved address space; where the machine does not give that
    /// much (small address spaces, `ulimit -v`), they are allocated one by one.
    ///
    /// Reserving a pool is the probe: it asks for exactly what the pool needs.
    pub(crate) fn new(config: &HostConfig) -> Result<Self, HostError> {
        let small = match pooled(config, MEMORY_BYTES_KEPT) {
            Ok(engine) => engine,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "no pool of instances; each is allocated on demand, some ten times slower"
                );
                let small = unpooled()?;
                return Ok(Self { large: small.clone(), small });
            }
        };
        let large = pooled(config, 0).unwrap_or_else(|error| {
            tracing::debug!(error = format!("{error:#}"), "one pool for memories of all sizes");
            small.clone()
        });
        Ok(Self { small, large })
    }

    /// Each of them once.
    pub(crate) fn all(&self) -> Vec<Engine> {
        let mut all = vec![self.small.clone(), self.large.clone()];
        if Engine::same(&self.small, &self.large) {
            all.truncate(1);
        }
        all
    }
}

fn pooled(config: &HostConfig, kept: usize) -> wasmtime::Result<Engine> {
    let mut pooled = common();
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config, kept)));
    Engine::new(&pooled)
}

/// An engine that only compiles. What a compiler needs it keeps as long as its engine lives, tens
/// of MB for a large plugin: so each plugin has one of its own, and what it makes runs in others.
pub(crate) fn compiler() -> Result<Engine, HostError> {
    unpooled()
}

fn unpooled() -> Result<Engine, HostError> {
    Engine::new(&common()).map_err(|error| HostError::Engine { reason: format!("{error:#}") })
}

fn common() -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    // Handlers of WASI 0.2 need none of the concurrent data structures of 0.3.
    config.concurrency_support(false);
    // No language that targets components needs it; less to attack. Threads are not compiled in.
    config.gc_support(false);
    config
}

fn pool(config: &HostConfig, kept: usize) -> PoolingAllocationConfig {
    let instances = config.instances_max;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        // With every component within its share, the pool cannot run out before the permits do.
        .max_core_instances_per_component(config.core_instances_max)
        .total_core_instances(instances.saturating_mul(config.core_instances_max))
        .max_memories_per_component(MEMORIES)
        .total_memories(instances.saturating_mul(MEMORIES))
        .max_tables_per_component(TABLES)
        .total_tables(instances.saturating_mul(TABLES))
        .max_memory_size(usize::try_from(config.memory_bytes_max).unwrap_or(usize::MAX))
        .table_elements(config.table_elements_max)
        .max_component_instance_size(INSTANCE_BYTES)
        .max_core_instance_size(INSTANCE_BYTES)
        .linear_memory_keep_resident(kept)
        .table_keep_resident(TABLE_BYTES_KEPT)
        .max_unused_warm_slots(WARM_SLOTS)
        // A swapped dirty page is not reset by it in this release: the next tenant could read it.
        .pagemap_scan(Enabled::No);
    pool
}

/// Advances the epochs of engines every [`TICK`] until it is dropped.
pub(crate) struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub(crate) fn start(engines: Vec<Engine>) -> Result<Self, HostError> {
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::Builder::new()
            .name("gw-epoch".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    engines.iter().for_each(Engine::increment_epoch);
                }
            })
            .map_err(|error| HostError::Engine { reason: error.to_string() })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic: it only counts.
            let _ = thread.join();
        }
    }
}
