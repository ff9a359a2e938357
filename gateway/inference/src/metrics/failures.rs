//! What is counted of devices that fail, and of models that answer what is no number.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::InferenceMetrics;
use super::labels::ModelLabels;

/// The families; a clone shares them.
#[derive(Clone, Default)]
pub(super) struct Failures {
    losses: Family<LossLabels, Counter>,
    reopens: Family<ReopenLabels, Counter>,
    nans: Family<ModelLabels, Counter>,
}

impl Failures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let failures = Self::default();
        let Self { losses, reopens, nans } = failures.clone();
        registry.register("gw_device_losses", "Devices that were lost, or hung", losses);
        let help = "Attempts to open a lost device anew, by how they ended";
        registry.register("gw_device_reopens", help, reopens);
        let help = "Outputs with an element that is not a number";
        registry.register("gw_nan_outputs", help, nans);
        failures
    }

    pub(super) fn nans(&self, labels: &ModelLabels) -> Counter {
        self.nans.get_or_create(labels).clone()
    }
}

impl InferenceMetrics {
    /// What is counted of one device, all of it there from the start.
    pub(crate) fn failures(&self, device: &str) -> DeviceFailures {
        let labels = LossLabels { device: device.to_owned() };
        let reopens = |outcome| {
            let labels = ReopenLabels { device: device.to_owned(), outcome };
            self.failures.reopens.get_or_create(&labels).clone()
        };
        DeviceFailures {
            losses: self.failures.losses.get_or_create(&labels).clone(),
            opened: reopens(ReopenOutcome::Ok),
            failed: reopens(ReopenOutcome::Failed),
        }
    }
}

/// What is counted where one device fails.
pub(crate) struct DeviceFailures {
    losses: Counter,
    opened: Counter,
    failed: Counter,
}

impl DeviceFailures {
    pub(crate) fn lost(&self) {
        self.losses.inc();
    }

    pub(crate) fn reopened(&self, ok: bool) {
        if ok { &self.opened } else { &self.failed }.inc();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LossLabels {
    device: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReopenLabels {
    device: String,
    outcome: ReopenOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ReopenOutcome {
    Ok,
    Failed,
}

impl EncodeLabelValue for ReopenOutcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
        .encode(encoder)
    }
}
