//! How a core module gets a model: by a name that it was granted, or from bytes of its own.

use bytes::Bytes;

use super::dialect::{Fault, Table};
use super::memory::Memory;
use super::{Guest, with_memory};
use crate::imports::nn::load::Load;
use crate::instance::module::ModuleState;

/// Reading JSON takes a multiple of its size; options that somebody wrote are short.
const OPTIONS_BYTES_MAX: usize = 64 << 10;

/// The arguments of `load`.
pub(super) struct Wanted {
    /// Where the list of the model's parts lies.
    pub(super) builders: u32,
    pub(super) count: u32,
    pub(super) encoding: u32,
    pub(super) target: u32,
    /// Where the handle goes.
    pub(super) graph: u32,
}

pub(super) async fn load(
    guest: &mut Guest<'_>,
    table: &Table,
    wanted: Wanted,
) -> Result<(), Fault> {
    let (load, (pointer, length)) =
        with_memory(guest, |memory, state| check(memory, state, table, &wanted))?;
    let entered = load.enter().await?;
    let bytes = with_memory(guest, |memory, _| {
        Ok(Bytes::copy_from_slice(memory.slice(pointer, length as usize)?))
    })?;
    let graph = entered.load(bytes).await?;
    with_memory(guest, |memory, state| {
        let handle = state.handles.add(graph)?;
        memory.write_u32(wanted.graph, handle)
    })
}

/// Checks everything before the bytes are copied.
fn check(
    memory: &Memory<'_>,
    state: &ModuleState,
    table: &Table,
    wanted: &Wanted,
) -> Result<(Load, (u32, u32)), Fault> {
    memory.check(wanted.graph, size_of::<u32>())?;
    let encoding = table.encoding(wanted.encoding)?;
    let target = table.target(wanted.target)?;
    if wanted.count != 1 {
        let reason =
            format!("an ONNX model is one part with all of its bytes, not {}", wanted.count);
        return Err(Fault::invalid(reason));
    }
    let part = memory.pair(wanted.builders)?;
    memory.check(part.0, part.1 as usize)?;
    state.handles.check_room()?;
    Ok((state.nn.may_load(&[part.1 as usize], encoding, target)?, part))
}

/// Finds a granted model, and gives its handle to the guest.
pub(super) fn by_name(
    memory: &mut Memory<'_>,
    state: &mut ModuleState,
    (name, length): (u32, u32),
    graph: u32,
) -> Result<(), Fault> {
    memory.check(graph, size_of::<u32>())?;
    let name = memory.slice(name, length as usize)?;
    let name = str::from_utf8(name).map_err(|_| Fault::invalid("the name is not UTF-8"))?;
    let handle = state.handles.add(state.nn.find(name)?)?;
    memory.write_u32(graph, handle)
}

/// Options are a JSON object. Those of WasmEdge are for generating text; a model of tensors has
/// none that they could change.
pub(super) fn check_options(text: &[u8]) -> Result<(), Fault> {
    if text.len() > OPTIONS_BYTES_MAX {
        let given = text.len();
        let reason = format!("options of {given} bytes; {OPTIONS_BYTES_MAX} are allowed");
        return Err(Fault::too_large(reason));
    }
    let read: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_slice(text);
    let options = read.map_err(|error| Fault::invalid(format!("the options: {error}")))?;
    if !options.is_empty() {
        tracing::debug!(count = options.len(), "options of load_by_name_with_config have no use");
    }
    Ok(())
}
