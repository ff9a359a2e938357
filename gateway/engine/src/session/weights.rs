//! Constants on the device: uploaded once, shared by all plans of a session.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use wgpu::BufferUsages;

use super::error::RunError;
use super::ledger::{Held, Ledger};
use crate::device::threads::on_all_cores;
use crate::device::{Device, DeviceError};
use crate::plan::{Buffer, BufferKind, Plan};

/// Small weights share a buffer of at most this size. A larger one would save nothing: drivers
/// hold twice the bytes of a buffer while it is uploaded.
const SHARD_BYTES: u64 = 32 << 20;

/// What errors call it.
const WHAT: &str = "the weights of a model";

/// Where a weight lies.
#[derive(Clone, Debug)]
pub(super) struct WeightPlace {
    pub(super) buffer: wgpu::Buffer,
    pub(super) offset: u64,
}

/// The weights of a session, by the key that plans give them.
#[derive(Debug)]
pub(super) struct Weights {
    table: Mutex<Table>,
    ledger: Arc<Ledger>,
}

#[derive(Debug, Default)]
struct Table {
    places: HashMap<String, WeightPlace>,
    held: Vec<Held>,
}

/// A buffer in the making.
#[derive(Debug, Default)]
struct Shard<'a> {
    bytes: u64,
    members: Vec<(&'a str, &'a bytes::Bytes, u64)>,
}

impl Weights {
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        Self { table: Mutex::default(), ledger }
    }

    /// Where the weights of `plan` lie, one entry per buffer of the plan; uploads those that no
    /// earlier plan had. Weights of this plan alone are booked until the answer's second part is
    /// dropped.
    pub(super) fn upload(
        &self,
        device: &Device,
        plan: &Plan,
    ) -> Result<(Vec<Option<WeightPlace>>, Vec<Held>), RunError> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        self.fill(device, plan, true, &mut table)?;
        let mut own = Table::default();
        self.fill(device, plan, false, &mut own)?;
        let place = |buffer: &Buffer| match &buffer.kind {
            BufferKind::Weight { key, shared: true, .. } => table.places.get(key).cloned(),
            BufferKind::Weight { key, .. } => own.places.get(key).cloned(),
            _ => None,
        };
        Ok((plan.buffers.iter().map(place).collect(), own.held))
    }

    /// Uploads the weights of `plan` that are shared, or those that are not.
    fn fill(
        &self,
        device: &Device,
        plan: &Plan,
        shared: bool,
        table: &mut Table,
    ) -> Result<(), RunError> {
        let shards = shards(plan, shared, table, device.alignment());
        let filled = on_all_cores(&shards, |shard| {
            device.has_memory(WHAT, shard.bytes)?;
            device.scoped(WHAT, || fill(device, shard)).flatten()
        });
        for (shard, buffer) in shards.into_iter().zip(filled) {
            let buffer = buffer?;
            table.held.push(self.ledger.hold(|ledger| &ledger.weights, shard.bytes));
            for (key, _, offset) in shard.members {
                let place = WeightPlace { buffer: buffer.clone(), offset };
                table.places.insert(key.to_owned(), place);
            }
        }
        Ok(())
    }
}

/// The weights of `plan` that `table` lacks, grouped into buffers.
fn shards<'a>(plan: &'a Plan, shared: bool, table: &Table, alignment: u64) -> Vec<Shard<'a>> {
    let mut shards: Vec<Shard<'a>> = Vec::new();
    let mut new = std::collections::HashSet::new();
    for buffer in &plan.buffers {
        let BufferKind::Weight { key, data, shared: is_shared } = &buffer.kind else { continue };
        if *is_shared != shared || table.places.contains_key(key) || !new.insert(key) {
            continue;
        }
        let fits = |shard: &Shard<'_>| {
            shard.bytes.next_multiple_of(alignment) + buffer.bytes <= SHARD_BYTES
        };
        if !shards.last().is_some_and(fits) {
            shards.push(Shard::default());
        }
        if let Some(shard) = shards.last_mut() {
            let offset = shard.bytes.next_multiple_of(alignment);
            shard.members.push((key, data, offset));
            shard.bytes = offset + buffer.bytes;
        }
    }
    shards
}

/// Makes the buffer through mapped memory: `write_buffer` is several times slower. A device that
/// computes on the CPU reads where the CPU writes, so there is nothing to copy from.
fn fill(device: &Device, shard: &Shard<'_>) -> Result<wgpu::Buffer, DeviceError> {
    let usage = match device.binds_mapped() {
        true => BufferUsages::MAP_WRITE,
        false => BufferUsages::COPY_SRC,
    };
    let buffer = device.raw.create_buffer(&wgpu::BufferDescriptor {
        label: Some("weights"),
        size: shard.bytes,
        usage: BufferUsages::STORAGE | usage,
        mapped_at_creation: true,
    });
    let mapped = buffer.get_mapped_range_mut(..);
    let mut mapped = mapped.map_err(|_| DeviceError::OutOfMemory { what: WHAT.to_owned() })?;
    for (_, data, offset) in &shard.members {
        let start = usize::try_from(*offset).unwrap_or(usize::MAX);
        mapped.slice(start..start + data.len()).copy_from_slice(data);
    }
    drop(mapped);
    buffer.unmap();
    Ok(buffer)
}
