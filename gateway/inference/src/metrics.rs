//! What is counted, under names that do not change.
//!
//! | metric | type | labels |
//! |---|---|---|
//! | `gw_infer_requests_total` | counter | `model`, `device`, `outcome` |
//! | `gw_infer_queue_seconds` | histogram | `model`, `device` |
//! | `gw_infer_compute_seconds` | histogram | `model`, `device` |
//! | `gw_batch_rows` | histogram | `model`, `device` |
//! | `gw_queue_depth` | gauge | `model`, `device` |
//! | `gw_model_bytes` | gauge | `model`, `device`, `kind` |
//! | `gw_model_load_seconds` | histogram | `model`, `device` |
//! | `gw_model_loads_total` | counter | `model`, `device`, `outcome` |
//! | `gw_model_evictions_total` | counter | `model`, `device`, `reason` |
//! | `gw_device_busy_seconds_total` | counter | `device` |
//! | `gw_device_memory_max_bytes` | gauge | `device` |
//! | `gw_device_losses_total` | counter | `device` |
//! | `gw_device_reopens_total` | counter | `device`, `outcome` |
//! | `gw_nan_outputs_total` | counter | `model`, `device` |
//!
//! What callers used, in `usage`, with the labels `tenant`, `route`, `model`, `device`:
//! `gw_usage_device_seconds_total`, `gw_usage_wasted_seconds_total`,
//! `gw_usage_queue_seconds_total`, `gw_usage_requests_total`, `gw_usage_items_total`, the
//! histogram `gw_usage_batch_rows`, and `gw_usage_bytes_total` by `direction`.
//!
//! Labels come from manifests, adapters and enums, never from requests.

mod failures;
mod labels;
pub(crate) mod usage;

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelValue;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub(crate) use self::failures::DeviceFailures;
use self::failures::Failures;
pub(crate) use self::labels::EvictionReason;
use self::labels::{
    BytesKind, BytesLabels, DeviceLabels, EvictionLabels, LoadLabels, ModelLabels, RequestLabels,
};
use self::usage::{DeviceMetrics, DeviceUsage, Seconds, Usage};
use crate::{Footprint, Inference, InferenceError};

/// The metrics of all models; a clone shares them.
#[derive(Clone)]
pub struct InferenceMetrics {
    requests: Family<RequestLabels, Counter>,
    queue: Histograms,
    compute: Histograms,
    rows: Histograms,
    waiting: Family<ModelLabels, Gauge>,
    bytes: Family<BytesLabels, Gauge>,
    load: Histograms,
    loads: Family<LoadLabels, Counter>,
    evictions: Family<EvictionLabels, Counter>,
    busy: Family<DeviceLabels, Seconds>,
    memory_max: Family<DeviceLabels, Gauge>,
    usage: Usage,
    failures: Failures,
}

type Histograms = Family<ModelLabels, Histogram, fn() -> Histogram>;

