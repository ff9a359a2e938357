//! wasi-nn for core modules: functions over numbers and pointers, in three dialects.
//!
//! A guest hands over numbers that mean places in its memory. Every one is checked before anything
//! happens: what is wrong with it is an error number for the guest, never a trap of ours, and
//! leaves no trace. What the functions have in common is here; [`dialect`] holds what differs.

mod dialect;
mod handles;
mod load;
mod memory;

use gw_artifact::manifest::NnDialect;
use wasmtime::{Caller, Extern, Linker};

pub(crate) use self::dialect::Table;
use self::dialect::{Fault, Layout, NN_ERRNO_SUCCESS};
pub(crate) use self::handles::Handles;
use self::memory::Memory;
use crate::imports::nn::error::NnError;
use crate::instance::module::ModuleState;

type Guest<'a> = Caller<'a, ModuleState>;

/// Adds the functions of a dialect, under its module's name.
pub(crate) fn add_to_linker(
    linker: &mut Linker<ModuleState>,
    dialect: NnDialect,
) -> wasmtime::Result<()> {
    let table = Table::of(dialect);
    add_loading(linker, table)?;
    add_inference(linker, table)?;
    if table.one_by_one {
        add_one_by_one(linker, table)?;
    }
    Ok(())
}

fn add_loading(linker: &mut Linker<ModuleState>, table: &'static Table) -> wasmtime::Result<()> {
    match table.layout {
        Layout::Flat => linker.func_wrap_async(
            table.module,
            "load",
            move |mut guest: Guest<'_>, args: (u32, u32, u32, u32, u32)| {
                let (builders, count, encoding, target, graph) = args;
                Box::new(async move {
                    let wanted = load::Wanted { builders, count, encoding, target, graph };
                    let done = load::load(&mut guest, table, wanted).await;
                    settle(guest.data_mut(), "load", done)
                })
            },
        )?,
        Layout::Pointers => linker.func_wrap_async(
            table.module,
            "load",
            move |mut guest: Guest<'_>, (array, encoding, target, graph): (u32, u32, u32, u32)| {
                Box::new(async move {
                    let done = match with_memory(&mut guest, |memory, _| memory.pair(array)) {
                        Ok((builders, count)) => {
                            let wanted = load::Wanted { builders, count, encoding, target, graph };
                            load::load(&mut guest, table, wanted).await
                        }
                        Err(fault) => Err(fault),
                    };
                    settle(guest.data_mut(), "load", done)
                })
            },
        )?,
    };
    linker.func_wrap(
        table.module,
        "load_by_name",
        |mut guest: Guest<'_>, name: u32, length: u32, graph: u32| {
            call(&mut guest, "load_by_name", |memory, state| {
                load::by_name(memory, state, (name, length), graph)
            })
        },
    )?;
    linker.func_wrap(
        table.module,
        "init_execution_context",
        |mut guest: Guest<'_>, graph: u32, context: u32| {
            call(&mut guest, "init_execution_context", |memory, state| {
                memory.check(context, size_of::<u32>())?;
                let handle = state.handles.begin(graph)?;
                memory.write_u32(context, handle)
            })
        },
    )?;
    Ok(())
}

fn add_inference(linker: &mut Linker<ModuleState>, table: &'static Table) -> wasmtime::Result<()> {
    linker.func_wrap(
        table.module,
        "set_input",
        |mut guest: Guest<'_>, context: u32, index: u32, tensor: u32| {
            call(&mut guest, "set_input", |memory, state| {
                let tensor = table.tensor(memory, tensor)?;
                state.handles.set_input(&state.nn, context, index, tensor, memory)
            })
        },
    )?;
    linker.func_wrap_async(
        table.module,
        "compute",
        |mut guest: Guest<'_>, (context,): (u32,)| {
            Box::new(async move {
                let done = compute(guest.data_mut(), context).await;
                settle(guest.data_mut(), "compute", done)
            })
        },
    )?;
    match table.layout {
        Layout::Flat => add_get_output(linker, table, "get_output"),
        Layout::Pointers => {
            linker.func_wrap_async(
                table.module,
                "get_output",
                move |mut guest: Guest<'_>, args: (u32, u32, u32, u32)| {
                    let (context, index, buffer, size) = args;
                    Box::new(async move {
                        let done = match with_memory(&mut guest, |memory, _| memory.u32(size)) {
                            Ok(room) => {
                                let to = (buffer, room);
                                output(&mut guest, table, (context, index), to, size).await
                            }
                            Err(fault) => Err(fault),
                        };
                        settle(guest.data_mut(), "get_output", done)
                    })
                },
            )?;
            Ok(())
        }
    }
}

