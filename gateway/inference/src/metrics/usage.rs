//! What callers used: for whom devices worked, how long requests waited, and what was in vain.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::batch_rows;
use crate::Caller;

pub(crate) type Seconds = Counter<f64, AtomicU64>;

/// The accounts of all callers on all models; a clone shares them.
#[derive(Clone)]
pub(super) struct Usage {
    device: Family<UsageLabels, Seconds>,
    wasted: Family<UsageLabels, Seconds>,
    queue: Family<UsageLabels, Seconds>,
    requests: Family<UsageLabels, Counter>,
    items: Family<UsageLabels, Counter>,
    batch: Family<UsageLabels, Histogram, fn() -> Histogram>,
    bytes: Family<MovedLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UsageLabels {
    tenant: String,
    route: String,
    model: String,
    device: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MovedLabels {
    tenant: String,
    route: String,
    model: String,
    device: String,
    direction: Direction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Direction {
    In,
    Out,
}

impl EncodeLabelValue for Direction {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
        .encode(encoder)
    }
}

impl Usage {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let usage = Self {
            device: Family::default(),
            wasted: Family::default(),
            queue: Family::default(),
            requests: Family::default(),
            items: Family::default(),
            batch: Family::new_with_constructor(batch_rows),
            bytes: Family::default(),
        };
        let u = usage.clone();
        registry.register("gw_usage_device_seconds", "Device time of callers", u.device);
        registry.register(
            "gw_usage_wasted_seconds",
            "Device time for callers who left before they had their answer",
            u.wasted,
        );
        registry.register("gw_usage_queue_seconds", "Wait of callers for devices", u.queue);
        registry.register("gw_usage_requests", "Requests of callers, answered or not", u.requests);
        registry.register("gw_usage_items", "Rows of callers that were run", u.items);
        registry.register("gw_usage_batch_rows", "Rows of the runs that callers share", u.batch);
        registry.register("gw_usage_bytes", "Bytes of tensors to and from models", u.bytes);
        usage
    }

    /// What callers use of models on one device.
    pub(super) fn of(&self, device: &str) -> DeviceUsage {
        DeviceUsage { usage: self.clone(), device: device.to_owned() }
    }
}

/// Notes what callers use of models on one device, each under the name by which it was asked.
#[derive(Clone)]
pub(crate) struct DeviceUsage {
    usage: Usage,
    device: String,
}

/// What one request gave to a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given {
    pub(crate) rows: usize,
    /// Rows of the run, those of others included.
    pub(crate) batch: usize,
    pub(crate) bytes_in: u64,
}

impl DeviceUsage {
    /// The share that a request has in a run's time, and what it gave where the run succeeded.
    pub(crate) fn part(&self, caller: &Caller, model: &str, took: Duration, given: Option<Given>) {
        let labels = self.labels(caller, model);
        self.usage.device.get_or_create(&labels).inc_by(took.as_secs_f64());
        let Some(Given { rows, batch, bytes_in }) = given else { return };
        self.usage.items.get_or_create(&labels).inc_by(rows as u64);
        self.usage.batch.get_or_create(&labels).observe(batch as f64);
        self.moved(labels, Direction::In, bytes_in);
    }

    /// Device time for a caller who has left.
    pub(crate) fn wasted(&self, caller: &Caller, model: &str, used: Duration) {
        let labels = self.labels(caller, model);
        self.usage.wasted.get_or_create(&labels).inc_by(used.as_secs_f64());
    }

    /// A request that is over, answered or not.
    pub(crate) fn asked(&self, caller: &Caller, model: &str, queue: Duration) {
        let labels = self.labels(caller, model);
        self.usage.requests.get_or_create(&labels).inc();
        self.usage.queue.get_or_create(&labels).inc_by(queue.as_secs_f64());
    }

    pub(crate) fn gave(&self, caller: &Caller, model: &str, bytes: u64) {
        self.moved(self.labels(caller, model), Direction::Out, bytes);
    }

    fn moved(&self, labels: UsageLabels, direction: Direction, bytes: u64) {
        let UsageLabels { tenant, route, model, device } = labels;
        let labels = MovedLabels { tenant, route, model, device, direction };
        self.usage.bytes.get_or_create(&labels).inc_by(bytes);
    }

    /// The start of a digest tells tenants apart and gives nothing away.
    fn labels(&self, caller: &Caller, model: &str) -> UsageLabels {
        let Caller { tenant, route } = caller;
        UsageLabels {
            tenant: tenant.get(..12).unwrap_or(tenant).to_owned(),
            route: route.to_string(),
            model: model.to_owned(),
            device: self.device.clone(),
        }
    }
}

/// How long a device was busy.
#[derive(Clone)]
pub(crate) struct DeviceMetrics(pub(super) Seconds);

impl DeviceMetrics {
    pub(crate) fn busy(&self, took: Duration) {
        self.0.inc_by(took.as_secs_f64());
    }
}