impl InferenceMetrics {
    /// Registers every metric under its full name.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            queue: Family::new_with_constructor(run_seconds),
            compute: Family::new_with_constructor(run_seconds),
            rows: Family::new_with_constructor(batch_rows),
            waiting: Family::default(),
            bytes: Family::default(),
            load: Family::new_with_constructor(load_seconds),
            loads: Family::default(),
            evictions: Family::default(),
            busy: Family::default(),
            memory_max: Family::default(),
            usage: Usage::register(registry),
            failures: Failures::register(registry),
        };
        let m = metrics.clone();
        registry.register("gw_infer_requests", "Requests to models, by how they ended", m.requests);
        registry.register("gw_infer_queue_seconds", "Wait for the device per request", m.queue);
        registry.register("gw_infer_compute_seconds", "Time of one run on the device", m.compute);
        registry.register("gw_batch_rows", "Rows joined in one run", m.rows);
        registry.register("gw_queue_depth", "Requests that wait for a model", m.waiting);
        registry.register("gw_model_bytes", "Memory that a model holds", m.bytes);
        registry.register("gw_model_load_seconds", "Time to load a model", m.load);
        registry.register("gw_model_loads", "Loads of models, by how they ended", m.loads);
        registry.register("gw_model_evictions", "Models that left memory, by why", m.evictions);
        registry.register("gw_device_busy_seconds", "Time in which a device ran models", m.busy);
        registry.register(
            "gw_device_memory_max_bytes",
            "Memory that models may hold, where it is limited; host is what they hold beside a GPU",
            m.memory_max,
        );
        metrics
    }

    /// Counts one load; what shares a model that is loaded already is none.
    pub(crate) fn count_load(&self, model: &str, device: &str, outcome: LoadOutcome) {
        let (model, device) = (model.to_owned(), device.to_owned());
        self.loads.get_or_create(&LoadLabels { model, device, outcome }).inc();
    }

    /// Counts one model that left memory though somebody may ask it again.
    pub(crate) fn count_eviction(&self, model: &str, device: &str, reason: EvictionReason) {
        let (model, device) = (model.to_owned(), device.to_owned());
        self.evictions.get_or_create(&EvictionLabels { model, device, reason }).inc();
    }

    /// What the workers of one device record.
    pub(crate) fn device(&self, device: &str) -> DeviceMetrics {
        let labels = DeviceLabels { device: device.to_owned() };
        DeviceMetrics(self.busy.get_or_create(&labels).clone())
    }

    /// Models may hold so many bytes of a device.
    pub(crate) fn limit_memory(&self, device: &str, bytes: u64) {
        let labels = DeviceLabels { device: device.to_owned() };
        self.memory_max.get_or_create(&labels).set(bytes.cast_signed());
    }

    /// The request counters of one model, all outcomes present from the start.
    pub(crate) fn requests(&self, model: &str, device: &str) -> RequestMetrics {
        let counter = |outcome: Outcome| {
            let (model, device) = (model.to_owned(), device.to_owned());
            let labels = RequestLabels { model, device, outcome };
            self.requests.get_or_create(&labels).clone()
        };
        RequestMetrics(Outcome::ALL.map(counter))
    }

    /// What the worker of one model records.
    pub(crate) fn model(&self, model: &str, device: &str) -> ModelMetrics {
        let labels = ModelLabels { model: model.to_owned(), device: device.to_owned() };
        let bytes = |kind| {
            let (model, device) = (labels.model.clone(), labels.device.clone());
            self.bytes.get_or_create(&BytesLabels { model, device, kind }).clone()
        };
        ModelMetrics {
            queue: self.queue.get_or_create(&labels).clone(),
            compute: self.compute.get_or_create(&labels).clone(),
            rows: self.rows.get_or_create(&labels).clone(),
            load: self.load.get_or_create(&labels).clone(),
            waiting: self.waiting.get_or_create(&labels).clone(),
            weight_bytes: bytes(BytesKind::Weights),
            arena_bytes: bytes(BytesKind::Arena),
            staging_bytes: bytes(BytesKind::Staging),
            kept_bytes: bytes(BytesKind::Kept),
            host_bytes: bytes(BytesKind::Host),
            usage: self.usage.of(device),
            nans: self.failures.nans(&labels),
        }
    }
}

/// From 100 µs, below which nothing runs, doubling to 26 s, past every sensible deadline: a
/// quantile is right within a factor of two.
fn run_seconds() -> Histogram {
    Histogram::new((0..19).map(|n| 0.0001 * f64::from(1 << n)))
}

/// Powers of two, as batches grow; more than 64 rows come only from one request.
fn batch_rows() -> Histogram {
    Histogram::new((0..7).map(|n| f64::from(1 << n)))
}

/// From 1 ms, a toy, doubling to 65 s, gigabytes from a slow disk.
fn load_seconds() -> Histogram {
    Histogram::new((0..17).map(|n| 0.001 * f64::from(1 << n)))
}

