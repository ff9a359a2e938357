//! Models from bytes: off unless a plugin is granted it, and checked before anything is parsed.

use std::time::Instant;

use bytes::Bytes;
use gw_inference::{DeviceChoice, InferenceError};
use tokio::time::timeout_at;
use wasmtime::component::{ComponentType, Lift};

use super::error::{ErrorCode, NnError};
use super::loaded::{Loading, Room};
use super::{Graph, Nn};
use crate::LoadGrant;

/// The encodings of wasi-nn; all snapshots have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "lifted from guests, by their number")]
pub(crate) enum Encoding {
    #[component(name = "openvino")]
    Openvino,
    #[component(name = "onnx")]
    Onnx,
    #[component(name = "tensorflow")]
    Tensorflow,
    #[component(name = "pytorch")]
    Pytorch,
    #[component(name = "tensorflowlite")]
    Tensorflowlite,
    #[component(name = "ggml")]
    Ggml,
    #[component(name = "autodetect")]
    Autodetect,
}

/// The targets of wasi-nn; all snapshots have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "lifted from guests, by their number")]
pub(crate) enum Target {
    #[component(name = "cpu")]
    Cpu,
    #[component(name = "gpu")]
    Gpu,
    #[component(name = "tpu")]
    Tpu,
}

/// How other formats begin: where, with what, and what to call them.
const OTHERS: [(usize, &[u8], &str); 6] = [
    (0, b"GGUF", "GGUF"),
    (4, b"TFL3", "TensorFlow Lite"),
    (0, b"PK\x03\x04", "a zip archive, as PyTorch's are,"),
    (0, b"<?xml", "XML, as OpenVINO's are,"),
    (0, b"<net", "XML, as OpenVINO's are,"),
    (0, b"\x89HDF", "HDF5, as Keras' are,"),
];

impl Nn {
    /// Whether parts of these sizes, which are not read yet, may be loaded. Without a target they
    /// run wherever it suits.
    ///
    /// # Errors
    /// Without a grant, and for what is no one model of ONNX within its size.
    pub(crate) fn may_load(
        &self,
        parts: &[usize],
        encoding: Encoding,
        target: Option<Target>,
    ) -> Result<Load, NnError> {
        let Some(loading) = &self.grants.load else {
            return Err(NnError::new(
                ErrorCode::Security,
                "this plugin may not load models from bytes: grant it `load` in gw.toml, or load a \
                 model by name",
            ));
        };
        if !matches!(encoding, Encoding::Onnx | Encoding::Autodetect) {
            let reason = format!("{encoding:?} is not loaded here: use onnx or autodetect");
            return Err(NnError::new(ErrorCode::InvalidEncoding, reason));
        }
        let &[bytes] = parts else {
            let count = parts.len();
            let reason = format!("an ONNX model is one part with all of its bytes, not {count}");
            return Err(NnError::new(ErrorCode::InvalidArgument, reason));
        };
        let LoadGrant { bytes_max, device, .. } = &loading.grant;
        if bytes as u64 > *bytes_max {
            let reason =
                format!("a model of {bytes} bytes; `load` grants this plugin {bytes_max} of them");
            return Err(NnError::new(ErrorCode::TooLarge, reason));
        }
        let device = choose(device, target)?;
        Ok(Load { loading: loading.clone(), bytes, device, deadline: self.deadline })
    }
}

/// A load that is allowed.
pub(crate) struct Load {
    loading: Loading,
    bytes: usize,
    device: DeviceChoice,
    deadline: Instant,
}

/// A load whose bytes may be copied.
pub(crate) struct Entered {
    load: Load,
    room: Room,
}

impl Load {
    /// Waits until there is room for the bytes beside those that others are loading.
    ///
    /// # Errors
    /// Where the deadline passes first.
    pub(crate) async fn enter(self) -> Result<Entered, NnError> {
        let room = self.loading.loaded.enter(self.bytes);
        let room = timeout_at(self.deadline.into(), room).await.map_err(|_| late())?;
        Ok(Entered { load: self, room })
    }
}

impl Entered {
    /// Loads the model, off the threads that serve requests, or takes it from those that are
    /// loaded already.
    ///
    /// # Errors
    /// Where the bytes are no model that can run here, where there is no room for it, and where
    /// the deadline passes first; what has begun is then finished for whoever asks next.
    pub(crate) async fn load(self, bytes: Bytes) -> Result<Graph, NnError> {
        let Self { load: Load { loading, device, deadline, .. }, room } = self;
        if let Some(other) = other_format(&bytes) {
            let reason = format!("these bytes are {other} and no ONNX model");
            return Err(NnError::new(ErrorCode::InvalidEncoding, reason));
        }
        let Loading { grant, loaded } = loading;
        let found = loaded.find_or_load(grant.models, bytes, device, room);
        timeout_at(deadline.into(), found).await.map_err(|_| late())?.map(Graph)
    }
}

/// The operator's word for all models wins over the guest's target.
fn choose(device: &DeviceChoice, target: Option<Target>) -> Result<DeviceChoice, NnError> {
    match (device, target) {
        (_, Some(Target::Tpu)) => {
            let reason = "there is no tpu backend: use the target cpu or gpu";
            Err(NnError::new(ErrorCode::UnsupportedOperation, reason))
        }
        (DeviceChoice::Auto, Some(Target::Cpu)) => Ok(DeviceChoice::Cpu),
        (DeviceChoice::Auto, Some(Target::Gpu)) => Ok(DeviceChoice::Gpu),
        (chosen, _) => Ok(chosen.clone()),
    }
}

/// What the bytes are where they are certainly no ONNX.
fn other_format(bytes: &[u8]) -> Option<&'static str> {
    let begins = |&&(at, magic, _): &&(usize, &[u8], _)| {
        bytes.get(at..at + magic.len()).is_some_and(|found| found == magic)
    };
    OTHERS.iter().find(begins).map(|(_, _, name)| *name)
}

fn late() -> NnError {
    NnError::new(ErrorCode::Timeout, "the deadline passed before the model was loaded")
}

/// The codes of a model that is being loaded: there the file is the guest's.
pub(super) fn load_error(error: InferenceError) -> NnError {
    match error {
        InferenceError::Load { reason, .. } => {
            let reason = format!("the bytes are no ONNX model that can be loaded: {reason}");
            NnError::new(ErrorCode::InvalidEncoding, reason)
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_device_wins_over_the_target() {
        let named = DeviceChoice::Named("llvmpipe".to_owned());
        let cases = [
            (DeviceChoice::Auto, Some(Target::Cpu), Some(DeviceChoice::Cpu)),
            (DeviceChoice::Auto, Some(Target::Gpu), Some(DeviceChoice::Gpu)),
            (DeviceChoice::Auto, None, Some(DeviceChoice::Auto)),
            (DeviceChoice::Cpu, Some(Target::Gpu), Some(DeviceChoice::Cpu)),
            (named.clone(), Some(Target::Cpu), Some(named)),
            (DeviceChoice::Auto, Some(Target::Tpu), None),
        ];
        for (device, target, chosen) in cases {
            assert_eq!(choose(&device, target).ok(), chosen, "{device} {target:?}");
        }
    }

    #[test]
    fn other_formats_are_told_by_how_they_begin() {
        assert_eq!(other_format(b"GGUF\x03"), Some("GGUF"));
        assert_eq!(other_format(b"\x1c\0\0\0TFL3"), Some("TensorFlow Lite"));
        for unknown in [&b""[..], b"GGU", b"TFL3", b"\x08\x08\x12\x07pytorch"] {
            assert_eq!(other_format(unknown), None, "{unknown:?}");
        }
    }
}
