//! How operators make a [`Net`]: views where they can, constants where they are known, nodes for
//! the rest.

mod views;

use std::collections::HashMap;

use gw_shaders::expr::{Expr, Instr};
use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Shape, Tensor};

use super::fold::{self, Number};
use super::formula;
use super::layout::Layout;
use super::oracle::Oracle;
use super::{Kind, Net, Node, Operand, scalar};
use crate::error::OpError;
use crate::plan::why::NodeName;

/// Bindings hold at most 2 GiB on any adapter.
const TENSOR_ELEMENTS_MAX: usize = 1 << 29;

/// Constants up to this size are folded at once: all arithmetic on shapes is far below.
const FOLD_AT_ONCE_MAX: usize = 1 << 16;

/// As [`FOLD_AT_ONCE_MAX`], of bytes that become floats: larger ones are quantised weights, which
/// stay bytes.
const EXPAND_AT_ONCE_MAX: usize = 1 << 10;

/// All that one plan may fold or lay out anew: 512 MiB of floats.
const FOLD_BUDGET: usize = 1 << 27;

/// Results of one plan: loops are written out, and the longest models have some thousands.
const TENSORS_MAX: usize = 1 << 18;

/// Constants that are read as numbers: shapes, axes, indices.
const NUMBERS_MAX: usize = 1 << 22;

/// More axes than any operator has a use for.
pub(crate) const RANK_MAX: usize = 32;

/// A node of the model that was built.
pub(crate) struct Built {
    pub(crate) node: NodeName,
    /// Its first result.
    pub(crate) result: Option<Operand>,
    pub(crate) made: Made,
}

/// What building a node of the model made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    Nodes,
    /// A view or a constant.
    Nothing,
    /// What the graph inside it makes.
    Inner,
}

/// A [`Net`] being made.
pub(crate) struct Builder {
    pub(crate) net: Net,
    /// Names of values to operands, innermost graph last.
    pub(crate) scopes: Vec<HashMap<String, Operand>>,
    /// The node that is being built.
    pub(crate) node: NodeName,
    /// Every node of the model that was built so far.
    pub(crate) built: Vec<Built>,
    /// Values of the run, and the first one that is missing.
    pub(crate) oracle: Oracle,
    /// Whether the adapter adds up products of bytes as such.
    pub(crate) dots: bool,
    budget: usize,
}

impl Builder {
    pub(crate) fn new(oracle: Oracle, dots: bool) -> Self {
        Self {
            net: Net::default(),
            scopes: vec![HashMap::new()],
            node: NodeName::default(),
            built: Vec::new(),
            oracle,
            dots,
            budget: FOLD_BUDGET,
        }
    }

