//! What is counted, under names that do not change.
//!
//! | metric | type | labels |
//! |---|---|---|
//! | `gw_plugin_requests_total` | counter | `plugin`, `outcome` |
//! | `gw_plugin_instantiate_seconds` | histogram | `plugin` |
//! | `gw_plugin_guest_seconds` | histogram | `plugin` |
//! | `gw_plugin_memory_bytes` | histogram | `plugin` |
//! | `gw_plugin_loads_total` | counter | `code` |
//! | `gw_plugin_skipped_total` | counter | `plugin` |
//! | `gw_plugin_outbound_requests_total` | counter | `plugin`, `outcome` |
//! | `gw_plugin_keyvalue_operations_total` | counter | `plugin`, `outcome` |
//!
//! Labels come from manifests and enums, never from requests.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::{GuestError, Timings};

/// The metrics of all plugins; a clone shares them.
#[derive(Clone)]
pub struct HostMetrics {
    requests: Family<RequestLabels, Counter>,
    instantiate: Family<PluginLabels, Histogram, fn() -> Histogram>,
    guest: Family<PluginLabels, Histogram, fn() -> Histogram>,
    memory: Family<PluginLabels, Histogram, fn() -> Histogram>,
    loads: Family<LoadLabels, Counter>,
    skipped: Family<PluginLabels, Counter>,
    outbound: Family<ReachLabels, Counter>,
    keyvalue: Family<ReachLabels, Counter>,
}

impl HostMetrics {
    /// Registers every metric under its full name.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            instantiate: Family::new_with_constructor(instantiate_seconds),
            guest: Family::new_with_constructor(guest_seconds),
            memory: Family::new_with_constructor(memory_bytes),
            loads: Family::default(),
            skipped: Family::default(),
            outbound: Family::default(),
            keyvalue: Family::default(),
        };
        let m = metrics.clone();
        registry.register(
            "gw_plugin_requests",
            "Requests to plugins, by how they ended",
            m.requests,
        );
        registry.register(
            "gw_plugin_instantiate_seconds",
            "Time to make one instance",
            m.instantiate,
        );
        registry.register(
            "gw_plugin_guest_seconds",
            "Time of one instance on a thread, its making and host calls included, waiting not",
            m.guest,
        );
        registry.register(
            "gw_plugin_memory_bytes",
            "Linear memory of one instance at its end, which is its peak",
            m.memory,
        );
        registry.register(
            "gw_plugin_loads",
            "Plugins loaded, by where their code came from",
            m.loads,
        );
        registry.register(
            "gw_plugin_skipped",
            "Requests that went on without a plugin that failed",
            m.skipped,
        );
        registry.register(
            "gw_plugin_outbound_requests",
            "Requests that plugins sent, by what became of them",
            m.outbound,
        );
        registry.register(
            "gw_plugin_keyvalue_operations",
            "Operations of plugins on buckets, by what became of them",
            m.keyvalue,
        );
        metrics
    }

    /// A plugin has done what it was asked for, or failed.
    pub(crate) fn handled(&self, plugin: &str, error: Option<&GuestError>) {
        let outcome = error.map_or(Outcome::ok, Outcome::of);
        let labels = RequestLabels { plugin: plugin.to_owned(), outcome };
        self.requests.get_or_create(&labels).inc();
    }

    /// An instance is over, that was made or was to be.
    pub(crate) fn visited(&self, plugin: &str, timings: &Timings, memory_bytes: usize) {
        let labels = PluginLabels { plugin: plugin.to_owned() };
        self.instantiate.get_or_create(&labels).observe(timings.instantiate.as_secs_f64());
        self.guest.get_or_create(&labels).observe(timings.plugin.as_secs_f64());
        self.memory.get_or_create(&labels).observe(memory_bytes as f64);
    }

    /// A request went on without a plugin.
    pub(crate) fn skipped(&self, plugin: &str) {
        self.skipped.get_or_create(&PluginLabels { plugin: plugin.to_owned() }).inc();
    }

    pub(crate) fn sent(&self, plugin: &str, outcome: Reached) {
        self.outbound.get_or_create(&ReachLabels { plugin: plugin.to_owned(), outcome }).inc();
    }

    pub(crate) fn operated(&self, plugin: &str, outcome: Reached) {
        self.keyvalue.get_or_create(&ReachLabels { plugin: plugin.to_owned(), outcome }).inc();
    }

    pub(crate) fn loaded(&self, code: CodeSource) {
        self.loads.get_or_create(&LoadLabels { code }).inc();
    }
}

/// From 4 µs, a small guest from the pool, doubling to 65 ms, a large one on a machine that
/// swaps: a quantile is right within a factor of two.
fn instantiate_seconds() -> Histogram {
    Histogram::new((0..15).map(|n| 0.000_004 * f64::from(1 << n)))
}

/// From 16 µs, an echo, doubling to 8.4 s.
fn guest_seconds() -> Histogram {
    Histogram::new((0..20).map(|n| 0.000_016 * f64::from(1 << n)))
}

/// From 64 KiB, a page, doubling to 4 GiB, all that an instance can address.
fn memory_bytes() -> Histogram {
    Histogram::new((16..33).map(|n| 2.0_f64.powi(n)))
}

/// How a request to a plugin ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the variants are label values, which are snake_case")]
pub(crate) enum Outcome {
    ok,
    trap,
    failed,
    timeout,
    out_of_memory,
    no_response,
    bad_response,
    inference,
    request_too_large,
    request_broken,
    saturated,
}

impl Outcome {
    fn of(error: &GuestError) -> Self {
        match error {
            GuestError::Trap { .. } => Self::trap,
            GuestError::Failed { .. } => Self::failed,
            GuestError::Timeout { .. } | GuestError::DeadlinePassed { .. } => Self::timeout,
            GuestError::OutOfMemory { .. } => Self::out_of_memory,
            GuestError::NoResponse { .. } => Self::no_response,
            GuestError::BadResponse { .. } => Self::bad_response,
            GuestError::Inference { .. } => Self::inference,
            GuestError::RequestTooLarge { .. } => Self::request_too_large,
            GuestError::RequestBroken { .. } => Self::request_broken,
            GuestError::Saturated { .. } => Self::saturated,
        }
    }
}

/// What became of an attempt to reach something outside the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the variants are label values, which are snake_case")]
pub(crate) enum Reached {
    ok,
    /// Not granted, or beyond a limit.
    refused,
    failed,
}

/// Where a plugin's machine code came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the variants are label values, which are snake_case")]
pub(crate) enum CodeSource {
    compiler,
    disk,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    plugin: String,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginLabels {
    plugin: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReachLabels {
    plugin: String,
    outcome: Reached,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoadLabels {
    code: CodeSource,
}
