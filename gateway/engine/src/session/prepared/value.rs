//! Tensors that a run takes and gives: in host memory, or where a run left them on a device.

use std::fmt;
use std::sync::Arc;

use gw_tensor::{DType, Shape, Tensor};
use wgpu::{BufferUsages, CommandEncoderDescriptor};

use super::{range, refused};
use crate::device::watch::Patience;
use crate::device::{Device, DeviceError};
use crate::net::scalar;
use crate::session::convert;
use crate::session::error::RunError;
use crate::session::ledger::{Held, Ledger};
use crate::session::staging::Arrivals;

/// A tensor that a run takes or gives.
#[derive(Clone, Debug)]
pub enum Value {
    /// In host memory.
    Host(Tensor),
    /// On a device.
    Device(DeviceTensor),
}

/// A tensor that stayed on its device, in device form. A clone shares the memory, which is free
/// once the last is dropped.
#[derive(Clone)]
pub struct DeviceTensor {
    dtype: DType,
    shape: Shape,
    /// Bytes before it in the memory.
    offset: u64,
    /// That it may go between threads is settled here: wgpu's types are too deep for the compiler
    /// to find it out in each future that holds a tensor.
    memory: Arc<dyn AsRef<Memory> + Send + Sync>,
}

struct Memory {
    device: Arc<Device>,
    buffer: wgpu::Buffer,
    /// The output that it was, for errors.
    output: String,
    _held: Held,
}

impl AsRef<Self> for Memory {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Value {
    /// The element type.
    pub fn dtype(&self) -> DType {
        match self {
            Self::Host(tensor) => tensor.dtype(),
            Self::Device(tensor) => tensor.dtype(),
        }
    }

    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        match self {
            Self::Host(tensor) => tensor.shape(),
            Self::Device(tensor) => tensor.shape(),
        }
    }

    /// The tensor, where it is in host memory.
    pub fn host(&self) -> Option<&Tensor> {
        match self {
            Self::Host(tensor) => Some(tensor),
            Self::Device(_) => None,
        }
    }

    /// The tensor in host memory, read back where it is on a device.
    ///
    /// # Errors
    /// As [`DeviceTensor::read`].
    pub fn into_host(self) -> Result<Tensor, RunError> {
        match self {
            Self::Host(tensor) => Ok(tensor),
            Self::Device(tensor) => tensor.read(),
        }
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self::Host(tensor)
    }
}

