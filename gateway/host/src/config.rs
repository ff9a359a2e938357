//! The limits of plugins on a node.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{KeyvalueConfig, OutboundConfig, SecretSource};

/// Section `[plugins]` of the node's configuration. A plugin's own limits lie within these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostConfig {
    /// How many instances may live at once, all plugins together. Default 128: enough to keep
    /// two cores and a device busy, and 2 TiB of reserved address space.
    pub instances_max: u32,
    /// How many of them one plugin may have, so that one that keeps its clients waiting, or whose
    /// clients keep it waiting, leaves some to the others. Default 96.
    pub instances_per_plugin_max: u32,
    /// How many requests may wait for an instance; one more is refused. Tenants who wait have
    /// turns, and one with more requests waiting makes room for one with fewer. Default 1024.
    pub waiting_max: usize,
    /// The largest memory limit that a plugin may ask for, in bytes. Default 512 MiB.
    #[serde(with = "gw_artifact::size")]
    pub memory_bytes_max: u64,
    /// The largest request body that is passed to a guest, in bytes. Default 8 MiB.
    #[serde(with = "gw_artifact::size")]
    pub request_bytes_max: usize,
    /// The largest response body that is taken from a guest, in bytes. Default 32 MiB.
    #[serde(with = "gw_artifact::size")]
    pub response_bytes_max: usize,
    /// How long a guest may run for one request, at most; waiting is not in it. Default 1 min.
    #[serde(with = "gw_artifact::duration")]
    pub time_max: Duration,
    /// How long models may run for one request. A run that has begun is finished. Default 1 min.
    #[serde(with = "gw_artifact::duration")]
    pub device_time_max: Duration,
    /// Tensors that one request may hold at once, in bytes. Default 64 MiB.
    #[serde(with = "gw_artifact::size")]
    pub tensor_bytes_max: usize,
    /// What a guest may pass in one host call, in bytes, beside a model that it may load. Default
    /// 64 MiB.
    #[serde(with = "gw_artifact::size")]
    pub hostcall_bytes_max: usize,
    /// Resources (tensors, streams, headers) that one request may hold at once. Default 1024.
    pub resources_max: usize,
    /// Elements that a table of a guest may have; componentised interpreters have more than
    /// 20,000. Default 100,000.
    pub table_elements_max: usize,
    /// Core instances of a component; a componentised Python program has some thirty. Default 48.
    pub core_instances_max: u32,
    /// Models that guests have loaded from bytes and that are kept at once, used or not; one that
    /// is unused for longest goes first. Default 8: each has a thread and its weights.
    pub loaded_models_max: usize,
    /// What these models may have together, in bytes as they were given; also the largest one that
    /// a plugin may be granted. 0 takes none. Default 256 MiB: in memory it is two to three times
    /// as much.
    #[serde(with = "gw_artifact::size")]
    pub loaded_model_bytes_max: usize,
    /// What one request may print to standard output and error and log through `wasi:logging`, all
    /// together, in bytes; the rest is dropped. Default 16 KiB.
    #[serde(with = "gw_artifact::size")]
    pub log_bytes_max: usize,
    /// Where compiled code is kept between starts; nowhere by default. It needs
    /// [`HostConfig::seal_key`].
    pub compiled_dir: Option<PathBuf>,
    /// The node's key that seals compiled code; made on first use.
    pub seal_key: Option<PathBuf>,
    /// The secrets that plugins may be granted, by name; read when a plugin is loaded.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Where the buckets of plugins are.
    pub keyvalue: KeyvalueConfig,
    /// The requests that plugins send.
    pub outbound: OutboundConfig,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            instances_max: 128,
            instances_per_plugin_max: 96,
            waiting_max: 1024,
            memory_bytes_max: 512 << 20,
            request_bytes_max: 8 << 20,
            response_bytes_max: 32 << 20,
            time_max: Duration::from_mins(1),
            device_time_max: Duration::from_mins(1),
            tensor_bytes_max: 64 << 20,
            hostcall_bytes_max: 64 << 20,
            resources_max: 1024,
            table_elements_max: 100_000,
            core_instances_max: 48,
            loaded_models_max: 8,
            loaded_model_bytes_max: 256 << 20,
            log_bytes_max: 16 << 10,
            compiled_dir: None,
            seal_key: None,
            secrets: BTreeMap::new(),
            keyvalue: KeyvalueConfig::default(),
            outbound: OutboundConfig::default(),
        }
    }
}

/// How often a busy guest is interrupted to let others run and to look at its deadline. Ten
/// milliseconds cost a guest nothing measurable and bound how long it can hold a thread.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Memories per component: one per composed part.
pub(crate) const MEMORIES: u32 = 4;
/// Tables per component.
pub(crate) const TABLES: u32 = 16;
/// Metadata of one component with its core instances, in bytes; interpreters exceed 1 MiB.
pub(crate) const INSTANCE_BYTES: usize = 10 << 20;
/// The start of each memory that stays in place for its next instance, in bytes: all of a small
/// Rust guest, which has 1 MiB of stack and its data behind it. A memory that begins larger keeps
/// nothing, as most of it is given back anyway. With 64 connections on two cores a hello handler
/// answered 14,400 requests a second with it and 9,100 without.
pub(crate) const MEMORY_BYTES_KEPT: usize = 1280 << 10;
/// The same of each table.
pub(crate) const TABLE_BYTES_KEPT: usize = 16 << 10;
/// Slots that keep what they have while no instance uses them.
pub(crate) const WARM_SLOTS: u32 = 32;
/// The in-memory size of one set of HTTP headers, in bytes.
pub(crate) const HEADER_BYTES: usize = 64 << 10;
