//! From a [`Net`] to a [`Plan`]: every node becomes a dispatch of its kernel family.
//!
//! - [`families`]: one function per kind of node; [`windows`]: those of spatial axes.
//! - [`constants`]: weights in device form. [`parts`]: those that no binding holds.

mod constants;
mod families;
mod parts;
mod windows;

use gw_shaders::expr::Expr;
use gw_shaders::kernel::{Caps, Dispatch};
use gw_shaders::layout::View;
use gw_shaders::pointwise;
use gw_shaders::work::Work;
use gw_tensor::Tensor;

pub(crate) use constants::{Constants, key};

use crate::error::OpError;
use crate::net::layout::{Layout, common};
use crate::net::{Kind, Net, Node, Operand, TensorId, scalar};
use crate::plan::why::{Choice, NodeName};
use crate::plan::{Buffer, BufferId, BufferKind, Plan, Port, PortSource, Step};

/// Why a node could not be lowered.
pub(crate) struct Stopped {
    pub(crate) node: String,
    pub(crate) op: String,
    pub(crate) error: OpError,
}

/// A [`Plan`] being made.
pub(crate) struct Lowering<'a> {
    net: &'a Net,
    caps: &'a Caps,
    constants: &'a Constants,
    plan: Plan,
    /// The buffer of each tensor that has one.
    buffers: Vec<Option<BufferId>>,
    /// What the steps being made compute.
    label: String,
    nodes: Vec<NodeName>,
    /// Repeated elements of constants that may still be written out.
    budget: usize,
    /// Steps beyond the first of nodes that are split: any plan needs them.
    split: usize,
}

/// What a step does, and the kernel that does it.
struct Made {
    work: Work,
    dispatch: Dispatch,
    choice: Choice,
}

/// Elements that may stay to the end of a run so that an output need not be copied.
const SPARE_ELEMENTS: usize = 1 << 14;

/// Lowers `net` for adapters that offer `caps`.
pub(crate) fn lower(net: &Net, caps: &Caps, constants: &Constants) -> Result<Plan, Stopped> {
    let mut lowering = Lowering::new(net, caps, constants);
    for output in &net.outputs {
        lowering.reserve_output(&output.operand);
    }
    for node in net.nodes.iter().flatten() {
        lowering.label = label(node);
        lowering.nodes.clone_from(&node.names);
        lowering.node(node).map_err(|error| Stopped {
            node: node.names.first().map(|node| node.name.clone()).unwrap_or_default(),
            op: family(&node.kind).to_owned(),
            error,
        })?;
    }
    lowering.ports()?;
    Ok(lowering.plan)
}

/// Whether a kernel takes `node` as it is.
pub(crate) fn fits(net: &Net, node: &Node, caps: &Caps, constants: &Constants) -> bool {
    let mut trial = Lowering::new(net, caps, constants);
    let fits = trial.node(node).is_ok();
    // A copy that comes before it, or a buffer too many, costs what the fusion saves.
    let buffers = trial.plan.steps.iter().map(|step| step.bindings.len()).max();
    fits && trial.plan.steps.len() == 1 + trial.split
        && buffers.is_some_and(|buffers| buffers <= caps.storage_buffers as usize)
}

/// The names of the nodes that one step computes, the first and the last where they are many.
fn label(node: &Node) -> String {
    match node.names.as_slice() {
        [] => String::new(),
        [one] => one.name.clone(),
        [first, last] => format!("{} + {}", first.name, last.name),
        [first, between @ .., last] => {
            format!("{} +{}+ {}", first.name, between.len(), last.name)
        }
    }
}

