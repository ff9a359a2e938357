//! The limits of inference, and where they come from.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use gw_artifact::ByteSize;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};

/// Section `[inference]` of the node's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InferenceConfig {
    /// How many requests may wait for one model, or for it to be loaded; one more is refused as
    /// overload. Default 1024: at 5 ms each that is 5 s of work, longer than most callers wait.
    #[serde(deserialize_with = "one_or_more")]
    pub queue_max: usize,
    /// How many rows one run may join from several requests; the CPU joins at most one row per
    /// thread. Default 32, which bounds the memory of a run and how long those who joined it wait.
    #[serde(deserialize_with = "one_or_more")]
    pub batch_max: usize,
    /// How long a run should take. A request with more rows than are done in this time, as
    /// measured, is computed in parts of one row or more, and whoever waits has a turn between
    /// them. It is at most a quarter of `wait_max`: who joins a run waits for all of it. Default
    /// 100 ms: a neighbour hardly notices, and starting a run costs far less.
    #[serde(with = "gw_artifact::duration")]
    pub run_time: Duration,
    /// How long a request may wait for a model: one that would wait longer, as measured, is refused
    /// at once, and so is one for a route whose models are all that busy. Default 10 s: callers who
    /// take turns at a slow model are served; set it to a budget for latency to refuse earlier.
    /// For a tenant most of whose requests are refused it comes down to half, as a shorter line
    /// serves as many, sooner.
    #[serde(with = "gw_artifact::duration")]
    pub wait_max: Duration,
    /// What a tenant's requests weigh beside those of others when devices are busy: one of weight 2
    /// gets twice the device time of one of weight 1. Keys are the digests of API keys, or
    /// `anonymous`. Default: 1 for each.
    pub tenant_weights: BTreeMap<String, NonZeroU32>,
    /// Bytes of host memory that models may hold: those on the CPU together, and as much what those
    /// of each GPU hold beside it. Who was asked longest ago is evicted to make room for another,
    /// and loaded again when it is asked. Default: no limit.
    pub memory_max: Option<ByteSize>,
    /// As `memory_max`, of the memory of each GPU. Default: no limit but that a device that has no
    /// room left makes room the same way.
    pub gpu_memory_max: Option<ByteSize>,
    /// How long a model that nobody asks stays in memory, unless its manifest says otherwise.
    /// Default: until its room is needed.
    #[serde(with = "gw_artifact::duration::optional")]
    pub keep_alive: Option<Duration>,
    /// How long a run on the GPU may take before the device counts as hung: then it is opened anew,
    /// and its models with it, and the run fails. Default 30 s, far above `run_time`; a first run,
    /// which compiles, has ten times as long. A run on the CPU cannot be stopped.
    #[serde(with = "gw_artifact::duration")]
    pub gpu_hang_time: Duration,
    /// Threads of the CPU backend, shared by all its models. Default: one per physical core.
    pub cpu_threads: Option<NonZeroUsize>,
    /// How far threads that compute on the CPU give way to those that answer requests, as `nice`
    /// says it: 0 not at all, 19 the most. Default 5: where every core computes, who answers has
    /// three times the share of who computes, and hardly waits for it. Linux only.
    #[serde(deserialize_with = "niceness")]
    pub cpu_nice: u8,
    /// Expand int8 weights to f32 at load on the GPU: four times the memory for fewer
    /// instructions. Default `false`.
    pub gpu_expand_weights: bool,
    /// Run several nodes of a model in one dispatch on the GPU. Without it every node runs by
    /// itself: slow and simple, to compare with. Default `true`.
    pub gpu_fuse: bool,
    /// How long a model may have of the GPU, in all, to measure which variants of its products are
    /// the fastest there. It begins behind the first answer and goes on between runs; what is found
    /// is kept with the plans. `0s` measures nothing. Default 2 s, which its
    /// requests hardly notice; what there was no time for, a later start measures.
    #[serde(with = "gw_artifact::duration")]
    pub gpu_tune: Duration,
    /// Outputs of at least so many bytes on the GPU stay there when a plugin asks a model over
    /// wasi-nn, so that another model takes them from there; a plugin that reads one waits for the
    /// GPU once more. Smaller ones are copied along: that costs less than a second wait. Default
    /// 1 MiB, which a bus moves in the time of one submission, about 0.1 ms.
    #[serde(with = "gw_artifact::size")]
    pub gpu_keep_bytes_min: u64,
    /// Where the plans of the GPU are kept, with the weights in the form that it reads, and what
    /// runs each model on the CPU, so that a later start neither plans nor tries. Default: nowhere;
    /// a node takes a folder in gw's cache.
    pub plan_cache_dir: Option<PathBuf>,
    /// Bytes that kept plans and weights may take on disk; what was used longest ago goes first,
    /// and 0 keeps nothing. Default 4 GiB: a dozen models of 300 MB.
    #[serde(with = "gw_artifact::size")]
    pub plan_cache_bytes_max: u64,
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        0 => Err(D::Error::invalid_value(Unexpected::Unsigned(0), &"1 or more")),
        count => Ok(count),
    }
}

fn niceness<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    match u8::deserialize(deserializer)? {
        nice @ 0..=19 => Ok(nice),
        more => Err(D::Error::invalid_value(Unexpected::Unsigned(more.into()), &"0 to 19")),
    }
}

impl Default for InferenceConfig {
    fn default() -> Self {
        Self {
            queue_max: 1024,
            batch_max: 32,
            run_time: Duration::from_millis(100),
            wait_max: Duration::from_secs(10),
            tenant_weights: BTreeMap::new(),
            memory_max: None,
            gpu_memory_max: None,
            keep_alive: None,
            gpu_hang_time: Duration::from_secs(30),
            cpu_threads: None,
            cpu_nice: 5,
            gpu_expand_weights: false,
            gpu_fuse: true,
            gpu_tune: Duration::from_secs(2),
            gpu_keep_bytes_min: 1 << 20,
            plan_cache_dir: None,
            plan_cache_bytes_max: 4 << 30,
        }
    }
}
