//! `out = softmax(scale * q kᵀ + mask) v`, one pass over the keys.
//!
//! A workgroup takes some queries of one head; all lanes walk the keys together. Scores, weights
//! and sums are f32 and stay in registers. Source: `Attention` (ONNX 23), `FlashAttention` 2.

mod window;

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::expr::{Expr, Value};
use crate::kernel::{Caps, Dispatch, Needs, Scalar, Unsupported};

pub use window::{Counts, Window};

const NAME: &str = "attention";

/// Where the rows of one operand lie: `offset + b * batch + h * head + i * row`, the elements of
/// a row one after another. For keys and values `h` counts key-value heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rows {
    /// The first element.
    pub offset: u32,
    /// Elements from one batch entry to the next.
    pub batch: i32,
    /// Elements from one head to the next.
    pub head: i32,
    /// Elements from one query or key to the next.
    pub row: i32,
}

/// Where a mask's values lie; stride 0 repeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MaskView {
    /// The first element.
    pub offset: u32,
    /// Elements from one batch entry to the next.
    pub batch: i32,
    /// Elements from one head to the next.
    pub head: i32,
    /// Elements from one query to the next.
    pub query: i32,
    /// Elements from one key to the next.
    pub key: i32,
}

/// What is done to the scores before the softmax.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mask {
    /// Nothing.
    #[default]
    None,
    /// An `f32` is added; minus infinity hides a key.
    Additive(MaskView),
    /// A `u32`: zero hides a key.
    Boolean(MaskView),
}

/// What to compute.
///
/// Bindings: q, k, v, the mask and the counts where there are any, the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Batch entries.
    pub batch: u32,
    /// Query heads.
    pub heads: u32,
    /// Key-value heads; divides `heads`. Query head `h` reads `h / (heads / kv_heads)`.
    pub kv_heads: u32,
    /// Query rows per head.
    pub queries: u32,
    /// Key rows per head.
    pub keys: u32,
    /// Elements of a query and key row, at most 256.
    pub head_dim: u32,
    /// Elements of a value and output row, at most 256.
    pub value_dim: u32,
    /// Multiplies each score before the mask.
    pub scale: f32,
    /// Queries.
    pub q: Rows,
    /// Keys.
    pub k: Rows,
    /// Values.
    pub v: Rows,
    /// The result.
    pub output: Rows,
    /// What is added to or hidden from the scores.
    pub mask: Mask,
    /// What makes that of one element of the mask's buffer; `None` where it lies there.
    pub mask_expr: Option<Expr>,
    /// Which keys a query sees by its place.
    pub window: Window,
    /// How many keys each batch entry has; `None` where it has `keys`.
    pub counts: Option<Counts>,
    /// A query that sees no key gives zeros instead of NaN.
    pub nan_to_zero: bool,
}

impl Spec {
    /// The mask and the counts among the inputs behind the values.
    pub fn optional<'a, D>(&self, inputs: &[&'a D]) -> [Option<&'a D>; 2] {
        let mut inputs = inputs.iter().copied();
        let has_mask = self.mask != Mask::None;
        let mask = if has_mask { inputs.next() } else { None };
        [mask, self.counts.and_then(|_| inputs.next())]
    }
}

/// More would not stay in registers anywhere.
const DIM_MAX: u32 = 256;

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a row is longer than 256, or head counts do not divide.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let unsupported = |reason: String| Err(Unsupported::new(NAME, reason));
    if spec.head_dim > DIM_MAX || spec.value_dim > DIM_MAX {
        let longest = spec.head_dim.max(spec.value_dim);
        return unsupported(format!("rows of {longest}, longer than {DIM_MAX}"));
    }
    if spec.kv_heads == 0 || !spec.heads.is_multiple_of(spec.kv_heads) {
        let (heads, kv_heads) = (spec.heads, spec.kv_heads);
        return unsupported(format!("{heads} heads over {kv_heads} key-value heads"));
    }
    let mut found = Vec::new();
    if let Some((smallest, largest)) = caps.subgroup
        && smallest == largest
        && matches!(largest, 4 | 8 | 16 | 32 | 64 | 128)
    {
        found.push(compose(spec, largest, true, caps)?);
    }
    found.push(compose(spec, if caps.software { 8 } else { 64 }, false, caps)?);
    Ok(found)
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