fn family(kind: &Kind) -> &'static str {
    match kind {
        Kind::Pointwise(_) => "pointwise",
        Kind::Gemm(_) | Kind::Normed(..) | Kind::Blocks(_) | Kind::Dot(_) => "gemm",
        Kind::Attention(_) => "attention",
        Kind::LinearAttention(_) => "linear_attention",
        Kind::Softmax { .. } => "softmax",
        Kind::Norm(_) => "norm",
        Kind::Embed(_) => "embed",
        Kind::Reduce(_) => "reduce",
        Kind::Gather { .. } => "gather",
        Kind::Conv(_) | Kind::ConvLast(_) => "conv",
        Kind::Pool { .. } => "pool",
        Kind::Fold(_) => "fold",
        Kind::Resample => "resample",
        Kind::Sample { .. } => "sample",
        Kind::Roi { .. } => "roi",
        Kind::Lrn { .. } => "lrn",
        Kind::Recurrent(_) => "recurrent",
        Kind::Det => "det",
        Kind::Scan { .. } => "scan",
        Kind::Scatter(_) => "scatter",
        Kind::Sort { .. } => "sort",
        Kind::Trees { .. } => "trees",
    }
}

impl<'a> Lowering<'a> {
    fn new(net: &'a Net, caps: &'a Caps, constants: &'a Constants) -> Self {
        Self {
            net,
            caps,
            constants,
            plan: Plan::default(),
            buffers: vec![None; net.tensors.len()],
            label: String::new(),
            nodes: Vec::new(),
            budget: constants::REPEATS_MAX,
            split: 0,
        }
    }

    /// Gives an output that a node computes as it leaves a buffer that can be read back.
    fn reserve_output(&mut self, operand: &Operand) {
        let tensor = self.net.tensor(operand.tensor);
        let is_input = self.net.inputs.iter().any(|input| input.tensor == operand.tensor);
        let whole =
            operand.layout.is_dense() && operand.layout.elements() == tensor.shape.elements();
        if tensor.constant.is_none() && !is_input && whole {
            self.buffer_of_kind(operand.tensor, BufferKind::Output);
        }
    }

    fn add_buffer(&mut self, name: &str, kind: BufferKind, elements: usize) -> BufferId {
        // There are a few buffers per node of a bounded plan.
        let id = BufferId(u32::try_from(self.plan.buffers.len()).expect("plans are bounded"));
        let bytes = (elements as u64 * 4).max(4);
        self.plan.buffers.push(Buffer { name: name.to_owned(), kind, bytes });
        id
    }

    fn buffer_of_kind(&mut self, id: TensorId, kind: BufferKind) -> BufferId {
        if let Some(buffer) = self.buffers[id.0 as usize] {
            return buffer;
        }
        let tensor = self.net.tensor(id);
        let buffer = self.add_buffer(&tensor.name, kind, tensor.shape.elements());
        self.buffers[id.0 as usize] = Some(buffer);
        buffer
    }

    /// The buffer that holds all of a tensor.
    fn buffer(&mut self, id: TensorId) -> Result<BufferId, OpError> {
        let tensor = self.net.tensor(id);
        if tensor.constant.is_some() && self.buffers[id.0 as usize].is_none() {
            let buffer = self.weight(&self.net.whole(id))?;
            self.buffers[id.0 as usize] = Some(buffer);
        }
        let is_input = self.net.inputs.iter().any(|input| input.tensor == id);
        let kind = if is_input { BufferKind::Input } else { BufferKind::Temporary };
        Ok(self.buffer_of_kind(id, kind))
    }

    /// A buffer that holds exactly what the operand sees, in row-major order.
    fn dense(&mut self, operand: &Operand) -> Result<BufferId, OpError> {
        if operand.layout.is_dense() && self.binds_whole(operand) {
            return self.buffer(operand.tensor);
        }
        if self.net.is_constant(operand) {
            return self.weight(operand);
        }
        self.copy(operand)
    }

