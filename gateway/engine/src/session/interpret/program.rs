//! A plan, ready to run on the CPU.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use gw_shaders::data::Data;
use gw_shaders::kernel::Scalar;
use gw_shaders::norm;
use gw_shaders::work::Work;
use gw_tensor::Tensor;
use wgpu::WriteOnly;

use super::super::convert;
use super::super::error::RunError;
use super::attention;
use super::convolution;
use super::pointwise;
use super::product::Product;
use crate::plan::{Buffer, BufferId, BufferKind, Plan, Port, PortSource};

/// A weight as one step reads it.
#[derive(Clone)]
pub(super) enum Weight {
    Plain(Arc<Data>),
    Product(Arc<Product>),
}

impl Weight {
    fn bytes(&self) -> u64 {
        match self {
            Self::Plain(data) => 4 * data.len() as u64,
            Self::Product(product) => product.weight_bytes(),
        }
    }
}

/// The weights of a model that all its programs share, by their keys and the form they are read in.
#[derive(Default)]
pub(super) struct Weights(Mutex<HashMap<String, Weight>>);

impl Weights {
    /// The weight under `key`, which `make` makes if it is not there.
    fn get(&self, key: String, make: impl FnOnce() -> Weight) -> Weight {
        let known = self.table().get(&key).cloned();
        known.unwrap_or_else(|| {
            let made = make();
            self.table().entry(key).or_insert(made).clone()
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.table().values().map(Weight::bytes).sum()
    }

    /// Every change is one insertion, so a poisoned table is still good.
    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<String, Weight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a step is computed.
enum Task {
    /// A product whose weights are ready: its inputs are the first operand, then those of the
    /// epilogue.
    Product(Arc<Product>),
    Work(Box<Work>),
}

struct Step {
    task: Task,
    /// How its rows of so many elements are normalised; the step reads the weights first.
    norm: Option<(norm::Form, u32)>,
    inputs: Vec<Source>,
    output: (BufferId, Scalar),
    /// Buffers that no later step reads.
    done: Vec<BufferId>,
}

/// What a step reads.
enum Source {
    Weight(Arc<Data>),
    Buffer(BufferId, Scalar),
}

/// A plan, ready to run.
pub(super) struct Program {
    steps: Vec<Step>,
    buffers: Vec<Buffer>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl Program {
    /// Makes the weights ready.
    pub(super) fn new(plan: Plan, weights: &Weights, memory_max: u64) -> Result<Self, RunError> {
        plan.verify()?;
        let bytes = live_bytes(&plan);
        if bytes > memory_max {
            return Err(RunError::MemoryLimit { bytes, max: memory_max });
        }
        let ends = ends(&plan);
        let Plan { mut buffers, inputs, outputs, steps, elsewhere: _ } = plan;
        let mut made = Vec::with_capacity(steps.len());
        for (index, step) in steps.into_iter().enumerate() {
            let scalars = step.dispatch.kernel.scalars();
            let (Some(work), Some((&output, read))) = (step.work, step.bindings.split_last())
            else {
                unreachable!("a plan that was just made says what its steps do");
            };
            if work.is_covered() {
                continue;
            }
            let (work, norm) = match work {
                Work::Normed(spec) => {
                    (Work::Gemm(spec.product.clone()), Some((spec.norm, spec.product.n)))
                }
                other => (other, None),
            };
            let (first, read) = read.split_at(norm.map_or(0, |(form, _)| form.operands()));
            let task = task(work, read, &buffers, weights);
            let rest = match &task {
                Task::Product(product) => product.reads(read),
                Task::Work(_) => read.to_vec(),
            };
            let read = [first, &rest].concat();
            let places = |id: &BufferId| step.bindings.iter().position(|other| other == id);
            let source = |id: &BufferId| {
                let scalar = scalars[places(id).unwrap_or_default()];
                source(*id, scalar, &buffers, weights)
            };
            let inputs = read.iter().map(source).collect();
            let output = (output, scalars[step.bindings.len() - 1]);
            let done = ends.iter().filter(|(_, end)| **end == index).map(|(id, _)| *id).collect();
            made.push(Step { task, norm, inputs, output, done });
        }
        // The bytes of weights live on in the form that the steps read.
        for buffer in &mut buffers {
            if let BufferKind::Weight { data, .. } = &mut buffer.kind {
                *data = bytes::Bytes::new();
            }
        }
        Ok(Self { steps: made, buffers, inputs, outputs })
    }

    /// Runs once, with one tensor per input, of the plan's types and shapes.
    pub(super) fn run(&self, inputs: &[&Tensor]) -> Result<Vec<(String, Tensor)>, RunError> {
        let mut held: Vec<Option<Data>> = vec![None; self.buffers.len()];
        for (port, tensor) in self.inputs.iter().zip(inputs) {
            if let PortSource::Buffer(id) = port.source {
                convert::check_range(&port.name, tensor)?;
                let mut bytes = vec![0; 4 * tensor.elements()];
                convert::encode(tensor, WriteOnly::from_mut(bytes.as_mut_slice()));
                held[id.0 as usize] = Some(Data::from_bytes(port.scalar, &bytes));
            }
        }
        for step in &self.steps {
            let (id, scalar) = step.output;
            let before = held[id.0 as usize].take().filter(|data| data.scalar() == scalar);
            let elements = usize::try_from(self.buffers[id.0 as usize].bytes / 4);
            let elements = elements.map_err(|_| RunError::MemoryLimit {
                bytes: self.buffers[id.0 as usize].bytes,
                max: usize::MAX as u64,
            })?;
            let mut out = before.unwrap_or_else(|| zeros(scalar, elements));
            step.compute(&held, &mut out);
            held[id.0 as usize] = Some(out);
            for id in &step.done {
                held[id.0 as usize] = None;
            }
        }
        self.outputs.iter().map(|port| read_back(port, &held)).collect()
    }
}

impl Step {
    fn compute(&self, held: &[Option<Data>], out: &mut Data) {
        let empty = Data::F32(Vec::new());
        let inputs: Vec<Cow<'_, Data>> = self
            .inputs
            .iter()
            .map(|source| match source {
                Source::Weight(data) => Cow::Borrowed(&**data),
                Source::Buffer(id, scalar) => {
                    let data = held[id.0 as usize].as_ref().unwrap_or(&empty);
                    if data.scalar() == *scalar {
                        Cow::Borrowed(data)
                    } else {
                        Cow::Owned(Data::from_bytes(*scalar, data.bytes()))
                    }
                }
            })
            .collect();
        let inputs: Vec<&Data> = inputs.iter().map(|data| &**data).collect();
        let (weights, inputs) = inputs.split_at(self.norm.map_or(0, |(form, _)| form.operands()));
        match &self.task {
            Task::Product(product) => product.run(inputs[0], None, &inputs[1..], out),
            Task::Work(work) => match &**work {
                Work::Gemm(spec) => {
                    Product::new(spec, None).run(inputs[0], Some(inputs[1]), &inputs[2..], out);
                }
                Work::Conv(spec) => convolution::run(spec, inputs, out),
                Work::ConvLast(spec) => convolution::last::run(spec, inputs, out),
                Work::Pointwise(spec) => pointwise::run(spec, inputs, out),
                Work::Attention(spec) => attention::run(spec, inputs, out),
                work => {
                    let result = work.reference(inputs);
                    debug_assert!(result.len() <= out.len() || out.len() == 1, "{work:?}");
                    *out = result;
                }
            },
        }
        if let Some((form, cols)) = self.norm {
            let rows = out.len() as u32 / cols.max(1);
            let spec = norm::Spec { form, rows, cols };
            *out = norm::reference(&spec, &[weights, &[&*out]].concat());
        }
    }
}

/// A product whose right-hand side is a weight has it ready; all else is computed from its spec.
fn task(work: Work, read: &[BufferId], buffers: &[Buffer], weights: &Weights) -> Task {
    let Work::Gemm(spec) = &work else { return Task::Work(Box::new(work)) };
    let right = Product::weights(read);
    let held = |id: &BufferId| match &buffers[id.0 as usize].kind {
        BufferKind::Weight { data, .. } => Some(data.clone()),
        _ => None,
    };
    let Some(held) = right[..Product::weight_buffers(spec)].iter().map(held).collect() else {
        return Task::Work(Box::new(work));
    };
    let held: Vec<bytes::Bytes> = held;
    // What else the spec says is the plan's, so a product is shared by weights and spec.
    let keys = right.iter().filter_map(|id| key(&buffers[id.0 as usize]));
    let key = keys.fold(format!("{spec:?}"), |key, next| format!("{key} {next}"));
    let make = || Weight::Product(Arc::new(Product::new(spec, Some(&held))));
    match weights.get(key, make) {
        Weight::Product(product) => Task::Product(product),
        Weight::Plain(_) => unreachable!("keys of products begin with their spec"),
    }
}

fn key(buffer: &Buffer) -> Option<&str> {
    match &buffer.kind {
        BufferKind::Weight { key, .. } => Some(key),
        _ => None,
    }
}

fn source(id: BufferId, scalar: Scalar, buffers: &[Buffer], weights: &Weights) -> Source {
    let BufferKind::Weight { key, data, shared } = &buffers[id.0 as usize].kind else {
        return Source::Buffer(id, scalar);
    };
    let plain = || Arc::new(Data::from_bytes(scalar, data));
    if !shared {
        return Source::Weight(plain());
    }
    match weights.get(format!("{key} {}", scalar.wgsl()), || Weight::Plain(plain())) {
        Weight::Plain(data) => Source::Weight(data),
        Weight::Product(_) => unreachable!("keys of products begin with their spec"),
    }
}

fn zeros(scalar: Scalar, elements: usize) -> Data {
    match scalar {
        Scalar::F32 => Data::F32(vec![0.0; elements]),
        Scalar::I32 => Data::I32(vec![0; elements]),
        Scalar::U32 => Data::U32(vec![0; elements]),
    }
}

fn read_back(port: &Port, held: &[Option<Data>]) -> Result<(String, Tensor), RunError> {
    let tensor = match &port.source {
        PortSource::Constant(tensor) => tensor.clone(),
        PortSource::Buffer(id) | PortSource::Part(id, _) => {
            let bytes = held[id.0 as usize].as_ref().map_or(&[][..], Data::bytes);
            let start = port.source.place().map_or(0, |(_, start)| start);
            let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
            let bytes = bytes[start..].get(..4 * port.shape.elements()).unwrap_or(bytes);
            convert::decode(port.dtype, port.scalar, &port.shape, bytes)
                .map_err(|source| RunError::Output { output: port.name.clone(), source })?
        }
        PortSource::Unused => unreachable!("an output has a source"),
    };
    Ok((port.name.clone(), tensor))
}

/// The last step that uses each buffer that is no output.
fn ends(plan: &Plan) -> HashMap<BufferId, usize> {
    let mut ends = HashMap::new();
    for (index, step) in plan.steps.iter().enumerate() {
        for id in &step.bindings {
            if !matches!(plan.buffers[id.0 as usize].kind, BufferKind::Output) {
                ends.insert(*id, index);
            }
        }
    }
    for port in &plan.outputs {
        if let Some((id, _)) = port.source.place() {
            ends.remove(&id);
        }
    }
    ends
}

/// The most bytes that a run holds at once, weights aside.
fn live_bytes(plan: &Plan) -> u64 {
    let ends = ends(plan);
    let mut is_held = vec![false; plan.buffers.len()];
    let (mut now, mut most) = (0u64, 0);
    let bytes = |id: &BufferId| plan.buffers[id.0 as usize].bytes;
    for (index, step) in plan.steps.iter().enumerate() {
        for id in &step.bindings {
            let is_weight = matches!(plan.buffers[id.0 as usize].kind, BufferKind::Weight { .. });
            if !is_weight && !std::mem::replace(&mut is_held[id.0 as usize], true) {
                now = now.saturating_add(bytes(id));
            }
        }
        most = most.max(now);
        for id in &step.bindings {
            if ends.get(id) == Some(&index) && std::mem::take(&mut is_held[id.0 as usize]) {
                now -= bytes(id);
            }
        }
    }
    most
}
