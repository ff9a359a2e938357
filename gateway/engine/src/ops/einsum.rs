//! `Einsum` (ONNX 12): sums of products over named axes, as products of matrices where two
//! operands share a sum, as element-wise products where they do not.
//!
//! Operands join from left to right. An axis that nobody needs any more is summed as soon as it
//! can be, so that no product is larger than its result.

use gw_shaders::expr::Expr;
use gw_shaders::kernel::Scalar;
use gw_shaders::reduce;
use gw_tensor::Shape;

use super::{Call, Table, convert, matmul, reduce as reduction};
use crate::error::OpError;
use crate::net::builder::{Builder, RANK_MAX};
use crate::net::{Gemm, Kind, Operand};

pub(super) const OPS: Table = &[("Einsum", einsum)];

/// The name of an axis: a letter, or the place of an axis of `...` counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    Letter(char),
    Rest(usize),
}

/// An operand whose axes have names, each once.
#[derive(Clone)]
struct Term {
    x: Operand,
    labels: Vec<Label>,
}

fn einsum(call: &mut Call<'_>) -> Result<Vec<Operand>, OpError> {
    let equation: String =
        call.text("equation", "").chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let wrong = |reason: &str| OpError::mismatch("equation", reason, &equation);
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let inputs = call.given();
    let parts: Vec<&str> = left.split(',').collect();
    if parts.len() != inputs.len() || inputs.is_empty() {
        return Err(wrong(&format!("names for {} inputs", inputs.len())));
    }
    let dtype = inputs[0].dtype;
    let mut named = Vec::with_capacity(inputs.len());
    for (part, x) in parts.iter().zip(inputs) {
        if x.dtype != dtype || x.scalar() == Scalar::U32 {
            return Err(OpError::Type { what: "an input".to_owned(), given: x.dtype });
        }
        let labels = labels(part, Some(x.shape().len()))
            .ok_or_else(|| wrong(&format!("a name for each axis of {}", Shape::from(x.shape()))))?;
        named.push((x, labels));
    }
    let output = match right {
        Some(right) => {
            let rest =
                named.iter().flat_map(|(_, labels)| labels).filter_map(|label| match label {
                    Label::Rest(place) => Some(place + 1),
                    Label::Letter(_) => None,
                });
            let rest = rest.max().unwrap_or(0);
            let letters = right.chars().filter(|&c| c != '.').count();
            let rank = letters + if right.contains("...") { rest } else { 0 };
            labels(right, Some(rank)).ok_or_else(|| wrong("letters after the arrow"))?
        }
        None => implicit(&named),
    };
    let known = |label: &Label| named.iter().any(|(_, labels)| labels.contains(label));
    let once = |at: usize| !output[..at].contains(&output[at]);
    if !output.iter().all(known) || !(0..output.len()).all(once) || output.len() > RANK_MAX {
        return Err(wrong("each letter of the result once, and among the inputs"));
    }
    let sizes = sizes(&named)?;
    let mut terms = Vec::with_capacity(named.len());
    for (x, labels) in named {
        terms.push(term(call.builder, x, &labels, &sizes)?);
    }
    let joined = contract(call.builder, terms, &output)?;
    Ok(vec![arranged(call.builder, &joined, &output, &sizes)?])
}

/// The labels of one part of an equation over `rank` axes; `None` where they do not fit.
fn labels(part: &str, rank: Option<usize>) -> Option<Vec<Label>> {
    let rank = rank?;
    let (before, after) = match part.split_once("...") {
        Some((before, after)) => (before, Some(after)),
        None => (part, None),
    };
    let letters = before.len() + after.map_or(0, str::len);
    let rest = rank.checked_sub(letters)?;
    if after.is_none() && rest > 0 {
        return None;
    }
    let mut labels: Vec<Label> = before.chars().map(Label::Letter).collect();
    labels.extend((0..rest).rev().map(Label::Rest));
    labels.extend(after.unwrap_or("").chars().map(Label::Letter));
    let is_letter = |label: &Label| match label {
        Label::Letter(c) => c.is_ascii_alphabetic(),
        Label::Rest(_) => true,
    };
    labels.iter().all(is_letter).then_some(labels)
}

