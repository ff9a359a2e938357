//! What a run moves between the caller and the device, and what stays there.

use std::collections::BTreeSet;
use std::sync::Arc;

use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Shape, Tensor};

use super::value::{DeviceTensor, Given, Value};
use super::{Prepared, range, refused};
use crate::device::Device;
use crate::plan::{Port, PortSource};
use crate::session::convert;
use crate::session::error::RunError;
use crate::session::ledger::Ledger;
use crate::session::staging::Staging;

/// What a run is asked with, by the index of a port.
#[derive(Clone, Copy, Debug)]
pub(in crate::session) struct Asked<'a> {
    pub(in crate::session) inputs: &'a [Given<'a>],
    /// Where outputs stay on the device; empty where all are read back.
    pub(in crate::session) kept: &'a [Option<DeviceTensor>],
}

/// A tensor on its way between the caller and the device.
#[derive(Debug)]
pub(super) struct Copy {
    /// Index of the port.
    pub(super) port: usize,
    /// Bytes from the start of the staging buffer.
    pub(super) staging: u64,
    /// Where it lies during the run, unless kernels bind the staging buffer itself.
    pub(super) device: Option<(wgpu::Buffer, u64)>,
    pub(super) bytes: u64,
}

/// How an output reaches the caller.
#[derive(Debug)]
pub(super) struct Output {
    name: String,
    dtype: DType,
    scalar: Scalar,
    shape: Shape,
    constant: Option<Tensor>,
}

impl<'a> Asked<'a> {
    /// An input that lies on the device.
    fn resident(self, port: usize) -> Option<&'a DeviceTensor> {
        match self.inputs[port] {
            Given::Host(_) => None,
            Given::Device(tensor) => Some(tensor),
        }
    }

    /// Where an output stays.
    fn kept(self, port: usize) -> Option<&'a DeviceTensor> {
        self.kept.get(port)?.as_ref()
    }
}

impl Prepared {
    /// Memory for the outputs of at least `bytes_min` bytes and those in `always`, by the index of
    /// the output. There is none where all of them take more than `bytes_max`; what the device has
    /// no memory for is read back. Where kernels bind what the CPU maps, outputs are in host memory
    /// as they are.
    pub(in crate::session) fn keep(
        &self,
        device: &Arc<Device>,
        ledger: &Arc<Ledger>,
        always: &BTreeSet<String>,
        (bytes_min, bytes_max): (u64, u64),
    ) -> Vec<Option<DeviceTensor>> {
        let may_stay = |copy: &&Copy| {
            let Output { name, dtype, scalar, .. } = &self.outputs[copy.port];
            let is_worth_it = copy.bytes >= bytes_min || always.contains(name);
            is_worth_it && convert::is_device_form(*dtype, *scalar)
        };
        let stay = || self.downloads.iter().filter(may_stay);
        let bytes: u64 = stay().map(|copy| copy.bytes).sum();
        if device.binds_mapped() || bytes == 0 || bytes > bytes_max {
            return Vec::new();
        }
        let mut kept = vec![None; self.outputs.len()];
        for copy in stay() {
            let Output { name, dtype, shape, .. } = &self.outputs[copy.port];
            kept[copy.port] = DeviceTensor::for_output(device, ledger, (name, *dtype, shape)).ok();
        }
        kept
    }

    /// Puts the inputs into mapped memory in device form.
    pub(super) fn write(&self, staging: &Staging, asked: Asked<'_>) -> Result<(), RunError> {
        let buffer = staging.upload.as_ref().filter(|_| self.uses_upload(asked));
        let Some(buffer) = buffer else { return Ok(()) };
        let mapped = buffer.get_mapped_range_mut(..);
        let mut mapped = mapped.map_err(|error| refused("writing the inputs", &error))?;
        for upload in &self.uploads {
            let Given::Host(tensor) = asked.inputs[upload.port] else { continue };
            let bytes = convert::device_bytes(tensor.elements());
            convert::encode(tensor, mapped.slice(range(upload.staging, bytes)));
        }
        drop(mapped);
        buffer.unmap();
        Ok(())
    }

