//! `out[o, i] = fold over r of x[o, r, i]`.
//!
//! Source: `ReduceSum` and its family (ONNX 18), `ArgMax`, `ArgMin` (ONNX 13).

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::expr::Value;
use crate::kernel::{Caps, Dispatch, Scalar, Unsupported};
use crate::lanes::Lanes;

const NAME: &str = "reduce";

/// The fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the ONNX operators")]
pub enum Op {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L1,
    L2,
    SumSquare,
    LogSum,
    LogSumExp,
    /// The position of the largest; of equals the first, or the last.
    ArgMax {
        last: bool,
    },
    /// The position of the smallest; of equals the first, or the last.
    ArgMin {
        last: bool,
    },
}

/// What to compute over the middle axis of `[outer, reduced, inner]`.
///
/// Bindings: x, the output, of x's type (`I32` for the `Arg` forms).
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The fold.
    pub op: Op,
    /// The element type: `F32` or `I32`, and `U32` for `Max`, `Min` and the `Arg` forms.
    pub scalar: Scalar,
    /// The axes before.
    pub outer: u32,
    /// The axis folded away.
    pub reduced: u32,
    /// The axes after.
    pub inner: u32,
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let (float, arg) = (spec.scalar == Scalar::F32, is_arg(spec.op));
    let integers = matches!(
        spec.op,
        Op::Sum | Op::Mean | Op::Max | Op::Min | Op::Prod | Op::L1 | Op::SumSquare
    );
    let unsigned = matches!(spec.op, Op::Max | Op::Min);
    if !(float || arg || unsigned || integers && spec.scalar == Scalar::I32) {
        return Err(Unsupported::new(NAME, format!("{:?} of {:?}", spec.op, spec.scalar)));
    }
    if arg && spec.reduced == 0 {
        return Err(Unsupported::new(NAME, "no element has a position"));
    }
    let shareable = float && !arg && spec.op != Op::Prod;
    // Parts of 32 are a loop of their own, which takes three turns more; the largest value is
    // found first where it is needed.
    let passes = if spec.op == Op::LogSumExp { 2 } else { 1 };
    let turns = u64::from(spec.reduced) * passes + u64::from(spec.reduced) / 8;
    let ways: Vec<Lanes> = Lanes::ways_of_floats(NAME, turns, caps)?
        .into_iter()
        .filter(|&lanes| shareable || lanes == Lanes::Alone)
        .collect();
    if ways.is_empty() {
        let reason = format!("{:?} over {} elements on a software adapter", spec.op, spec.reduced);
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

const fn is_arg(op: Op) -> bool {
    matches!(op, Op::ArgMax { .. } | Op::ArgMin { .. })
}

fn compose(spec: &Spec, lanes: Lanes, caps: &Caps) -> Result<Dispatch, Unsupported> {
    let mut composer = Composer::new(NAME, format!("{:?}, {}", spec.op, lanes.name()));
    composer.source(include_str!("reduce.wgsl")).source(crate::expr::LIBRARY);
    lanes.declare(&mut composer);
    composer.text(&format!("alias Elem = {};\n", spec.scalar.wgsl()));
    composer.u32("reduced", spec.reduced).u32("inner", spec.inner.max(1));
    let rows = u64::from(spec.outer) * u64::from(spec.inner);
    composer.read("x", spec.scalar.wgsl());
    if is_arg(spec.op) {
        composer.write("result", "i32");
        arg_hooks(&mut composer, spec);
        return lanes.finish(composer, "arg_row", rows, caps);
    }
    composer.write("result", spec.scalar.wgsl());
    fold_hooks(&mut composer, spec, lanes);
    lanes.finish(composer, "reduce_row", rows, caps)
}

fn arg_hooks(composer: &mut Composer, spec: &Spec) {
    let (last, sign) = match spec.op {
        Op::ArgMin { last } => (last, "<"),
        Op::ArgMax { last } => (last, ">"),
        _ => (false, ">"),
    };
    composer.hook("replaces", if last { "replaces_last" } else { "replaces_first" });
    composer.hook("is_odd", if spec.scalar == Scalar::F32 { "is_nan" } else { "is_never_odd" });
    composer.text(&format!("fn beats(a: Elem, b: Elem) -> bool {{\n    return a {sign} b;\n}}\n"));
}

/// What a fold starts from, does to each element, how it merges two, and what it ends with.
fn fold_hooks(composer: &mut Composer, spec: &Spec, lanes: Lanes) {
    let float = spec.scalar == Scalar::F32;
    let (least, most) = match spec.scalar {
        Scalar::F32 => ("from_bits(0xff800000u)", "from_bits(0x7f800000u)"),
        Scalar::I32 => ("i32(-2147483648)", "2147483647i"),
        Scalar::U32 => ("0u", "0xffffffffu"),
    };
    let start = match spec.op {
        Op::Max => least,
        Op::Min => most,
        Op::Prod => "Elem(1)",
        _ => "Elem(0)",
    };
    let prepare = match spec.op {
        Op::L1 => "abs(value)",
        Op::L2 | Op::SumSquare => "value * value",
        Op::LogSumExp => "exp(value - shift)",
        _ => "value",
    };
    let merge = match spec.op {
        Op::Max if float => "max_f32(a, b)",
        Op::Max => "max(a, b)",
        Op::Min if float => "min_f32(a, b)",
        Op::Min => "min(a, b)",
        Op::Prod => "a * b",
        _ => "a + b",
    };
    let finish = match spec.op {
        Op::Mean => "total / Elem(params.reduced)",
        Op::L2 => "sqrt(total)",
        Op::LogSum => "log_f32(total)",
        Op::LogSumExp => "log_f32(total) + shift",
        _ => "total",
    };
    let shift = if spec.op == Op::LogSumExp { "largest_shift" } else { "no_shift" };
    composer.hook("shift_of", shift);
    composer.hook(
        "merge_lanes",
        match spec.op {
            _ if lanes == Lanes::Alone => "merge_alone",
            Op::Max => lanes.max(),
            Op::Min => "merge_min_lanes",
            _ => lanes.sum(),
        },
    );
    composer.text(&format!(
        "fn start() -> Elem {{\n    return {start};\n}}\n\
         fn prepare(value: Elem, shift: Elem) -> Elem {{\n    return {prepare};\n}}\n\
         fn merge(a: Elem, b: Elem) -> Elem {{\n    return {merge};\n}}\n\
         fn finish(total: Elem, shift: Elem) -> Elem {{\n    return {finish};\n}}\n"
    ));
}

/// What the output holds.
///
/// # Panics
/// Where the input is not that of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let (reduced, inner) = (spec.reduced as usize, spec.inner as usize);
    let rows = 0..spec.outer as usize * inner;
    let row = |row: usize| -> Vec<Value> {
        let start = row / inner * reduced * inner + row % inner;
        (0..reduced).map(|i| inputs[0].at(start + i * inner)).collect()
    };
    let number = |value: &Value| match *value {
        Value::F32(value) => f64::from(value),
        Value::I32(value) => f64::from(value),
        Value::U32(value) => f64::from(value),
    };
    if is_arg(spec.op) {
        let place = |row: Vec<Value>| arg(spec.op, &row.iter().map(number).collect::<Vec<_>>());
        return Data::I32(rows.map(|index| place(row(index))).collect());
    }
    let fold = |row: Vec<Value>| {
        let value = fold(spec.op, &row.iter().map(number).collect::<Vec<_>>());
        // Whole sums wrap, as they do in ONNX Runtime.
        if spec.scalar == Scalar::I32 && value.is_finite() {
            return Value::I32((value as i64) as i32);
        }
        Value::new(spec.scalar, value)
    };
    Data::collect(spec.scalar, rows.map(|index| fold(row(index))))
}

