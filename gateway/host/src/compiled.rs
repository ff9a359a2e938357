//! Compiled code on disk: machine code that this node made, sealed with its own key.
//!
//! Loading machine code is running it, so nothing is loaded that does not carry this node's seal
//! over the component's digest and the engine's settings. Whatever is missing, damaged or made by
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
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::metrics::{CodeSource, HostMetrics};
use crate::{HostConfig, HostError};

/// Older files are removed once there are more: enough for every revision that a node can go
/// back to, and some gigabytes at most.
const FILES_MAX: usize = 128;

/// Compiles components, or takes their code from the disk.
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
    ) -> Result<Component, HostError> {
        if let Some(component) = self.disk.as_ref().and_then(|disk| disk.read(&self.engine, digest))
        {
            self.metrics.loaded(CodeSource::disk);
            return Ok(component);
        }
        let component = Component::from_binary(&self.engine, wasm).map_err(|error| {
            HostError::Compile { plugin: plugin.to_owned(), reason: reason(wasm, &error) }
        })?;
        self.metrics.loaded(CodeSource::compiler);
        if let Some(disk) = &self.disk
            && let Err(error) = disk.write(&component, digest)
        {
            tracing::warn!(plugin, error = %error, "compiled code is not kept");
        }
        Ok(component)
    }
}

/// The compiler's words, with a hint for the likeliest mistake.
fn reason(wasm: &[u8], error: &wasmtime::Error) -> String {
    // Bytes 4 to 8 of a core module are its version, 1; those of a component are not.
    if wasm.get(..8) == Some(b"\0asm\x01\0\0\0") {
        return "it is a core module; build a component, with cargo for --target wasm32-wasip2"
            .to_owned();
    }
    format!("{error:#}")
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

    /// What the seal covers beside the code: which component, for which engine.
    fn context(&self, digest: &Digest) -> Vec<u8> {
        format!("gw compiled component {digest} for engine {}", self.engine_key).into_bytes()
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}-{}.cwasm", digest.hex(), self.engine_key))
    }

    /// The sealed code of a component, if it is there and whole.
    fn read(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let sealed = fs::read(self.path(digest)).ok()?;
        let Some(code) = self.seal.unseal(&sealed, &self.context(digest)) else {
            tracing::warn!(component = %digest, "compiled code has a broken seal; compiling anew");
            return None;
        };
        // SAFETY: `deserialize` must be given what `Component::serialize` wrote, unchanged. The
        // seal is an HMAC under a key that only this node has, over these very bytes, the digest
        // and the engine's settings, and `write` below seals nothing but `serialize`'s output.
        let component = unsafe { Component::deserialize(engine, &code) };
        component
            .inspect_err(|error| tracing::warn!(error = format!("{error:#}"), "recompiling"))
            .ok()
    }

    fn write(&self, component: &Component, digest: &Digest) -> io::Result<()> {
        let code = component.serialize().map_err(|error| io::Error::other(format!("{error:#}")))?;
        let sealed = self.seal.seal(&code, &self.context(digest));
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
