//! The graph for one set of shapes: a few kinds of node, each with a kernel family behind it.
//!
//! Tensors are row-major; an [`Operand`] is a tensor seen through a [`Layout`], so that reshapes,
//! transposes, slices and repeats are no nodes. Constants are operands too.
//!
//! - [`builder`]: how operators make it. [`fold`]: the arithmetic of constants.
//! - [`formula`]: how element-wise expressions are written and joined. [`layout`]: views.
//! - [`lineage`]: which nodes of the model a fused one computes.
//! - [`oracle`]: values of a run that decide what its graph is.

pub(crate) mod builder;
pub(crate) mod fold;
pub(crate) mod formula;
pub(crate) mod layout;
pub(crate) mod lineage;
pub(crate) mod oracle;

use gw_shaders::expr::Expr;
use gw_shaders::kernel::Scalar;
use gw_shaders::{
    linear_attention, norm, pool, recurrent, reduce, roi, sample, scan, scatter, trees,
};
use gw_tensor::{DType, Shape, Tensor};

use layout::Layout;

use crate::plan::why::NodeName;

/// A tensor of a [`Net`]: an index into its `tensors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TensorId(pub(crate) u32);

/// A row-major tensor.
#[derive(Clone, Debug)]
pub(crate) struct NetTensor {
    /// The name of a value of the model, or of the node that makes it.
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    /// The data of a constant, in its own type and dense.
    pub(crate) constant: Option<Tensor>,
    /// The name alone says what the data are, in every plan of the model.
    pub(crate) stable: bool,
}

/// A tensor seen through a layout.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operand {
    pub(crate) tensor: TensorId,
    pub(crate) layout: Layout,
    /// The element type that the model sees; casts between types that a device holds alike cost
    /// nothing, and between `f32` and integers of four bytes it is the bits that are seen.
    pub(crate) dtype: DType,
}

impl Operand {
    pub(crate) fn shape(&self) -> Vec<usize> {
        self.layout.shape()
    }

    pub(crate) fn scalar(&self) -> Scalar {
        scalar(self.dtype)
    }

    #[must_use]
    pub(crate) fn with_layout(&self, layout: Layout) -> Self {
        Self { layout, ..self.clone() }
    }
}

/// The type that holds elements of `dtype` on a device.
pub(crate) fn scalar(dtype: DType) -> Scalar {
    match dtype {
        DType::F32 | DType::F16 | DType::Bf16 | DType::F64 => Scalar::F32,
        DType::F8E4m3 | DType::F8E4m3Fnuz | DType::F8E5m2 | DType::F8E5m2Fnuz => Scalar::F32,
        DType::F8E8m0 | DType::F4E2m1 => Scalar::F32,
        DType::Bool => Scalar::U32,
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => Scalar::I32,
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => Scalar::I32,
        DType::I4 | DType::U4 | DType::I2 | DType::U2 => Scalar::I32,
    }
}

