//! Runs a plugin's `init` once, at build time, and keeps the result.
//!
//! A component that exports `init: func()` is started, `init` is called with the assets in
//! place, and the memory that it leaves becomes the component's initial memory. A fresh instance
//! per request then starts with its tables built.
//!
//! What `init` captured is shared by every instance: seeds of hash maps, clocks, random numbers.
//! Open files do not survive; `init` closes them and the handler opens its own.

mod state;

use std::path::Path;
use std::time::{Duration, Instant};

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Instance};
use wasmtime::{Config, Engine, OptLevel, Store, Trap, UpdateDeadline};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, WasiCtx};
use wasmtime_wizer::Wizer;

use self::state::Initialised;
use crate::compiled::is_module;
use crate::engine::Ticker;
use crate::imports;
use crate::instance::State;

/// The export that is run.
const INIT: &str = "init";
/// Parsing a large tokenizer takes a second in unoptimised code; a minute is a defect.
const TIME_MAX: Duration = Duration::from_mins(1);
/// The whole memory becomes part of the component, so more than this is a defect too.
const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// What is kept of the guest's words, for the error.
const STDERR_BYTES_MAX: usize = 16 << 10;

/// Why a component could not be pre-initialised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PreinitError {
    /// The bytes are not a component that runs.
    #[error("the component cannot be started: {0}")]
    Invalid(String),
    /// `init` trapped.
    #[error("its init() failed: {reason}{}", words(stderr))]
    Init {
        /// The trap.
        reason: String,
        /// What the guest printed, a panic's message for one.
        stderr: String,
    },
    /// `init` did not end.
    #[error("its init() did not return within {0:?}")]
    Endless(Duration),
    /// The initialised memory could not be written back.
    #[error("its state after init() cannot be kept: {0}")]
    Snapshot(String),
}

fn words(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; it printed: {}", stderr.trim()) }
}

/// The component with `init` already run, or the same bytes where it has no such export or is a
/// core module.
///
/// During `init` the guest sees `assets` read-only as `/assets`, if that is a directory, and
/// otherwise an empty system: no model is there to be loaded, and no request is sent.
///
/// It blocks for seconds, and may be called inside or outside a tokio runtime.
///
/// # Errors
/// [`PreinitError`], with what the guest printed.
pub fn pre_initialise(wasm: &[u8], assets: &Path) -> Result<Vec<u8>, PreinitError> {
    if is_module(wasm) {
        return Ok(wasm.to_vec());
    }
    // Its own thread, because an async runtime cannot be started inside another.
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| PreinitError::Invalid(error.to_string()))?;
            runtime.block_on(initialise(wasm, assets))
        });
        // The snapshot tool asserts what it believes of components; one that surprises it is
        // reported like any other that it cannot handle.
        let panicked = || PreinitError::Snapshot("the snapshot tool panicked".to_owned());
        worker.join().unwrap_or_else(|_| Err(panicked()))
    })
}

async fn initialise(wasm: &[u8], assets: &Path) -> Result<Vec<u8>, PreinitError> {
    let invalid = |error: wasmtime::Error| PreinitError::Invalid(format!("{error:#}"));
    let engine = engine().map_err(invalid)?;
    let _ticker = Ticker::start(vec![engine.clone()])
        .map_err(|error| PreinitError::Invalid(error.to_string()))?;
    let mut wizer = Wizer::new();
    // Without its `init` the rewritten component is invalid in this release.
    wizer.init_func(INIT).keep_init_func(true);
    let (ctx, instrumented) = match wizer.instrument_component(wasm) {
        Ok(instrumented) => instrumented,
        Err(error) => {
            // What cannot be instrumented is fine as long as it does not ask for it.
            let plain = Component::from_binary(&engine, wasm).map_err(invalid)?;
            let unchanged = || wasm.to_vec();
            let reason = || PreinitError::Snapshot(format!("{error:#}"));
            return if exports_init(&plain) { Err(reason()) } else { Ok(unchanged()) };
        }
    };
    let component = Component::from_binary(&engine, &instrumented).map_err(invalid)?;
    if !exports_init(&component) {
        return Ok(wasm.to_vec());
    }
    let stderr = MemoryOutputPipe::new(STDERR_BYTES_MAX);
    let mut store = store(&engine, assets, stderr.clone()).map_err(invalid)?;
    let instance = start(&engine, &mut store, &component).await.map_err(invalid)?;
    call_init(&mut store, &instance).await.map_err(|error| match error.downcast_ref() {
        Some(Trap::Interrupt) => PreinitError::Endless(TIME_MAX),
        _ => PreinitError::Init {
            reason: error.root_cause().to_string(),
            stderr: String::from_utf8_lossy(&stderr.contents()).into_owned(),
        },
    })?;
    let mut state = Initialised { store: &mut store, instance };
    let snapshot = wizer.snapshot_component(&ctx, &mut state).await;
    snapshot.map_err(|error| PreinitError::Snapshot(format!("{error:#}")))
}

fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.concurrency_support(false);
    // The code runs once: compiling it quickly matters more than how it runs.
    config.cranelift_opt_level(OptLevel::None);
    Engine::new(&config)
}

fn exports_init(component: &Component) -> bool {
    match component.get_export(None, INIT) {
        Some((ComponentItem::ComponentFunc(ty), _)) => {
            ty.params().len() == 0 && ty.results().len() == 0
        }
        _ => false,
    }
}

fn store(
    engine: &Engine,
    assets: &Path,
    stderr: MemoryOutputPipe,
) -> wasmtime::Result<Store<State>> {
    let mut wasi = WasiCtx::builder();
    wasi.stderr(stderr);
    if assets.is_dir() {
        wasi.preopened_dir(assets, "/assets", FsPerms::ReadOnly)?;
    }
    let deadline = Instant::now() + TIME_MAX;
    let state = State::for_init(wasi.build(), MEMORY_BYTES_MAX, deadline);
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.growth);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        let late = Instant::now() >= deadline;
        Ok(if late { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) })
    });
    Ok(store)
}

async fn start(
    engine: &Engine,
    store: &mut Store<State>,
    component: &Component,
) -> wasmtime::Result<Instance> {
    imports::linker(engine)?.instantiate_async(store, component).await
}

async fn call_init(store: &mut Store<State>, instance: &Instance) -> wasmtime::Result<()> {
    let init = instance.get_typed_func::<(), ()>(&mut *store, INIT)?;
    init.call_async(store, ()).await
}
