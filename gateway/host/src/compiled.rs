//! Compiled code on disk: machine code that this node made, sealed with its own key.
//!
//! Loading machine code is running it, so nothing is loaded that does not carry this node's seal
//! over the plugin's digest and the engine's settings. Whatever is missing, damaged or made by
//! another engine is compiled anew.

mod code;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gw_artifact::Digest;
use gw_artifact::disk::{create_private, write_whole};
use gw_artifact::seal::Seal;
use wasmtime::Engine;

pub(crate) use self::code::{Code, is_module};
use self::code::{Kind, Made};
use crate::config::MEMORY_BYTES_KEPT;
use crate::engine::{self, Engines};
use crate::metrics::{CodeSource, HostMetrics};
use crate::{HostConfig, HostError};

/// Older files are removed once there are more: enough for every revision that a node can go
/// back to, and some gigabytes at most.
const FILES_MAX: usize = 128;

/// Compiles components and core modules, or takes their code from the disk.
pub(crate) struct Compiler {
    engines: Engines,
    disk: Option<Disk>,
    metrics: HostMetrics,
}

struct Disk {
    dir: PathBuf,
    seal: Seal,
    /// Differs between engines whose code is not interchangeable.
    engine_key: String,
}

impl Compiler {
    pub(crate) fn new(
        engines: Engines,
        config: &HostConfig,
        metrics: HostMetrics,
    ) -> Result<Self, HostError> {
        let disk = match (&config.compiled_dir, &config.seal_key) {
            (Some(dir), Some(key)) => Some(Disk::open(&engines.small, dir, key)?),
            _ => None,
        };
        Ok(Self { engines, disk, metrics })
    }

    pub(crate) fn compile(
        &self,
        plugin: &str,
        wasm: &[u8],
        digest: &Digest,
    ) -> Result<Code, HostError> {
        let code = self.code(plugin, wasm, digest)?;
        code.make_images().map_err(|error| compile_error(plugin, &error))?;
        Ok(code)
    }

    fn code(&self, plugin: &str, wasm: &[u8], digest: &Digest) -> Result<Code, HostError> {
        let kind = Kind::of(wasm);
        let kept = self.disk.as_ref().and_then(|disk| disk.read(kind, digest));
        let kept = kept.map(|made| self.load(&made)).and_then(|code| {
            let told = |error| tracing::warn!(error = format!("{error:#}"), "compiling anew");
            code.map_err(told).ok()
        });
        if let Some(code) = kept {
            self.metrics.loaded(CodeSource::disk);
            return Ok(code);
        }
        let failed = |error| compile_error(plugin, &error);
        let made = Made::compile(&engine::compiler()?, wasm).map_err(failed)?;
        let code = self.load(&made).map_err(failed)?;
        self.metrics.loaded(CodeSource::compiler);
        if let Some(disk) = &self.disk
            && let Err(error) = disk.write(&made, kind, digest)
        {
            tracing::warn!(plugin, error = %error, "compiled code is not kept");
        }
        Ok(code)
    }

    /// Loads code into the engine that suits its memory.
    fn load(&self, made: &Made) -> wasmtime::Result<Code> {
        let code = made.load(&self.engines.small)?;
        if code.initial_memory() <= MEMORY_BYTES_KEPT as u64 {
            return Ok(code);
        }
        made.load(&self.engines.large)
    }
}

fn compile_error(plugin: &str, error: &wasmtime::Error) -> HostError {
    HostError::Compile { plugin: plugin.to_owned(), reason: format!("{error:#}") }
}

impl Disk {
    fn open(engine: &Engine, dir: &Path, key: &Path) -> Result<Self, HostError> {
        let refused = |reason: String| HostError::Cache { path: dir.display().to_string(), reason };
        create_private(dir).map_err(|error| refused(error.to_string()))?;
        let seal = Seal::open(key).map_err(|error| refused(error.to_string()))?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let engine_key = format!("{:016x}", hasher.finish());
        Ok(Self { dir: dir.to_owned(), seal, engine_key })
    }

    /// What the seal covers beside the code: of what, for which engine.
    fn context(&self, kind: Kind, digest: &Digest) -> Vec<u8> {
        format!("gw compiled {kind} {digest} for engine {}", self.engine_key).into_bytes()
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}-{}.cwasm", digest.hex(), self.engine_key))
    }

    /// The sealed code of a plugin, if it is there and whole.
    fn read(&self, kind: Kind, digest: &Digest) -> Option<Made> {
        let sealed = fs::read(self.path(digest)).ok()?;
        let made = Made::unseal(&self.seal, &sealed, &self.context(kind, digest), kind);
        if made.is_none() {
            tracing::warn!(plugin = %digest, "compiled code has a broken seal; compiling anew");
        }
        made
    }

    fn write(&self, made: &Made, kind: Kind, digest: &Digest) -> io::Result<()> {
        let sealed = made.seal(&self.seal, &self.context(kind, digest));
        write_whole(&self.path(digest), &sealed)?;
        self.prune()
    }

    fn prune(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(&self.dir)?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .collect();
        files.sort();
        let excess = files.len().saturating_sub(FILES_MAX);
        files.iter().take(excess).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_memory_that_begins_large_has_an_engine_that_keeps_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let config = HostConfig {
            compiled_dir: Some(dir.path().join("code")),
            seal_key: Some(dir.path().join("key")),
            ..HostConfig::default()
        };
        let engines = Engines::new(&config).unwrap();
        assert!(!Engine::same(&engines.small, &engines.large));
        let metrics = HostMetrics::register(&mut Registry::default());
        let compiler = Compiler::new(engines.clone(), &config, metrics).unwrap();
        let wasm = |pages: usize| wat::parse_str(format!("(module (memory {pages}))")).unwrap();
        for (pages, is_small) in [(1, true), (20, true), (21, false)] {
            // Compiled, then from the disk.
            for _ in 0..2 {
                let wasm = wasm(pages);
                let code = compiler.compile("m", &wasm, &Digest::of(&wasm)).unwrap();
                let Code::Module(module) = &code else { panic!("it is a module") };
                assert_eq!(code.initial_memory(), pages as u64 * (64 << 10));
                assert_eq!(Engine::same(module.engine(), &engines.small), is_small, "{pages}");
            }
        }
        let kept = fs::read_dir(dir.path().join("code")).unwrap().count();
        assert_eq!(kept, 3, "the engine that compiles makes what the others can load");
    }
}