/// Without an arrow the result has the axes of `...`, then the letters that occur once, in order.
fn implicit(named: &[(Operand, Vec<Label>)]) -> Vec<Label> {
    let all = || named.iter().flat_map(|(_, labels)| labels).copied();
    let rest = all().filter_map(|label| match label {
        Label::Rest(place) => Some(place + 1),
        Label::Letter(_) => None,
    });
    let mut output: Vec<Label> = (0..rest.max().unwrap_or(0)).rev().map(Label::Rest).collect();
    let mut letters: Vec<char> = all()
        .filter_map(|label| match label {
            Label::Letter(c) => Some(c),
            Label::Rest(_) => None,
        })
        .collect();
    letters.sort_unstable();
    let alone = |&&c: &&char| letters.iter().filter(|&&other| other == c).count() == 1;
    output.extend(letters.iter().filter(alone).map(|&c| Label::Letter(c)));
    output
}

/// The size of every label: an axis of one repeats.
fn sizes(named: &[(Operand, Vec<Label>)]) -> Result<Vec<(Label, usize)>, OpError> {
    let mut sizes: Vec<(Label, usize)> = Vec::new();
    for (x, labels) in named {
        for (&label, size) in labels.iter().zip(x.shape()) {
            match sizes.iter_mut().find(|(other, _)| *other == label) {
                None => sizes.push((label, size)),
                Some((_, known)) if *known == 1 => *known = size,
                Some((_, known)) if *known == size || size == 1 => {}
                Some((_, known)) => {
                    return Err(OpError::mismatch("the size of an axis", known, size));
                }
            }
        }
    }
    Ok(sizes)
}

fn size_of(sizes: &[(Label, usize)], label: Label) -> usize {
    sizes.iter().find(|(other, _)| *other == label).map_or(1, |&(_, size)| size)
}

/// An operand with each of its names once: of repeated ones the diagonal, of axes of one that
/// repeat nothing.
fn term(
    builder: &mut Builder,
    x: Operand,
    names: &[Label],
    sizes: &[(Label, usize)],
) -> Result<Term, OpError> {
    let dims = x.shape();
    // An axis of one where the label has more is the same for all of them.
    let kept: Vec<usize> =
        (0..dims.len()).filter(|&at| dims[at] == size_of(sizes, names[at])).collect();
    let shape: Vec<usize> = kept.iter().map(|&at| dims[at]).collect();
    let mut labels: Vec<Label> = kept.iter().map(|&at| names[at]).collect();
    let mut x = builder.reshape(&x, &shape)?;
    while let Some((first, second)) = repeated(&labels) {
        let dims = x.shape();
        let size = dims[first];
        let mut perm: Vec<usize> =
            (0..dims.len()).filter(|&at| at != first && at != second).collect();
        let mut shape: Vec<usize> = perm.iter().map(|&at| dims[at]).collect();
        perm.extend([first, second]);
        shape.push(size * size);
        labels = perm[..perm.len() - 1].iter().map(|&at| labels[at]).collect();
        x = builder.reshape(&Builder::transpose(&x, &perm), &shape)?;
        let step = size.cast_signed() + 1;
        x = builder.slice(&x, shape.len() - 1, 0, step, size)?;
    }
    Ok(Term { x, labels })
}

fn repeated(labels: &[Label]) -> Option<(usize, usize)> {
    (0..labels.len()).find_map(|second| {
        let first = labels[..second].iter().position(|label| *label == labels[second])?;
        Some((first, second))
    })
}

fn contract(builder: &mut Builder, terms: Vec<Term>, output: &[Label]) -> Result<Term, OpError> {
    let mut rest = terms.into_iter();
    let Some(mut joined) = rest.next() else { return Err(OpError::Missing("input 0".to_owned())) };
    while let Some(next) = rest.next() {
        let needed = |label: &Label| {
            output.contains(label) || rest.as_slice().iter().any(|term| term.labels.contains(label))
        };
        let left = summed(builder, joined, |label| needed(label) || next.labels.contains(label))?;
        let right = summed(builder, next, |label| needed(label) || left.labels.contains(label))?;
        joined = product(builder, &left, &right, needed)?;
    }
    summed(builder, joined, |label| output.contains(label))
}

