//! `softmax(scale * q kᵀ, masked) v` as one kernel where it takes the form, else as products and
//! a softmax.

use gw_shaders::attention::{Counts, Window};
use gw_shaders::expr::{Binary, Unary};
use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Shape};

use super::{before, both, first_keys};
use crate::error::OpError;
use crate::net::builder::Builder;
use crate::net::formula::Formula;
use crate::net::{Attention, Kind, MaskKind, Operand};
use crate::ops::{elementwise, gather, matmul};

/// Longer rows do not stay in registers: those are products and a softmax.
const ROW_MAX: usize = 256;

/// What is done between the two products.
pub(super) struct Form {
    /// Multiplies each product first.
    pub(super) scale: f32,
    /// Bounds the scores to `±softcap` by a `tanh`; 0 leaves them.
    pub(super) softcap: f32,
    /// Broadcasts to `[batch, heads, queries, keys]`: floats are added, booleans say what is seen.
    pub(super) mask: Option<Operand>,
    /// Which keys a query sees by its place.
    pub(super) window: Window,
    /// How many keys each entry has `[batch]`.
    pub(super) counts: Option<(Operand, Counts)>,
    /// A query that sees no key gives zeros instead of NaN.
    pub(super) nan_to_zero: bool,
    /// One score per head `[1, heads, 1, 1]` that takes a share of each softmax and has no value.
    pub(super) sink: Option<Operand>,
    /// The scores that are an output too.
    pub(super) keep: Option<Stage>,
    /// The heads of a query lie beside each other in the result.
    pub(super) side_by_side: bool,
}

/// What the scores have gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Product,
    Capped,
    Masked,
    Softmax,
}

impl Form {
    pub(super) fn of_scale(scale: f32) -> Self {
        Self {
            scale,
            softcap: 0.0,
            mask: None,
            window: Window::ALL,
            counts: None,
            nan_to_zero: false,
            sink: None,
            keep: None,
            side_by_side: false,
        }
    }
}

/// The sizes of an attention.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    queries: usize,
    keys: usize,
    width: usize,
}

/// q `[batch, heads, queries, d]`, k `[batch, kv heads, keys, d]`, v `[batch, kv heads, keys, e]`
/// to `[batch, heads, queries, e]`, and the scores `[batch, heads, queries, keys]` to keep.
pub(super) fn attend(
    builder: &mut Builder,
    [q, k, v]: [&Operand; 3],
    form: &Form,
) -> Result<(Operand, Option<Operand>), OpError> {
    let sizes = sizes(q, k, v)?;
    let mask = match &form.mask {
        Some(mask) => Some(masking(builder, mask, sizes)?),
        None => None,
    };
    let longest = q.shape()[3].max(sizes.width);
    let alone = form.softcap == 0.0 && form.sink.is_none() && form.keep.is_none();
    if !alone || longest > ROW_MAX {
        return written_out(builder, [q, k, v], sizes, mask.as_ref(), form);
    }
    let kind = match &mask {
        None => MaskKind::None,
        Some(mask) if mask.dtype == DType::Bool => MaskKind::Boolean,
        Some(_) => MaskKind::Additive,
    };
    let kind = Kind::Attention(Attention {
        scale: form.scale,
        mask: kind,
        mask_expr: None,
        window: form.window,
        counts: form.counts.as_ref().map(|(_, from)| *from),
        nan_to_zero: form.nan_to_zero,
    });
    let Sizes { batch, heads, queries, width, .. } = sizes;
    let output = if form.side_by_side {
        let whole = builder.empty(&[batch, queries, heads, width], q.dtype)?;
        Builder::transpose(&whole, &[0, 2, 1, 3])
    } else {
        builder.empty(&[batch, heads, queries, width], q.dtype)?
    };
    if output.layout.elements() > 0 {
        let mut inputs = vec![q.clone(), k.clone(), v.clone()];
        inputs.extend(mask);
        inputs.extend(form.counts.iter().map(|(counts, _)| counts.clone()));
        builder.push(kind, inputs, output.clone());
    }
    Ok((output, None))
}