fn compose(spec: &Spec, lanes: u32, subgroup: bool, caps: &Caps) -> Result<Dispatch, Unsupported> {
    let (d4, v4) = (spec.head_dim.div_ceil(4).max(1), spec.value_dim.div_ceil(4).max(1));
    // As many rows as share a load without the registers of a row growing past a few KiB; few
    // queries spread over lanes first.
    let rows = match d4.max(v4) {
        0..=8 => 4,
        9..=16 => 2,
        _ => 1,
    };
    let rows = if spec.queries <= lanes { 1 } else { rows };
    let share = if subgroup { lanes } else { 1 };
    let kind = if subgroup { "subgroup" } else { "plain" };
    let mask = match spec.mask {
        Mask::None => "",
        Mask::Additive(_) => ", additive mask",
        Mask::Boolean(_) => ", boolean mask",
    };
    let made = if spec.mask_expr.is_some() { " made here" } else { "" };
    let window = window::name(spec);
    let variant = format!("{kind}{lanes} {rows} rows of {}{mask}{made}{window}", 4 * d4);
    let mut composer = Composer::new(NAME, variant);
    composer.source(include_str!("attention.wgsl")).source(include_str!("operands.wgsl"));
    composer.constant("ROWS", rows).constant("LANES", lanes).constant("SHARE", share);
    composer.constant("D4", d4).constant("V4", v4);
    composer.constant("K_LOADS", (4 * d4).div_ceil(share));
    composer.constant("V_LOADS", (4 * v4).div_ceil(share));
    composer.hook("hear", if subgroup { "subgroupBroadcast" } else { "hear_self" });
    composer.u32("queries", spec.queries).u32("keys", spec.keys).u32("heads", spec.heads);
    composer.u32("heads_per_kv", (spec.heads / spec.kv_heads).max(1)).f32("scale", spec.scale);
    let none = if spec.nan_to_zero { 0.0 } else { f32::NAN };
    composer.u32("no_key", none.to_bits());
    for (name, rows, dim) in [
        ("q", &spec.q, spec.head_dim),
        ("k", &spec.k, spec.head_dim),
        ("v", &spec.v, spec.value_dim),
    ] {
        operand(&mut composer, name, rows, dim);
    }
    masking(&mut composer, spec)?;
    window::declare(&mut composer, spec);
    output(&mut composer, spec);
    let tiles = u64::from(spec.queries.div_ceil(rows * lanes));
    let groups = tiles * u64::from(spec.heads) * u64::from(spec.batch);
    let needs = Needs { subgroup: subgroup.then_some((lanes, lanes)), ..Needs::default() };
    composer.turns(spec.window.walked(rows * lanes, spec.keys) / 4 + 64);
    composer.finish("attend", lanes, groups, needs, caps)
}

impl Rows {
    const fn is_wide(&self, dim: u32) -> bool {
        dim.is_multiple_of(4)
            && self.offset.is_multiple_of(4)
            && self.batch % 4 == 0
            && self.head % 4 == 0
            && self.row % 4 == 0
    }

    /// Declares the words of an operand, in units of what its buffer holds.
    fn words(&self, composer: &mut Composer, name: &str, unit: i32) {
        composer.u32(format!("{name}_offset"), self.offset / unit.cast_unsigned());
        composer.u32(format!("{name}_batch"), (self.batch / unit).cast_unsigned());
        composer.u32(format!("{name}_head"), (self.head / unit).cast_unsigned());
        composer.u32(format!("{name}_row"), (self.row / unit).cast_unsigned());
    }
}

fn operand(composer: &mut Composer, name: &str, rows: &Rows, dim: u32) {
    let body = if rows.is_wide(dim) {
        rows.words(composer, name, 4);
        composer.read_fours(name, Scalar::F32);
        format!("{name}_four(row + d)")
    } else {
        rows.words(composer, name, 1);
        composer.read(name, "f32");
        // The dimension decides the text anyway, so its tail may as well.
        let values = [0, 1, 2, 3]
            .map(|i| format!("select(0.0, {name}[row + d * 4u + {i}u], d * 4u + {i}u < {dim}u)"));
        format!("vec4({})", values.join(", "))
    };
    composer.text(&format!(
        "fn load_{name}(row: u32, d: u32) -> vec4<f32> {{\n    return {body};\n}}\n"
    ));
}

fn masking(composer: &mut Composer, spec: &Spec) -> Result<(), Unsupported> {
    let (view, apply) = match &spec.mask {
        Mask::None => {
            composer.hook("mask_of_key", "no_mask_of_key").hook("add_mask", "add_none");
            return Ok(());
        }
        Mask::Additive(view) => (view, "apply_additive"),
        Mask::Boolean(view) => (view, "apply_boolean"),
    };
    composer.u32("mask_offset", view.offset).u32("mask_batch", view.batch.cast_unsigned());
    composer.u32("mask_head", view.head.cast_unsigned());
    composer.u32("mask_query", view.query.cast_unsigned());
    composer.u32("mask_key", view.key.cast_unsigned());
    composer.hook("apply", apply);
    let (element, bits) = match &spec.mask_expr {
        None => ("u32", "mask[at]"),
        Some(expr) => {
            composer.expr("mask_value", expr)?;
            let one = <[Scalar; 1]>::try_from(expr.inputs.as_slice());
            let [element] = one.map_err(|_| {
                Unsupported::new(NAME, "an expression of more than the element of a mask")
            })?;
            (element.wgsl(), "bitcast<u32>(mask_value(mask[at]))")
        }
    };
    composer.read("mask", element);
    composer.text(&format!("fn mask_bits(at: u32) -> u32 {{\n    return {bits};\n}}\n"));
    if view.query == 0 {
        composer.hook("mask_of_key", "read_mask_of_key").hook("add_mask", "add_by_key");
    } else {
        composer.hook("mask_of_key", "no_mask_of_key").hook("add_mask", "add_by_cell");
    }
    Ok(())
}

