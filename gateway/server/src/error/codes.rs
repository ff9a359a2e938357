//! Which code the errors of other layers have.

use gw_artifact::bundle::BundleError;
use gw_deploy::DeployError;
use gw_host::GuestError;
use gw_inference::{Fault as ModelFault, InferenceError};

use super::{Code, HandleError};

pub(super) fn inference_code(error: &InferenceError) -> Code {
    match (error, error.fault()) {
        (InferenceError::DeadlinePassed { .. }, _) => Code::DeadlinePassed,
        (InferenceError::DeviceLost { .. } | InferenceError::DeviceGone { .. }, _) => {
            Code::DeviceLost
        }
        (InferenceError::OutOfMemory { .. }, _) => Code::DeviceOutOfMemory,
        (InferenceError::NotANumber { .. }, _) => Code::NotANumber,
        (_, ModelFault::Overload) => Code::Saturated,
        (_, ModelFault::Caller) => Code::PluginBadTensors,
        (_, ModelFault::Operator | ModelFault::Ours) => Code::Internal,
    }
}

pub(crate) fn guest_code(error: &GuestError) -> Code {
    match error {
        GuestError::Trap { .. } | GuestError::Failed { .. } => Code::PluginTrapped,
        GuestError::Inference { source, .. } => {
            let kept = source.downcast_ref::<HandleError>().map(HandleError::code);
            let asked = || source.downcast_ref().map(inference_code);
            kept.or_else(asked).unwrap_or(Code::Internal)
        }
        // The guest could do nothing about a model that did not answer.
        GuestError::DeadlinePassed { timings, .. } if timings.awaited.is_some() => {
            Code::DeadlinePassed
        }
        GuestError::Timeout { .. } | GuestError::DeadlinePassed { .. } => Code::PluginTimeout,
        GuestError::OutOfMemory { .. } => Code::PluginOutOfMemory,
        GuestError::NoResponse { .. } => Code::PluginNoResponse,
        // The request that broke off was a plugin's: the client's own are read before.
        GuestError::BadResponse { .. } | GuestError::RequestBroken { .. } => {
            Code::PluginBadResponse
        }
        GuestError::RequestTooLarge { .. } => Code::BodyTooLarge,
        GuestError::Saturated { .. } => Code::Saturated,
    }
}

pub(super) fn deploy_code(error: &DeployError) -> Code {
    match error {
        DeployError::Bundle(error) => match error {
            BundleError::NotABundle { .. } => Code::NotABundle,
            BundleError::Unsigned => Code::BundleUnsigned,
            BundleError::UntrustedKey { .. } => Code::BundleUntrusted,
            BundleError::BadSignature => Code::BundleTampered,
            BundleError::Manifest(_) => Code::ManifestInvalid,
            BundleError::Corrupt { .. } => Code::BundleCorrupt,
        },
        DeployError::Missing { .. } | DeployError::ModelMismatch { .. } => Code::BundleCorrupt,
        DeployError::Fetch { .. } => Code::ModelUnavailable,
        DeployError::Model { .. } => Code::ModelRefused,
        DeployError::Plugin { .. } => Code::PluginRefused,
        DeployError::BadRoute { .. } | DeployError::ModelPolicy { .. } => Code::ManifestInvalid,
        DeployError::RouteConflict { .. } => Code::RouteConflict,
        DeployError::UnknownApp { .. } => Code::UnknownApp,
        DeployError::UnknownRevision { .. } => Code::UnknownRevision,
        DeployError::NothingBefore { .. } => Code::NothingBefore,
        DeployError::Locked { .. }
        | DeployError::State { .. }
        | DeployError::StoredBundle { .. } => Code::StateFailed,
        DeployError::Panicked { .. } => Code::Internal,
    }
}
