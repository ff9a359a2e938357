//! What a device can do at most, measured on it: the roof over every kernel.

use std::time::Instant;

use gw_shaders::expr::Expr;
use gw_shaders::kernel::{Dispatch, Scalar};
use gw_shaders::layout::View;
use gw_shaders::{peak, pointwise};
use serde::Serialize;
use wgpu::BufferUsages;

use super::watch::Patience;
use super::{Device, DeviceError};

/// Bytes that one copy reads, and writes: more than the caches of most devices hold, and no more
/// than every adapter binds.
const COPY_BYTES: u32 = 64 << 20;

/// Dispatches of one submission, which costs little next to them.
const DISPATCHES: u32 = 4;

/// Submissions, of which the fastest counts.
const TRIES: u32 = 5;

/// The two roofs of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Roofline {
    /// Bytes per second, read and written, of a kernel that copies more than caches hold.
    pub bytes_per_second: f64,
    /// Operations per second, two per multiply-add, of a kernel that does nothing else.
    pub flops_per_second: f64,
}

impl Roofline {
    /// The least seconds that this much can take.
    pub fn seconds(&self, flops: u64, bytes: u64) -> f64 {
        let least = |amount: u64, rate: f64| if rate > 0.0 { amount as f64 / rate } else { 0.0 };
        least(flops, self.flops_per_second).max(least(bytes, self.bytes_per_second))
    }
}

impl Device {
    /// Measures what this device can do at most.
    ///
    /// # Errors
    /// [`DeviceError`] where the device refuses or fails.
    pub fn roofline(&self) -> Result<Roofline, DeviceError> {
        if self.info.backend == "noop" {
            return Ok(Roofline::default());
        }
        let caps = self.caps();
        let unfit = |error: gw_shaders::kernel::Unsupported| DeviceError::Kernel {
            kernel: error.kernel,
            variant: "of the roofline".to_owned(),
            reason: error.reason,
        };
        let shape = vec![COPY_BYTES / 4];
        let copy = pointwise::Spec {
            inputs: vec![View::dense(&shape)],
            output: View::dense(&shape),
            expr: Expr::identity(Scalar::F32),
            shape,
        };
        let copy = pointwise::dispatch(&copy, &caps).map_err(unfit)?;
        // Some milliseconds on either kind of adapter.
        let groups = if caps.software { 256 } else { 1 << 14 };
        let peak = peak::Spec { groups, rounds: 256, factor: 0.5, term: 1.0 };
        let sums = peak::dispatch(&peak, &caps).map_err(unfit)?;
        let moved = f64::from(COPY_BYTES) * 2.0;
        Ok(Roofline {
            bytes_per_second: moved / self.fastest(&copy, COPY_BYTES.into())?,
            flops_per_second: peak.flops() as f64 / self.fastest(&sums, 4 * peak.elements())?,
        })
    }

    /// The seconds of `dispatch`, which reads and writes `bytes`.
    fn fastest(&self, dispatch: &Dispatch, bytes: u64) -> Result<f64, DeviceError> {
        let pipeline = self.pipeline(&dispatch.kernel)?;
        let group = self.scoped("the buffers of a measurement", || {
            let buffers = [(); 2].map(|()| {
                self.raw.create_buffer(&wgpu::BufferDescriptor {
                    label: None,
                    size: bytes,
                    usage: BufferUsages::STORAGE,
                    mapped_at_creation: false,
                })
            });
            let entries = [0, 1].map(|binding| wgpu::BindGroupEntry {
                binding,
                resource: buffers[binding as usize].as_entire_binding(),
            });
            self.raw.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &pipeline.layout,
                entries: &entries,
            })
        })?;
        let once = || {
            let start = Instant::now();
            let submission = self.scoped("a measurement", || {
                let mut encoder =
                    self.raw.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                pass.set_pipeline(&pipeline.raw);
                pass.set_bind_group(0, &group, &[]);
                pass.set_immediates(0, bytemuck::cast_slice(&dispatch.params));
                let [x, y, z] = dispatch.workgroups;
                (0..DISPATCHES).for_each(|_| pass.dispatch_workgroups(x, y, z));
                drop(pass);
                self.queue.submit([encoder.finish()])
            })?;
            self.wait(submission, Patience::Compile)?;
            Ok(start.elapsed().as_secs_f64() / f64::from(DISPATCHES))
        };
        // The first compiles, and touches memory for the first time.
        once()?;
        (0..TRIES).try_fold(f64::INFINITY, |best, _| once().map(|time| best.min(time)))
    }
}