fn output(composer: &mut Composer, spec: &Spec) {
    let mut body = String::new();
    if spec.output.is_wide(spec.value_dim) {
        spec.output.words(composer, "out", 4);
        composer.write("result", "vec4<f32>");
        body.push_str("    result[row + d] = value;\n");
    } else {
        spec.output.words(composer, "out", 1);
        composer.write("result", "f32");
        for i in 0..4 {
            let dim = spec.value_dim;
            let store = format!(
                "    if (d * 4u + {i}u < {dim}u) {{\n        \
                 result[row + d * 4u + {i}u] = value[{i}];\n    }}\n"
            );
            body.push_str(&store);
        }
    }
    composer.text(&format!("fn store(row: u32, d: u32, value: vec4<f32>) {{\n{body}}}\n"));
}

/// What the output buffer holds afterwards, zero where nothing is stored.
///
/// # Panics
/// Where the inputs are not those of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let at = |rows: &Rows, b: u32, h: u32, row: u32, d: u32| {
        let moved = i64::from(rows.batch) * i64::from(b)
            + i64::from(rows.head) * i64::from(h)
            + i64::from(rows.row) * i64::from(row);
        usize::try_from(i64::from(rows.offset) + moved + i64::from(d)).expect("rows lie inside")
    };
    let (q, k, v) = (inputs[0].f32(), inputs[1].f32(), inputs[2].f32());
    let [mask, counts] = spec.optional(&inputs[3..]);
    let mut out = Vec::new();
    for (b, h) in (0..spec.batch).flat_map(|b| (0..spec.heads).map(move |h| (b, h))) {
        let kv = h / (spec.heads / spec.kv_heads);
        for query in 0..spec.queries {
            let seen = spec.keys_seen(counts, b, query);
            let scores: Vec<f64> = (0..spec.keys)
                .map(|key| {
                    if !seen.contains(&key) {
                        return f64::NEG_INFINITY;
                    }
                    let product: f64 = (0..spec.head_dim)
                        .map(|d| {
                            f64::from(q[at(&spec.q, b, h, query, d)])
                                * f64::from(k[at(&spec.k, b, kv, key, d)])
                        })
                        .sum();
                    let score = product * f64::from(spec.scale);
                    masked(spec, mask, score, [b, h, query, key])
                })
                .collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for d in 0..spec.value_dim {
                let total: f64 = (0..spec.keys)
                    .map(|key| weights[key as usize] * f64::from(v[at(&spec.v, b, kv, key, d)]))
                    .sum();
                let nothing = scores.iter().all(|&score| score == f64::NEG_INFINITY);
                let none = if spec.nan_to_zero { 0.0 } else { f32::NAN };
                let place = at(&spec.output, b, h, query, d);
                out.resize(out.len().max(place + 1), 0.0);
                out[place] = if nothing { none } else { (total / sum) as f32 };
            }
        }
    }
    Data::F32(out)
}

fn masked(spec: &Spec, mask: Option<&Data>, score: f64, [b, h, query, key]: [u32; 4]) -> f64 {
    let at = |view: &MaskView| {
        let moved = i64::from(view.batch) * i64::from(b)
            + i64::from(view.head) * i64::from(h)
            + i64::from(view.query) * i64::from(query)
            + i64::from(view.key) * i64::from(key);
        usize::try_from(i64::from(view.offset) + moved).expect("the mask lies inside its buffer")
    };
    let value = |view: &MaskView, mask: &Data| match &spec.mask_expr {
        None => mask.at(at(view)),
        Some(expr) => expr.eval(&[mask.at(at(view))]),
    };
    let given = match (&spec.mask, mask) {
        (Mask::Additive(view) | Mask::Boolean(view), Some(mask)) => Some(value(view, mask)),
        _ => None,
    };
    match (&spec.mask, given) {
        // A sum in f32, as a model has it: the least f32 takes in any score.
        (Mask::Additive(_), Some(Value::F32(value))) => f64::from(score as f32 + value),
        (Mask::Boolean(_), Some(Value::U32(0))) => f64::NEG_INFINITY,
        _ => score,
    }
}

#[cfg(test)]
mod tests;