/// Checks that the operands fit each other.
pub(super) fn sizes(q: &Operand, k: &Operand, v: &Operand) -> Result<Sizes, OpError> {
    for (what, x) in [("the query", q), ("the key", k), ("the value", v)] {
        if x.scalar() != Scalar::F32 {
            return Err(OpError::Type { what: what.to_owned(), given: x.dtype });
        }
    }
    let (q, k, v) = (q.shape(), k.shape(), v.shape());
    let (&[batch, heads, queries, dim], &[b_k, kv_heads, keys, d_k], &[b_v, h_v, len_v, width]) =
        (q.as_slice(), k.as_slice(), v.as_slice())
    else {
        let given = format!("{}, {}", Shape::from(q), Shape::from(k));
        return Err(OpError::mismatch("query and key", "4 axes", given));
    };
    let grouped = kv_heads > 0 && heads % kv_heads == 0;
    if !grouped || [b_k, b_v] != [batch; 2] || d_k != dim || [h_v, len_v] != [kv_heads, keys] {
        let given = format!("{} and {}", Shape::from(k), Shape::from(v));
        let expected = format!("those of queries {}", Shape::from(q));
        return Err(OpError::mismatch("keys and values", expected, given));
    }
    if keys == 0 || dim == 0 {
        return Err(OpError::mismatch("the key", "at least one element", Shape::from(k)));
    }
    Ok(Sizes { batch, heads, kv_heads, queries, keys, width })
}

/// A mask over all scores.
fn masking(builder: &mut Builder, mask: &Operand, sizes: Sizes) -> Result<Operand, OpError> {
    let mask = full_width(builder, mask, sizes.keys)?;
    builder.expand(&mask, &[sizes.batch, sizes.heads, sizes.queries, sizes.keys])
}

/// A mask of four axes, the last over all keys: those beyond its end are hidden.
pub(super) fn full_width(
    builder: &mut Builder,
    mask: &Operand,
    keys: usize,
) -> Result<Operand, OpError> {
    let is_bool = mask.dtype == DType::Bool;
    if !is_bool && mask.scalar() != Scalar::F32 {
        return Err(OpError::Type { what: "the mask".to_owned(), given: mask.dtype });
    }
    let mut shape = mask.shape();
    if shape.len() > 4 {
        return Err(OpError::mismatch("the mask", "at most 4 axes", Shape::from(shape)));
    }
    while shape.len() < 4 {
        shape.insert(0, 1);
    }
    let mask = builder.reshape(mask, &shape)?;
    if shape[3] >= keys {
        return Ok(mask);
    }
    shape[3] = keys - shape[3];
    let rest = builder.float(if is_bool { 0.0 } else { f32::NEG_INFINITY });
    let rest = elementwise::convert(builder, &rest, mask.dtype)?;
    let rest = builder.expand(&rest, &shape)?;
    builder.concat(&[mask, rest], 3)
}

fn written_out(
    builder: &mut Builder,
    [q, k, v]: [&Operand; 3],
    sizes: Sizes,
    mask: Option<&Operand>,
    form: &Form,
) -> Result<(Operand, Option<Operand>), OpError> {
    let product = product(builder, q, k, sizes)?;
    let product = matmul::scale(builder, &product, form.scale)?;
    let capped = cap(builder, &product, form.softcap)?;
    let masked = match mask {
        Some(mask) => hide(builder, &capped, mask)?,
        None => capped.clone(),
    };
    let masked = match seen(builder, sizes, form)? {
        Some(seen) => hide(builder, &masked, &seen)?,
        None => masked,
    };
    let softmax = softmax(builder, &masked, form.sink.as_ref(), form.nan_to_zero)?;
    let kept = form.keep.map(|stage| match stage {
        Stage::Product => product.clone(),
        Stage::Capped => capped.clone(),
        Stage::Masked => masked.clone(),
        Stage::Softmax => softmax.clone(),
    });
    Ok((mixed(builder, &softmax, v, sizes)?, kept))
}

/// `q kᵀ`, `[batch, heads, queries, keys]`.
pub(super) fn product(
    builder: &mut Builder,
    q: &Operand,
    k: &Operand,
    sizes: Sizes,
) -> Result<Operand, OpError> {
    let Sizes { batch, heads, kv_heads, queries, keys, .. } = sizes;
    // The queries of a group lie below each other, so that keys are read once for all.
    let rows = heads / kv_heads * queries;
    let grouped = builder.reshape(q, &[batch, kv_heads, rows, q.shape()[3]])?;
    let product = matmul::product(builder, &grouped, &Builder::transpose(k, &[0, 1, 3, 2]))?;
    builder.reshape(&product, &[batch, heads, queries, keys])
}

/// `shares [batch, heads, queries, keys]` times `v`.
pub(super) fn mixed(
    builder: &mut Builder,
    shares: &Operand,
    v: &Operand,
    sizes: Sizes,
) -> Result<Operand, OpError> {
    let Sizes { batch, heads, kv_heads, queries, keys, width } = sizes;
    let rows = heads / kv_heads * queries;
    let shares = builder.reshape(shares, &[batch, kv_heads, rows, keys])?;
    let result = matmul::product(builder, &shares, v)?;
    builder.reshape(&result, &[batch, heads, queries, width])
}

