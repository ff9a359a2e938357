//! `out[o, j, i] = fold over r <= j of x[o, r, i]`: running sums and products.
//!
//! Source: `CumSum` (ONNX 14), `CumProd` (ONNX 26).

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::kernel::{Caps, Dispatch, LOOP_TURNS_MAX, Scalar, Unsupported};
use crate::lanes::Lanes;

const NAME: &str = "scan";

/// The fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Op {
    Sum,
    Prod,
}

/// What to compute along the middle axis of `[outer, len, inner]`.
///
/// Bindings: x, the output, both of `scalar`.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The fold.
    pub op: Op,
    /// `F32` or `I32`, which wraps.
    pub scalar: Scalar,
    /// An element is no part of its own result: the first is 0, or 1 for products.
    pub exclusive: bool,
    /// From the end of the axis to its start.
    pub reverse: bool,
    /// The axes before.
    pub outer: u32,
    /// The axis that is run along.
    pub len: u32,
    /// The axes after.
    pub inner: u32,
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    if spec.scalar == Scalar::U32 {
        return Err(Unsupported::new(NAME, "booleans have no sum"));
    }
    // Sharing adds eight turns for each tile of 64: six steps, and the ends of their loop.
    let ways = Lanes::ways(NAME, u64::from(spec.len), caps)?;
    let shared_turns = u64::from(spec.len).div_ceil(64) * 9;
    let fits =
        |lanes: &Lanes| !caps.software || *lanes == Lanes::Alone || shared_turns <= LOOP_TURNS_MAX;
    let ways: Vec<Lanes> = ways.into_iter().filter(fits).collect();
    if ways.is_empty() {
        let reason = format!("{} elements on a software adapter", spec.len);
        return Err(Unsupported::new(NAME, reason));
    }
    ways.into_iter().map(|lanes| compose(spec, lanes, caps)).collect()
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

fn compose(spec: &Spec, lanes: Lanes, caps: &Caps) -> Result<Dispatch, Unsupported> {
    let scalar = spec.scalar.wgsl();
    let mut composer = Composer::new(NAME, format!("{:?} of {scalar}, {}", spec.op, lanes.name()));
    composer.source(include_str!("scan.wgsl"));
    lanes.declare(&mut composer);
    let (start, merge) = match spec.op {
        Op::Sum => ("Elem(0)", "a + b"),
        Op::Prod => ("Elem(1)", "a * b"),
    };
    composer.text(&format!(
        "alias Elem = {scalar};\nfn start() -> Elem {{\n    return {start};\n}}\n\
         fn merge(a: Elem, b: Elem) -> Elem {{\n    return {merge};\n}}\n"
    ));
    composer.u32("len", spec.len).u32("inner", spec.inner.max(1));
    composer.u32("exclusive", spec.exclusive.into()).u32("reverse", spec.reverse.into());
    composer.read("x", scalar).write("result", scalar);
    let rows = u64::from(spec.outer) * u64::from(spec.inner);
    let entry = if lanes == Lanes::Alone { "scan_alone" } else { "scan_shared" };
    lanes.finish(composer, entry, rows, caps)
}

/// What the output holds.
///
/// # Panics
/// Where the input is not that of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    match inputs[0] {
        Data::F32(x) => Data::F32(run(spec, x, f64::from, |total| total as f32)),
        Data::I32(x) => Data::I32(run(spec, x, i64::from, |total| total as i32)),
        Data::U32(_) => panic!("booleans have no sum"),
    }
}

fn run<T, W>(spec: &Spec, x: &[T], wide: impl Fn(T) -> W, narrow: impl Fn(W) -> T) -> Vec<T>
where
    T: Copy + Default,
    W: Copy + From<u8> + std::ops::Add<Output = W> + std::ops::Mul<Output = W>,
{
    let (len, inner) = (spec.len as usize, spec.inner as usize);
    let mut out = vec![T::default(); x.len()];
    for row in 0..spec.outer as usize * inner {
        let first = row / inner * len * inner + row % inner;
        let mut total = W::from(u8::from(spec.op == Op::Prod));
        for step in 0..len {
            let place = if spec.reverse { len - 1 - step } else { step };
            let at = first + place * inner;
            let next = match spec.op {
                Op::Sum => total + wide(x[at]),
                Op::Prod => total * wide(x[at]),
            };
            out[at] = narrow(if spec.exclusive { total } else { next });
            // An integer wraps at every step, so that products stay within `W`.
            total = wide(narrow(next));
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
        let x = [Data::I32(vec![1, 2, 3, 4, 5, 6])];
        let spec = Spec {
            op: Op::Sum,
            scalar: Scalar::I32,
            exclusive: false,
            reverse: false,
            outer: 1,
            len: 3,
            inner: 2,
        };
        let given = |spec: &Spec| reference(spec, &x).i32().to_vec();
        assert_eq!(given(&spec), [1, 2, 4, 6, 9, 12]);
        let exclusive = Spec { exclusive: true, ..spec.clone() };
        assert_eq!(given(&exclusive), [0, 0, 1, 2, 4, 6]);
        let back = Spec { exclusive: true, reverse: true, op: Op::Prod, ..spec };
        assert_eq!(given(&back), [15, 24, 5, 6, 1, 1]);
    }

    #[test]
    fn every_variant_is_valid() {
        for scalar in [Scalar::F32, Scalar::I32] {
            for op in [Op::Sum, Op::Prod] {
                let (exclusive, reverse) = (false, true);
                let spec = Spec { op, scalar, exclusive, reverse, outer: 2, len: 5, inner: 3 };
                check::variants(|caps| variants(&spec, caps));
            }
        }
        let spec = Spec {
            op: Op::Sum,
            scalar: Scalar::U32,
            exclusive: false,
            reverse: false,
            outer: 1,
            len: 1,
            inner: 1,
        };
        assert!(dispatch(&spec, &Caps::minimal()).is_err());
    }
}
