//! Errors as a guest sees them: a code of wasi-nn, and words.

use gw_inference::InferenceError;
use wasmtime::component::{ComponentType, Lift, Lower};

/// The longest message that is kept for a guest.
const MESSAGE_BYTES_MAX: usize = 1024;

/// The codes of wasi-nn; all snapshots have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum ErrorCode {
    /// What the guest passed does not fit: a tensor, a name, a number of parts.
    #[component(name = "invalid-argument")]
    InvalidArgument,
    /// The bytes are no model in an encoding that is loaded here.
    #[component(name = "invalid-encoding")]
    InvalidEncoding,
    /// The deadline passed, or would pass while others go first.
    #[component(name = "timeout")]
    Timeout,
    /// The model or its device failed, or there is no room now.
    #[component(name = "runtime-error")]
    RuntimeError,
    /// No request of this kind can be served here.
    #[component(name = "unsupported-operation")]
    UnsupportedOperation,
    /// A model or the tensors exceed a limit.
    #[component(name = "too-large")]
    TooLarge,
    /// No model of this name is granted.
    #[component(name = "not-found")]
    NotFound,
    /// The plugin has no grant for it, or the node lacks the device that was asked for.
    #[component(name = "security")]
    Security,
    /// A defect of ours.
    #[component(name = "unknown")]
    Unknown,
}

/// An error of wasi-nn.
#[derive(Debug)]
pub(crate) struct NnError {
    pub(crate) code: ErrorCode,
    pub(crate) data: String,
}

impl NnError {
    pub(crate) fn new(code: ErrorCode, data: impl Into<String>) -> Self {
        let mut data = data.into();
        // Guests choose the names that messages quote, and may keep a thousand of them.
        data.truncate(data.floor_char_boundary(MESSAGE_BYTES_MAX));
        Self { code, data }
    }
}

/// As a running model fails; a model that is being loaded fails as `load` says.
impl From<InferenceError> for NnError {
    fn from(error: InferenceError) -> Self {
        let code = match &error {
            InferenceError::NotFound { .. } => ErrorCode::NotFound,
            InferenceError::BadInput { .. } => ErrorCode::InvalidArgument,
            InferenceError::DeadlinePassed { .. } | InferenceError::Busy { .. } => {
                ErrorCode::Timeout
            }
            InferenceError::Unsupported { .. } => ErrorCode::UnsupportedOperation,
            InferenceError::NoDevice { .. } => ErrorCode::Security,
            InferenceError::TooLarge { .. } => ErrorCode::TooLarge,
            InferenceError::Run { .. }
            | InferenceError::NoRoom { .. }
            | InferenceError::OutOfMemory { .. }
            | InferenceError::QueueFull { .. }
            | InferenceError::Unloading { .. }
            | InferenceError::Load { .. }
            | InferenceError::Policy { .. }
            | InferenceError::Device { .. }
            | InferenceError::DeviceLost { .. }
            | InferenceError::DeviceGone { .. }
            | InferenceError::NotANumber { .. } => ErrorCode::RuntimeError,
            InferenceError::Panicked { .. } => ErrorCode::Unknown,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gw_inference::{InputProblem, PolicyProblem};

    use super::*;

    #[test]
    fn every_failure_of_a_model_has_the_code_that_the_wit_gives_it() {
        let (text, time) = (|| "m".to_owned(), Duration::ZERO);
        let problem = Box::new(InputProblem::Missing { name: text() });
        let (model, device, reason) = (text(), text(), text());
        let no_shape = Box::new(PolicyProblem::NoShape { input: text() });
        let cases = [
            (InferenceError::NotFound { name: text() }, ErrorCode::NotFound),
            (InferenceError::BadInput { model, problem }, ErrorCode::InvalidArgument),
            (
                InferenceError::DeadlinePassed { model: text(), queue: time, compute: time },
                ErrorCode::Timeout,
            ),
            (InferenceError::Busy { model: text(), wait: time, may: time }, ErrorCode::Timeout),
            (InferenceError::QueueFull { model: text(), queue_max: 1 }, ErrorCode::RuntimeError),
            (InferenceError::Unloading { model: text() }, ErrorCode::RuntimeError),
            (InferenceError::Load { model: text(), reason }, ErrorCode::RuntimeError),
            (InferenceError::Policy { model: text(), problem: no_shape }, ErrorCode::RuntimeError),
            (
                InferenceError::Unsupported {
                    model: text(),
                    device,
                    op: text(),
                    node: text(),
                    reason: text(),
                },
                ErrorCode::UnsupportedOperation,
            ),
            (InferenceError::NoDevice { choice: text(), reason: text() }, ErrorCode::Security),
            (
                InferenceError::Run { model: text(), device: text(), reason: text() },
                ErrorCode::RuntimeError,
            ),
            (
                InferenceError::Device { model: text(), device: text(), reason: text() },
                ErrorCode::RuntimeError,
            ),
            (
                InferenceError::DeviceLost { model: text(), device: text(), reason: text() },
                ErrorCode::RuntimeError,
            ),
            (
                InferenceError::DeviceGone {
                    model: text(),
                    device: text(),
                    reason: text(),
                    retry: time,
                },
                ErrorCode::RuntimeError,
            ),
            (
                InferenceError::OutOfMemory { model: text(), device: text(), reason: text() },
                ErrorCode::RuntimeError,
            ),
            (
                InferenceError::NotANumber { model: text(), device: text(), output: text() },
                ErrorCode::RuntimeError,
            ),
            (
                InferenceError::Panicked { model: text(), device: text(), reason: text() },
                ErrorCode::Unknown,
            ),
        ];
        for (error, code) in cases {
            let words = error.to_string();
            let given = NnError::from(error);
            assert_eq!((given.code, given.data), (code, words));
        }
    }

    #[test]
    fn a_message_is_cut_between_letters() {
        let error = NnError::new(ErrorCode::Unknown, "é".repeat(MESSAGE_BYTES_MAX));
        assert_eq!(error.data, "é".repeat(MESSAGE_BYTES_MAX / 2));
    }
}
