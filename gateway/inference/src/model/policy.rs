//! How one model is served, where that differs from model to model.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a manifest says about how a model is served. Two that differ are served apart, though the
/// file is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ModelPolicy {
    /// Rows that one run may join, at most [`InferenceConfig::batch_max`](crate::InferenceConfig::batch_max);
    /// 1 joins nothing. `None` is that limit.
    pub batch_max: Option<usize>,
    /// How long a request waits for others to join its run. Default: not at all.
    pub max_delay: Duration,
    /// Inputs that may be made longer in their open dimensions, and the value to fill them with:
    /// so requests of different lengths share a run. Empty: only equal lengths do.
    pub pad: BTreeMap<String, i64>,
    /// How long the model stays in memory when nobody asks it. `None` is the node's.
    pub keep_alive: Option<Duration>,
    /// Whether it is never evicted to make room for others.
    pub pinned: bool,
    /// Whether a run with an output that is not a number fails; else it is only counted.
    pub refuse_nan: bool,
    /// Outputs that are the state of an execution context, each with the input that takes it in the
    /// next run. A model with state is never batched.
    pub state: BTreeMap<String, String>,
}
