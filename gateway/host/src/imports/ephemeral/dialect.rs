//! What differs between the dialects, as tables: numbers, layouts, units.
//!
//! Sources: the WITX of wasi-nn (whose text the crate `wasi-nn` 0.6 was made from), the headers of
//! WasmEdge 0.17 and of WAMR 2.4. The error numbers are the same in all three.

use gw_artifact::manifest::NnDialect;

use super::memory::Memory;
use crate::imports::nn::error::{ErrorCode, NnError};
use crate::imports::nn::load::{Encoding, Target};
use crate::imports::nn::tensor::{RANK_MAX, TensorType, dtype};

pub(super) const NN_ERRNO_SUCCESS: u32 = 0;

/// An error number. WasmEdge has three more, which say what happens to generated text: 101 (its
/// context is full), 102 (the prompt is too long) and 103 (a file is missing).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Errno {
    InvalidArgument = 1,
    InvalidEncoding = 2,
    MissingMemory = 3,
    Busy = 4,
    RuntimeError = 5,
    UnsupportedOperation = 6,
    TooLarge = 7,
    NotFound = 8,
    EndOfSequence = 100,
}

/// Why a call failed: a number for the guest, words for people.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) errno: Errno,
    pub(super) reason: String,
}

impl Fault {
    pub(super) fn new(errno: Errno, reason: impl Into<String>) -> Self {
        Self { errno, reason: reason.into() }
    }

    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        Self::new(Errno::InvalidArgument, reason)
    }

    pub(super) fn too_large(reason: impl Into<String>) -> Self {
        Self::new(Errno::TooLarge, reason)
    }

    pub(super) fn missing_memory() -> Self {
        Self::new(Errno::MissingMemory, "the module exports no memory called \"memory\"")
    }

    pub(super) fn end_of_sequence() -> Self {
        Self::new(Errno::EndOfSequence, "the sequence is at its end: set an input to begin another")
    }
}

/// The codes of the WIT that this ABI lacks become what a guest would do about them.
impl From<NnError> for Fault {
    fn from(error: NnError) -> Self {
        let errno = match error.code {
            ErrorCode::InvalidArgument => Errno::InvalidArgument,
            ErrorCode::InvalidEncoding => Errno::InvalidEncoding,
            ErrorCode::Timeout => Errno::Busy,
            ErrorCode::RuntimeError | ErrorCode::Unknown => Errno::RuntimeError,
            ErrorCode::UnsupportedOperation | ErrorCode::Security => Errno::UnsupportedOperation,
            ErrorCode::TooLarge => Errno::TooLarge,
            ErrorCode::NotFound => Errno::NotFound,
        };
        Self::new(errno, error.data)
    }
}

/// How structures lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// A structure holds its lists, each as a pointer and a length; a function takes them so too.
    Flat,
    /// A structure points at its lists; the bytes of a tensor have no length of their own.
    Pointers,
}

/// One dialect.
pub(crate) struct Table {
    /// The name of the module that guests import.
    pub(crate) module: &'static str,
    /// Names of encodings; an index is the number that guests pass.
    encodings: &'static [&'static str],
    /// Where a model may be asked to run; nothing is wherever it suits.
    targets: &'static [Option<Target>],
    types: &'static [TensorType],
    pub(super) layout: Layout,
    /// What `get_output` counts in, in bytes.
    pub(super) size_unit: u32,
    /// Whether WasmEdge's functions are there.
    pub(super) one_by_one: bool,
}

/// What the crate `wasi-nn` calls auto is not in the WITX, but it is what that crate passes.
const TARGETS: [Option<Target>; 4] =
    [Some(Target::Cpu), Some(Target::Gpu), Some(Target::Tpu), None];

const STANDARD: Table = Table {
    module: "wasi_ephemeral_nn",
    encodings: &["openvino", "onnx", "tensorflow", "pytorch", "tensorflowlite", AUTODETECT],
    targets: &TARGETS,
    types: &[
        TensorType::Fp16,
        TensorType::Fp32,
        TensorType::Fp64,
        TensorType::U8,
        TensorType::I32,
        TensorType::I64,
    ],
    layout: Layout::Flat,
    size_unit: 1,
    one_by_one: false,
};