/// How a load ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LoadOutcome {
    Ok,
    /// The device lacks an operator.
    Unsupported,
    /// The device is not there.
    NoDevice,
    Failed,
}

impl LoadOutcome {
    pub(crate) fn of<T>(result: &Result<T, InferenceError>) -> Self {
        result.as_ref().err().map_or(Self::Ok, Self::of_error)
    }

    pub(crate) fn of_error(error: &InferenceError) -> Self {
        match error {
            InferenceError::Unsupported { .. } => Self::Unsupported,
            InferenceError::NoDevice { .. } | InferenceError::DeviceGone { .. } => Self::NoDevice,
            _ => Self::Failed,
        }
    }
}

impl EncodeLabelValue for LoadOutcome {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        match self {
            Self::Ok => "ok",
            Self::Unsupported => "unsupported",
            Self::NoDevice => "no_device",
            Self::Failed => "failed",
        }
        .encode(encoder)
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Ok,
    BadInput,
    QueueFull,
    DeadlinePassed,
    Unloading,
    Failed,
    Cancelled,
}

impl Outcome {
    const ALL: [Self; 7] = [
        Self::Ok,
        Self::BadInput,
        Self::QueueFull,
        Self::DeadlinePassed,
        Self::Unloading,
        Self::Failed,
        Self::Cancelled,
    ];

    pub(crate) fn of<T>(result: &Result<Inference<T>, InferenceError>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(InferenceError::BadInput { .. }) => Self::BadInput,
            Err(InferenceError::QueueFull { .. } | InferenceError::Busy { .. }) => Self::QueueFull,
            Err(InferenceError::DeadlinePassed { .. }) => Self::DeadlinePassed,
            Err(InferenceError::Unloading { .. }) => Self::Unloading,
            Err(_) => Self::Failed,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::BadInput => "bad_input",
            Self::QueueFull => "queue_full",
            Self::DeadlinePassed => "deadline_passed",
            Self::Unloading => "unloading",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        self.name().encode(encoder)
    }
}

/// The request counters of one model, by outcome.
pub(crate) struct RequestMetrics([Counter; Outcome::ALL.len()]);

impl RequestMetrics {
    /// Counts one request: as cancelled, unless it is settled before it is dropped.
    pub(crate) fn begin(&self) -> Request<'_> {
        Request { metrics: self, outcome: Outcome::Cancelled }
    }

    #[cfg(test)]
    pub(crate) fn count(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].get()
    }
}

pub(crate) struct Request<'a> {
    metrics: &'a RequestMetrics,
    outcome: Outcome,
}

impl Request<'_> {
    pub(crate) fn settle(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.metrics.0[self.outcome as usize].inc();
    }
}

/// What the worker of one model records. Gauges move by differences: two files may have the same
/// name while one revision replaces another.
pub(crate) struct ModelMetrics {
    queue: Histogram,
    compute: Histogram,
    rows: Histogram,
    load: Histogram,
    waiting: Gauge,
    weight_bytes: Gauge,
    arena_bytes: Gauge,
    staging_bytes: Gauge,
    kept_bytes: Gauge,
    host_bytes: Gauge,
    pub(crate) usage: DeviceUsage,
    nans: Counter,
}

impl ModelMetrics {
    /// Counts outputs that are no numbers.
    pub(crate) fn not_numbers(&self, outputs: usize) {
        self.nans.inc_by(outputs as u64);
    }

    pub(crate) fn loaded(&self, took: Duration) {
        self.load.observe(took.as_secs_f64());
    }

    pub(crate) fn ran(&self, rows: usize, compute: Duration) {
        self.rows.observe(rows as f64);
        self.compute.observe(compute.as_secs_f64());
    }

    pub(crate) fn waited(&self, queue: Duration) {
        self.queue.observe(queue.as_secs_f64());
    }

