//! Why a run failed, and whose fault it is.

use gw_tensor::{DType, TensorError};

use crate::device::DeviceError;
use crate::error::PlanError;
use crate::plan::memory::MemoryError;
use crate::plan::verify::PlanFault;

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The model has no such input.
    #[error("there is no input `{input}`; the inputs are {}", known.join(", "))]
    UnknownInput {
        /// The name that was given.
        input: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// An input was left out.
    #[error("input `{input}` is missing")]
    MissingInput {
        /// Its name.
        input: String,
    },
    /// An input was given twice.
    #[error("input `{input}` is given twice")]
    RepeatedInput {
        /// Its name.
        input: String,
    },
    /// An input has another element type than the model declares.
    #[error("input `{input}` holds {expected}, given {given}")]
    DType {
        /// Its name.
        input: String,
        /// What the model declares.
        expected: DType,
        /// What was given.
        given: DType,
    },
    /// An integer that a device cannot hold: devices compute with 32 bits.
    #[error("input `{input}` has the value {value} at element {index}, which does not fit 32 bits")]
    OutOfRange {
        /// The input's name.
        input: String,
        /// The value.
        value: i128,
        /// Its place in the tensor, in row-major order.
        index: usize,
    },
    /// There is no plan without the value of an input, such as a shape or a number of steps.
    #[error("the value of input `{input}` decides what has to be computed, and only a run has it")]
    ValueNeeded {
        /// Its name.
        input: String,
    },
    /// The model cannot be planned for these shapes.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan breaks a rule: a fault of the planner.
    #[error("the plan is not sound")]
    Fault(#[from] PlanFault),
    /// A tensor is larger than the adapter can hold.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The inputs are so large that the run would take more memory than a session may.
    #[error(
        "the run needs {bytes} bytes of device memory, more than the {max} that a model may \
         take; send smaller inputs"
    )]
    MemoryLimit {
        /// What the plan needs beside the weights.
        bytes: u64,
        /// [`super::SessionOptions::memory_max`].
        max: u64,
    },
    /// A step cannot be prepared.
    #[error("step {index} (`{label}`) cannot be prepared")]
    Step {
        /// Its place in the plan.
        index: usize,
        /// The nodes that it computes.
        label: String,
        /// What is wrong.
        source: Box<DeviceError>,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// An output does not have the size that the plan gave it: a fault of the planner.
    #[error("output `{output}` cannot be read")]
    Output {
        /// Its name.
        output: String,
        /// What is wrong.
        source: TensorError,
    },
}

impl RunError {
    pub(super) fn step(index: usize, label: &str, source: DeviceError) -> Self {
        Self::Step { index, label: label.to_owned(), source: Box::new(source) }
    }

    /// Whether another input would have made the run succeed: the caller should be told, and
    /// nobody else.
    pub fn is_caller_fault(&self) -> bool {
        match self {
            Self::UnknownInput { .. }
            | Self::MissingInput { .. }
            | Self::RepeatedInput { .. }
            | Self::DType { .. }
            | Self::OutOfRange { .. }
            | Self::ValueNeeded { .. }
            | Self::MemoryLimit { .. } => true,
            Self::Plan(error) => matches!(
                error,
                PlanError::InputShape { .. }
                    | PlanError::MissingShape { .. }
                    | PlanError::UnknownInput { .. }
            ),
            Self::Fault(_)
            | Self::Memory(_)
            | Self::Step { .. }
            | Self::Device(_)
            | Self::Output { .. } => false,
        }
    }

    /// Whether the device is gone: open it again, and make new sessions on it.
    pub fn is_device_lost(&self) -> bool {
        matches!(self.device(), Some(DeviceError::Lost { .. } | DeviceError::Hung { .. }))
    }

    /// Whether the device had no memory left: another run may find some.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self.device(), Some(DeviceError::OutOfMemory { .. }))
    }

    /// What the device reported, where that is why the run failed.
    pub fn device(&self) -> Option<&DeviceError> {
        match self {
            Self::Device(error) => Some(error),
            Self::Step { source, .. } => Some(source),
            _ => None,
        }
    }
}