fn fold(op: Op, row: &[f64]) -> f64 {
    let sum = |map: fn(f64) -> f64| row.iter().map(|&value| map(value)).sum::<f64>();
    let extreme = |start: f64, pick: fn(f64, f64) -> f64| {
        let any_nan = row.iter().any(|value| value.is_nan());
        if any_nan { f64::NAN } else { row.iter().copied().fold(start, pick) }
    };
    match op {
        Op::Sum => sum(|value| value),
        Op::Mean => sum(|value| value) / row.len() as f64,
        Op::Max => extreme(f64::NEG_INFINITY, f64::max),
        Op::Min => extreme(f64::INFINITY, f64::min),
        Op::Prod => row.iter().product(),
        Op::L1 => sum(f64::abs),
        Op::L2 => sum(|value| value * value).sqrt(),
        Op::SumSquare => sum(|value| value * value),
        Op::LogSum => sum(|value| value).ln(),
        Op::LogSumExp => {
            let top = extreme(f64::NEG_INFINITY, f64::max);
            row.iter().map(|value| (value - top).exp()).sum::<f64>().ln() + top
        }
        Op::ArgMax { .. } | Op::ArgMin { .. } => panic!("positions are not folded"),
    }
}

fn arg(op: Op, row: &[f64]) -> i32 {
    let (last, sign) = match op {
        Op::ArgMin { last } => (last, -1.0),
        Op::ArgMax { last } => (last, 1.0),
        _ => panic!("not a position"),
    };
    let beats = |a: f64, b: f64| sign * a > sign * b || a.is_nan() && !b.is_nan();
    let mut best = 0;
    for (place, &value) in row.iter().enumerate().skip(1) {
        let replaces = if last { !beats(row[best], value) } else { beats(value, row[best]) };
        if replaces {
            best = place;
        }
    }
    i32::try_from(best).expect("a row has fewer than 2^31 elements")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    const OPS: [Op; 14] = [
        Op::Sum,
        Op::Mean,
        Op::Max,
        Op::Min,
        Op::Prod,
        Op::L1,
        Op::L2,
        Op::SumSquare,
        Op::LogSum,
        Op::LogSumExp,
        Op::ArgMax { last: false },
        Op::ArgMax { last: true },
        Op::ArgMin { last: false },
        Op::ArgMin { last: true },
    ];

    #[test]
    fn reference_matches_a_table() {
        let x = Data::F32(vec![3.0, -4.0, 3.0, 2.0]);
        let given = |op| {
            let spec = Spec { op, scalar: Scalar::F32, outer: 1, reduced: 4, inner: 1 };
            match reference(&spec, std::slice::from_ref(&x)) {
                Data::F32(values) => f64::from(values[0]),
                Data::I32(values) => f64::from(values[0]),
                Data::U32(_) => unreachable!(),
            }
        };
        let sum_of_exponentials = 2.0 * 3.0f64.exp() + (-4.0f64).exp() + 2.0f64.exp();
        let expected = [
            4.0,
            1.0,
            3.0,
            -4.0,
            -72.0,
            12.0,
            38.0f64.sqrt(),
            38.0,
            4.0f64.ln(),
            sum_of_exponentials.ln(),
            0.0,
            2.0,
            1.0,
            1.0,
        ];
        for (op, expected) in OPS.into_iter().zip(expected) {
            assert!((given(op) - expected).abs() < 1e-6, "{op:?}: {}", given(op));
        }
        let columns = Spec { op: Op::Sum, scalar: Scalar::I32, outer: 2, reduced: 2, inner: 2 };
        let x = Data::I32(vec![1, 2, 3, 4, i32::MAX, 0, 1, 0]);
        assert_eq!(reference(&columns, &[x]).i32(), [4, 6, i32::MIN, 0]);
    }

    #[test]
    fn a_row_of_too_many_turns_is_refused_on_software_and_shared_where_it_can_be() {
        let software = Caps { software: true, ..Caps::minimal() };
        let spec = Spec { op: Op::Prod, scalar: Scalar::F32, outer: 1, reduced: 100_000, inner: 1 };
        assert!(dispatch(&spec, &software).is_err());
        assert!(dispatch(&spec, &Caps::minimal()).is_ok());
        let sum = Spec { op: Op::Sum, ..spec };
        let shared = dispatch(&sum, &software).expect("a workgroup shares the row");
        assert_eq!(shared.workgroups, [1, 1, 1]);
        assert!(shared.kernel.variant.contains("workgroup"));
    }

    #[test]
    fn every_variant_is_valid() {
        for scalar in [Scalar::F32, Scalar::I32, Scalar::U32] {
            for op in OPS {
                let spec = Spec { op, scalar, outer: 2, reduced: 3, inner: 4 };
                if scalar == Scalar::F32 || dispatch(&spec, &Caps::minimal()).is_ok() {
                    check::variants(|caps| variants(&spec, caps));
                }
            }
        }
        let unsigned = Spec { op: Op::Sum, scalar: Scalar::U32, outer: 1, reduced: 1, inner: 1 };
        assert!(dispatch(&unsigned, &Caps::minimal()).is_err());
    }
}
