//! `out[i] = expr(in0[i], in1[i], …)` over strided views.
//!
//! An invocation computes one element, or four that are neighbours on the innermost axis.
//! Transposing, slicing, expanding, joining and padding are this with a copy as expression.

use std::borrow::Borrow;
use std::fmt::Write as _;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::expr::{Expr, Value};
use crate::kernel::{Caps, Dispatch, Needs, Scalar, Unsupported};
use crate::layout::View;

const NAME: &str = "pointwise";

/// What to compute, over up to six axes after merging.
///
/// Bindings: one per input, then the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The index space.
    pub shape: Vec<u32>,
    /// One view per input of `expr`.
    pub inputs: Vec<View>,
    /// Where results go; no two indices may share an element.
    pub output: View,
    /// What is computed; its result's type is the output's.
    pub expr: Expr,
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where the views need more words or buffers than there are, or the expression is not valid.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let result = check(spec)?;
    let merged = merge(spec);
    let mut found = Vec::new();
    if is_wide(&merged) {
        found.push(compose(&merged, result, 4, caps)?);
    }
    found.push(compose(&merged, result, 1, caps)?);
    Ok(found)
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

fn check(spec: &Spec) -> Result<Scalar, Unsupported> {
    let unsupported = |reason: String| Err(Unsupported::new(NAME, reason));
    if spec.expr.inputs.len() != spec.inputs.len() {
        let (inputs, views) = (spec.expr.inputs.len(), spec.inputs.len());
        return unsupported(format!("{inputs} inputs but {views} views"));
    }
    let rank = spec.shape.len();
    if spec.inputs.iter().chain([&spec.output]).any(|view| view.strides.len() != rank) {
        return unsupported(format!("a view has not one stride for each of {rank} axes"));
    }
    match spec.expr.result() {
        Ok(scalar) => Ok(scalar),
        Err(error) => unsupported(format!("the expression: {error}")),
    }
}

/// The same with as few axes as can be: an axis of one is dropped, and two that every view walks
/// as one become one.
pub fn merge(spec: &Spec) -> Spec {
    let views: Vec<&View> = spec.inputs.iter().chain([&spec.output]).collect();
    let mut shape: Vec<u32> = Vec::new();
    let mut strides: Vec<Vec<i32>> = vec![Vec::new(); views.len()];
    for (axis, &size) in spec.shape.iter().enumerate().filter(|&(_, &size)| size != 1) {
        let outer = shape.last().copied();
        let joins = views.iter().zip(&strides).all(|(view, kept)| {
            let inner = i64::from(view.strides[axis]) * i64::from(size);
            kept.last().is_some_and(|&stride| i64::from(stride) == inner)
        });
        let whole = outer.and_then(|outer| outer.checked_mul(size)).filter(|_| joins);
        if let (Some(whole), Some(last)) = (whole, shape.last_mut()) {
            *last = whole;
            for (kept, view) in strides.iter_mut().zip(&views) {
                kept.pop();
                kept.push(view.strides[axis]);
            }
        } else {
            shape.push(size);
            for (kept, view) in strides.iter_mut().zip(&views) {
                kept.push(view.strides[axis]);
            }
        }
    }
    let mut views = views
        .iter()
        .zip(strides)
        .map(|(view, strides)| View { offset: view.offset, strides })
        .collect::<Vec<_>>();
    let output = views.pop().expect("the output is the last");
    Spec { shape, inputs: views, output, expr: spec.expr.clone() }
}

/// Whether four neighbours on the innermost axis are one vec4, or one element, in every view.
fn is_wide(spec: &Spec) -> bool {
    let aligned = |view: &View| {
        let (inner, outer) = view.strides.split_last().expect("wide views have an axis");
        *inner == 0
            || *inner == 1
                && view.offset.is_multiple_of(4)
                && outer.iter().all(|stride| stride % 4 == 0)
    };
    spec.shape.last().is_some_and(|size| size.is_multiple_of(4))
        && spec.output.strides.last() == Some(&1)
        && spec.inputs.iter().chain([&spec.output]).all(aligned)
}