/// The term summed over the axes that are not kept.
fn summed(
    builder: &mut Builder,
    term: Term,
    keeps: impl Fn(&Label) -> bool,
) -> Result<Term, OpError> {
    let lost: Vec<usize> = (0..term.labels.len()).filter(|&at| !keeps(&term.labels[at])).collect();
    if lost.is_empty() {
        return Ok(term);
    }
    let dtype = term.x.dtype;
    let x = reduction::over(builder, reduce::Op::Sum, &term.x, &lost, false, dtype)?;
    let x = convert::wrapped(builder, &x)?;
    let labels = term.labels.into_iter().filter(|label| keeps(label)).collect();
    Ok(Term { x, labels })
}

/// The product of two terms, summed over the axes that both have and nobody needs.
fn product(
    builder: &mut Builder,
    a: &Term,
    b: &Term,
    needed: impl Fn(&Label) -> bool,
) -> Result<Term, OpError> {
    let in_both = |label: &&Label| a.labels.contains(label) && b.labels.contains(label);
    let batch: Vec<Label> =
        a.labels.iter().filter(in_both).filter(|label| needed(label)).copied().collect();
    let inner: Vec<Label> =
        a.labels.iter().filter(in_both).filter(|label| !needed(label)).copied().collect();
    let only = |own: &Term, other: &Term| -> Vec<Label> {
        own.labels.iter().filter(|label| !other.labels.contains(label)).copied().collect()
    };
    let (rows, columns) = (only(a, b), only(b, a));
    let [x, x_dims] = laid(builder, a, [&batch, &rows, &inner])?;
    let [y, y_dims] = laid(builder, b, [&batch, &inner, &columns])?;
    let (x_dims, y_dims) = (x_dims.shape(), y_dims.shape());
    let (count, m, k, n) = (x.shape()[0], x.shape()[1], x.shape()[2], y.shape()[2]);
    let dtype = x.dtype;
    let result = if x.scalar() == Scalar::F32 && k > 1 && count * m * n > 0 {
        let x = builder.reshape(&x, &[1, count, m, k])?;
        let y = builder.reshape(&y, &[1, count, k, n])?;
        let kind = Kind::Gemm(Gemm { quantised: false, epilogue: Expr::identity(Scalar::F32) });
        builder.emit(kind, vec![x, y], &[1, count, m, n], dtype)?
    } else {
        matmul::sums_of_products(builder, &x, &y)?
    };
    let mut labels = batch.clone();
    labels.extend(&rows);
    labels.extend(&columns);
    let mut shape = x_dims[..batch.len() + rows.len()].to_vec();
    shape.extend(&y_dims[y_dims.len() - columns.len()..]);
    Ok(Term { x: builder.reshape(&result, &shape)?, labels })
}

/// The term with its axes in three groups, each of them one axis, and with its axes apart.
fn laid(
    builder: &mut Builder,
    term: &Term,
    groups: [&Vec<Label>; 3],
) -> Result<[Operand; 2], OpError> {
    let place = |label: &Label| term.labels.iter().position(|other| other == label);
    let perm: Vec<usize> = groups.iter().flat_map(|group| group.iter()).filter_map(place).collect();
    let apart = Builder::transpose(&term.x, &perm);
    let dims = apart.shape();
    let (first, second) = (groups[0].len(), groups[0].len() + groups[1].len());
    let joined = [
        dims[..first].iter().product(),
        dims[first..second].iter().product(),
        dims[second..].iter().product(),
    ];
    Ok([builder.reshape(&apart, &joined)?, apart])
}

/// The term with its axes in the order of the result; a label that it has not is repeated.
fn arranged(
    builder: &mut Builder,
    term: &Term,
    output: &[Label],
    sizes: &[(Label, usize)],
) -> Result<Operand, OpError> {
    let place = |label: &Label| term.labels.iter().position(|other| other == label);
    let perm: Vec<usize> = output.iter().filter_map(place).collect();
    let x = Builder::transpose(&term.x, &perm);
    let size = |label: &Label| place(label).map_or(1, |at| term.x.shape()[at]);
    let shape: Vec<usize> = output.iter().map(size).collect();
    let target: Vec<usize> = output.iter().map(|&label| size_of(sizes, label)).collect();
    let x = builder.reshape(&x, &shape)?;
    builder.expand(&x, &target)
}