impl DeviceTensor {
    /// Memory for an output, which a run is to fill.
    pub(super) fn for_output(
        device: &Arc<Device>,
        ledger: &Arc<Ledger>,
        (output, dtype, shape): (&str, DType, &Shape),
    ) -> Result<Self, DeviceError> {
        const WHAT: &str = "an output that stays on the device";
        let size = convert::device_bytes(shape.elements());
        device.has_memory(WHAT, size)?;
        let buffer = device.scoped(WHAT, || {
            device.raw.create_buffer(&wgpu::BufferDescriptor {
                label: Some("kept"),
                size,
                usage: BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        let held = ledger.hold(|ledger| &ledger.kept, size);
        let (device, output) = (Arc::clone(device), output.to_owned());
        let memory = Arc::new(Memory { device, buffer, output, _held: held });
        Ok(Self { dtype, shape: shape.clone(), offset: 0, memory })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The device that holds it.
    pub fn device(&self) -> &Device {
        &self.memory().device
    }

    /// The rows `first..first + count`, in the same memory.
    ///
    /// # Panics
    /// Where it does not have these rows.
    #[must_use]
    pub fn rows(&self, first: usize, count: usize) -> Self {
        let mut dims = self.shape.to_vec();
        assert!(first + count <= dims[0], "rows {first} + {count} of {}", self.shape);
        let row = self.shape.elements() / dims[0].max(1);
        dims[0] = count;
        let offset = self.offset + convert::device_bytes(first * row);
        Self { shape: dims.into(), offset, ..self.clone() }
    }

    /// Copies it to host memory. It blocks until the device has done all that it was given before.
    ///
    /// # Errors
    /// [`RunError::Device`] where the device fails, or was lost.
    pub fn read(&self) -> Result<Tensor, RunError> {
        const WHAT: &str = "reading an output that stayed on the device";
        let Memory { device, buffer, .. } = self.memory();
        let bytes = convert::device_bytes(self.shape.elements());
        if bytes == 0 {
            return self.decode(&[]);
        }
        device.has_memory(WHAT, bytes)?;
        let staging = device.scoped(WHAT, || {
            device.raw.create_buffer(&wgpu::BufferDescriptor {
                label: Some("read"),
                size: bytes,
                usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        let arrivals = Arc::<Arrivals>::default();
        let submission = device.scoped(WHAT, || {
            let mut encoder =
                device.raw.create_command_encoder(&CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(buffer, self.offset, &staging, 0, bytes);
            let submission = device.queue.submit([encoder.finish()]);
            arrivals.expect(&staging, wgpu::MapMode::Read);
            submission
        })?;
        device.wait(submission, Patience::Run)?;
        arrivals.wait(device)?;
        let mapped = staging.get_mapped_range(..).map_err(|error| refused(WHAT, &error))?;
        self.decode(mapped.get(range(0, bytes)).unwrap_or_default())
    }

    /// Where it lies: the memory, and the bytes before it there.
    pub(super) fn place(&self) -> (&wgpu::Buffer, u64) {
        (&self.memory().buffer, self.offset)
    }

    fn memory(&self) -> &Memory {
        (*self.memory).as_ref()
    }

    fn is_on(&self, device: &Device) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.memory().device), device)
    }

    fn decode(&self, data: &[u8]) -> Result<Tensor, RunError> {
        let decoded = convert::decode(self.dtype, scalar(self.dtype), &self.shape, data);
        let output = || self.memory().output.clone();
        decoded.map_err(|source| RunError::Output { output: output(), source })
    }
}

impl fmt::Debug for DeviceTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceTensor")
            .field("dtype", &self.dtype)
            .field("shape", &self.shape)
            .field("device", &self.device().info().name)
            .finish_non_exhaustive()
    }
}

/// An input of a run.
#[derive(Clone, Copy, Debug)]
pub(in crate::session) enum Given<'a> {
    Host(&'a Tensor),
    /// On the device of the session.
    Device(&'a DeviceTensor),
}

impl<'a> Given<'a> {
    /// The inputs of a run on `device`; what lies on another is in `read`, see [`read_foreign`].
    pub(in crate::session) fn of(values: &[&'a Value], read: &'a [Option<Tensor>]) -> Vec<Self> {
        let given = |(value, read): (&&'a Value, &'a Option<Tensor>)| match (*value, read) {
            (_, Some(tensor)) | (Value::Host(tensor), None) => Self::Host(tensor),
            (Value::Device(tensor), None) => Self::Device(tensor),
        };
        values.iter().zip(read).map(given).collect()
    }

    pub(in crate::session) fn shape(self) -> &'a Shape {
        match self {
            Self::Host(tensor) => tensor.shape(),
            Self::Device(tensor) => tensor.shape(),
        }
    }

    /// The tensor in host memory.
    pub(in crate::session) fn to_tensor(self) -> Result<Tensor, RunError> {
        match self {
            Self::Host(tensor) => Ok(tensor.clone()),
            Self::Device(tensor) => tensor.read(),
        }
    }
}

/// Reads back what lies on another device than `device`; an entry per value.
pub(in crate::session) fn read_foreign(
    values: &[&Value],
    device: &Device,
) -> Result<Vec<Option<Tensor>>, RunError> {
    let read = |value: &&Value| match value {
        Value::Device(tensor) if !tensor.is_on(device) => tensor.read().map(Some),
        _ => Ok(None),
    };
    values.iter().map(read).collect()
}
