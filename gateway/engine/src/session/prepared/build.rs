//! What a plan is given before its first run: pipelines, arenas, bind groups, copies.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use gw_shaders::kernel::{Access, Kernel, Scalar};
use wgpu::BufferUsages;

use super::program::Ready;
use super::{Copy, padded};
use crate::device::pipelines::{Pipeline, longest_first};
use crate::device::threads::on_all_cores;
use crate::device::{Device, DeviceError};
use crate::plan::memory::{MemoryLimits, MemoryPlan};
use crate::plan::{Plan, Port, Step};
use crate::session::convert;
use crate::session::error::RunError;
use crate::session::staging::{Bindings, Memory, Stretch};
use crate::session::weights::WeightPlace;

pub(super) fn limits(device: &Device) -> MemoryLimits {
    let limits = device.limits();
    MemoryLimits {
        alignment: device.alignment(),
        binding_bytes: limits.max_storage_buffer_binding_size,
        buffer_bytes: limits.max_buffer_size,
        mapped: device.binds_mapped(),
    }
}

/// Compiles the plan's kernels, several at once: compilers take most of a cold start.
pub(super) fn compile<'a>(
    device: &Device,
    plan: &'a Plan,
) -> Result<HashMap<&'a Kernel, Arc<Pipeline>>, RunError> {
    let mut seen = HashSet::new();
    let first = plan.steps.iter().enumerate();
    let mut first: Vec<_> = first.filter(|(_, step)| seen.insert(&step.dispatch.kernel)).collect();
    first.sort_by_key(|(_, step)| longest_first(&step.dispatch.kernel));
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
    const WHAT: &str = "the arenas of a plan";
    device.has_memory(WHAT, memory.arena_bytes())?;
    device.scoped(WHAT, || {
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

/// Where a port's tensor lies in the staging memory of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    /// Index of the port.
    port: usize,
    /// Bytes from the start of the staging memory.
    staging: u64,
    bytes: u64,
    /// Its buffer in the plan, and the bytes before it there.
    buffer: usize,
    start: u64,
}

/// The ports of one direction that lie on the device, and the staging bytes that they need.
pub(super) fn transfers(
    ports: &[Port],
    plan: &Plan,
    memory: &MemoryPlan,
    alignment: u64,
) -> (Vec<Transfer>, u64) {
    let (mut end, mut bound) = (0u64, HashMap::new());
    let mut transfers = Vec::new();
    for (port, Port { source, shape, .. }) in ports.iter().enumerate() {
        let Some((id, start)) = source.place() else { continue };
        let (buffer, bytes) = (id.0 as usize, convert::device_bytes(shape.elements()));
        let staging = if memory.mapped[buffer] {
            // Kernels bind the whole buffer, once for all ports that lie in it.
            let base = *bound.entry(buffer).or_insert_with(|| {
                let base = end.next_multiple_of(alignment);
                end = base + padded(plan.buffers[buffer].bytes);
                base
            });
            base + start
        } else if bytes > 0 {
            end += padded(bytes);
            end - padded(bytes)
        } else {
            continue;
        };
        transfers.push(Transfer { port, staging, bytes, buffer, start });
    }
    (transfers, end)
}

/// Where each buffer of the plan lies; `None` for what nothing uses.
pub(super) fn locations(
    plan: &Plan,
    memory: &MemoryPlan,
    arenas: &[wgpu::Buffer],
    weights: &[Option<WeightPlace>],
    transfers: [&[Transfer]; 2],
) -> Vec<Option<Stretch>> {
    let placed = plan.buffers.iter().zip(&memory.places).zip(weights);
    let mut locations: Vec<Option<Stretch>> = placed
        .map(|((buffer, place), weight)| {
            let (memory, offset) = match (place, weight) {
                (Some(place), _) => (arenas[place.arena].clone(), place.offset),
                (None, Some(WeightPlace { buffer, offset })) => (buffer.clone(), *offset),
                (None, None) => return None,
            };
            Some(Stretch { memory: Memory::Shared(memory), offset, bytes: buffer.bytes })
        })
        .collect();
    for (transfers, home) in transfers.into_iter().zip([Memory::Upload, Memory::Download]) {
        for Transfer { staging, buffer, start, .. } in transfers {
            if memory.mapped[*buffer] {
                let bytes = plan.buffers[*buffer].bytes;
                let (memory, offset) = (home.clone(), staging - start);
                locations[*buffer] = Some(Stretch { memory, offset, bytes });
            }
        }
    }
    locations
}

/// The steps, and for each what it binds where that is not the same in all runs.
pub(super) fn bind(
    device: &Device,
    plan: &Plan,
    pipelines: &HashMap<&Kernel, Arc<Pipeline>>,
    locations: &[Option<Stretch>],
) -> Result<(Vec<Ready>, Vec<Option<Bindings>>), RunError> {
    let ready = plan.steps.iter().enumerate().map(|(index, step)| {
        let pipeline = &pipelines[&step.dispatch.kernel];
        let bound = step.bindings.iter().filter_map(|id| locations[id.0 as usize].clone());
        let bindings = Bindings { layout: pipeline.layout.clone(), stretches: bound.collect() };
        let is_shared = bindings.are_shared();
        let group = device.scoped("the bindings of a step", || {
            is_shared.then(|| bindings.group(device, [None, None]))
        });
        let ready = Ready {
            group: group.map_err(|e| RunError::step(index, &step.label, e))?,
            pipeline: Arc::clone(pipeline),
            params: step.dispatch.params.clone(),
            workgroups: step.dispatch.workgroups,
            writes: writes(step, locations),
        };
        Ok((ready, Some(bindings).filter(|_| !is_shared)))
    });
    ready.collect()
}

/// What a step writes, and of which type.
fn writes(step: &Step, locations: &[Option<Stretch>]) -> Arc<[(Stretch, Scalar)]> {
    let kernel = &step.dispatch.kernel;
    let bound = step.bindings.iter().zip(&kernel.bindings).zip(kernel.scalars());
    let written = bound.filter_map(|((id, access), scalar)| {
        let stretch = locations[id.0 as usize].clone()?;
        (*access == Access::ReadWrite).then_some((stretch, scalar))
    });
    written.collect()
}

/// What a run moves between staging memory and the caller, and on to the device.
pub(super) fn copies(transfers: &[Transfer], locations: &[Option<Stretch>]) -> Vec<Copy> {
    let copy = |&Transfer { port, staging, bytes, buffer, start }: &Transfer| {
        let device = match &locations[buffer].as_ref()?.memory {
            Memory::Shared(shared) => {
                Some((shared.clone(), locations[buffer].as_ref()?.offset + start))
            }
            Memory::Upload | Memory::Download => None,
        };
        Some(Copy { port, staging, device, bytes })
    };
    transfers.iter().filter_map(copy).collect()
}
