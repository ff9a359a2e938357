//! Where every buffer of a plan lies: few arenas, shared by what is never alive at once.
//!
//! A dispatch may not bind one buffer both as `read` and as `read_write`, even in disjoint
//! ranges, so what a step reads and what it writes go to different arenas (a colouring of the
//! graph of such pairs). Inside an arena, buffers whose lifetimes overlap lie side by side.
//! Placement is greedy, over several orders; the smallest result wins.
//! Source: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference",
//! arXiv 2001.03288 (greedy by size), extended by the colouring.
//!
//! - `mapped`: inputs and outputs that need no arena.

mod mapped;

use gw_shaders::kernel::Access;

use super::{BufferKind, Plan};

/// What an adapter allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Where a binding may start, in bytes; a power of two.
    pub alignment: u64,
    /// Bytes of one binding, at most.
    pub binding_bytes: u64,
    /// Bytes of one buffer, at most.
    pub buffer_bytes: u64,
    /// Kernels may bind mapped memory: inputs and outputs lie there as far as they can.
    pub mapped: bool,
}

/// An alignment that every adapter accepts, and no limit.
impl Default for MemoryLimits {
    fn default() -> Self {
        Self { alignment: 256, binding_bytes: u64::MAX, buffer_bytes: u64::MAX, mapped: false }
    }
}

/// Where a buffer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the arena.
    pub arena: usize,
    /// Bytes from its start.
    pub offset: u64,
}

/// Where everything lies that is not a weight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Bytes of each arena.
    pub arenas: Vec<u64>,
    /// One entry per buffer of the plan; `None` for weights, for what nothing uses and for what
    /// lies in mapped memory.
    pub places: Vec<Option<Place>>,
    /// Which buffers lie in the mapped memory of each run instead.
    pub mapped: Vec<bool>,
    /// The least that the arenas could hold: the bytes alive at once, at the busiest step.
    pub live_bytes: u64,
}

impl MemoryPlan {
    /// Bytes of all arenas.
    pub fn arena_bytes(&self) -> u64 {
        self.arenas.iter().sum()
    }
}

/// A tensor that the adapter cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tensor `{tensor}` takes {bytes} bytes, but the adapter's {limit} is {max}")]
pub struct MemoryError {
    /// The tensor.
    pub tensor: String,
    /// Its size.
    pub bytes: u64,
    /// The limit that it breaks.
    pub limit: &'static str,
    /// The value of that limit.
    pub max: u64,
}

/// One buffer to place.
#[derive(Debug)]
struct Item {
    /// Index into the plan's buffers.
    buffer: usize,
    /// Its size, rounded up to the alignment.
    bytes: u64,
    /// The first and the last moment when its contents matter: 0 is the upload, `i + 1` is step
    /// `i`, and the moment after the last step is the download.
    first: usize,
    last: usize,
    /// Items that may not share its arena.
    apart: Vec<usize>,
}

impl Item {
    fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Gives every buffer of `plan` a place.
///
/// The same plan always gets the same places.
///
/// # Errors
/// [`MemoryError`] where one tensor is larger than a binding or a buffer may be.
pub fn plan_memory(plan: &Plan, limits: &MemoryLimits) -> Result<MemoryPlan, MemoryError> {
    check_limits(plan, limits)?;
    let mapped = match limits.mapped {
        true => mapped::mappable(plan),
        false => vec![false; plan.buffers.len()],
    };
    let items = items(plan, limits.alignment, &mapped);
    let live_bytes = live_bytes(&items, plan.steps.len() + 2);
    let best = packed(&items, live_bytes, limits.buffer_bytes);
    let mut places = vec![None; plan.buffers.len()];
    for (item, place) in items.iter().zip(&best.places) {
        places[item.buffer] = *place;
    }
    Ok(MemoryPlan { arenas: best.arenas, places, mapped, live_bytes })
}

fn check_limits(plan: &Plan, limits: &MemoryLimits) -> Result<(), MemoryError> {
    let bounds = [
        ("largest storage binding", limits.binding_bytes),
        ("largest buffer", limits.buffer_bytes),
    ];
    for buffer in &plan.buffers {
        for (limit, max) in bounds {
            if buffer.bytes > max {
                let tensor = buffer.name.clone();
                return Err(MemoryError { tensor, bytes: buffer.bytes, limit, max });
            }
        }
    }
    Ok(())
}

/// The buffers that need a place, with their lifetimes and whom they must keep away from.
fn items(plan: &Plan, alignment: u64, mapped: &[bool]) -> Vec<Item> {
    let mut lives: Vec<Option<(usize, usize)>> = vec![None; plan.buffers.len()];
    let mut touch = |buffer: usize, moment: usize| {
        let (first, last) = lives[buffer].get_or_insert((moment, moment));
        (*first, *last) = ((*first).min(moment), (*last).max(moment));
    };
    let ports = |ports: &[super::Port]| {
        let places = ports.iter().filter_map(|port| port.source.place());
        places.map(|(id, _)| id.0 as usize).collect::<Vec<_>>()
    };
    for buffer in ports(&plan.inputs) {
        touch(buffer, 0);
    }
    for (index, step) in plan.steps.iter().enumerate() {
        step.bindings.iter().for_each(|id| touch(id.0 as usize, index + 1));
    }
    let download = plan.steps.len() + 1;
    for buffer in ports(&plan.outputs) {
        touch(buffer, download);
    }

    let mut items = Vec::new();
    let mut item_of = vec![None; plan.buffers.len()];
    for (index, (buffer, life)) in plan.buffers.iter().zip(lives).enumerate() {
        if let (Some((first, last)), false) =
            (life, mapped[index] || matches!(buffer.kind, BufferKind::Weight { .. }))
        {
            item_of[index] = Some(items.len());
            let bytes = buffer.bytes.next_multiple_of(alignment);
            items.push(Item { buffer: index, bytes, first, last, apart: vec![] });
        }
    }
    keep_apart(plan, &item_of, &mut items);
    items
}

/// Notes for every step that what it reads may not lie with what it writes.
fn keep_apart(plan: &Plan, item_of: &[Option<usize>], items: &mut [Item]) {
    for step in &plan.steps {
        let of = |wanted: Access| {
            let bound = step.bindings.iter().zip(&step.dispatch.kernel.bindings);
            bound
                .filter(move |(_, access)| **access == wanted)
                .filter_map(|(id, _)| item_of[id.0 as usize])
        };
        for read in of(Access::Read) {
            for write in of(Access::ReadWrite).filter(|write| *write != read) {
                items[read].apart.push(write);
                items[write].apart.push(read);
            }
        }
    }
    for item in items {
        item.apart.sort_unstable();
        item.apart.dedup();
    }
}

fn live_bytes(items: &[Item], moments: usize) -> u64 {
    let mut change = vec![(0u64, 0u64); moments + 1];
    for item in items {
        change[item.first].0 += item.bytes;
        change[item.last + 1].1 += item.bytes;
    }
    let mut live = 0;
    change.iter().fold(0, |most, (born, dead)| {
        live = live + born - dead;
        most.max(live)
    })
}

/// The best packing that is found: the best rule of thumb, then whatever swap of two turns takes
/// no more memory. Residual sums need that: the rules put ResNet-50 into 1.33 times its live set,
/// some forty swaps into 1.11 times.
fn packed(items: &[Item], live_bytes: u64, buffer_bytes: u64) -> Packing {
    let ways = orders(items).into_iter().map(|order| (pack(items, &order, buffer_bytes), order));
    let Some((mut best, mut order)) = ways.min_by_key(|(packing, _)| packing.total()) else {
        return Packing::default();
    };
    // Fewer where a plan is long.
    let tries = (20_000 / items.len().max(1)).min(100);
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let mut below = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % bound.max(1) as u64).unwrap_or(0)
    };
    for _ in 0..tries {
        if best.total() == live_bytes {
            break;
        }
        let (a, b) = (below(items.len()), below(items.len()));
        order.swap(a, b);
        let packing = pack(items, &order, buffer_bytes);
        if packing.total() <= best.total() {
            best = packing;
        } else {
            order.swap(a, b);
        }
    }
    best
}