    pub(crate) fn waiting(&self, before: usize, now: usize) {
        move_gauge(&self.waiting, before as u64, now as u64);
    }

    pub(crate) fn resident(&self, before: Footprint, now: Footprint) {
        move_gauge(&self.weight_bytes, before.weight_bytes, now.weight_bytes);
        move_gauge(&self.arena_bytes, before.arena_bytes, now.arena_bytes);
        move_gauge(&self.staging_bytes, before.staging_bytes, now.staging_bytes);
        move_gauge(&self.kept_bytes, before.kept_bytes, now.kept_bytes);
        move_gauge(&self.host_bytes, before.host_bytes, now.host_bytes);
    }
}

fn move_gauge(gauge: &Gauge, before: u64, now: u64) {
    gauge.inc_by(now.cast_signed().wrapping_sub(before.cast_signed()));
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn metric_names_and_labels_do_not_change() {
        let mut registry = Registry::default();
        let metrics = InferenceMetrics::register(&mut registry);
        metrics.requests("m", "cpu").begin().settle(Outcome::Ok);
        metrics.model("m", "cpu").ran(4, Duration::from_millis(1));
        metrics.count_load("m", "cpu", LoadOutcome::NoDevice);
        metrics.failures("gpu").lost();
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        // A bucket of each histogram is enough to see its labels.
        let mut series: Vec<&str> = (text.lines())
            .filter(|line| !line.starts_with('#'))
            .filter(|line| !line.contains("_bucket") || line.contains("le=\"+Inf\""))
            .map(|line| line.rsplit_once(' ').unwrap().0)
            .collect();
        series.sort_unstable();
        insta::assert_snapshot!(series.join("\n"), @r#"
        gw_batch_rows_bucket{le="+Inf",model="m",device="cpu"}
        gw_batch_rows_count{model="m",device="cpu"}
        gw_batch_rows_sum{model="m",device="cpu"}
        gw_device_losses_total{device="gpu"}
        gw_device_reopens_total{device="gpu",outcome="failed"}
        gw_device_reopens_total{device="gpu",outcome="ok"}
        gw_infer_compute_seconds_bucket{le="+Inf",model="m",device="cpu"}
        gw_infer_compute_seconds_count{model="m",device="cpu"}
        gw_infer_compute_seconds_sum{model="m",device="cpu"}
        gw_infer_queue_seconds_bucket{le="+Inf",model="m",device="cpu"}
        gw_infer_queue_seconds_count{model="m",device="cpu"}
        gw_infer_queue_seconds_sum{model="m",device="cpu"}
        gw_infer_requests_total{model="m",device="cpu",outcome="bad_input"}
        gw_infer_requests_total{model="m",device="cpu",outcome="cancelled"}
        gw_infer_requests_total{model="m",device="cpu",outcome="deadline_passed"}
        gw_infer_requests_total{model="m",device="cpu",outcome="failed"}
        gw_infer_requests_total{model="m",device="cpu",outcome="ok"}
        gw_infer_requests_total{model="m",device="cpu",outcome="queue_full"}
        gw_infer_requests_total{model="m",device="cpu",outcome="unloading"}
        gw_model_bytes{model="m",device="cpu",kind="arena"}
        gw_model_bytes{model="m",device="cpu",kind="host"}
        gw_model_bytes{model="m",device="cpu",kind="kept"}
        gw_model_bytes{model="m",device="cpu",kind="staging"}
        gw_model_bytes{model="m",device="cpu",kind="weights"}
        gw_model_load_seconds_bucket{le="+Inf",model="m",device="cpu"}
        gw_model_load_seconds_count{model="m",device="cpu"}
        gw_model_load_seconds_sum{model="m",device="cpu"}
        gw_model_loads_total{model="m",device="cpu",outcome="no_device"}
        gw_nan_outputs_total{model="m",device="cpu"}
        gw_queue_depth{model="m",device="cpu"}
        "#);
    }
}
