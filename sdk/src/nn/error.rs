//! [`Error`]: why a model did not answer.

use std::fmt;

use crate::bindings::wasi::nn::errors::ErrorCode;

/// Why a model did not answer, or not as it was expected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// What happened: the host's words, or the SDK's.
    pub message: String,
}

/// The kinds of failure, as `wasi:nn` tells them apart, and what the SDK adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// An input does not fit the model.
    InvalidArgument,
    /// The deadline passed first.
    Timeout,
    /// No such model is granted.
    NotFound,
    /// The tensors of one request exceed what it may hold.
    TooLarge,
    /// The host does not offer this.
    Unsupported,
    /// The model or its device failed.
    Failed,
    /// A tensor has another name, type or shape than the plugin expects, or values that do not fill
    /// its shape.
    Mismatch,
}

impl Error {
    /// An error in these words.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<ErrorCode> for ErrorKind {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::InvalidArgument => Self::InvalidArgument,
            ErrorCode::Timeout => Self::Timeout,
            ErrorCode::NotFound => Self::NotFound,
            ErrorCode::TooLarge => Self::TooLarge,
            ErrorCode::InvalidEncoding | ErrorCode::UnsupportedOperation | ErrorCode::Security => {
                Self::Unsupported
            }
            ErrorCode::RuntimeError | ErrorCode::Unknown => Self::Failed,
        }
    }
}

impl From<crate::bindings::wasi::nn::errors::Error> for Error {
    fn from(error: crate::bindings::wasi::nn::errors::Error) -> Self {
        let (kind, mut message) = (ErrorKind::from(error.code()), error.data());
        if kind == ErrorKind::NotFound {
            message += "; add it to `models` of this plugin's [[plugin]] in gw.toml";
        }
        Self::new(kind, message)
    }
}

/// What a client is told when a plugin passes the error on with `?`. None of it is the client's
/// doing: a plugin that lets clients choose shapes checks them itself.
impl From<Error> for crate::Error {
    #[track_caller]
    fn from(error: Error) -> Self {
        let (status, code) = match error.kind {
            ErrorKind::Timeout => (504, "inference_timeout"),
            ErrorKind::Failed => (503, "inference_failed"),
            ErrorKind::NotFound => (500, "model_not_found"),
            ErrorKind::Mismatch => (500, "tensor_mismatch"),
            ErrorKind::InvalidArgument | ErrorKind::TooLarge | ErrorKind::Unsupported => {
                (500, "inference_refused")
            }
        };
        crate::Error::new(status, code, error.message)
    }
}