    /// A step that copies what the operand sees to a buffer of its own.
    fn copy(&mut self, operand: &Operand) -> Result<BufferId, OpError> {
        let source = self.buffer(operand.tensor)?;
        let shape = operand.shape();
        let target = Layout::dense(&shape);
        let expr = Expr::identity(operand.scalar());
        let made = self.made_pointwise(&expr, &[&operand.layout], &target)?;
        let made = made.ok_or_else(|| OpError::Unsupported("this view".to_owned()))?;
        let name = format!("{} copied", self.net.tensor(operand.tensor).name);
        let buffer = self.add_buffer(&name, BufferKind::Temporary, target.elements());
        self.step(made, vec![source, buffer]);
        if let Some(step) = self.plan.steps.last_mut() {
            step.label.push_str(" (copy)");
            step.nodes.clear();
        }
        Ok(buffer)
    }

    /// The kernel for what is to be done.
    fn made(&self, work: impl Into<Work>) -> Result<Made, OpError> {
        let work = work.into();
        let mut variants = work.variants(self.caps)?;
        let dispatch = variants.remove(0);
        let others = variants.into_iter().map(|other| other.kernel.variant);
        Ok(Made { work, dispatch, choice: Choice::first(others.collect()) })
    }

    fn step(&mut self, made: Made, bindings: Vec<BufferId>) {
        let Made { work, dispatch, choice } = made;
        let (label, nodes) = (self.label.clone(), self.nodes.clone());
        let bytes: Vec<u64> =
            bindings.iter().map(|id| self.plan.buffers[id.0 as usize].bytes).collect();
        let (cost, work) = (work.cost(&bytes), Some(work));
        self.plan.steps.push(Step { label, nodes, choice, work, cost, dispatch, bindings });
    }

    /// `None` where the views have no index space in common.
    fn made_pointwise(
        &self,
        expr: &Expr,
        inputs: &[&Layout],
        output: &Layout,
    ) -> Result<Option<Made>, OpError> {
        let spec = pointwise_spec(expr, inputs, output)?;
        spec.map(|spec| self.made(spec)).transpose()
    }

    /// An element-wise node; inputs whose views fit no common index space are copied first.
    fn pointwise(&mut self, expr: &Expr, node: &Node) -> Result<(), OpError> {
        let output = &node.output.layout;
        let mut layouts: Vec<Layout> =
            node.inputs.iter().map(|input| input.layout.clone()).collect();
        let mut bindings = Vec::with_capacity(layouts.len() + 1);
        for (input, layout) in node.inputs.iter().zip(&mut layouts) {
            let fits = common(&[layout, output]).is_some() && self.binds_whole(input);
            bindings.push(if fits { self.buffer(input.tensor)? } else { self.dense(input)? });
            if !fits {
                *layout = Layout::dense(&input.shape());
            }
        }
        let views: Vec<&Layout> = layouts.iter().collect();
        let made = match self.made_pointwise(expr, &views, output) {
            Ok(Some(made)) => made,
            // Two views cut an axis at different places, or there are too many axes: dense
            // inputs need no cuts.
            Ok(None) | Err(OpError::Kernel(_)) => {
                for ((input, layout), binding) in
                    node.inputs.iter().zip(&mut layouts).zip(&mut bindings)
                {
                    if !layout.is_dense() {
                        *binding = self.dense(input)?;
                        *layout = Layout::dense(&input.shape());
                    }
                }
                let views: Vec<&Layout> = layouts.iter().collect();
                let made = self.made_pointwise(expr, &views, output)?;
                made.ok_or_else(|| OpError::Unsupported("this view".to_owned()))?
            }
            Err(error) => return Err(error),
        };
        bindings.push(self.buffer(node.output.tensor)?);
        self.step(made, bindings);
        Ok(())
    }

