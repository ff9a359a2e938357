//! What can go wrong with a model, and whose fault it is.

use std::fmt;
use std::time::Duration;

use gw_tensor::{DType, Shape};

use crate::PolicyProblem;

/// Why a model could not be loaded or a request could not be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferenceError {
    /// No model has this name.
    #[error("no model named {name:?} is loaded")]
    NotFound {
        /// The name that was asked for.
        name: String,
    },
    /// The inputs do not fit the model's signature.
    #[error("model {model}: {problem}")]
    BadInput {
        /// The model.
        model: String,
        /// What does not fit.
        problem: Box<InputProblem>,
    },
    /// The model ran, and one of its operators refused these values.
    #[error("model {model} failed on {device}: {reason}")]
    Run {
        /// The model.
        model: String,
        /// Where it ran.
        device: String,
        /// The operator's own words.
        reason: String,
    },
    /// As many requests wait as the configuration allows.
    #[error("model {model}: its queue is full, {queue_max} requests wait already")]
    QueueFull {
        /// The model.
        model: String,
        /// The configured limit, `queue_max`.
        queue_max: usize,
    },
    /// What waits already would take longer than the request may wait.
    #[error(
        "model {model}: about {wait:.1?} of work waits, and the request may wait for {may:.1?}, by \
         its deadline and `wait_max`; try again later"
    )]
    Busy {
        /// The model.
        model: String,
        /// How long the work that goes first takes, by what was measured.
        wait: Duration,
        /// How long it may be, so that the answer comes before the deadline, and no longer than the
        /// node lets requests wait.
        may: Duration,
    },
    /// The model does not fit the memory that models may have.
    #[error(
        "model {model} needs {needed} bytes of {device}, more than the {max} that all models may \
         hold there; raise `memory_max` or `gpu_memory_max`, or take a smaller model"
    )]
    TooLarge {
        /// The model.
        model: String,
        /// Which device.
        device: String,
        /// Bytes that it needs.
        needed: u64,
        /// The configured limit.
        max: u64,
    },
    /// There is no room for the model now, and nobody leaves for it.
    #[error(
        "model {model} needs {needed} bytes of {device}, where {used} of {max} are held by models \
         that cannot leave now; try again later, unpin one, or raise the limit"
    )]
    NoRoom {
        /// The model.
        model: String,
        /// Which device.
        device: String,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that others hold.
        used: u64,
        /// The configured limit.
        max: u64,
    },
    /// The caller's deadline passed before the answer was ready.
    #[error(
        "model {model}: the deadline passed after {queue:.1?} in its queue and {compute:.1?} in \
         its runs"
    )]
    DeadlinePassed {
        /// The model.
        model: String,
        /// How long the request waited for the device.
        queue: Duration,
        /// How long it was in runs.
        compute: Duration,
    },
    /// The model was unloaded, or the node is shutting down.
    #[error("model {model} is being unloaded and takes no more requests")]
    Unloading {
        /// The model.
        model: String,
    },
    /// The device has no way to compute one of the model's operators.
    #[error("model {model}: the {device} device cannot run {op} (node {node:?}): {reason}")]
    Unsupported {
        /// The model.
        model: String,
        /// Where it should have run.
        device: String,
        /// The operator's type, such as `MatMul`.
        op: String,
        /// The node's name; empty where the file names none.
        node: String,
        /// What is missing.
        reason: String,
    },
    /// The file is missing, damaged, or not a model.
    #[error("model {model} cannot be loaded: {reason}")]
    Load {
        /// The model.
        model: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The model lacks what it is to be served by.
    #[error("model {model}: {problem}")]
    Policy {
        /// The model.
        model: String,
        /// The key of its policy, and what there is.
        problem: Box<PolicyProblem>,
    },
    /// The asked device does not exist here or does not open.
    #[error("no device for {choice:?}: {reason}")]
    NoDevice {
        /// What was asked for, as the user wrote it.
        choice: String,
        /// What there is, and what to do.
        reason: String,
    },
    /// The device broke under a request.
    #[error("model {model}: the device {device} failed: {reason}")]
    Device {
        /// The model.
        model: String,
        /// Which device.
        device: String,
        /// What it reported.
        reason: String,
    },
    /// The device was lost under a request, and again when the request was tried once more; or it
    /// hung, and nothing is tried again that may hang it.
    #[error("model {model}: {reason}; the device is opened anew, try again")]
    DeviceLost {
        /// The model.
        model: String,
        /// Which device.
        device: String,
        /// What it reported, with its name.
        reason: String,
    },
    /// The device was lost and does not open any more.
    #[error(
        "model {model}: the device {device} was lost and does not open: {reason}; it is tried \
         again in {retry:.1?}"
    )]
    DeviceGone {
        /// The model.
        model: String,
        /// Which device.
        device: String,
        /// Why it does not open.
        reason: String,
        /// When it is tried again.
        retry: Duration,
    },
    /// The device has no memory left, although everything went that its model can do without.
    #[error("model {model}: {device} has no memory left: {reason}")]
    OutOfMemory {
        /// The model.
        model: String,
        /// Which device.
        device: String,
        /// What there was no memory for.
        reason: String,
    },
    /// An output holds what is not a number, and the model's manifest refuses that.
    #[error("model {model}: its output {output:?} on {device} is not a number")]
    NotANumber {
        /// The model.
        model: String,
        /// Where it ran.
        device: String,
        /// The output.
        output: String,
    },
    /// A backend panicked; only the requests of that run are lost.
    #[error("model {model}: the {device} backend panicked: {reason}")]
    Panicked {
        /// The model.
        model: String,
        /// Which device.
        device: String,
        /// The panic's message.
        reason: String,
    },
}

