//! `out = (x - mean) / sqrt(variance + eps) * scale + bias` along rows, and the RMS form.
//!
//! Two passes in f32: the mean first, so that the variance does not cancel.

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::kernel::{Caps, Dispatch, Unsupported};
use crate::lanes::Lanes;

const NAME: &str = "norm";

/// Which normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `LayerNormalization` (ONNX 17).
    Layer,
    /// `RMSNormalization` (ONNX 23): no mean is taken off.
    Rms,
}

/// How rows are normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Form {
    /// Which normalisation.
    pub kind: Kind,
    /// Added to the variance.
    pub eps: f32,
    /// There is a scale.
    pub scale: bool,
    /// There is a bias.
    pub bias: bool,
}

impl Form {
    /// How many buffers the scale and the bias take.
    pub const fn operands(self) -> usize {
        self.scale as usize + self.bias as usize
    }
}

/// What to compute over the last axis.
///
/// Bindings: scale `[cols]` (where there is one), bias `[cols]` (where there is one), x
/// `[rows, cols]`, the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// How rows are normalised.
    pub form: Form,
    /// Rows.
    pub rows: u32,
    /// Elements of a row.
    pub cols: u32,
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    ways(NAME, turns(spec.cols), caps)?
        .into_iter()
        .map(|lanes| compose(spec, lanes, caps))
        .collect()
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

fn compose(spec: &Spec, lanes: Lanes, caps: &Caps) -> Result<Dispatch, Unsupported> {
    let mut composer = Composer::new(NAME, lanes.name());
    lanes.declare(&mut composer);
    declare(&mut composer, spec.form, spec.cols, lanes, "value_of_x");
    composer.read("x", part(spec.cols)).write("result", part(spec.cols));
    lanes.finish(composer, "normalise", u64::from(spec.rows), caps)
}

/// How rows are shared where they are normalised: on a software adapter by subgroups first, as
/// [`crate::gemm::normed`] does.
pub(crate) fn ways(name: &'static str, turns: u64, caps: &Caps) -> Result<Vec<Lanes>, Unsupported> {
    let mut ways = Lanes::ways_of_floats(name, turns, caps)?;
    if Lanes::subgroup(caps).is_some_and(|subgroup| ways.last() == Some(&subgroup)) {
        ways.rotate_right(1);
    }
    Ok(ways)
}

/// What a row of `cols` is read and written in.
pub(crate) const fn part(cols: u32) -> &'static str {
    if cols.is_multiple_of(4) { "vec4<f32>" } else { "f32" }
}

/// Turns of the loops over a row that is normalised by one invocation.
pub(crate) fn turns(cols: u32) -> u64 {
    // The mean, the variance, the result.
    3 * u64::from(cols)
}

/// Declares the scale, the bias and `normalise(row, lane)`, whose `lanes` read the row by the
/// function `value` and write it to `result`. Whoever calls it, a row is folded in one order.
pub(crate) fn declare(
    composer: &mut Composer,
    form: Form,
    cols: u32,
    lanes: Lanes,
    value: &'static str,
) {
    composer.source(include_str!("norm.wgsl"));
    let wide = cols.is_multiple_of(4);
    composer.constant("ROW_LANES", lanes.count());
    composer.u32("cols", cols).u32("row_parts", cols / if wide { 4 } else { 1 });
    composer.f32("eps", form.eps);
    composer.text(&format!("alias Part = {};\n", part(cols)));
    composer.hook("fold_part", if wide { "fold_four" } else { "fold_one" });
    composer.hook("row_mean", if form.kind == Kind::Layer { "mean_layer" } else { "mean_rms" });
    composer.hook("row_value", value);
    if form.scale {
        composer.read("scale", part(cols));
    }
    if form.bias {
        composer.read("bias", part(cols));
    }
    let weighted = match (form.scale, form.bias) {
        (false, false) => "value",
        (true, false) => "value * scale[column]",
        (false, true) => "value + bias[column]",
        (true, true) => "fma(value, scale[column], bias[column])",
    };
    composer.text(&format!(
        "fn weighted(value: Part, column: u32) -> Part {{\n    return {weighted};\n}}\n"
    ));
}

/// What the output holds.
///
/// # Panics
/// Where the inputs are not those of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let mut rest = inputs.iter().map(|data| data.f32());
    let mut next = |is: bool| if is { rest.next() } else { None };
    let (scale, bias) = (next(spec.form.scale), next(spec.form.bias));
    let x = next(true).expect("x is bound");
    let cols = spec.cols as usize;
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks_exact(cols.max(1)) {
        let mean = match spec.form.kind {
            Kind::Layer => row.iter().map(|&v| f64::from(v)).sum::<f64>() / cols as f64,
            Kind::Rms => 0.0,
        };
        let variance =
            row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / cols as f64;
        let factor = 1.0 / (variance + f64::from(spec.form.eps)).sqrt();
        for (column, &value) in row.iter().enumerate() {
            let scaled =
                (f64::from(value) - mean) * factor * scale.map_or(1.0, |s| f64::from(s[column]));
            out.push((scaled + bias.map_or(0.0, |b| f64::from(b[column]))) as f32);
        }
    }
    Data::F32(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    const FORM: Form = Form { kind: Kind::Layer, eps: 0.0, scale: true, bias: true };

    #[test]
    fn reference_matches_a_table() {
        let x = Data::F32(vec![1.0, 3.0, 1.0, 3.0, 0.0, 0.0, 4.0, 4.0]);
        let scale = Data::F32(vec![1.0, 2.0, 1.0, 1.0]);
        let bias = Data::F32(vec![0.0, 0.0, 0.5, 0.0]);
        let out = reference(&Spec { form: FORM, rows: 2, cols: 4 }, &[scale, bias, x]);
        assert_eq!(out.f32(), [-1.0, 2.0, -0.5, 1.0, -1.0, -2.0, 1.5, 1.0]);
        let rms = Form { kind: Kind::Rms, scale: false, bias: false, ..FORM };
        let x = Data::F32(vec![3.0, 3.0, 0.0, 2.0]);
        let out = reference(&Spec { form: rms, rows: 2, cols: 2 }, &[x]);
        assert_eq!(out.f32(), [1.0, 1.0, 0.0, std::f32::consts::SQRT_2]);
    }

    #[test]
    fn every_variant_is_valid() {
        for bits in 0..8 {
            let flag = |bit: u32| bits >> bit & 1 == 1;
            let kind = if flag(0) { Kind::Layer } else { Kind::Rms };
            let form = Form { kind, scale: flag(1), bias: flag(2), ..FORM };
            for cols in [3, 4] {
                check::variants(|caps| variants(&Spec { form, rows: 2, cols }, caps));
            }
        }
    }
}