    /// Inputs and outputs, in the order of the model.
    fn ports(&mut self) -> Result<(), Stopped> {
        // Outputs first: one that is an input, seen another way, is copied from its buffer.
        for output in &self.net.outputs {
            self.label = format!("output {}", output.name);
            self.nodes.clear();
            let source = self.output_source(&output.operand).map_err(|error| Stopped {
                node: output.name.clone(),
                op: "output".to_owned(),
                error,
            })?;
            self.plan.outputs.push(Port {
                name: output.name.clone(),
                dtype: output.operand.dtype,
                scalar: output.operand.scalar(),
                shape: output.operand.shape().into(),
                source,
            });
        }
        for input in &self.net.inputs {
            let tensor = self.net.tensor(input.tensor);
            let source = match self.buffers[input.tensor.0 as usize] {
                // The plan was made for this value of the input.
                _ if tensor.constant.is_some() => PortSource::Unused,
                Some(buffer) => PortSource::Buffer(buffer),
                None => PortSource::Unused,
            };
            self.plan.inputs.push(Port {
                name: input.name.clone(),
                dtype: tensor.dtype,
                scalar: scalar(tensor.dtype),
                shape: tensor.shape.clone(),
                source,
            });
        }
        Ok(())
    }

    /// Whether keeping the whole tensor to the end for this part of it costs little.
    fn is_most_of(&self, operand: &Operand) -> bool {
        let whole = self.net.tensor(operand.tensor).shape.elements();
        whole / 2 <= operand.layout.elements() + SPARE_ELEMENTS
    }

    fn output_source(&mut self, operand: &Operand) -> Result<PortSource, OpError> {
        if let Some(data) = self.net.constant(operand) {
            return Ok(PortSource::Constant(data));
        }
        if operand.layout.elements() == 0 {
            let empty = Tensor::new(operand.dtype, operand.shape(), Vec::new())?;
            return Ok(PortSource::Constant(empty));
        }
        let whole = operand.layout.elements() == self.net.tensor(operand.tensor).shape.elements();
        if let Some(buffer) = self.buffers[operand.tensor.0 as usize]
            && matches!(self.plan.buffers[buffer.0 as usize].kind, BufferKind::Output)
            && operand.layout.is_dense()
            && whole
        {
            return Ok(PortSource::Buffer(buffer));
        }
        // A stretch of what a step computes is read back from there.
        if let Some(buffer) = self.buffers[operand.tensor.0 as usize]
            && let Some(start) = operand.layout.run()
            && self.is_most_of(operand)
            && matches!(
                self.plan.buffers[buffer.0 as usize].kind,
                BufferKind::Temporary | BufferKind::Output
            )
        {
            return Ok(PortSource::Part(buffer, 4 * start as u64));
        }
        let buffer = self.copy(operand)?;
        self.plan.buffers[buffer.0 as usize].kind = BufferKind::Output;
        Ok(PortSource::Buffer(buffer))
    }
}

/// The kernel's view of layouts over one shape; `None` where they have no common index space.
pub(crate) fn pointwise_spec(
    expr: &Expr,
    inputs: &[&Layout],
    output: &Layout,
) -> Result<Option<pointwise::Spec>, OpError> {
    let mut layouts = inputs.to_vec();
    layouts.push(output);
    let Some((sizes, strides)) = common(&layouts) else { return Ok(None) };
    let mut views = Vec::with_capacity(layouts.len());
    for (layout, strides) in layouts.iter().zip(strides) {
        let strides = strides.into_iter().map(stride).collect::<Result<_, _>>()?;
        views.push(View { offset: offset(layout)?, strides });
    }
    let output = views.pop().expect("the output was pushed");
    let shape = sizes.into_iter().map(size).collect::<Result<_, _>>()?;
    Ok(Some(pointwise::Spec { shape, inputs: views, output, expr: expr.clone() }))
}

fn size(size: usize) -> Result<u32, OpError> {
    u32::try_from(size).map_err(|_| OpError::mismatch("a size", "less than 2^32", size))
}

fn stride(stride: isize) -> Result<i32, OpError> {
    i32::try_from(stride).map_err(|_| OpError::mismatch("a stride", "less than 2^31", stride))
}

fn offset(layout: &Layout) -> Result<u32, OpError> {
    size(layout.offset())
}