const WASMEDGE: Table = Table {
    encodings: &[
        "openvino",
        "onnx",
        "tensorflow",
        "pytorch",
        "tensorflowlite",
        AUTODETECT,
        "ggml",
        "neuralspeed",
        "burn",
        "whisper",
        "mlx",
        "piper",
        "chattts",
        "openvino-genai",
        "bitnet",
    ],
    one_by_one: true,
    ..STANDARD
};

const WAMR: Table = Table {
    module: "wasi_nn",
    encodings: &["openvino", "onnx", "tensorflow", "pytorch", "tensorflowlite", "ggml", AUTODETECT],
    targets: &[Some(Target::Cpu), Some(Target::Gpu), Some(Target::Tpu)],
    types: &[TensorType::Fp16, TensorType::Fp32, TensorType::U8, TensorType::I32],
    layout: Layout::Pointers,
    // It counts elements of f32, whatever the tensor holds.
    size_unit: 4,
    one_by_one: false,
};

const AUTODETECT: &str = "autodetect";

/// A tensor as the guest describes it: its bytes are there, and as many as its shape has.
pub(super) struct Described {
    pub(super) ty: TensorType,
    pub(super) dims: Vec<u32>,
    /// Where its bytes lie.
    pub(super) data: (u32, usize),
}

impl Table {
    pub(crate) fn of(dialect: NnDialect) -> &'static Self {
        match dialect {
            NnDialect::Standard => &STANDARD,
            NnDialect::WasmEdge => &WASMEDGE,
            NnDialect::Wamr => &WAMR,
        }
    }

    /// The encoding that a number means, where this host reads it.
    pub(super) fn encoding(&self, number: u32) -> Result<Encoding, Fault> {
        let reason = match self.encodings.get(number as usize) {
            Some(&"onnx") => return Ok(Encoding::Onnx),
            Some(&AUTODETECT) => return Ok(Encoding::Autodetect),
            Some(name) => format!("{name} is not loaded here: use onnx or autodetect"),
            None => format!("{number} is no encoding of this dialect"),
        };
        Err(Fault::new(Errno::InvalidEncoding, reason))
    }

    pub(super) fn target(&self, number: u32) -> Result<Option<Target>, Fault> {
        let target = self.targets.get(number as usize).copied();
        target.ok_or_else(|| Fault::invalid(format!("{number} is no target of this dialect")))
    }

    /// Reads the structure of a tensor, and checks it.
    pub(super) fn tensor(&self, memory: &Memory<'_>, at: u32) -> Result<Described, Fault> {
        let (dims, ty, data) = match self.layout {
            // dimensions: pointer, length; type: a byte in a word; data: pointer, length
            Layout::Flat => {
                memory.check(at, 20)?;
                (memory.pair(at)?, at + 8, (at + 12, Some(memory.u32(at + 16)?)))
            }
            // dimensions: pointer to a pair; type: a byte in a word; data: pointer
            Layout::Pointers => {
                memory.check(at, 12)?;
                (memory.pair(memory.u32(at)?)?, at + 4, (at + 8, None))
            }
        };
        let ty = self.ty(memory.slice(ty, 1)?[0])?;
        let (dims, dtype) = (dimensions(memory, dims)?, dtype(ty));
        let mut sizes = dims.iter().map(|&size| size as usize);
        let bytes = sizes.try_fold(dtype.size(), usize::checked_mul);
        let bytes = bytes.ok_or_else(|| Fault::invalid("the shape is too large"))?;
        let (pointer, given) = (memory.u32(data.0)?, data.1);
        if given.is_some_and(|given| given as usize != bytes) {
            let given = given.unwrap_or_default();
            return Err(Fault::invalid(format!(
                "a {dtype} tensor of shape {dims:?} has {bytes} bytes, not {given}"
            )));
        }
        memory.check(pointer, bytes)?;
        Ok(Described { ty, dims, data: (pointer, bytes) })
    }

    fn ty(&self, number: u8) -> Result<TensorType, Fault> {
        let ty = self.types.get(usize::from(number)).copied();
        ty.ok_or_else(|| Fault::invalid(format!("{number} is no tensor type of this dialect")))
    }
}

fn dimensions(memory: &Memory<'_>, (pointer, rank): (u32, u32)) -> Result<Vec<u32>, Fault> {
    let rank = rank as usize;
    if rank > RANK_MAX {
        let reason = format!("{rank} dimensions are more than the {RANK_MAX} allowed");
        return Err(Fault::invalid(reason));
    }
    memory.u32s(pointer, rank)
}
