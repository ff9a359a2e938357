//! A plan as bytes: postcard of the structs below, kernels once each, weights by where they lie.
//!
//! What is decoded is input: an index or a range that is not there makes it `None`.

mod decode;

use std::collections::HashMap;

use bytes::Bytes;
use gw_shaders::FAMILIES;
use gw_shaders::kernel::{Access, Dispatch, Kernel, Needs, Scalar};
use gw_shaders::work::Cost;
use gw_tensor::DType;
use serde::{Deserialize, Serialize};

pub(super) use decode::decode;

use super::Stored;
use crate::graph::Digest;
use crate::lower::Constants;
use crate::plan::why::{Choice, Elsewhere, NodeName};
use crate::plan::{Buffer, BufferKind, Plan, Port, PortSource, Step};

/// Weights of fewer bytes lie together in one file per plan.
const PACKED_BYTES: usize = 64 << 10;

/// What a file of weights is called, and its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    pub(super) checksum: u64,
}

impl Blob {
    fn of(digest: Digest, data: &[u8]) -> Self {
        Self { digest, bytes: data.len() as u64, checksum: checksum(data) }
    }

    /// The file's name.
    pub(super) fn name(&self) -> String {
        format!("{}.weights", self.digest)
    }
}

/// A sum over all bytes, in which a change of one word always shows. It finds what was damaged by
/// accident some ten times faster than the digest, which is as much as the digest can do: who
/// writes the folder writes the digests, too.
pub(super) fn checksum(data: &[u8]) -> u64 {
    // Odd, so that nothing is lost in a product.
    const FACTOR: u64 = 0x9E37_79B1_85EB_CA87;
    let turn = |lane: u64, word: u64| (lane ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let mut lanes = [1u64, 2, 3, 4];
    let (blocks, rest) = data.as_chunks::<32>();
    for block in blocks {
        let words = block.as_chunks::<8>().0;
        for lane in 0..4 {
            lanes[lane] = turn(lanes[lane], u64::from_le_bytes(words[lane]));
        }
    }
    let rest = rest.iter().fold(data.len() as u64, |sum, &byte| turn(sum, byte.into()));
    lanes.into_iter().fold(rest, turn)
}

/// A stage of planning as bytes.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) body: Vec<u8>,
    pub(super) blobs: Vec<(Blob, Bytes)>,
}

#[derive(Serialize, Deserialize)]
enum StageRecord<'a> {
    #[serde(borrow)]
    Whole(PlanRecord<'a>),
    #[serde(borrow)]
    Value(PlanRecord<'a>),
    Input(u64),
}

#[derive(Serialize, Deserialize)]
struct PlanRecord<'a> {
    blobs: Vec<Blob>,
    #[serde(borrow)]
    kernels: Vec<KernelRecord<'a>>,
    #[serde(borrow)]
    buffers: Vec<BufferRecord<'a>>,
    #[serde(borrow)]
    inputs: Vec<PortRecord<'a>>,
    #[serde(borrow)]
    outputs: Vec<PortRecord<'a>>,
    #[serde(borrow)]
    steps: Vec<StepRecord<'a>>,
    elsewhere: Vec<Elsewhere>,
}

#[derive(Serialize, Deserialize)]
struct KernelRecord<'a> {
    family: &'a str,
    variant: &'a str,
    source: &'a str,
    /// Whether each binding is written.
    bindings: Vec<bool>,
    subgroup: Option<(u32, u32)>,
    f16: bool,
    int64: bool,
    workgroup_invocations: u32,
    workgroup_bytes: u32,
}

#[derive(Serialize, Deserialize)]
struct BufferRecord<'a> {
    name: &'a str,
    bytes: u64,
    #[serde(borrow)]
    kind: KindRecord<'a>,
}

#[derive(Serialize, Deserialize)]
enum KindRecord<'a> {
    Input,
    Weight { key: &'a str, shared: bool, span: Span },
    Temporary,
    Output,
}

/// A part of a file of weights.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Span {
    blob: u32,
    offset: u64,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct PortRecord<'a> {
    name: &'a str,
    #[serde(with = "ElementRecord")]
    dtype: DType,
    #[serde(with = "ScalarRecord")]
    scalar: Scalar,
    shape: Vec<usize>,
    source: SourceRecord,
}

#[derive(Serialize, Deserialize)]
enum SourceRecord {
    Buffer(u32),
    Part(u32, u64),
    Constant {
        #[serde(with = "ElementRecord")]
        dtype: DType,
        shape: Vec<usize>,
        span: Span,
    },
    Unused,
}

#[derive(Serialize, Deserialize)]
struct StepRecord<'a> {
    label: &'a str,
    flops: u64,
    bytes: u64,
    kernel: u32,
    params: Vec<u32>,
    workgroups: [u32; 3],
    bindings: Vec<u32>,
    nodes: Vec<NodeName>,
    choice: Choice,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Scalar")]
enum ScalarRecord {
    F32,
    I32,
    U32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "DType")]
enum ElementRecord {
    F32,
    F16,
    Bf16,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Bool,
    F8E4m3,
    F8E4m3Fnuz,
    F8E5m2,
    F8E5m2Fnuz,
    F8E8m0,
    F4E2m1,
    I4,
    U4,
    I2,
    U2,
}

