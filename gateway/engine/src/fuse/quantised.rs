//! `x * (f32(bytes) * scale)`: weights stored as bytes stay bytes on the device, in products with
//! one scale per column, in convolutions with one per channel and in tables with one per row.
//!
//! Convolutions in groups are left out: their windows lie in other forms, and depthwise ones, which
//! are most of them, hold few weights (182,016 of 4.6 million in EfficientNet-lite0).

use gw_shaders::expr::{Binary, Expr, Instr};
use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Shape, Tensor};

use super::{Uses, expr, replace};
use crate::error::OpError;
use crate::net::{Kind, Net, Node, Operand, formula};

pub(super) fn apply(net: &mut Net) -> Result<(), OpError> {
    let mut uses = Uses::of(net);
    for index in 0..net.nodes.len() {
        let Some(node) = &net.nodes[index] else { continue };
        let at = match &node.kind {
            Kind::Gemm(gemm) if !gemm.quantised => 1,
            Kind::Conv(conv) if !conv.quantised && conv.groups == 1 => 1,
            Kind::Gather { quantised: false } => 0,
            _ => continue,
        };
        let Some((bytes, scale)) = expanded(net, &uses, &node.inputs[at]) else { continue };
        let mut node = node.clone();
        let scales = match &scale {
            Scale::Each(operand) => operand.clone(),
            Scale::All(value) => {
                let one = Tensor::from_slice(Shape::default(), &[*value])?;
                let one =
                    net.add(format!("{} scale", node.names[0].name), DType::F32, [], Some(one));
                let layout = one.layout.expanded(&node.inputs[at].shape());
                one.with_layout(layout)
            }
        };
        let fused = match &mut node.kind {
            Kind::Gemm(gemm) => {
                gemm.quantised = true;
                bytes.layout.one_matrix().and_then(|_| along(3, bytes, &scales, &mut node.inputs))
            }
            Kind::Conv(conv) => {
                conv.quantised = true;
                along(0, bytes, &scales, &mut node.inputs)
            }
            Kind::Gather { quantised } if bytes.dtype == DType::I8 => {
                *quantised = true;
                rows(bytes, &scales, &mut node.inputs)
            }
            _ => None,
        };
        if fused.is_some() {
            replace(net, &mut uses, index, node, None);
        }
    }
    Ok(())
}

enum Scale {
    /// As the weights are seen.
    Each(Operand),
    All(f32),
}

/// The bytes and scales that an operand is expanded from, through its own view.
fn expanded(net: &Net, uses: &Uses, operand: &Operand) -> Option<(Operand, Scale)> {
    let (_, last) = uses.writer(net, operand.tensor)?;
    if let Some(bytes) = cast(net, last) {
        let view = operand.layout.over(&bytes.layout)?;
        return Some((bytes.with_layout(view), Scale::All(1.0)));
    }
    let (floats, scale) = factors(net, last, expr(last)?)?;
    let bytes = cast(net, uses.writer(net, floats.tensor)?.1)?;
    let view = operand.layout.over(&floats.layout)?.over(&bytes.layout)?;
    let scale = match scale {
        Scale::Each(scale) => Scale::Each(scale.with_layout(operand.layout.over(&scale.layout)?)),
        all => all,
    };
    Some((bytes.with_layout(view), scale))
}

/// The constant bytes that a node does no more than convert to floats.
fn cast<'a>(net: &Net, node: &'a Node) -> Option<&'a Operand> {
    let is_cast = formula::only_instr(expr(node)?) == Some(Instr::Cast(Scalar::F32, 0));
    let bytes = node.inputs.first()?;
    let is_byte = matches!(bytes.dtype, DType::I8 | DType::U8);
    (is_cast && is_byte && net.is_constant(bytes)).then_some(bytes)
}

/// The two sides of a product whose right side is constant.
fn factors(net: &Net, node: &Node, expr: &Expr) -> Option<(Operand, Scale)> {
    let Some(Instr::Binary(Binary::Mul, a, b)) = formula::only_instr(expr) else { return None };
    #[expect(clippy::cast_possible_truncation, reason = "the constant was a float")]
    let all = |register| formula::constant(expr, register).map(|value| Scale::All(value as f32));
    let each = |register: usize| {
        let operand = node.inputs.get(register)?;
        let usable = net.is_constant(operand) && operand.scalar() == Scalar::F32;
        usable.then(|| Scale::Each(operand.clone()))
    };
    let side = |floats: usize, scale: usize| {
        let operand = node.inputs.get(floats).filter(|operand| !net.is_constant(operand))?;
        Some((operand.clone(), all(scale).or_else(|| each(scale))?))
    };
    side(a, b).or_else(|| side(b, a))
}

/// Scales, as the weights are seen, that differ along one axis only.
fn along(axis: usize, bytes: Operand, scales: &Operand, inputs: &mut Vec<Operand>) -> Option<()> {
    let scales = scales.with_layout(scales.layout.varying_along(axis)?);
    inputs[1] = bytes;
    inputs.insert(2, scales);
    Some(())
}

/// Scales of `[outer, axis, inner]` that are the same along a row.
fn rows(bytes: Operand, scales: &Operand, inputs: &mut Vec<Operand>) -> Option<()> {
    let shape = bytes.shape();
    let first = scales.layout.sliced(2, 0, 1, 1)?;
    if first.expanded(&shape) != scales.layout {
        return None;
    }
    let scales = scales.with_layout(first.reshaped(&[shape[0] * shape[1]])?);
    inputs[0] = bytes;
    inputs.insert(1, scales);
    Some(())
}
