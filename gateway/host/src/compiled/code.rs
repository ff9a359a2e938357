//! Machine code: how it is made, and how it is loaded.

use std::fmt;

use bytes::Bytes;
use gw_artifact::seal::Seal;
use wasmtime::component::Component;
use wasmtime::{CodeBuilder, Engine, Module};

/// What a plugin's bytes are, compiled.
pub(crate) enum Code {
    Component(Component),
    Module(Module),
}

/// What a plugin's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Component,
    Module,
}

/// Whether the bytes are a core module: bytes 4 to 8 are its version, 1; a component has another.
pub(crate) fn is_module(wasm: &[u8]) -> bool {
    wasm.get(..8) == Some(b"\0asm\x01\0\0\0")
}

impl Kind {
    pub(super) fn of(wasm: &[u8]) -> Self {
        if is_module(wasm) { Self::Module } else { Self::Component }
    }
}

/// As seals name it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Component => "component",
            Self::Module => "module",
        })
    }
}

/// The unit in which memories are declared.
const WASM_PAGE_BYTES: u64 = 1 << 16;

impl Code {
    /// What its largest memory begins with, in bytes; 0 where that is not known.
    pub(crate) fn initial_memory(&self) -> u64 {
        let required = match self {
            Self::Component(component) => component.resources_required(),
            Self::Module(module) => Some(module.resources_required()),
        };
        let pages = required.and_then(|required| required.max_initial_memory_size);
        pages.map_or(0, |pages| pages.saturating_mul(WASM_PAGE_BYTES))
    }

    /// Makes the images that memories start from, which the first request would wait for.
    pub(super) fn make_images(&self) -> wasmtime::Result<()> {
        match self {
            Self::Component(component) => component.initialize_copy_on_write_image(),
            Self::Module(module) => module.initialize_copy_on_write_image(),
        }
    }
}

/// Machine code as bytes. Only this node makes them: here, or before, under its own seal.
pub(super) struct Made {
    kind: Kind,
    bytes: Bytes,
}

impl Made {
    pub(super) fn compile(engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Self> {
        let mut builder = CodeBuilder::new(engine);
        let builder = builder.wasm_binary(wasm, None)?;
        let kind = Kind::of(wasm);
        let bytes = match kind {
            Kind::Component => builder.compile_component_serialized()?,
            Kind::Module => builder.compile_module_serialized()?,
        };
        Ok(Self { kind, bytes: bytes.into() })
    }

    /// What was sealed with this context, which names the kind; `None` where the seal is broken.
    pub(super) fn unseal(seal: &Seal, sealed: &[u8], context: &[u8], kind: Kind) -> Option<Self> {
        Some(Self { kind, bytes: seal.unseal(sealed, context)? })
    }

    pub(super) fn seal(&self, seal: &Seal, context: &[u8]) -> Vec<u8> {
        seal.seal(&self.bytes, context)
    }

    /// Loads it, mapped where the system can: then the memories of instances begin as copies of
    /// its pages, and what of it is never read takes no room.
    #[expect(unsafe_code, reason = "loading compiled code; the only unsafe blocks of this crate")]
    pub(super) fn load(&self, engine: &Engine) -> wasmtime::Result<Code> {
        #[cfg(target_os = "linux")]
        if let Ok(file) = sealed_file(&self.bytes) {
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
            // SAFETY: `deserialize_file` must be given what was compiled for the same kind, in a
            // file that does not change. The bytes are what `compile` gave, now or before: a seal
            // is an HMAC under a key that only this node has, over these very bytes, the kind, the
            // plugin's digest and the engine's settings. And nobody can write to the file.
            let loaded = unsafe {
                match self.kind {
                    Kind::Component => {
                        Component::deserialize_file(engine, &path).map(Code::Component)
                    }
                    Kind::Module => Module::deserialize_file(engine, &path).map(Code::Module),
                }
            };
            // Some systems run nothing from such files.
            if loaded.is_ok() {
                return loaded;
            }
        }
        // SAFETY: as above, but for the file.
        unsafe {
            match self.kind {
                Kind::Component => Component::deserialize(engine, &self.bytes).map(Code::Component),
                Kind::Module => Module::deserialize(engine, &self.bytes).map(Code::Module),
            }
        }
    }
}

/// A file in memory, without a name, which nobody can change any more.
#[cfg(target_os = "linux")]
fn sealed_file(bytes: &[u8]) -> std::io::Result<std::fs::File> {
    use std::io::Write as _;

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    let fd = memfd_create("gw-code", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    #[test]
    fn a_sealed_file_cannot_be_written_to() {
        let mut file = sealed_file(b"code").unwrap();
        file.rewind().unwrap();
        assert!(file.write_all(b"evil").is_err());
        assert!(file.set_len(0).is_err());
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        assert_eq!(std::fs::read(path).unwrap(), b"code");
    }
}