/// `None` for a plan with kernels of no known family, which only tests make.
pub(super) fn encode(stored: &Stored, constants: &Constants) -> Option<Encoded> {
    let mut shelf = Shelf::new();
    let record = match stored {
        Stored::Whole(plan) => StageRecord::Whole(plan_record(plan, &mut shelf, constants)?),
        Stored::Value(plan) => StageRecord::Value(plan_record(plan, &mut shelf, constants)?),
        Stored::Input(index) => StageRecord::Input(*index as u64),
    };
    let body = postcard::to_stdvec(&record).ok()?;
    Some(Encoded { body, blobs: shelf.blobs })
}

fn plan_record<'a>(
    plan: &'a Plan,
    shelf: &mut Shelf,
    constants: &Constants,
) -> Option<PlanRecord<'a>> {
    let Plan { buffers, inputs, outputs, steps, elsewhere } = plan;
    let mut table = HashMap::new();
    let mut kernels = Vec::new();
    let steps = steps.iter().map(|step| {
        let Step { label, nodes, choice, work: _, cost, dispatch, bindings } = step;
        let Cost { flops, bytes } = cost;
        let Dispatch { kernel, params, workgroups } = dispatch;
        let index = *table.entry(kernel).or_insert_with(|| {
            kernels.push(kernel_record(kernel));
            kernels.len() - 1
        });
        StepRecord {
            label,
            flops: *flops,
            bytes: *bytes,
            kernel: counted(index),
            params: params.clone(),
            workgroups: *workgroups,
            bindings: bindings.iter().map(|id| id.0).collect(),
            nodes: nodes.clone(),
            choice: choice.clone(),
        }
    });
    let steps = steps.collect();
    if kernels.iter().any(|kernel: &KernelRecord<'_>| !FAMILIES.contains(&kernel.family)) {
        return None;
    }
    let buffers = buffers.iter().map(|buffer| {
        let Buffer { name, kind, bytes } = buffer;
        let kind = match kind {
            BufferKind::Input => KindRecord::Input,
            BufferKind::Weight { key, data, shared } => {
                let digest = || match shared {
                    true => constants.digest(key, data),
                    false => Digest::of(data),
                };
                KindRecord::Weight { key, shared: *shared, span: shelf.put(data, *shared, digest) }
            }
            BufferKind::Temporary => KindRecord::Temporary,
            BufferKind::Output => KindRecord::Output,
        };
        BufferRecord { name, bytes: *bytes, kind }
    });
    let buffers = buffers.collect();
    let mut ports = |ports: &'a [Port]| ports.iter().map(|port| port_record(port, shelf)).collect();
    let (inputs, outputs) = (ports(inputs), ports(outputs));
    shelf.close();
    let blobs = shelf.blobs.iter().map(|(blob, _)| *blob).collect();
    let elsewhere = elsewhere.clone();
    Some(PlanRecord { blobs, kernels, buffers, inputs, outputs, steps, elsewhere })
}

fn kernel_record(kernel: &Kernel) -> KernelRecord<'_> {
    let Kernel { name, variant, source, bindings, needs } = kernel;
    let Needs { subgroup, f16, int64, workgroup_invocations, workgroup_bytes } = *needs;
    let bindings = bindings.iter().map(|access| *access == Access::ReadWrite).collect();
    KernelRecord {
        family: name,
        variant,
        source,
        bindings,
        subgroup,
        f16,
        int64,
        workgroup_invocations,
        workgroup_bytes,
    }
}

fn port_record<'a>(port: &'a Port, shelf: &mut Shelf) -> PortRecord<'a> {
    let Port { name, dtype, scalar, shape, source } = port;
    let source = match source {
        PortSource::Buffer(id) => SourceRecord::Buffer(id.0),
        PortSource::Part(id, start) => SourceRecord::Part(id.0, *start),
        PortSource::Constant(tensor) => SourceRecord::Constant {
            dtype: tensor.dtype(),
            shape: tensor.shape().to_vec(),
            span: shelf.put(tensor.bytes(), false, || Digest::of(tensor.bytes())),
        },
        PortSource::Unused => SourceRecord::Unused,
    };
    PortRecord { name, dtype: *dtype, scalar: *scalar, shape: shape.to_vec(), source }
}

/// The weights of a plan, spread over files. The first two are packs of small ones: those that
/// all plans of the model have in common, and those of this plan.
struct Shelf {
    blobs: Vec<(Blob, Bytes)>,
    packs: [Vec<u8>; 2],
}

impl Shelf {
    fn new() -> Self {
        Self { blobs: vec![Default::default(); 2], packs: Default::default() }
    }

    fn put(&mut self, data: &Bytes, shared: bool, digest: impl FnOnce() -> Digest) -> Span {
        let bytes = data.len() as u64;
        if data.len() < PACKED_BYTES {
            let blob = u32::from(!shared);
            let pack = &mut self.packs[blob as usize];
            let offset = pack.len() as u64;
            pack.extend_from_slice(data);
            return Span { blob, offset, bytes };
        }
        let blob = Blob::of(digest(), data);
        let known = self.blobs.iter().position(|(known, _)| *known == blob);
        let index = known.unwrap_or_else(|| {
            self.blobs.push((blob, data.clone()));
            self.blobs.len() - 1
        });
        Span { blob: counted(index), offset: 0, bytes }
    }

    fn close(&mut self) {
        for (blob, pack) in self.blobs.iter_mut().zip(&mut self.packs) {
            let pack = Bytes::from(std::mem::take(pack));
            *blob = (Blob::of(Digest::of(&pack), &pack), pack);
        }
    }
}

/// A place in a list of a plan, which is bounded.
fn counted(index: usize) -> u32 {
    u32::try_from(index).expect("plans are bounded")
}
