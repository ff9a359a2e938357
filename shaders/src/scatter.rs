//! `out[r, c] = data[r, c] folded with updates[u, c] for every u with positions[u] = r`.
//!
//! Source: `ScatterElements`, `ScatterND` (ONNX 18). Each result has one invocation, which finds
//! its updates by bisection in their sorted order and takes them in that order: the answer is the
//! same in every run, whatever repeats.

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::kernel::{Caps, Dispatch, Needs, Scalar, Unsupported};

const NAME: &str = "scatter";

/// What an update does to what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of ONNX's `reduction`")]
pub enum Op {
    /// It takes its place; the last one stays.
    Replace,
    Add,
    Mul,
    Max,
    Min,
}

/// What to compute.
///
/// Bindings: data `[rows, inner]`, positions `[count]` (`I32`; one outside the rows changes
/// nothing), order `[count]` (`I32`: the updates by ascending position, equals in their own
/// order), updates `[count, inner]`, the output `[rows, inner]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// What an update does.
    pub op: Op,
    /// The element type of data, updates and output.
    pub scalar: Scalar,
    /// The rows that positions name.
    pub rows: u32,
    /// The length of a row.
    pub inner: u32,
    /// The number of updates.
    pub count: u32,
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let scalar = spec.scalar.wgsl();
    let float = spec.scalar == Scalar::F32;
    let merge = match spec.op {
        Op::Replace => "b",
        Op::Add => "a + b",
        Op::Mul => "a * b",
        Op::Max if float => "max_f32(a, b)",
        Op::Max => "max(a, b)",
        Op::Min if float => "min_f32(a, b)",
        Op::Min => "min(a, b)",
    };
    let mut composer = Composer::new(NAME, format!("{:?} of {scalar}", spec.op));
    composer.source(include_str!("scatter.wgsl")).source(crate::expr::LIBRARY);
    composer.text(&format!(
        "fn merge(a: {scalar}, b: {scalar}) -> {scalar} {{\n    return {merge};\n}}\n"
    ));
    let total = u64::from(spec.rows) * u64::from(spec.inner);
    let size = u32::try_from(total)
        .map_err(|_| Unsupported::new(NAME, format!("{total} elements are too many")))?;
    composer.u32("size", size).u32("inner", spec.inner).u32("updates", spec.count);
    composer.read("data", scalar).read("positions", "i32").read("order", "i32");
    composer.read("updates", scalar).write("result", scalar);
    // All updates may be of one row; two bisections take less than 64 turns.
    composer.turns(u64::from(spec.count) / 16 + 64);
    composer.constant("WIDTH", 64);
    let groups = total.div_ceil(64);
    Ok(vec![composer.finish("scatter_element", 64, groups, Needs::default(), caps)?])
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

/// What the output holds.
///
/// # Panics
/// Where the inputs are not those of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let positions = inputs[1].i32();
    match (inputs[0], inputs[3]) {
        (Data::F32(data), Data::F32(updates)) => {
            let merge = |a: f32, b: f32| match spec.op {
                Op::Replace => b,
                Op::Add => a + b,
                Op::Mul => a * b,
                Op::Max | Op::Min if a.is_nan() || b.is_nan() => f32::NAN,
                Op::Max => a.max(b),
                Op::Min => a.min(b),
            };
            Data::F32(run(spec, data, positions, updates, merge))
        }
        (Data::I32(data), Data::I32(updates)) => {
            let merge = |a: i32, b: i32| match spec.op {
                Op::Replace => b,
                Op::Add => a.wrapping_add(b),
                Op::Mul => a.wrapping_mul(b),
                Op::Max => a.max(b),
                Op::Min => a.min(b),
            };
            Data::I32(run(spec, data, positions, updates, merge))
        }
        (Data::U32(data), Data::U32(updates)) => {
            let merge = |a: u32, b: u32| match spec.op {
                Op::Replace => b,
                Op::Add => a.wrapping_add(b),
                Op::Mul => a.wrapping_mul(b),
                Op::Max => a.max(b),
                Op::Min => a.min(b),
            };
            Data::U32(run(spec, data, positions, updates, merge))
        }
        (data, updates) => panic!("{:?} into {:?}", updates.scalar(), data.scalar()),
    }
}

fn run<T: Copy>(
    spec: &Spec,
    data: &[T],
    positions: &[i32],
    updates: &[T],
    merge: impl Fn(T, T) -> T,
) -> Vec<T> {
    let inner = spec.inner as usize;
    let mut out = data.to_vec();
    for (update, &position) in positions.iter().enumerate() {
        let row = usize::try_from(position).ok().filter(|&row| row < spec.rows as usize);
        let Some(row) = row else { continue };
        for column in 0..inner {
            let at = row * inner + column;
            out[at] = merge(out[at], updates[update * inner + column]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn reference_matches_a_table() {
        let spec = Spec { op: Op::Add, scalar: Scalar::I32, rows: 3, inner: 2, count: 4 };
        let inputs = [
            Data::I32(vec![1, 2, 3, 4, 5, 6]),
            Data::I32(vec![2, 0, 2, 3]),
            Data::I32(vec![1, 0, 2, 3]),
            Data::I32(vec![10, 20, 30, 40, 50, 60, 70, 80]),
        ];
        assert_eq!(reference(&spec, &inputs).i32(), [31, 42, 3, 4, 65, 86]);
        let last = Spec { op: Op::Replace, ..spec };
        assert_eq!(reference(&last, &inputs).i32(), [30, 40, 3, 4, 50, 60]);
    }

    #[test]
    fn every_variant_is_valid() {
        for scalar in [Scalar::F32, Scalar::I32, Scalar::U32] {
            for op in [Op::Replace, Op::Add, Op::Mul, Op::Max, Op::Min] {
                let spec = Spec { op, scalar, rows: 3, inner: 2, count: 4 };
                check::variants(|caps| variants(&spec, caps));
            }
        }
    }
}