fn add_get_output(
    linker: &mut Linker<ModuleState>,
    table: &'static Table,
    name: &'static str,
) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        table.module,
        name,
        move |mut guest: Guest<'_>, args: (u32, u32, u32, u32, u32)| {
            let (context, index, buffer, room, size) = args;
            Box::new(async move {
                let done = output(&mut guest, table, (context, index), (buffer, room), size).await;
                settle(guest.data_mut(), name, done)
            })
        },
    )?;
    Ok(())
}

/// What WasmEdge adds: loading with options, answers one by one, and giving handles back.
fn add_one_by_one(linker: &mut Linker<ModuleState>, table: &'static Table) -> wasmtime::Result<()> {
    linker.func_wrap(
        table.module,
        "load_by_name_with_config",
        |mut guest: Guest<'_>, name: u32, length: u32, config: u32, size: u32, graph: u32| {
            call(&mut guest, "load_by_name_with_config", |memory, state| {
                load::check_options(memory.slice(config, size as usize)?)?;
                load::by_name(memory, state, (name, length), graph)
            })
        },
    )?;
    linker.func_wrap_async(
        table.module,
        "compute_single",
        |mut guest: Guest<'_>, (context,): (u32,)| {
            Box::new(async move {
                let done = compute_single(guest.data_mut(), context).await;
                settle(guest.data_mut(), "compute_single", done)
            })
        },
    )?;
    add_get_output(linker, table, "get_output_single")?;
    linker.func_wrap(table.module, "fini_single", |mut guest: Guest<'_>, context: u32| {
        let state = guest.data_mut();
        let done = state.handles.restart(context);
        settle(state, "fini_single", done)
    })?;
    linker.func_wrap(table.module, "unload", |mut guest: Guest<'_>, graph: u32| {
        let state = guest.data_mut();
        let done = state.handles.unload(graph);
        settle(state, "unload", done)
    })?;
    let name = "finalize_execution_context";
    linker.func_wrap(table.module, name, move |mut guest: Guest<'_>, context: u32| {
        let state = guest.data_mut();
        let done = state.handles.end(context);
        settle(state, name, done)
    })?;
    Ok(())
}

async fn compute(state: &mut ModuleState, context: u32) -> Result<(), Fault> {
    let (model, inputs) = state.handles.question(context)?;
    let outputs = state.nn.compute(&model, inputs).await?;
    state.handles.answer(context, outputs)
}

/// A model that answers a request at once is a sequence of one step: after it, the sequence is at
/// its end until an input is set.
async fn compute_single(state: &mut ModuleState, context: u32) -> Result<(), Fault> {
    if state.handles.stepped(context)? {
        return Err(Fault::end_of_sequence());
    }
    compute(state, context).await?;
    state.handles.step(context)
}

/// Copies an output to a buffer of `room` units, and the size that it has to `size`.
async fn output(
    guest: &mut Guest<'_>,
    table: &Table,
    (context, index): (u32, u32),
    (buffer, room): (u32, u32),
    size: u32,
) -> Result<(), Fault> {
    let unit = table.size_unit;
    let room = u64::from(room) * u64::from(unit);
    let tensor = with_memory(guest, |memory, state| {
        memory.check(size, size_of::<u32>())?;
        memory.check(buffer, usize::try_from(room).unwrap_or(usize::MAX))?;
        state.handles.output(context, index)
    })?;
    let data = tensor.data().await.map_err(NnError::from)?;
    if data.len() as u64 > room {
        return Err(Fault::too_large(format!("{room} bytes do not hold {}", data.len())));
    }
    with_memory(guest, |memory, _| {
        memory.write(buffer, &data)?;
        let units = u32::try_from(data.len()).unwrap_or(u32::MAX).div_ceil(unit);
        memory.write_u32(size, units)
    })
}

/// Does what a function that touches the guest's memory does.
fn call(
    guest: &mut Guest<'_>,
    name: &str,
    work: impl FnOnce(&mut Memory<'_>, &mut ModuleState) -> Result<(), Fault>,
) -> u32 {
    let done = with_memory(guest, work);
    settle(guest.data_mut(), name, done)
}

fn with_memory<T>(
    guest: &mut Guest<'_>,
    work: impl FnOnce(&mut Memory<'_>, &mut ModuleState) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let memory = guest.get_export("memory").and_then(Extern::into_memory);
    let memory = memory.ok_or_else(Fault::missing_memory)?;
    let (bytes, state) = memory.data_and_store_mut(guest);
    work(&mut Memory::new(bytes), state)
}

/// The number that the guest gets. The ABI has no words, so they are kept for whoever asks why.
fn settle(state: &mut ModuleState, function: &str, done: Result<(), Fault>) -> u32 {
    let Err(fault) = done else { return NN_ERRNO_SUCCESS };
    let words = format!("{function}: {}", fault.reason);
    tracing::debug!(errno = ?fault.errno, "wasi-nn {words}");
    state.handles.note(words);
    fault.errno as u32
}
