//! What metrics of models are told apart by.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

use super::{LoadOutcome, Outcome};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ModelLabels {
    pub(super) model: String,
    pub(super) device: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) model: String,
    pub(super) device: String,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LoadLabels {
    pub(super) model: String,
    pub(super) device: String,
    pub(super) outcome: LoadOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DeviceLabels {
    pub(super) device: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EvictionLabels {
    pub(super) model: String,
    pub(super) device: String,
    pub(super) reason: EvictionReason,
}

/// Why a model left memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum EvictionReason {
    /// Another needed its room.
    Room,
    /// Nobody asked it for as long as it is kept.
    Idle,
    /// An operator said so.
    Asked,
}

impl EncodeLabelValue for EvictionReason {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        match self {
            Self::Room => "room",
            Self::Idle => "idle",
            Self::Asked => "asked",
        }
        .encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BytesLabels {
    pub(super) model: String,
    pub(super) device: String,
    pub(super) kind: BytesKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum BytesKind {
    Weights,
    Arena,
    Staging,
    Kept,
    Host,
}

impl EncodeLabelValue for BytesKind {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        match self {
            Self::Weights => "weights",
            Self::Arena => "arena",
            Self::Staging => "staging",
            Self::Kept => "kept",
            Self::Host => "host",
        }
        .encode(encoder)
    }
}
