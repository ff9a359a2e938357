//! One dispatch with buffers of its own: the way kernels are compared with their references, and
//! timed.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use gw_shaders::kernel::{Dispatch, PARAM_WORDS_MAX};
use wgpu::BufferUsages;

use super::pipelines::Pipeline;
use super::watch::Patience;
use super::{Device, DeviceError};

impl Device {
    /// Runs `dispatch` once and returns what every buffer holds afterwards.
    ///
    /// `buffers` has one entry per binding of the kernel; each is padded to a multiple of four
    /// bytes, at least four.
    ///
    /// # Errors
    /// [`DeviceError`] where the kernel does not compile, the buffers do not fit it, or the
    /// device refuses or fails.
    pub fn run_dispatch(
        &self,
        dispatch: &Dispatch,
        buffers: &[Vec<u8>],
    ) -> Result<Vec<Vec<u8>>, DeviceError> {
        let pipeline = self.checked(dispatch, buffers)?;
        let (device_buffers, staging) = self.scoped("the buffers of one dispatch", || {
            let storage = buffers.iter().map(|bytes| self.storage(bytes)).collect::<Vec<_>>();
            let staging = storage.iter().map(|buffer| self.staging(buffer.size())).collect();
            (storage, staging)
        })?;
        let staging: Vec<wgpu::Buffer> = staging;
        let submission = self.scoped(dispatch.kernel.name, || {
            let group = self.group(&pipeline, &device_buffers);
            self.submit_single(dispatch, &pipeline, &group, device_buffers.iter().zip(&staging))
        })?;
        self.read_all(submission, &staging)
    }

    /// The time of each of `runs` runs of `dispatch` on these buffers, from before it is encoded
    /// until the device is done; nothing is read back.
    ///
    /// # Errors
    /// As [`Device::run_dispatch`].
    pub fn time_dispatch(
        &self,
        dispatch: &Dispatch,
        buffers: &[Vec<u8>],
        runs: usize,
    ) -> Result<Vec<Duration>, DeviceError> {
        let pipeline = self.checked(dispatch, buffers)?;
        let group = self.scoped("the buffers of one dispatch", || {
            let storage = buffers.iter().map(|bytes| self.storage(bytes)).collect::<Vec<_>>();
            self.group(&pipeline, &storage)
        })?;
        let run = |_| {
            let start = Instant::now();
            let submission = self.scoped(dispatch.kernel.name, || {
                self.submit_single(dispatch, &pipeline, &group, std::iter::empty())
            })?;
            self.wait(submission, Patience::Compile)?;
            Ok(start.elapsed())
        };
        (0..runs).map(run).collect()
    }

    /// The pipeline of `dispatch`, whose bindings `buffers` fit in number.
    fn checked(
        &self,
        dispatch: &Dispatch,
        buffers: &[Vec<u8>],
    ) -> Result<Arc<Pipeline>, DeviceError> {
        let kernel = &dispatch.kernel;
        let refused = |reason: String| DeviceError::Kernel {
            kernel: kernel.name,
            variant: kernel.variant.clone(),
            reason,
        };
        if buffers.len() != kernel.bindings.len() {
            let (given, due) = (buffers.len(), kernel.bindings.len());
            return Err(refused(format!("{given} buffers for {due} bindings")));
        }
        if dispatch.params.len() > PARAM_WORDS_MAX {
            return Err(refused(format!("{} words of params", dispatch.params.len())));
        }
        self.pipeline(kernel)
    }

    fn storage(&self, bytes: &[u8]) -> wgpu::Buffer {
        let size = (bytes.len() as u64).next_multiple_of(4).max(4);
        let buffer = self.raw.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        });
        if let Ok(mut view) = buffer.get_mapped_range_mut(..) {
            view.slice(..bytes.len()).copy_from_slice(bytes);
        }
        buffer.unmap();
        buffer
    }

    fn staging(&self, size: u64) -> wgpu::Buffer {
        self.raw.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    fn group(&self, pipeline: &Pipeline, buffers: &[wgpu::Buffer]) -> wgpu::BindGroup {
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        self.raw.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        })
    }

    /// Encodes the dispatch and the copies after it, and submits them.
    fn submit_single<'a>(
        &self,
        dispatch: &Dispatch,
        pipeline: &Pipeline,
        group: &wgpu::BindGroup,
        copies: impl Iterator<Item = (&'a wgpu::Buffer, &'a wgpu::Buffer)>,
    ) -> wgpu::SubmissionIndex {
        let mut encoder =
            self.raw.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline.raw);
            pass.set_bind_group(0, group, &[]);
            if !dispatch.params.is_empty() {
                pass.set_immediates(0, bytemuck::cast_slice(&dispatch.params));
            }
            let [x, y, z] = dispatch.workgroups;
            pass.dispatch_workgroups(x, y, z);
        }
        for (buffer, staging) in copies {
            encoder.copy_buffer_to_buffer(buffer, 0, staging, 0, buffer.size());
        }
        self.queue.submit([encoder.finish()])
    }

    fn read_all(
        &self,
        submission: wgpu::SubmissionIndex,
        staging: &[wgpu::Buffer],
    ) -> Result<Vec<Vec<u8>>, DeviceError> {
        let (sender, mapped) = mpsc::channel();
        for buffer in staging {
            let sender = sender.clone();
            buffer.map_async(wgpu::MapMode::Read, .., move |result| {
                // The receiver lives until every buffer has answered.
                let _ = sender.send(result);
            });
        }
        drop(sender);
        self.wait(submission, Patience::Compile)?;
        for result in mapped {
            result.map_err(|_| self.lose("its memory could not be read"))?;
        }
        staging
            .iter()
            .map(|buffer| {
                let view = buffer.get_mapped_range(..).map_err(|error| DeviceError::Refused {
                    what: "reading back".to_owned(),
                    reason: error.to_string(),
                })?;
                Ok(view.to_vec())
            })
            .collect()
    }
}
