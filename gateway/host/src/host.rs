//! The host: one engine, one linker, and the plugins that it loads.

mod modules;
pub mod program;

use std::sync::Arc;

use gw_artifact::Digest;
use prometheus_client::registry::Registry;
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

pub(crate) use self::modules::START;
use crate::compiled::{Code, Compiler};
use crate::engine::{Engines, Ticker};
use crate::imports::grants::Services;
use crate::imports::nn::loaded::{LoadedModels, Loading};
use crate::instance::State;
use crate::plugin::hooks::HooksPre;
use crate::plugin::limits;
use crate::plugin::{Gate, Grants, Kind};
use crate::{HostConfig, HostError, HostMetrics, Plugin, PluginSpec, imports};

/// Loads plugins and owns what all instances share.
pub struct Host {
    config: Arc<HostConfig>,
    /// Of each engine: that for small memories, then that for large ones.
    linkers: [Linker<State>; 2],
    compiler: Compiler,
    gate: Arc<Gate>,
    loaded: Arc<LoadedModels>,
    services: Services,
    metrics: HostMetrics,
    ticker: Arc<Ticker>,
}

impl Host {
    /// Starts the engine.
    ///
    /// `registry` gets the metrics under their full names, which start with `gw_plugin_`.
    ///
    /// # Errors
    /// [`HostError::Engine`], and [`HostError::Cache`] where compiled code is to be kept and its
    /// directory or key cannot be used.
    pub fn new(config: HostConfig, registry: &mut Registry) -> Result<Arc<Self>, HostError> {
        let metrics = HostMetrics::register(registry);
        let engines = Engines::new(&config)?;
        let ticker = Arc::new(Ticker::start(engines.all())?);
        let linker = |engine| {
            imports::linker(engine)
                .map_err(|error| HostError::Engine { reason: format!("{error:#}") })
        };
        let linkers = [linker(&engines.small)?, linker(&engines.large)?];
        let compiler = Compiler::new(engines, &config, metrics.clone())?;
        let gate = Arc::new(Gate::new(config.instances_max as usize, config.waiting_max));
        let loaded = LoadedModels::new(&config);
        let services = Services::new(&config, metrics.clone());
        let config = Arc::new(config);
        Ok(Arc::new(Self { config, linkers, compiler, gate, loaded, services, metrics, ticker }))
    }

    /// Compiles a plugin, or takes its compiled code from the disk, and checks that it can run:
    /// its imports are offered, it is a handler, hooks or a command, it fits its limits, and the
    /// node has what it is granted. It blocks for as long as compiling takes, which is seconds for
    /// large plugins.
    ///
    /// # Errors
    /// What is wrong with the plugin, with the import or the limit by name.
    pub fn load(&self, spec: PluginSpec) -> Result<Arc<Plugin>, HostError> {
        if let Some(assets) = spec.assets.as_ref().filter(|assets| !assets.is_dir()) {
            let path = assets.display().to_string();
            return Err(HostError::Assets { plugin: spec.name, path });
        }
        let config = limits::within(&self.config, &spec.name, &spec.limits)?;
        if let Some(grant) = &spec.load {
            limits::load_within(&self.config, &spec.name, grant.bytes_max)?;
        }
        let reach = self.services.grant(&spec.app, &spec.name, spec.grants.clone())?;
        let digest = Digest::of(&spec.wasm);
        let code = self.compiler.compile(&spec.name, &spec.wasm, &digest)?;
        check_memory(&spec.name, spec.limits.memory.0, &code)?;
        let kind = match &code {
            Code::Component(component) => self.kind(&spec.name, component)?,
            Code::Module(module) => {
                modules::check_grants(&spec.name, &spec.grants)?;
                Kind::Command(modules::link(&spec.name, module, spec.wasi_nn)?)
            }
        };
        // They are opened for each instance, so not for one that never looks.
        let assets = spec.assets.filter(|_| match &code {
            Code::Component(component) => imports::asks_for_files(component),
            Code::Module(_) => true,
        });
        let load = spec.load.map(|grant| Loading { grant, loaded: Arc::clone(&self.loaded) });
        Ok(Arc::new(Plugin {
            name: spec.name.into(),
            digest,
            kind,
            memory_bytes: spec.limits.memory.0,
            time: spec.limits.time,
            grants: Arc::new(Grants { models: spec.models, load, assets, reach }),
            gate: Arc::new(self.gate.share(self.config.instances_per_plugin_max as usize)),
            config: Arc::new(config),
            metrics: self.metrics.clone(),
            health: spec.health,
            _ticker: Arc::clone(&self.ticker),
        }))
    }

    fn link(&self, plugin: &str, component: &Component) -> Result<InstancePre<State>, HostError> {
        let [small, large] = &self.linkers;
        let is_small = Engine::same(component.engine(), small.engine());
        let linker = if is_small { small } else { large };
        linker.instantiate_pre(component).map_err(|error| {
            let missing = imports::missing(component);
            let plugin = plugin.to_owned();
            if missing.is_empty() {
                HostError::Link { plugin, reason: format!("{error:#}") }
            } else {
                HostError::MissingImport { plugin, imports: missing, offered: imports::offered() }
            }
        })
    }

    fn kind(&self, plugin: &str, component: &Component) -> Result<Kind, HostError> {
        let pre = self.link(plugin, component)?;
        let name = || plugin.to_owned();
        match (ProxyPre::new(pre.clone()), HooksPre::new(pre)) {
            (Ok(handler), Err(_)) => Ok(Kind::Handler(handler)),
            (Err(_), Ok(hooks)) => Ok(Kind::Hooks(hooks)),
            (Ok(_), Ok(_)) => Err(HostError::TwoKinds { plugin: name() }),
            (Err(_), Err(lack)) => {
                Err(HostError::NotAPlugin { plugin: name(), reason: format!("{lack:#}") })
            }
        }
    }
}

fn check_memory(plugin: &str, limit: u64, code: &Code) -> Result<(), HostError> {
    let initial = code.initial_memory();
    if initial > limit {
        let plugin = plugin.to_owned();
        return Err(HostError::InitialMemory { plugin, needed: initial, limit });
    }
    Ok(())
}
