//! Programs: what runs once from its start to its end, for the one who called it.
//!
//! A program is a core module with a `_start`, or a component that exports `wasi:cli/run`. It sees
//! this process's standard streams, and the folders, variables and models that it is given.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gw_artifact::Digest;
use gw_artifact::manifest::NnDialect;
use gw_inference::Model;
use wasmtime::component::Component;
use wasmtime::{InstancePre, Store, WasmBacktrace};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::check_memory;
use super::modules::{self, START};
use crate::compiled::Code;
use crate::imports::nn::Nn;
use crate::imports::nn::loaded::Loading;
use crate::instance::module::{Bounds, ModuleState};
use crate::instance::{self, State, module};
use crate::plugin::limits;
use crate::plugin::{Grants, Meter};
use crate::{Host, HostConfig, HostError, LoadGrant};

/// When a program that nobody ends has ended: as good as never, and still a time that timers take.
const NEVER: Duration = Duration::from_hours(24 * 365);

/// What to run, and what it may use.
pub struct ProgramSpec {
    /// What messages call it.
    pub name: String,
    /// The core module or component.
    pub wasm: Bytes,
    /// Its arguments; the first is its own name.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// The folders that it may read and write.
    pub folders: Vec<Folder>,
    /// Its memory limit, in bytes, over all its memories.
    pub memory_bytes: u64,
    /// The models that it may load by name.
    pub models: HashMap<String, Arc<Model>>,
    /// Whether it may load models from bytes.
    pub load: Option<LoadGrant>,
    /// What a core module means by wasi-nn.
    pub wasi_nn: NnDialect,
}

/// A folder of this machine, as a program sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The folder.
    pub host: PathBuf,
    /// Its path in the guest.
    pub guest: String,
}

/// How a program ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status; 0 is success.
    pub status: i32,
    /// Why its last call of wasi-nn failed that did: guests get no more than a number.
    pub nn_fault: Option<String>,
}

/// Why a program did not end by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// A folder that it was given cannot be opened.
    #[error("the folder {folder} cannot be opened: {reason}")]
    Folder {
        /// The folder.
        folder: String,
        /// What the system reported.
        reason: String,
    },
    /// It trapped.
    #[error("{program} trapped: {message}\n{backtrace}")]
    Trap {
        /// The program.
        program: String,
        /// The trap.
        message: String,
        /// Its stack, innermost frame first; empty where there is none.
        backtrace: String,
    },
    /// It trapped after it was refused more memory.
    #[error("{program} ran out of its {limit} bytes of memory")]
    OutOfMemory {
        /// The program.
        program: String,
        /// Its memory limit, in bytes.
        limit: u64,
    },
}

/// A compiled and linked program.
pub struct Program {
    spec: ProgramSpec,
    starts: Starts,
    grants: Arc<Grants>,
    /// The node's, narrowed to the program's memory.
    config: HostConfig,
    /// Keeps the engine's ticker.
    _host: Arc<Host>,
}

enum Starts {
    Module(InstancePre<ModuleState>),
    Component(CommandPre<State>),
}

impl Host {
    /// Compiles a program, or takes its compiled code from the disk, and checks that it can run.
    ///
    /// # Errors
    /// What is wrong with it, with the import or the limit by name; [`HostError::NotACommand`]
    /// says what it is instead.
    pub fn program(self: &Arc<Self>, spec: ProgramSpec) -> Result<Program, HostError> {
        if let Some(grant) = &spec.load {
            limits::load_within(&self.config, &spec.name, grant.bytes_max)?;
        }
        let digest = Digest::of(&spec.wasm);
        let code = self.compiler.compile(&spec.name, &spec.wasm, &digest)?;
        check_memory(&spec.name, spec.memory_bytes, &code)?;
        let starts = match &code {
            Code::Module(module) => {
                Starts::Module(modules::link(&spec.name, module, spec.wasi_nn)?)
            }
            Code::Component(component) => Starts::Component(self.command(&spec.name, component)?),
        };
        let memory_bytes_max = spec.memory_bytes.min(self.config.memory_bytes_max);
        // Nobody waits for an answer, so nothing bounds how long models run.
        let device_time_max = Duration::MAX;
        let config = HostConfig { memory_bytes_max, device_time_max, ..(*self.config).clone() };
        let loaded = || Arc::clone(&self.loaded);
        let load = spec.load.clone().map(|grant| Loading { grant, loaded: loaded() });
        let grants = Arc::new(Grants { models: spec.models.clone(), load, ..Grants::default() });
        Ok(Program { spec, starts, grants, config, _host: Arc::clone(self) })
    }

