//! One request through one core module, the CGI way: the request in its environment and on its
//! standard input, the response on its standard output.
//!
//! Source: RFC 3875. What it asks of a server and this host does not do: a host knows no client,
//! so there is no `REMOTE_ADDR`; a `Location` is the client's to follow, never the server's.

mod answer;
mod output;
mod variables;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use wasmtime::{InstancePre, Store};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder};

use self::output::Output;
use super::gate::Place;
use super::visit::{Left, Visit, trapped};
use crate::config::HEADER_BYTES;
use crate::host::START;
use crate::imports::log::Log;
use crate::imports::print::Printed;
use crate::instance::module::{self, Bounds, ModuleState};
use crate::{Call, GuestError, Plugin, Timings};

/// A core module that can be started.
pub(crate) type Command = InstancePre<ModuleState>;

/// Runs the module once, and judges what it printed and how it ended. `host` is whom the client
/// asked.
pub(crate) async fn run(
    plugin: &Arc<Plugin>,
    command: &Command,
    request: &http::Request<Bytes>,
    host: Option<&HeaderValue>,
    call: &Call,
    place: Place,
) -> Result<(http::Response<Bytes>, Left), GuestError> {
    let _place = place;
    let (config, bytes_max) = (&plugin.config, plugin.config.response_bytes_max);
    let unstarted = |error| trapped(plugin, &error, Timings::default());
    let output = Output::new(bytes_max.saturating_add(HEADER_BYTES));
    let wasi = context(plugin, request, host, call, &output).map_err(unstarted)?;
    let (deadline, caller) = (call.deadline, Arc::clone(&call.caller));
    let bounds = Bounds { time: plugin.time, deadline, caller };
    let (engine, grants) = (plugin.engine(), Arc::clone(&plugin.grants));
    let visit = Visit::with(plugin, call, |meter| {
        Ok(module::store(engine, config, wasi, grants, &bounds, meter))
    });
    let command = command.clone();
    let ended = visit
        .map_err(unstarted)?
        .run(move |store, instantiate| Box::pin(start(command, store, instantiate)))
        .await;
    let unusable = |reason: String, timings: Timings| {
        let plugin = plugin.name.clone();
        GuestError::BadResponse { plugin, reason, timings }
    };
    // A guest that prints too much is ended for that, however it looks.
    let printed = output.take().map_err(|max| {
        let timings = match &ended {
            Ok(((), left)) => left.timings.clone(),
            Err(error) => error.timings(),
        };
        unusable(format!("it has more than {max} bytes"), timings)
    })?;
    let ((), left) = ended?;
    let response = answer::read(&printed, bytes_max);
    let response = response.map_err(|reason| unusable(reason, left.timings.clone()))?;
    Ok((response, left))
}

/// What the module sees: the request, its assets, and nothing else.
fn context(
    plugin: &Plugin,
    request: &http::Request<Bytes>,
    host: Option<&HeaderValue>,
    call: &Call,
    output: &Output,
) -> wasmtime::Result<WasiCtxBuilder> {
    let masks = plugin.grants.reach.masks.clone();
    let log = Log::new(&plugin.name, &call.request_id, plugin.config.log_bytes_max, masks);
    let (_, stderr) = log.outputs();
    let mut wasi = WasiCtx::builder();
    wasi.arg(&plugin.name)
        .envs(&variables::of(request, host))
        .stdin(MemoryInputPipe::new(request.body().clone()))
        .stdout(Printed(output.clone()))
        .stderr(stderr);
    if let Some(assets) = &plugin.grants.assets {
        wasi.preopened_dir(assets, "/assets", FsPerms::ReadOnly)?;
    }
    Ok(wasi)
}

async fn start(
    command: Command,
    store: &mut Store<ModuleState>,
    instantiate: &mut Duration,
) -> wasmtime::Result<()> {
    let started = Instant::now();
    let instance = command.instantiate_async(&mut *store).await?;
    *instantiate = started.elapsed();
    let start = instance.get_typed_func::<(), ()>(&mut *store, START)?;
    match start.call_async(store, ()).await {
        Err(error) if matches!(error.downcast_ref(), Some(I32Exit(0))) => Ok(()),
        ended => ended,
    }
}