/// What a node computes. Shapes are those of its operands, in the order given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Inputs have the shape of the output, input 0 of the expression is input 0 of the node.
    Pointwise(Expr),
    /// `a [b0, b1, m, k]`, `b [b0, b1, k, n]`, the scales `[n]` where `quantised`, the
    /// epilogue's inputs `[b0, b1, m, n]`; output `[b0, b1, m, n]`.
    Gemm(Gemm),
    /// `a [1, 1, m, k]` and constant `b [1, 1, k, n]` of bytes, of which unsigned ones are taken
    /// less 128, the inputs `[1, 1, m, n]` of the epilogue, whose sum is `I32`; output
    /// `[1, 1, m, n]`.
    Dot(Expr),
    /// `a [1, 1, m, k]`, weights `[n, bytes]`, scales and zero points `[n, blocks, 2]`; output
    /// `[1, 1, m, n]`.
    Blocks(Blocks),
    /// q `[b, heads, queries, d]`, k `[b, kv heads, keys, d]`, v `[b, kv heads, keys, e]`, the
    /// mask `[b, heads, queries, keys]` where there is one; output `[b, heads, queries, e]`.
    Attention(Attention),
    /// q `[batch, length, kv heads * group * d]`, k `[batch, length, kv heads * d]`, v
    /// `[batch, length, kv heads * e]`, then the past state, decay and beta where there are any;
    /// output: the state `[batch, kv heads, d, e]` and `[batch, length, kv heads * group * e]`,
    /// one after the other along one axis.
    LinearAttention(linear_attention::Spec),
    /// `[outer, len, inner]`.
    Softmax { log: bool },
    /// x `[rows, cols]`, scale `[cols]`, bias `[cols]`.
    Norm(norm::Form),
    /// Scale and bias `[n]` of the norm, then what [`Kind::Gemm`] has; output `[b0, b1, m, n]`.
    Normed(Gemm, norm::Form),
    /// Scale and bias `[cols]` of the norm, then what the sources have; output `[count, cols]`.
    Embed(Embed),
    /// `[outer, reduced, inner]` to `[outer, inner]`.
    Reduce(reduce::Op),
    /// data `[outer, axis, inner]`, the scales `[axis]` where `quantised`, indices `[count]`;
    /// output `[outer, count, inner]`.
    Gather { quantised: bool },
    /// x `[n, c, h, w]`, weights `[out, c / groups, kh, kw]`, the scales `[out]` where `quantised`,
    /// the epilogue's inputs `[n, out, oh, ow]`; output `[n, out, oh, ow]`.
    Conv(Conv),
    /// x `[n, h, w, c]`, weights `[kh * kw * c / groups, out]`, the scales `[out]` where
    /// `quantised`, the epilogue's inputs `[n, oh, ow, out]`; output `[n, oh, ow, out]`. There is
    /// one group, or one per channel.
    ConvLast(Conv),
    /// `[planes, d, h, w]` to `[planes, od, oh, ow]`, or `[n, d, h, w, c]` to
    /// `[n, od, oh, ow, c]`.
    Pool { kind: pool::Kind, window: Window<3> },
    /// `[planes, kd, kh, kw, d, h, w]`, the taps of each window, to `[planes, od, oh, ow]`.
    Fold(Window<3>),
    /// x `[outer, axis, inner]`, places and weights `[count, taps]`; output
    /// `[outer, count, inner]`.
    Resample,
    /// x `[steps, batch, directions, hidden, gates]`, r `[directions, hidden, hidden, gates]`, what
    /// else [`recurrent::Spec`] lists; output `[steps + further rows, directions, batch, hidden]`.
    Recurrent(Recurrent),
    /// Planes `[planes, d, h, w]`, points `[sets, points, axes]`; output `[planes, points]`.
    Sample { mode: sample::Mode, padding: sample::Padding, units: sample::Units },
    /// `[n, c, h, w]`, regions `[regions, 4 or 5]`, their batch entries `[regions]` where the
    /// regions do not name them; output `[regions, c, oh, ow]`.
    Roi { kind: roi::Kind, scale: f32 },
    /// `[outer, len, inner]`.
    Scan { op: scan::Op, exclusive: bool, reverse: bool },
    /// data `[rows, inner]`, positions `[count]`, their order `[count]`, updates
    /// `[count, inner]`; output `[rows, inner]`.
    Scatter(scatter::Op),
    /// `[outer, len, inner]` to positions `[outer, keep, inner]`.
    Sort { largest: bool },
    /// x `[rows, features]`, nodes `[nodes, 6]`, roots `[trees]`, the targets and the weights of
    /// leaves `[weights]`; output `[rows, targets]`.
    Trees { fold: trees::Fold, turns: u32 },
    /// `[count, n, n]` to `[count]`.
    Det,
    /// `[n, c, inner]`.
    Lrn { size: u32, alpha: f32, beta: f32, bias: f32 },
}

/// See [`Kind::Gemm`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gemm {
    pub(crate) quantised: bool,
    /// Input 0 is the sum, the others are the epilogue's inputs.
    pub(crate) epilogue: Expr,
}

impl Gemm {
    /// How many operands come before the epilogue's.
    pub(crate) fn operands(&self) -> usize {
        if self.quantised { 3 } else { 2 }
    }
}

/// See [`Kind::Embed`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Embed {
    /// The inputs of the expression, in its order.
    pub(crate) sources: Vec<RowSource>,
    pub(crate) expr: Expr,
    pub(crate) norm: Option<norm::Form>,
}

/// Where rows of `cols` come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowSource {
    /// A table `[1, axis, cols]`, the scales `[axis]` where `quantised`, indices `[count]`.
    Table { quantised: bool },
    /// `[count, cols]`.
    Rows,
}

/// See [`Kind::Blocks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) bits: u32,
    pub(crate) block: u32,
}

/// See [`Kind::Attention`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attention {
    pub(crate) scale: f32,
    pub(crate) mask: MaskKind,
    /// What makes the mask of each element of its operand; `None` where that is it.
    pub(crate) mask_expr: Option<Expr>,
    /// With `Some(past)`, query `i` sees key `j` only where `j <= i + past`.
    pub(crate) causal: Option<i32>,
    /// A query that sees no key gives zeros instead of NaN.
    pub(crate) nan_to_zero: bool,
}

/// See [`Kind::Recurrent`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recurrent {
    pub(crate) cell: recurrent::Cell,
    pub(crate) reverse: bool,
    pub(crate) clip: Option<f32>,
    pub(crate) activations: Vec<Expr>,
    /// Input 0 is x `[steps, batch, width]`, input 1 its weights `[width, directions, hidden,
    /// gates]`, input 2 the bias `[directions, hidden, gates]` where there is one.
    pub(crate) projection: Option<recurrent::Projection>,
    /// What the rows of the steps hold of each state.
    pub(crate) stored: Expr,
}

