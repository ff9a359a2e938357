//! A plan: what one run does for one bucket, as a list.
//!
//! - [`verify`]: what must hold of a plan before a device sees it.
//! - [`memory`]: where every buffer lies.
//! - [`store`]: plans on disk.
//! - [`summary`]: a plan as text and as JSON. [`why`]: where every node of the model went.

pub mod memory;
pub mod store;
pub mod summary;
pub mod verify;
pub mod why;

use gw_shaders::kernel::{Dispatch, Scalar};
use gw_shaders::work::{Cost, Work};
use gw_tensor::{DType, Shape};

use why::{Choice, Elsewhere, NodeName};

/// A buffer of a [`Plan`]: an index into its `buffers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

/// What a buffer holds.
#[derive(Clone, Debug, PartialEq)]
pub enum BufferKind {
    /// The caller's tensor, uploaded before the first step.
    Input,
    /// Constant bytes in device form, uploaded once. Equal keys name equal bytes.
    Weight {
        /// The value's name and what was done to it, such as `val_49 i8 packed`.
        key: String,
        /// The bytes, shared between the plans of a model.
        data: bytes::Bytes,
        /// Every plan of the model may have them; else they go with this plan.
        shared: bool,
    },
    /// An intermediate result.
    Temporary,
    /// A result that is read back.
    Output,
}

/// One virtual buffer. The memory planner gives it a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// The value's name, for listings.
    pub name: String,
    /// What it holds.
    pub kind: BufferKind,
    /// Bytes, a multiple of four, at least four.
    pub bytes: u64,
}

/// A named tensor that goes in or comes out.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// The name in the model.
    pub name: String,
    /// The element type that the caller sees.
    pub dtype: DType,
    /// The element type on the device.
    pub scalar: Scalar,
    /// The shape in this bucket.
    pub shape: Shape,
    /// Where it lies.
    pub source: PortSource,
}

/// Where the data of a [`Port`] lies.
#[derive(Clone, Debug, PartialEq)]
pub enum PortSource {
    /// In a buffer of the plan.
    Buffer(BufferId),
    /// An output that lies in a buffer, so many bytes behind its start.
    Part(BufferId, u64),
    /// An output that is known before the run.
    Constant(gw_tensor::Tensor),
    /// An input that no step reads.
    Unused,
}

impl PortSource {
    /// The buffer, and how many bytes behind its start the tensor begins.
    pub(crate) fn place(&self) -> Option<(BufferId, u64)> {
        match self {
            Self::Buffer(id) => Some((*id, 0)),
            Self::Part(id, start) => Some((*id, *start)),
            Self::Constant(_) | Self::Unused => None,
        }
    }
}

/// One dispatch.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The node or nodes that it computes, for listings and errors.
    pub label: String,
    /// The nodes of the model that it computes; none where it copies for the sake of another.
    pub nodes: Vec<NodeName>,
    /// What chose the variant of its kernel.
    pub choice: Choice,
    /// What it computes; `None` in a plan from the disk.
    pub work: Option<Work>,
    /// What it costs at least.
    pub cost: Cost,
    /// The kernel, its numbers and its grid.
    pub dispatch: Dispatch,
    /// One buffer per binding of the kernel.
    pub bindings: Vec<BufferId>,
}

/// Ordered steps with their buffers, for one bucket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Every buffer; [`BufferId`] indexes it.
    pub buffers: Vec<Buffer>,
    /// The model's inputs, in its order.
    pub inputs: Vec<Port>,
    /// The model's outputs, in its order.
    pub outputs: Vec<Port>,
    /// The dispatches, in order.
    pub steps: Vec<Step>,
    /// The nodes of the model that no step computes.
    pub elsewhere: Vec<Elsewhere>,
}

#[cfg(test)]
pub(crate) mod tests;