    pub(super) fn upload(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        staging: &Staging,
        asked: Asked<'_>,
    ) {
        let Some(upload) = &staging.upload else { return };
        for Copy { port, staging, device, bytes } in &self.uploads {
            let Some((buffer, offset)) = device else { continue };
            let resident = asked.resident(*port).map(DeviceTensor::place);
            let (from, start) = resident.unwrap_or((upload, *staging));
            encoder.copy_buffer_to_buffer(from, start, buffer, *offset, *bytes);
        }
    }

    pub(super) fn download(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        staging: &Staging,
        asked: Asked<'_>,
    ) {
        let Some(download) = &staging.download else { return };
        for Copy { port, staging, device, bytes } in &self.downloads {
            let Some((buffer, offset)) = device else { continue };
            let (to, start) = asked.kept(*port).map_or((download, *staging), DeviceTensor::place);
            encoder.copy_buffer_to_buffer(buffer, *offset, to, start, *bytes);
        }
    }

    /// Asks for the staging memory that the run used, once the device is done with it. Mapping
    /// costs more than a small copy, so what was not used is left as it is.
    pub(super) fn expect(&self, staging: &Staging, asked: Asked<'_>) {
        staging.expect(self.uses_upload(asked), self.uses_download(asked));
    }

    pub(super) fn read(
        &self,
        staging: &Staging,
        asked: Asked<'_>,
    ) -> Result<Vec<(String, Value)>, RunError> {
        let buffer = staging.download.as_ref().filter(|_| self.uses_download(asked));
        let Some(buffer) = buffer else { return self.outputs(&[], asked) };
        let mapped = buffer.get_mapped_range(..);
        let mapped = mapped.map_err(|error| refused("reading the outputs", &error))?;
        let outputs = self.outputs(&mapped, asked);
        drop(mapped);
        buffer.unmap();
        outputs
    }

    /// The outputs, from what lies in staging memory, from what stays on the device and from what
    /// was known before the run.
    pub(super) fn outputs(
        &self,
        mapped: &[u8],
        asked: Asked<'_>,
    ) -> Result<Vec<(String, Value)>, RunError> {
        let mut downloads = self.downloads.iter().peekable();
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for (index, output) in self.outputs.iter().enumerate() {
            let download = downloads.next_if(|download| download.port == index);
            let value = match (&output.constant, asked.kept(index)) {
                (Some(constant), _) => Value::Host(constant.clone()),
                (None, Some(kept)) => Value::Device(kept.clone()),
                (None, None) => {
                    let bytes = convert::device_bytes(output.shape.elements());
                    let start = download.map_or(0, |download| download.staging);
                    let data = mapped.get(range(start, bytes)).unwrap_or_default();
                    Value::Host(output.decode(data)?)
                }
            };
            outputs.push((output.name.clone(), value));
        }
        Ok(outputs)
    }

    fn uses_upload(&self, asked: Asked<'_>) -> bool {
        self.uploads.iter().any(|upload| asked.resident(upload.port).is_none())
    }

    fn uses_download(&self, asked: Asked<'_>) -> bool {
        self.downloads.iter().any(|download| asked.kept(download.port).is_none())
    }
}

impl Output {
    pub(super) fn of(port: &Port) -> Self {
        let constant = match &port.source {
            PortSource::Constant(tensor) => Some(tensor.clone()),
            _ => None,
        };
        let Port { name, dtype, scalar, shape, .. } = port.clone();
        Self { name, dtype, scalar, shape, constant }
    }

    fn decode(&self, data: &[u8]) -> Result<Tensor, RunError> {
        convert::decode(self.dtype, self.scalar, &self.shape, data)
            .map_err(|source| RunError::Output { output: self.name.clone(), source })
    }
}