/// What the mask of an attention is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MaskKind {
    None,
    Additive,
    /// Zero hides a key.
    Boolean,
}

/// The window of a convolution or pooling: one number per axis, the innermost last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window<const N: usize> {
    pub(crate) kernel: [u32; N],
    pub(crate) strides: [u32; N],
    pub(crate) dilations: [u32; N],
    pub(crate) pads_begin: [u32; N],
    pub(crate) pads_end: [u32; N],
}

/// See [`Kind::Conv`] and [`Kind::ConvLast`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Conv {
    pub(crate) quantised: bool,
    pub(crate) groups: u32,
    pub(crate) window: Window<2>,
    /// Input 0 is the sum, the others are the epilogue's inputs.
    pub(crate) epilogue: Expr,
}

impl Conv {
    /// How many operands come before the epilogue's.
    pub(crate) fn operands(&self) -> usize {
        if self.quantised { 3 } else { 2 }
    }
}

/// One node: it writes `output`, which several nodes share where each writes a part.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The nodes of the model that it computes.
    pub(crate) names: Vec<NodeName>,
    pub(crate) kind: Kind,
    pub(crate) inputs: Vec<Operand>,
    pub(crate) output: Operand,
}

/// A named input of a [`Net`].
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) tensor: TensorId,
}

/// A named output of a [`Net`].
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) operand: Operand,
}

/// The graph for one set of shapes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Net {
    pub(crate) tensors: Vec<NetTensor>,
    /// In the order of their execution; fusion leaves holes.
    pub(crate) nodes: Vec<Option<Node>>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) outputs: Vec<Output>,
}

impl Net {
    pub(crate) fn tensor(&self, id: TensorId) -> &NetTensor {
        &self.tensors[id.0 as usize]
    }

    /// All of a new tensor.
    pub(crate) fn add(
        &mut self,
        name: String,
        dtype: DType,
        shape: impl Into<Shape>,
        constant: Option<Tensor>,
    ) -> Operand {
        let shape = shape.into();
        let layout = Layout::dense(&shape);
        // Every tensor stands for a value of a bounded file or for a node of a bounded plan.
        let id = u32::try_from(self.tensors.len()).expect("plans are bounded");
        self.tensors.push(NetTensor { name, dtype, shape, constant, stable: false });
        Operand { tensor: TensorId(id), layout, dtype }
    }

    /// All of a tensor.
    pub(crate) fn whole(&self, id: TensorId) -> Operand {
        let NetTensor { shape, dtype, .. } = self.tensor(id);
        Operand { tensor: id, layout: Layout::dense(shape), dtype: *dtype }
    }

    /// The data of an operand that is known before the run, dense.
    pub(crate) fn constant(&self, operand: &Operand) -> Option<Tensor> {
        let tensor = self.tensor(operand.tensor).constant.as_ref()?;
        let data = fold::materialise(tensor, &operand.layout);
        if tensor.dtype() == operand.dtype {
            return Some(data);
        }
        if scalar(tensor.dtype()) == operand.scalar() {
            return fold::cast(&data, operand.dtype);
        }
        // A view of another kind sees the bits that a device holds.
        let bits = fold::device_bytes(&data).ok()?;
        let held = if operand.scalar() == Scalar::F32 { DType::F32 } else { DType::I32 };
        let seen = Tensor::new(held, data.shape().clone(), bits).ok()?;
        fold::cast(&seen, operand.dtype)
    }

    /// A constant of 16-bit floats as it is stored, where the model sees them as wider ones: those
    /// have the same values.
    pub(crate) fn stored(&self, operand: &Operand) -> Operand {
        let NetTensor { dtype, constant, .. } = self.tensor(operand.tensor);
        let is_half = matches!(dtype, DType::F16 | DType::Bf16) && constant.is_some();
        let dtype = if is_half && operand.scalar() == Scalar::F32 { *dtype } else { operand.dtype };
        Operand { dtype, ..operand.clone() }
    }

    pub(crate) fn is_constant(&self, operand: &Operand) -> bool {
        self.tensor(operand.tensor).constant.is_some()
    }

    /// Leaves out every node whose result nobody reads.
    pub(crate) fn drop_unread(&mut self) {
        let mut read = vec![false; self.tensors.len()];
        for output in &self.outputs {
            read[output.operand.tensor.0 as usize] = true;
        }
        for slot in self.nodes.iter_mut().rev() {
            let Some(node) = slot else { continue };
            let made = &self.tensors[node.output.tensor.0 as usize];
            // What the device was asked before is known now.
            if read[node.output.tensor.0 as usize] && made.constant.is_none() {
                for input in &node.inputs {
                    read[input.tensor.0 as usize] = true;
                }
            } else {
                *slot = None;
            }
        }
    }
}
