//! Compiled code on disk: machine code that this node made, sealed with its own key.
//!
//! Loading machine code is running it, so nothing is loaded that does not carry this node's seal
//! over the plugin's digest and the engine's settings. Whatever is missing, damaged or made by
//! another engine is compiled anew.
#![expect(unsafe_code, reason = "loading compiled code; the only unsafe block of this crate")]

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gw_artifact::Digest;
use gw_artifact::disk::{create_private, write_whole};
use gw_artifact::seal::Seal;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use crate::metrics::{CodeSource, HostMetrics};
use crate::{HostConfig, HostError};

/// Older files are removed once there are more: enough for every revision that a node can go
/// back to, and some gigabytes at most.
const FILES_MAX: usize = 128;

/// What a plugin's bytes are, compiled.
pub(crate) enum Code {
    Component(Component),
    Module(Module),
}

/// Whether the bytes are a core module: bytes 4 to 8 are its version, 1; a component has another.
pub(crate) fn is_module(wasm: &[u8]) -> bool {
    wasm.get(..8) == Some(b"\0asm\x01\0\0\0")
}

impl Code {
    fn compile(engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Self> {
        if is_module(wasm) {
            return Ok(Self::Module(Module::from_binary(engine, wasm)?));
        }
        Ok(Self::Component(Component::from_binary(engine, wasm)?))
    }

    /// Makes the images that memories start from, which the first request would wait for.
    fn make_images(&self) -> wasmtime::Result<()> {
        match self {
            Self::Component(component) => component.initialize_copy_on_write_image(),
            Self::Module(module) => module.initialize_copy_on_write_image(),
        }
    }

    fn serialize(&self) -> wasmtime::Result<Vec<u8>> {
        match self {
            Self::Component(component) => component.serialize(),
            Self::Module(module) => module.serialize(),
        }
    }
}

/// Compiles components and core modules, or takes their code from the disk.
pub(crate) struct Compiler {
    engine: Engine,
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
        engine: &Engine,
        config: &HostConfig,
        metrics: HostMetrics,
    ) -> Result<Self, HostError> {
        let disk = match (&config.compiled_dir, &config.seal_key) {
            (Some(dir), Some(key)) => Some(Disk::open(engine, dir, key)?),
            _ => None,
        };
        Ok(Self { engine: engine.clone(), disk, metrics })
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
        let kind = kind(wasm);
        let kept = self.disk.as_ref().and_then(|disk| disk.read(&self.engine, kind, digest));
        if let Some(code) = kept {
            self.metrics.loaded(CodeSource::disk);
            return Ok(code);
        }
        let code = Code::compile(&self.engine, wasm);
        let code = code.map_err(|error| compile_error(plugin, &error))?;
        self.metrics.loaded(CodeSource::compiler);
        if let Some(disk) = &self.disk
            && let Err(error) = disk.write(&code, kind, digest)
        {
            tracing::warn!(plugin, error = %error, "compiled code is not kept");
        }
        Ok(code)
    }
}

fn compile_error(plugin: &str, error: &wasmtime::Error) -> HostError {
    HostError::Compile { plugin: plugin.to_owned(), reason: format!("{error:#}") }
}

/// What the bytes are, as the seal names it.
fn kind(wasm: &[u8]) -> &'static str {
    if is_module(wasm) { "module" } else { "component" }
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
    fn context(&self, kind: &str, digest: &Digest) -> Vec<u8> {
        format!("gw compiled {kind} {digest} for engine {}", self.engine_key).into_bytes()
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}-{}.cwasm", digest.hex(), self.engine_key))
    }

    /// The sealed code of a plugin, if it is there and whole.
    fn read(&self, engine: &Engine, kind: &str, digest: &Digest) -> Option<Code> {
        let sealed = fs::read(self.path(digest)).ok()?;
        let Some(code) = self.seal.unseal(&sealed, &self.context(kind, digest)) else {
            tracing::warn!(plugin = %digest, "compiled code has a broken seal; compiling anew");
            return None;
        };
        // SAFETY: `deserialize` must be given what `serialize` of the same type wrote, unchanged.
        // The seal is an HMAC under a key that only this node has, over these very bytes, the type,
        // the digest and the engine's settings, and `write` below seals nothing but `serialize`'s
        // output.
        let code = unsafe {
            match kind {
                "module" => Module::deserialize(engine, &code).map(Code::Module),
                _ => Component::deserialize(engine, &code).map(Code::Component),
            }
        };
        code.inspect_err(|error| tracing::warn!(error = format!("{error:#}"), "recompiling")).ok()
    }

    fn write(&self, code: &Code, kind: &str, digest: &Digest) -> io::Result<()> {
        let code = code.serialize().map_err(|error| io::Error::other(format!("{error:#}")))?;
        let sealed = self.seal.seal(&code, &self.context(kind, digest));
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
