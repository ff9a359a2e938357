//! From bytes to a plan.

use bytes::Bytes;
use gw_shaders::FAMILIES;
use gw_shaders::kernel::{Access, Dispatch, Kernel, Needs};
use gw_shaders::work::Cost;
use gw_tensor::Tensor;

use super::{
    Blob, BufferRecord, KernelRecord, KindRecord, PlanRecord, PortRecord, SourceRecord, Span,
    StageRecord, StepRecord,
};
use crate::lower::Constants;
use crate::plan::store::Stored;
use crate::plan::{Buffer, BufferId, BufferKind, Plan, Port, PortSource, Step};

/// What [`super::encode`] was given. `ahead` is told of the kernels first, `read` gives the bytes
/// of files of weights, and `used` is told of every one that the plan names, also where its bytes
/// are known already.
pub(in crate::plan::store) fn decode(
    body: &[u8],
    constants: &Constants,
    ahead: &dyn Fn(&[Kernel]),
    read: impl FnOnce(&[Blob]) -> Option<Vec<Bytes>>,
    used: impl FnMut(&Blob),
) -> Option<Stored> {
    let (record, rest): (StageRecord<'_>, _) = postcard::take_from_bytes(body).ok()?;
    if !rest.is_empty() {
        return None;
    }
    if let StageRecord::Whole(record) | StageRecord::Value(record) = &record {
        record.blobs.iter().for_each(used);
    }
    Some(match record {
        StageRecord::Whole(record) => Stored::Whole(plan(record, constants, ahead, read)?),
        StageRecord::Value(record) => Stored::Value(plan(record, constants, ahead, read)?),
        StageRecord::Input(index) => Stored::Input(usize::try_from(index).ok()?),
    })
}

fn plan(
    record: PlanRecord<'_>,
    constants: &Constants,
    ahead: &dyn Fn(&[Kernel]),
    read: impl FnOnce(&[Blob]) -> Option<Vec<Bytes>>,
) -> Option<Plan> {
    let PlanRecord { blobs, kernels, buffers, inputs, outputs, steps, elsewhere } = record;
    let kernels = kernels.into_iter().map(kernel).collect::<Option<Vec<_>>>()?;
    ahead(&kernels);
    let weights = Opened::new(&blobs, &buffers, [&inputs, &outputs], constants, read)?;
    let step = |record: StepRecord<'_>| {
        let StepRecord { label, nodes, choice, flops, bytes, .. } = record;
        let StepRecord { kernel, params, workgroups, bindings, .. } = record;
        let kernel = kernels.get(kernel as usize)?.clone();
        let dispatch = Dispatch { kernel, params, workgroups };
        let bindings = bindings.into_iter().map(BufferId).collect();
        let (label, cost) = (label.to_owned(), Cost { flops, bytes });
        Some(Step { label, nodes, choice, work: None, cost, dispatch, bindings })
    };
    let buffer = |BufferRecord { name, bytes, kind }: BufferRecord<'_>| {
        let kind = match kind {
            KindRecord::Input => BufferKind::Input,
            KindRecord::Weight { key, shared, span } => {
                let data = match known(constants, key, shared, &span) {
                    Some(data) => data,
                    None => weights.get(span)?,
                };
                if shared {
                    constants.keep(key, data.clone());
                }
                BufferKind::Weight { key: key.to_owned(), data, shared }
            }
            KindRecord::Temporary => BufferKind::Temporary,
            KindRecord::Output => BufferKind::Output,
        };
        Some(Buffer { name: name.to_owned(), kind, bytes })
    };
    let buffers = buffers.into_iter().map(buffer).collect::<Option<_>>()?;
    let port = |record: PortRecord<'_>| port(record, &weights);
    Some(Plan {
        buffers,
        inputs: inputs.into_iter().map(port).collect::<Option<_>>()?,
        outputs: outputs.into_iter().map(port).collect::<Option<_>>()?,
        steps: steps.into_iter().map(step).collect::<Option<_>>()?,
        elsewhere,
    })
}

fn kernel(record: KernelRecord<'_>) -> Option<Kernel> {
    let KernelRecord { family, variant, source, bindings, .. } = record;
    let KernelRecord { subgroup, f16, int64, workgroup_invocations, workgroup_bytes, .. } = record;
    let access = |written| if written { Access::ReadWrite } else { Access::Read };
    Some(Kernel {
        name: FAMILIES.into_iter().find(|name| *name == family)?,
        variant: variant.to_owned(),
        source: source.to_owned(),
        bindings: bindings.into_iter().map(access).collect(),
        needs: Needs { subgroup, f16, int64, workgroup_invocations, workgroup_bytes },
    })
}

fn port(record: PortRecord<'_>, weights: &Opened) -> Option<Port> {
    let PortRecord { name, dtype, scalar, shape, source } = record;
    let source = match source {
        SourceRecord::Buffer(id) => PortSource::Buffer(BufferId(id)),
        SourceRecord::Part(id, start) => PortSource::Part(BufferId(id), start),
        SourceRecord::Constant { dtype, shape, span } => {
            PortSource::Constant(Tensor::new(dtype, shape, weights.get(span)?).ok()?)
        }
        SourceRecord::Unused => PortSource::Unused,
    };
    Some(Port { name: name.to_owned(), dtype, scalar, shape: shape.into(), source })
}

/// The bytes of a weight, where another plan of the model has them.
fn known(constants: &Constants, key: &str, shared: bool, span: &Span) -> Option<Bytes> {
    let known = constants.known(key).filter(|_| shared);
    known.filter(|data| data.len() as u64 == span.bytes)
}

/// The files of weights that a plan needs.
struct Opened(Vec<Option<Bytes>>);

impl Opened {
    /// Reads those whose bytes are not known.
    fn new(
        blobs: &[Blob],
        buffers: &[BufferRecord<'_>],
        ports: [&[PortRecord<'_>]; 2],
        constants: &Constants,
        read: impl FnOnce(&[Blob]) -> Option<Vec<Bytes>>,
    ) -> Option<Self> {
        let mut data = vec![None; blobs.len()];
        let weights = buffers.iter().filter_map(|buffer| match &buffer.kind {
            KindRecord::Weight { key, shared, span }
                if known(constants, key, *shared, span).is_none() =>
            {
                Some(span)
            }
            _ => None,
        });
        let values = ports.into_iter().flatten().filter_map(|port| match &port.source {
            SourceRecord::Constant { span, .. } => Some(span),
            _ => None,
        });
        let mut needed: Vec<usize> = weights.chain(values).map(|span| span.blob as usize).collect();
        needed.sort_unstable();
        needed.dedup();
        let files =
            needed.iter().map(|&blob| blobs.get(blob).copied()).collect::<Option<Vec<_>>>()?;
        for (blob, bytes) in needed.into_iter().zip(read(&files)?) {
            data[blob] = Some(bytes);
        }
        Some(Self(data))
    }

    fn get(&self, Span { blob, offset, bytes }: Span) -> Option<Bytes> {
        let data = self.0.get(blob as usize)?.as_ref()?;
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(bytes).ok()?)?;
        (end <= data.len()).then(|| data.slice(start..end))
    }
}