impl InferenceError {
    /// Whose fault it is.
    ///
    /// A run that fails although the request fits the signature counts as the caller's: the same
    /// model answers other requests, so it is the values (a size that does not fit, say) that fail.
    pub fn fault(&self) -> Fault {
        match self {
            Self::BadInput { .. } | Self::Run { .. } => Fault::Caller,
            Self::NotFound { .. }
            | Self::Unsupported { .. }
            | Self::Load { .. }
            | Self::TooLarge { .. }
            | Self::Policy { .. }
            | Self::NoDevice { .. }
            | Self::NotANumber { .. } => Fault::Operator,
            Self::QueueFull { .. }
            | Self::Busy { .. }
            | Self::DeadlinePassed { .. }
            | Self::NoRoom { .. }
            | Self::OutOfMemory { .. }
            | Self::Unloading { .. } => Fault::Overload,
            Self::Device { .. }
            | Self::DeviceLost { .. }
            | Self::DeviceGone { .. }
            | Self::Panicked { .. } => Fault::Ours,
        }
    }
}

/// Who has to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller (a guest): the request cannot be answered as it is.
    Caller,
    /// The operator: a configuration or a model file.
    Operator,
    /// Us: a defect, or hardware that broke.
    Ours,
    /// Nobody: the same request may be answered later.
    Overload,
}

/// How a request does not fit a model's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputProblem {
    /// An input is not given.
    Missing {
        /// The input.
        name: String,
    },
    /// The model has no such input.
    Unknown {
        /// The name that was given.
        name: String,
        /// What the model takes.
        expected: Vec<String>,
    },
    /// An input is given twice.
    Repeated {
        /// The input.
        name: String,
    },
    /// The element type is not the declared one.
    DType {
        /// The input.
        name: String,
        /// The declared type.
        expected: DType,
        /// The type that was given.
        given: DType,
    },
    /// The rank or a fixed dimension is not the declared one.
    Shape {
        /// The input.
        name: String,
        /// The declared dimensions, such as `[batch, 3, 224, 224]`.
        expected: String,
        /// The shape that was given.
        given: Shape,
    },
    /// Two dimensions with one symbol have different sizes.
    Symbol {
        /// The symbol.
        symbol: String,
        /// The input that differs.
        name: String,
        /// Its size.
        size: usize,
        /// The size of the symbol in an earlier input.
        earlier: usize,
    },
    /// An integer does not fit the 32 bits in which every device computes.
    Range {
        /// The input.
        name: String,
        /// The element's index.
        index: usize,
        /// Its value.
        value: i128,
    },
    /// An integer names no entry of the table that the model looks up with it.
    Entry {
        /// The input.
        name: String,
        /// The element's index.
        index: usize,
        /// Its value.
        value: i128,
        /// The entries of the table.
        entries: usize,
    },
    /// A state that is left out begins with zeros, and those would be too many.
    Zeros {
        /// The input.
        name: String,
        /// Their shape, from the inputs that are given.
        dims: Vec<usize>,
        /// How many bytes they may take.
        bytes_max: usize,
    },
}

impl fmt::Display for InputProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name } => write!(f, "input {name:?} is missing"),
            Self::Unknown { name, expected } => {
                write!(f, "there is no input {name:?}; the inputs are {}", expected.join(", "))
            }
            Self::Repeated { name } => write!(f, "input {name:?} is given twice"),
            Self::DType { name, expected, given } => {
                write!(f, "input {name:?} takes {expected}, not {given}")
            }
            Self::Shape { name, expected, given } => {
                write!(f, "input {name:?} takes the shape {expected}, not {given}")
            }
            Self::Symbol { symbol, name, size, earlier } => write!(
                f,
                "input {name:?} has {size} for {symbol}, but an earlier input has {earlier}"
            ),
            Self::Range { name, index, value } => write!(
                f,
                "input {name:?} holds {value} at index {index}, outside the 32-bit range in which \
                 devices compute"
            ),
            Self::Entry { name, index, value, entries } => write!(
                f,
                "input {name:?} holds {value} at index {index}, but the table that it is looked up \
                 in takes -{entries} to {}",
                entries.saturating_sub(1)
            ),
            Self::Zeros { name, dims, bytes_max } => write!(
                f,
                "input {name:?} would begin with zeros of {dims:?}, which is more than {bytes_max} \
                 bytes; give fewer rows, or the input itself"
            ),
        }
    }
}
