//! What a kernel is to the rest of gw: WGSL text, what it binds, what it needs of an adapter.

/// How a kernel uses one storage buffer. Everything lies in bind group 0, in list order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    ReadWrite,
}

/// The element type of a device buffer. Every element takes four bytes; packed weights are `U32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// `f32`.
    F32,
    /// `i32`; 64-bit integers are narrowed to it before they reach a device.
    I32,
    /// `u32`; booleans are 0 or 1.
    U32,
}

impl Scalar {
    /// The WGSL type.
    pub const fn wgsl(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::I32 => "i32",
            Self::U32 => "u32",
        }
    }
}

/// What an adapter must offer for a kernel to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Needs {
    /// The sizes of subgroups that the kernel was written for, the least and the most: the
    /// adapter's lie between them. Equal where it takes one size only.
    pub subgroup: Option<(u32, u32)>,
    /// `enable f16`.
    pub f16: bool,
    /// `u64`.
    pub int64: bool,
    /// Invocations in one workgroup.
    pub workgroup_invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
}

/// What an adapter offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each says whether one thing is there")]
pub struct Caps {
    /// Smallest and largest subgroup size, where subgroup operations exist.
    pub subgroup: Option<(u32, u32)>,
    /// 16-bit floats in shaders and storage.
    pub f16: bool,
    /// 64-bit integers in shaders and storage.
    pub int64: bool,
    /// Invocations in one workgroup, at most.
    pub workgroup_invocations: u32,
    /// Bytes of workgroup memory, at most.
    pub workgroup_bytes: u32,
    /// Workgroups along one dimension, at most.
    pub workgroups_per_dimension: u32,
    /// Storage buffers in one bind group, at most.
    pub storage_buffers: u32,
    /// Bytes of one storage buffer that a bind group holds, at most.
    pub binding_bytes: u64,
    /// The adapter is a CPU (llvmpipe, SwiftShader): workgroup memory costs more than it saves.
    pub software: bool,
    /// It is, and the CPU has AVX-512: tiles of other heights are the fastest there.
    pub avx512: bool,
}

impl Caps {
    /// What WebGPU guarantees everywhere.
    pub const fn minimal() -> Self {
        Self {
            subgroup: None,
            f16: false,
            int64: false,
            workgroup_invocations: 256,
            workgroup_bytes: 16 << 10,
            workgroups_per_dimension: 65_535,
            storage_buffers: 8,
            binding_bytes: 128 << 20,
            software: false,
            avx512: false,
        }
    }

    /// Whether a kernel with `needs` runs here.
    pub fn satisfy(&self, needs: &Needs) -> bool {
        let within = |(least, most): (u32, u32)| {
            self.subgroup.is_some_and(|(smallest, largest)| least <= smallest && largest <= most)
        };
        needs.subgroup.is_none_or(within)
            && (!needs.f16 || self.f16)
            && (!needs.int64 || self.int64)
            && needs.workgroup_invocations <= self.workgroup_invocations
            && needs.workgroup_bytes <= self.workgroup_bytes
    }
}

/// One composed shader. Shapes are never in its text, so that a bucket adds no pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// The family: the stem of its two files.
    pub name: &'static str,
    /// What this specialisation is, in a few words, for plan listings.
    pub variant: String,
    /// The whole WGSL; its entry point is `main`.
    pub source: String,
    /// The storage buffers of bind group 0, in binding order.
    pub bindings: Vec<Access>,
    /// What it needs of the adapter.
    pub needs: Needs,
}

impl Kernel {
    /// The element type of every binding, as the source declares it; vectors are of these.
    pub fn scalars(&self) -> Vec<Scalar> {
        let element = |line: &str| {
            let (_, element) = line.strip_prefix("@group(0) @binding(")?.split_once("array<")?;
            let all = [Scalar::F32, Scalar::I32, Scalar::U32];
            // Halves lie two to a word, as bytes lie four to one.
            let halves = element.contains("f16").then_some(Scalar::U32);
            all.into_iter().find(|scalar| element.contains(scalar.wgsl())).or(halves)
        };
        self.source.lines().filter_map(element).collect()
    }
}

/// A kernel with the numbers of one step: everything but the buffers.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch {
    /// The shader.
    pub kernel: Kernel,
    /// The words of `var<immediate> params`, at most [`PARAM_WORDS_MAX`].
    pub params: Vec<u32>,
    /// The grid.
    pub workgroups: [u32; 3],
}

/// Immediates hold 128 bytes on DX12 and on most Vulkan drivers.
pub const PARAM_WORDS_MAX: usize = 32;

/// Turns of all loops that an invocation may take on a software adapter: llvmpipe leaves every loop
/// of an invocation, without a word, once it has taken 65,535 turns in all
/// (`LP_MAX_TGSI_LOOP_ITERATIONS`). The rest is for loops that a family does not count.
pub(crate) const LOOP_TURNS_MAX: u64 = 60_000;

/// The turns of loops inside each other, outermost first, on an adapter that counts them. A loop
/// takes one or two more than it has rounds: on llvmpipe 22,000 rounds around a loop of one end
/// after 21,845, a third of 65,535, and 9,999 around one around two end after 9,350, a seventh.
pub(crate) fn check_turns(
    kernel: &'static str,
    loops: &[u32],
    caps: &Caps,
) -> Result<(), Unsupported> {
    let around = |inside: u64, &turns: &u32| {
        inside.saturating_add(1).saturating_mul(turns.into()).saturating_add(2)
    };
    let turns = loops.iter().rev().fold(0, around);
    if caps.software && turns > LOOP_TURNS_MAX {
        let reason = format!("{turns} steps for one element on a software adapter");
        return Err(Unsupported::new(kernel, reason));
    }
    Ok(())
}

/// Why a kernel family cannot do what a spec asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kernel {kernel}: {reason}")]
pub struct Unsupported {
    /// The family.
    pub kernel: &'static str,
    /// What is asked for, and the limit that it breaks.
    pub reason: String,
}

impl Unsupported {
    pub(crate) fn new(kernel: &'static str, reason: impl Into<String>) -> Self {
        Self { kernel, reason: reason.into() }
    }
}