fn compose(spec: &Spec, result: Scalar, width: u32, caps: &Caps) -> Result<Dispatch, Unsupported> {
    let rank = spec.shape.len();
    let wide = if width == 4 { ", vec4" } else { "" };
    let mut composer = Composer::new(NAME, format!("{rank} axes{wide}"));
    composer.source(include_str!("pointwise.wgsl"));
    let mut shape = spec.shape.clone();
    if let (4, Some(inner)) = (width, shape.last_mut()) {
        *inner /= 4;
    }
    let too_many = || Unsupported::new(NAME, "more than 2^32 elements");
    let count =
        shape.iter().try_fold(1u32, |count, &size| count.checked_mul(size)).ok_or_else(too_many)?;
    composer.u32("count", count);
    let mut body = String::from("    var left = index;\n");
    for (axis, &size) in shape.iter().enumerate().skip(1).rev() {
        composer.u32(format!("size{axis}"), size);
        write(
            &mut body,
            format_args!(
                "    let i{axis} = left % params.size{axis};\n    left /= params.size{axis};\n"
            ),
        );
    }
    body.push_str("    let i0 = left;\n");
    for (input, (view, scalar)) in spec.inputs.iter().zip(&spec.expr.inputs).enumerate() {
        let name = format!("in{input}");
        let at = place(&mut composer, &name, view, width);
        let vector = width == 4 && view.strides.last() == Some(&1);
        composer.read(&name, &element(*scalar, vector));
        write(&mut body, format_args!("    let v{input} = {name}[{at}];\n"));
    }
    let at = place(&mut composer, "out", &spec.output, width);
    composer.write("result", &element(result, width == 4)).expr("element", &spec.expr)?;
    let call = |lane: &str| {
        let values: Vec<String> = spec
            .inputs
            .iter()
            .enumerate()
            .map(|(input, view)| {
                let lane = if view.strides.last() == Some(&1) { lane } else { "" };
                format!("v{input}{lane}")
            })
            .collect();
        format!("element({})", values.join(", "))
    };
    let value = if width == 4 {
        format!("vec4({})", [".x", ".y", ".z", ".w"].map(call).join(", "))
    } else {
        call("")
    };
    composer.text(&format!("fn compute(index: u32) {{\n{body}    result[{at}] = {value};\n}}\n"));
    let size = if caps.software { caps.workgroup_invocations.min(256) } else { 64 };
    composer.constant("WIDTH", size);
    let groups = u64::from(count).div_ceil(u64::from(size));
    composer.finish("elements", size, groups, Needs::default(), caps)
}

fn element(scalar: Scalar, vector: bool) -> String {
    if vector { format!("vec4<{}>", scalar.wgsl()) } else { scalar.wgsl().to_owned() }
}

/// The text of a view's index; strides of zero and one take no word.
fn place(composer: &mut Composer, name: &str, view: &View, width: u32) -> String {
    let inner = view.strides.len().wrapping_sub(1);
    // Indices of a view that is read as vec4 count those.
    let vector = width == 4 && view.strides.last() == Some(&1);
    let unit: i32 = if vector { 4 } else { 1 };
    let mut terms = Vec::new();
    if view.offset != 0 {
        composer.u32(format!("{name}_offset"), view.offset / unit.cast_unsigned());
        terms.push(format!("params.{name}_offset"));
    }
    for (axis, &stride) in view.strides.iter().enumerate() {
        let stride = if axis == inner { stride } else { stride / unit };
        match stride {
            0 => {}
            1 => terms.push(format!("i{axis}")),
            _ => {
                composer.u32(format!("{name}_{axis}"), stride.cast_unsigned());
                terms.push(format!("i{axis} * params.{name}_{axis}"));
            }
        }
    }
    if terms.is_empty() { "0u".to_owned() } else { terms.join(" + ") }
}

fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes any text");
}

/// What the output buffer holds afterwards, zero where nothing is stored.
///
/// # Panics
/// Where the inputs are not those of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let mut out: Vec<Option<Value>> = Vec::new();
    let count: u64 = spec.shape.iter().map(|&size| u64::from(size)).product();
    for index in 0..count {
        let mut left = index;
        let mut place = vec![0; spec.shape.len()];
        for (at, &size) in place.iter_mut().zip(&spec.shape).rev() {
            *at = (left % u64::from(size)) as u32;
            left /= u64::from(size);
        }
        let values: Vec<Value> =
            inputs.iter().zip(&spec.inputs).map(|(data, view)| data.at(view.at(&place))).collect();
        let at = spec.output.at(&place);
        out.resize(out.len().max(at + 1), None);
        out[at] = Some(spec.expr.eval(&values));
    }
    let scalar = spec.expr.result().expect("the expression is valid");
    Data::collect(scalar, out.into_iter().map(|value| value.unwrap_or(Value::new(scalar, 0.0))))
}

#[cfg(test)]
mod tests;