    /// The operand that the innermost graph calls `name`.
    pub(crate) fn lookup(&self, name: &str) -> Option<&Operand> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name))
    }

    /// Takes `elements` off what may still be folded.
    fn spend(&mut self, elements: usize) -> Result<(), OpError> {
        match self.budget.checked_sub(elements) {
            Some(rest) => {
                self.budget = rest;
                Ok(())
            }
            None => Err(OpError::Unsupported(format!(
                "computing more than {FOLD_BUDGET} elements of constants before the run"
            ))),
        }
    }

    pub(crate) fn constant(&mut self, tensor: Tensor) -> Operand {
        let (dtype, shape) = (tensor.dtype(), tensor.shape().clone());
        self.net.add(self.node.name.clone(), dtype, shape, Some(tensor))
    }

    pub(crate) fn ints(&mut self, shape: &[usize], values: &[i64]) -> Result<Operand, OpError> {
        Ok(self.constant(Tensor::from_slice(shape, values)?))
    }

    /// One float, with no axis.
    pub(crate) fn float(&mut self, value: f32) -> Operand {
        let shape: &[usize] = &[];
        self.constant(Tensor::from_slice(shape, &[value]).expect("a scalar has one element"))
    }

    /// The data of an operand that is known before the run.
    pub(crate) fn data(&mut self, operand: &Operand) -> Result<Option<Tensor>, OpError> {
        if !self.net.is_constant(operand) {
            return Ok(None);
        }
        self.spend(operand.layout.elements())?;
        Ok(self.net.constant(operand))
    }

    /// The elements of a small constant; `what` is what an error calls it.
    pub(crate) fn numbers(
        &mut self,
        operand: &Operand,
        what: &str,
    ) -> Result<Vec<Number>, OpError> {
        if operand.layout.elements() > NUMBERS_MAX {
            let shape = operand.shape().into();
            return Err(OpError::TooLarge { what: what.to_owned(), shape, limit: NUMBERS_MAX });
        }
        Ok(fold::numbers(&self.known(operand, what)?))
    }

    /// The data of an operand, asked of the run where they are not known before; `what` is what
    /// an error calls it.
    pub(crate) fn known(&mut self, operand: &Operand, what: &str) -> Result<Tensor, OpError> {
        if !self.net.is_constant(operand) {
            self.oracle.ask(&mut self.net, operand.tensor, what)?;
        }
        self.data(operand)?.ok_or_else(|| OpError::Dynamic(what.to_owned()))
    }

    /// As [`Builder::numbers`].
    pub(crate) fn int_data(&mut self, operand: &Operand, what: &str) -> Result<Vec<i64>, OpError> {
        Ok(self.numbers(operand, what)?.into_iter().map(Number::int).collect())
    }

    /// The value of a constant whose elements are all one.
    fn splat(&self, operand: &Operand) -> Option<Number> {
        let tensor = self.net.tensor(operand.tensor).constant.as_ref()?;
        let mut positions = operand.layout.positions();
        let first = positions.next()?;
        let is_one = tensor.elements() == 1 || operand.layout.is_splat();
        if !is_one {
            return None;
        }
        let one = operand.with_layout(Layout::at(first));
        fold::numbers(&self.net.constant(&one)?).first().copied()
    }

    /// A node whose result is dense.
    pub(crate) fn emit(
        &mut self,
        kind: Kind,
        inputs: Vec<Operand>,
        shape: &[usize],
        dtype: DType,
    ) -> Result<Operand, OpError> {
        let output = self.empty(shape, dtype)?;
        if output.layout.elements() > 0 {
            self.push(kind, inputs, output.clone());
        }
        Ok(output)
    }

    /// A tensor that nodes will fill; without elements it is a constant.
    pub(crate) fn empty(&mut self, shape: &[usize], dtype: DType) -> Result<Operand, OpError> {
        if self.net.tensors.len() > TENSORS_MAX {
            return Err(OpError::Unsupported(format!("a run of more than {TENSORS_MAX} steps")));
        }
        let elements = check_size(shape)?;
        let data = match elements {
            0 => Some(Tensor::new(dtype, shape, Vec::new())?),
            _ => None,
        };
        Ok(self.net.add(self.node.name.clone(), dtype, shape, data))
    }

    /// A node that fills a part or all of a tensor.
    pub(crate) fn push(&mut self, kind: Kind, inputs: Vec<Operand>, output: Operand) {
        let names = vec![self.node.clone()];
        self.net.nodes.push(Some(Node { names, kind, inputs, output }));
    }

    /// `expr` over inputs that are broadcast to one shape.
    pub(crate) fn pointwise(
        &mut self,
        expr: &Expr,
        inputs: &[Operand],
        dtype: DType,
    ) -> Result<Operand, OpError> {
        let mut shape = Vec::new();
        for input in inputs {
            shape = broadcast(&shape, &input.shape())?;
        }
        let elements = check_size(&shape)?;
        if elements == 0 {
            return self.empty(&shape, dtype);
        }
        if let Some(folded) = self.fold_pointwise(expr, inputs, &shape, dtype)? {
            return Ok(folded);
        }
        let (expr, mut inputs) = self.without_constants(expr, inputs, &shape)?;
        // What is the same along an axis is computed once, and seen as often as it is there.
        let mut small = shape.clone();
        for axis in 0..shape.len() {
            let once: Option<Vec<Operand>> = inputs
                .iter()
                .map(|input| Some(input.with_layout(input.layout.once_along(axis)?)))
                .collect();
            if let Some(once) = once.filter(|_| shape[axis] > 1) {
                (inputs, small[axis]) = (once, 1);
            }
        }
        let result = self.emit(Kind::Pointwise(expr), inputs, &small, dtype)?;
        Ok(result.with_layout(result.layout.expanded(&shape)))
    }

    fn fold_pointwise(
        &mut self,
        expr: &Expr,
        inputs: &[Operand],
        shape: &[usize],
        dtype: DType,
    ) -> Result<Option<Operand>, OpError> {
        let splats: Option<Vec<Number>> = inputs.iter().map(|input| self.splat(input)).collect();
        if let Some(values) = splats {
            let one =
                |(value, input): (&Number, &Operand)| fold::tensor(input.dtype, &[1], &[*value]);
            let tensors: Option<Vec<Tensor>> = values.iter().zip(inputs).map(one).collect();
            let folded = tensors.and_then(|tensors| fold::pointwise(expr, &tensors, dtype));
            let Some(folded) = folded else { return Ok(None) };
            let scalar: &[usize] = &[];
            let folded = self.constant(folded.reshaped(scalar)?);
            let layout = folded.layout.expanded(shape);
            return Ok(Some(folded.with_layout(layout)));
        }
        let elements: usize = shape.iter().product();
        if elements > fold_at_once_max(expr, inputs)
            || !inputs.iter().all(|input| self.net.is_constant(input))
        {
            return Ok(None);
        }
        let mut tensors = Vec::with_capacity(inputs.len());
        for input in inputs {
            let expanded = input.with_layout(input.layout.expanded(shape));
            let Some(tensor) = self.data(&expanded)? else { return Ok(None) };
            tensors.push(tensor);
        }
        let Some(folded) = fold::pointwise(expr, &tensors, dtype) else { return Ok(None) };
        // A mask that is all true is no more than that.
        let size = dtype.size();
        let (first, rest) = folded.bytes().split_at(size);
        if rest.chunks_exact(size).all(|element| element == first) {
            let one = Tensor::new(dtype, Shape::default(), folded.bytes().slice(..size))?;
            let one = self.constant(one);
            return self.expand(&one, shape).map(Some);
        }
        Ok(Some(self.constant(folded)))
    }

    /// Writes splat constants into the expression and gives equal inputs one place.
    fn without_constants(
        &self,
        expr: &Expr,
        inputs: &[Operand],
        shape: &[usize],
    ) -> Result<(Expr, Vec<Operand>), OpError> {
        let mut kept: Vec<Operand> = Vec::new();
        let mut map = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.iter().enumerate() {
            if let Some(value) = self.splat(input) {
                formula::check_width(expr, index, value)?;
                map.push(Err(value.float()));
                continue;
            }
            let expanded = input.with_layout(input.layout.expanded(shape));
            let place = kept.iter().position(|other| *other == expanded);
            map.push(Ok(place.unwrap_or(kept.len())));
            if place.is_none() {
                kept.push(expanded);
            }
        }
        let scalars = kept.iter().map(Operand::scalar).collect();
        Ok((formula::rename(expr, scalars, &map), kept))
    }

    /// The operand with elements of another type. Between types that a device holds alike it is
    /// a view.
    pub(crate) fn retyped(x: &Operand, dtype: DType) -> Operand {
        debug_assert_eq!(scalar(dtype), x.scalar(), "a view cannot convert");
        Operand { dtype, ..x.clone() }
    }

    /// The operand as floats.
    pub(crate) fn as_float(&mut self, x: &Operand) -> Result<Operand, OpError> {
        if x.scalar() == Scalar::F32 {
            return Ok(x.clone());
        }
        let mut cast = formula::Formula::new(&[x.scalar()]);
        cast.cast(Scalar::F32, 0);
        self.pointwise(&cast.0, std::slice::from_ref(x), DType::F32)
    }
}