/// Orders worth trying: each is good for some shape of graph, and all are cheap.
fn orders(items: &[Item]) -> Vec<Vec<usize>> {
    let sorted = |key: &dyn Fn(&Item) -> (u64, u64)| {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(key(&items[i])), items[i].first, i));
        order
    };
    let span = |item: &Item| (item.last - item.first + 1) as u64;
    vec![
        sorted(&|item| (item.bytes, span(item))),
        sorted(&|item| (item.bytes.saturating_mul(span(item)), item.bytes)),
        sorted(&|item| (span(item), item.bytes)),
        sorted(&|item| (item.apart.len() as u64, item.bytes)),
        (0..items.len()).collect(),
    ]
}

/// One way to place all items.
#[derive(Debug, Default)]
struct Packing {
    arenas: Vec<u64>,
    places: Vec<Option<Place>>,
}

impl Packing {
    fn total(&self) -> u64 {
        self.arenas.iter().sum()
    }
}

/// Places the items in `order`, each where the arenas grow least.
fn pack(items: &[Item], order: &[usize], buffer_bytes: u64) -> Packing {
    let mut packing = Packing { arenas: vec![], places: vec![None; items.len()] };
    let mut members: Vec<Vec<usize>> = vec![];
    for &index in order {
        let item = &items[index];
        let mut best: Option<(u64, u64, usize)> = None;
        for (arena, size) in packing.arenas.iter().enumerate() {
            let taken = |&other: &usize| {
                packing.places[other].is_some_and(|place: Place| place.arena == arena)
            };
            if item.apart.iter().any(taken) {
                continue;
            }
            let offset = lowest_fit(items, &packing.places, &members[arena], item);
            let end = offset + item.bytes;
            if end > buffer_bytes {
                continue;
            }
            let candidate = (end.saturating_sub(*size), offset, arena);
            best = Some(best.map_or(candidate, |best| best.min(candidate)));
        }
        let (_, offset, arena) = best.unwrap_or_else(|| {
            packing.arenas.push(0);
            members.push(vec![]);
            (item.bytes, 0, packing.arenas.len() - 1)
        });
        packing.arenas[arena] = packing.arenas[arena].max(offset + item.bytes);
        packing.places[index] = Some(Place { arena, offset });
        members[arena].push(index);
    }
    packing
}

/// The smallest gap that holds `item` between the members of an arena that live with it, or the
/// place after the last of them.
fn lowest_fit(items: &[Item], places: &[Option<Place>], members: &[usize], item: &Item) -> u64 {
    let mut taken: Vec<(u64, u64)> = members
        .iter()
        .filter(|&&other| items[other].overlaps(item))
        .filter_map(|&other| places[other].map(|p| (p.offset, p.offset + items[other].bytes)))
        .collect();
    taken.sort_unstable();
    let (mut end, mut best) = (0, None::<(u64, u64)>);
    for (from, to) in taken {
        if from >= end + item.bytes {
            let gap = (from - end, end);
            best = Some(best.map_or(gap, |best| best.min(gap)));
        }
        end = end.max(to);
    }
    best.map_or(end, |(_, offset)| offset)
}

#[cfg(test)]
mod tests;