    fn command(&self, name: &str, component: &Component) -> Result<CommandPre<State>, HostError> {
        let pre = self.link(name, component)?;
        CommandPre::new(pre.clone()).map_err(|_| {
            let reason = match ProxyPre::new(pre) {
                Ok(_) => {
                    "it answers HTTP requests: name it as a plugin in a gw.toml and serve it \
                          with `gw dev`"
                }
                Err(_) => "it is a component that exports no wasi:cli/run",
            };
            HostError::NotACommand { plugin: name.to_owned(), reason: reason.to_owned() }
        })
    }
}

impl Program {
    /// Runs it to its end. Dropping the future ends it, and its inference with it.
    ///
    /// # Errors
    /// Where it does not start, traps or runs out of memory.
    ///
    /// # Panics
    /// Outside a tokio runtime with its timer enabled.
    pub async fn run(self) -> Result<Ended, ProgramError> {
        let wasi = self.wasi()?;
        match &self.starts {
            Starts::Module(pre) => Box::pin(self.run_module(pre, wasi)).await,
            Starts::Component(pre) => Box::pin(self.run_component(pre, wasi)).await,
        }
    }

    fn wasi(&self) -> Result<WasiCtxBuilder, ProgramError> {
        let mut wasi = WasiCtx::builder();
        wasi.inherit_stdio().args(&self.spec.args).envs(&self.spec.env);
        for Folder { host, guest } in &self.spec.folders {
            let opened = wasi.preopened_dir(host, guest, FsPerms::ReadWrite).map(drop);
            opened.map_err(|error| ProgramError::Folder {
                folder: host.display().to_string(),
                reason: error.root_cause().to_string(),
            })?;
        }
        Ok(wasi)
    }

    async fn run_module(
        &self,
        pre: &InstancePre<ModuleState>,
        wasi: WasiCtxBuilder,
    ) -> Result<Ended, ProgramError> {
        let (deadline, caller) = (Instant::now() + NEVER, Arc::default());
        let bounds = Bounds { time: Duration::MAX, deadline, caller };
        let (engine, grants) = (pre.module().engine(), Arc::clone(&self.grants));
        let mut store =
            module::store(engine, &self.config, wasi, grants, &bounds, Meter::default());
        let ended = async {
            let instance = pre.instantiate_async(&mut store).await?;
            instance.get_typed_func::<(), ()>(&mut store, START)?.call_async(&mut store, ()).await
        };
        let ended = ended.await;
        let ModuleState { growth, handles, .. } = store.into_data();
        let status = self.status(ended.map(|()| 0), growth.memory_refused())?;
        Ok(Ended { status, nn_fault: handles.fault() })
    }

    async fn run_component(
        &self,
        pre: &CommandPre<State>,
        mut wasi: WasiCtxBuilder,
    ) -> Result<Ended, ProgramError> {
        let deadline = Instant::now() + NEVER;
        let mut state = State::for_init(wasi.build(), self.config.memory_bytes_max, deadline);
        state.nn = Nn::new(Arc::clone(&self.grants), deadline, self.config.tensor_bytes_max);
        let mut store = Store::new(pre.engine(), state);
        store.limiter(|state| &mut state.growth);
        store.set_hostcall_fuel(self.config.hostcall_bytes_max);
        instance::interrupt(&mut store, deadline, Duration::MAX, Meter::default());
        let ended = async {
            let command = pre.instantiate_async(&mut store).await?;
            command.wasi_cli_run().call_run(&mut store).await
        };
        let ended = ended.await;
        let State { growth, nn, .. } = store.into_data();
        let status = ended.map(|said| i32::from(said.is_err()));
        let status = self.status(status, growth.memory_refused())?;
        Ok(Ended { status, nn_fault: nn.error().map(|error| error.to_string()) })
    }

    fn status(
        &self,
        ended: wasmtime::Result<i32>,
        memory_refused: bool,
    ) -> Result<i32, ProgramError> {
        let error = match ended {
            Ok(status) => return Ok(status),
            Err(error) => error,
        };
        if let Some(I32Exit(status)) = error.downcast_ref() {
            return Ok(*status);
        }
        let program = self.spec.name.clone();
        if memory_refused {
            let limit = self.config.memory_bytes_max;
            return Err(ProgramError::OutOfMemory { program, limit });
        }
        let message = error.root_cause().to_string();
        let backtrace = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string);
        Err(ProgramError::Trap { program, message, backtrace: backtrace.unwrap_or_default() })
    }
}