/// Elements of a result that is computed at once, at most.
fn fold_at_once_max(expr: &Expr, inputs: &[Operand]) -> usize {
    let is_byte = |input: &Operand| matches!(input.dtype, DType::I8 | DType::U8);
    match formula::only_instr(expr) {
        Some(Instr::Cast(Scalar::F32, 0)) if inputs.iter().all(is_byte) => EXPAND_AT_ONCE_MAX,
        _ => FOLD_AT_ONCE_MAX,
    }
}

/// The number of elements, within what a device can bind.
pub(crate) fn check_size(shape: &[usize]) -> Result<usize, OpError> {
    if shape.len() > RANK_MAX {
        return Err(OpError::mismatch("axes", format!("at most {RANK_MAX}"), shape.len()));
    }
    let shape = Shape::from(shape);
    let too_large = || OpError::TooLarge {
        what: "a tensor".to_owned(),
        shape: shape.clone(),
        limit: TENSOR_ELEMENTS_MAX,
    };
    match shape.len_checked() {
        Ok(elements) if elements <= TENSOR_ELEMENTS_MAX => Ok(elements),
        _ => Err(too_large()),
    }
}

/// The shape that both broadcast to, by the rules of ONNX.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, OpError> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(1, |own| shape[own])
    };
    (0..rank)
        .map(|axis| match (size(a, axis), size(b, axis)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(OpError::mismatch(
                "broadcast",
                format!("a shape that fits {}", Shape::from(a)),
                Shape::from(b),
            )),
        })
        .collect()
}