/// `softcap * tanh(x / softcap)`.
fn cap(builder: &mut Builder, x: &Operand, softcap: f32) -> Result<Operand, OpError> {
    if softcap == 0.0 {
        return Ok(x.clone());
    }
    let mut formula = Formula::floats(1);
    let most = formula.c(softcap);
    let share = formula.bin(Binary::Div, 0, most);
    let bounded = formula.un(Unary::Tanh, share);
    formula.mul(bounded, most);
    builder.pointwise(&formula.0, std::slice::from_ref(x), x.dtype)
}

/// Scores with floats added, or hidden where booleans are false.
pub(super) fn hide(builder: &mut Builder, x: &Operand, mask: &Operand) -> Result<Operand, OpError> {
    let mut formula = Formula::new(&[Scalar::F32, mask.scalar()]);
    if mask.scalar() == Scalar::F32 {
        formula.add(0, 1);
    } else {
        let hidden = formula.c(f32::NEG_INFINITY);
        formula.select(1, 0, hidden);
    }
    builder.pointwise(&formula.0, &[x.clone(), mask.clone()], x.dtype)
}

/// Which keys each query sees by its place, where that are not all.
fn seen(builder: &mut Builder, sizes: Sizes, form: &Form) -> Result<Option<Operand>, OpError> {
    let Sizes { queries, keys, .. } = sizes;
    let inside = match &form.counts {
        Some((counts, _)) => Some(first_keys(builder, counts, keys)?),
        None => None,
    };
    if form.window == Window::ALL {
        return Ok(inside);
    }
    let past = match &form.counts {
        Some((counts, Counts::End)) => before(builder, counts, queries)?,
        _ => builder.ints(&[1], &[0])?,
    };
    let near = seen_from(builder, &past, [queries, keys], form.window)?;
    both(builder, Some(near), inside)
}

/// `[batch, 1, queries, keys]`: which keys each query sees, where the first query of an entry
/// stands at `past [batch]` and `window` counts from the places of queries.
fn seen_from(
    builder: &mut Builder,
    past: &Operand,
    [queries, keys]: [usize; 2],
    window: Window,
) -> Result<Operand, OpError> {
    let batch = past.layout.elements();
    let past = builder.reshape(past, &[batch, 1, 1, 1])?;
    let query = gather::steps(builder, 4, 2, queries, 1)?;
    let key = gather::steps(builder, 4, 3, keys, 1)?;
    let mut formula = Formula::new(&[Scalar::I32; 3]);
    let place = formula.add(0, 1);
    let distance = formula.sub(2, place);
    let mut bound = |relation, bound: Option<i32>| {
        let bound = formula.int(bound?);
        Some(formula.bin(relation, distance, bound))
    };
    let first = bound(Binary::GreaterOrEqual, window.first);
    let last = bound(Binary::LessOrEqual, window.last);
    match (first, last) {
        (Some(first), Some(last)) => formula.bin(Binary::And, first, last),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => formula.bin(Binary::Equal, 0, 0),
    };
    builder.pointwise(&formula.0, &[past, query, key], DType::Bool)
}

/// The softmax over the last axis of `[batch, heads, queries, keys]`.
pub(super) fn softmax(
    builder: &mut Builder,
    x: &Operand,
    sink: Option<&Operand>,
    nan_to_zero: bool,
) -> Result<Operand, OpError> {
    let shape = x.shape();
    let mut wide = shape.clone();
    let mut all = x.clone();
    if let Some(sink) = sink {
        wide[3] = 1;
        let sink = builder.expand(sink, &wide)?;
        all = builder.concat(&[all, sink], 3)?;
        wide[3] = shape[3] + 1;
    }
    let rows = [wide[0] * wide[1] * wide[2], wide[3], 1];
    let flat = builder.reshape(&all, &rows)?;
    let shares = builder.emit(Kind::Softmax { log: false }, vec![flat], &rows, x.dtype)?;
    let mut shares = builder.reshape(&shares, &wide)?;
    if sink.is_some() {
        shares = builder.slice(&shares, 3, 0, 1, shape[3])?;
    }
    if nan_to_zero {
        // Only what is hidden: a NaN among the scores stays one.
        let mut formula = Formula::floats(2);
        let least = formula.c(f32::NEG_INFINITY);
        let is_hidden = formula.bin(Binary::Equal, 0, least);
        let zero = formula.c(0.0);
        formula.select(is_hidden, zero, 1);
        shares = builder.pointwise(&formula.0, &[x.clone(), shares], x.dtype)?;
    }
    Ok(shares)
}
