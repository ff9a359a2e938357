//! What a plan is given before its first run: pipelines, arenas, bind groups, copies.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU64;
use std::sync::Arc;

use gw_shaders::kernel::{Access, Kernel};
use wgpu::BufferUsages;

use super::{Copy, Ready, Written, padded};
use crate::device::pipelines::Pipeline;
use crate::device::threads::on_all_cores;
use crate::device::{Device, DeviceError};
use crate::plan::memory::{MemoryLimits, MemoryPlan};
use crate::plan::{Plan, Port, Step};
use crate::session::convert;
use crate::session::error::RunError;
use crate::session::weights::WeightPlace;

/// A stretch of a device buffer.
#[derive(Clone, Debug)]
pub(super) struct Location {
    buffer: wgpu::Buffer,
    offset: u64,
    bytes: u64,
}

pub(super) fn limits(device: &Device) -> MemoryLimits {
    let limits = device.limits();
    MemoryLimits {
        alignment: device.alignment(),
        binding_bytes: limits.max_storage_buffer_binding_size,
        buffer_bytes: limits.max_buffer_size,
    }
}

/// Compiles the plan's kernels, several at once: compilers take most of a cold start.
pub(super) fn compile<'a>(
    device: &Device,
    plan: &'a Plan,
) -> Result<HashMap<&'a Kernel, Arc<Pipeline>>, RunError> {
    let mut seen = HashSet::new();
    let first = plan.steps.iter().enumerate();
    let first: Vec<_> = first.filter(|(_, step)| seen.insert(&step.dispatch.kernel)).collect();
    let made = on_all_cores(&first, |(index, step)| {
        let kernel = &step.dispatch.kernel;
        let pipeline = device.pipeline(kernel);
        Ok((kernel, pipeline.map_err(|error| RunError::step(*index, &step.label, error))?))
    });
    made.into_iter().collect()
}

pub(super) fn arenas(
    device: &Device,
    memory: &MemoryPlan,
) -> Result<Vec<wgpu::Buffer>, DeviceError> {
    device.scoped("the arenas of a plan", || {
        let buffer = |&size: &u64| {
            device.raw.create_buffer(&wgpu::BufferDescriptor {
                label: Some("arena"),
                size,
                usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        memory.arenas.iter().map(buffer).collect()
    })
}

/// Where each buffer of the plan lies; `None` for what nothing uses.
pub(super) fn locations(
    plan: &Plan,
    memory: &MemoryPlan,
    arenas: &[wgpu::Buffer],
    weights: &[Option<WeightPlace>],
) -> Vec<Option<Location>> {
    let placed = plan.buffers.iter().zip(&memory.places).zip(weights);
    placed
        .map(|((buffer, place), weight)| {
            let bytes = buffer.bytes;
            match (place, weight) {
                (Some(place), _) => {
                    let (buffer, offset) = (arenas[place.arena].clone(), place.offset);
                    Some(Location { buffer, offset, bytes })
                }
                (None, Some(WeightPlace { buffer, offset })) => {
                    Some(Location { buffer: buffer.clone(), offset: *offset, bytes })
                }
                (None, None) => None,
            }
        })
        .collect()
}

pub(super) fn bind(
    device: &Device,
    plan: &Plan,
    pipelines: &HashMap<&Kernel, Arc<Pipeline>>,
    locations: &[Option<Location>],
) -> Result<Vec<Ready>, RunError> {
    let ready = plan.steps.iter().enumerate().map(|(index, step)| {
        let pipeline = &pipelines[&step.dispatch.kernel];
        let bound = step.bindings.iter().filter_map(|id| locations[id.0 as usize].as_ref());
        let entries: Vec<_> = (0..)
            .zip(bound)
            .map(|(binding, at)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &at.buffer,
                    offset: at.offset,
                    size: NonZeroU64::new(at.bytes),
                }),
            })
            .collect();
        let group = device.scoped("the bindings of a step", || {
            device.raw.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &pipeline.layout,
                entries: &entries,
            })
        });
        Ok(Ready {
            group: group.map_err(|e| RunError::step(index, &step.label, e))?,
            pipeline: Arc::clone(pipeline),
            params: step.dispatch.params.clone(),
            workgroups: step.dispatch.workgroups,
            writes: writes(step, locations),
        })
    });
    ready.collect()
}

/// What a step writes.
fn writes(step: &Step, locations: &[Option<Location>]) -> Arc<[Written]> {
    let kernel = &step.dispatch.kernel;
    let bound = step.bindings.iter().zip(&kernel.bindings).zip(kernel.scalars());
    let written = bound.filter_map(|((id, access), scalar)| {
        let Location { buffer, offset, bytes } =
            locations[id.0 as usize].clone().filter(|_| *access == Access::ReadWrite)?;
        Some(Written { buffer, offset, bytes, scalar })
    });
    written.collect()
}

/// The copies for the ports that lie on the device, and the staging bytes that they need. An
/// empty tensor needs none.
pub(super) fn copies(ports: &[Port], locations: &[Option<Location>]) -> (Vec<Copy>, u64) {
    let mut staging = 0u64;
    let mut copies = Vec::new();
    for (port, Port { source, shape, .. }) in ports.iter().enumerate() {
        let Some((id, start)) = source.place() else { continue };
        let (Some(at), bytes) =
            (&locations[id.0 as usize], convert::device_bytes(shape.elements()))
        else {
            continue;
        };
        if bytes == 0 {
            continue;
        }
        let Location { buffer, offset, .. } = at.clone();
        copies.push(Copy { port, staging, buffer, offset: offset + start, bytes });
        staging += padded(bytes);
    }
    (copies, staging)
}
