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

/// What to compute over the last axis.
///
/// Bindings: x `[rows, cols]`, the residual (same shape, where `residual`), scale `[cols]` (where
/// `scale`), bias `[cols]` (where `bias`), the output, the sum of x and residual (where
/// `emit_sum`).
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one optional buffer")]
pub struct Spec {
    /// Which normalisation.
    pub kind: Kind,
    /// Rows.
    pub rows: u32,
    /// Elements of a row.
    pub cols: u32,
    /// Added to the variance.
    pub eps: f32,
    /// A second input is added to x first.
    pub residual: bool,
    /// There is a scale.
    pub scale: bool,
    /// There is a bias.
    pub bias: bool,
    /// The sum of x and residual is stored too.
    pub emit_sum: bool,
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    // The mean, the variance, the result.
    let ways = Lanes::ways(NAME, 3 * u64::from(spec.cols), caps)?;
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
    let mut composer = Composer::new(NAME, lanes.name());
    composer.source(include_str!("norm.wgsl"));
    lanes.declare(&mut composer);
    let wide = spec.cols.is_multiple_of(4);
    let part = if wide { "vec4<f32>" } else { "f32" };
    composer.u32("cols", spec.cols).u32("parts", spec.cols / if wide { 4 } else { 1 });
    composer.f32("eps", spec.eps);
    composer.text(&format!("alias Part = {part};\n"));
    composer.hook("across", if wide { "across_four" } else { "across_one" });
    composer.hook("row_mean", if spec.kind == Kind::Layer { "mean_layer" } else { "mean_rms" });
    composer.hook("row_value", if spec.residual { "value_sum" } else { "value_plain" });
    composer.read("x", part);
    let mut value = "value".to_owned();
    if spec.residual {
        composer.read("residual", part);
    }
    if spec.scale {
        composer.read("scale", part);
        value.push_str(" * scale[column]");
    }
    if spec.bias {
        composer.read("bias", part);
        value.push_str(" + bias[column]");
    }
    composer.write("result", part);
    let mut stores = format!("    result[at] = {value};\n");
    if spec.emit_sum {
        composer.write("total", part);
        stores.push_str("    total[at] = sum;\n");
    }
    composer
        .text(&format!("fn store(at: u32, column: u32, value: Part, sum: Part) {{\n{stores}}}\n"));
    lanes.finish(composer, "normalise", u64::from(spec.rows), caps)
}

/// The result, and the sum of x and residual.
///
/// # Panics
/// Where the inputs are not those of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> [Data; 2] {
    let inputs = &borrowed(inputs);
    let mut rest = inputs.iter().map(|data| data.f32());
    let mut next = |is: bool| if is { rest.next() } else { None };
    let (x, residual) = (next(true).expect("x is bound"), next(spec.residual));
    let (scale, bias) = (next(spec.scale), next(spec.bias));
    let cols = spec.cols as usize;
    let sums: Vec<f32> = (0..x.len()).map(|at| x[at] + residual.map_or(0.0, |r| r[at])).collect();
    let mut out = Vec::with_capacity(sums.len());
    for row in sums.chunks_exact(cols.max(1)) {
        let mean = match spec.kind {
            Kind::Layer => row.iter().map(|&v| f64::from(v)).sum::<f64>() / cols as f64,
            Kind::Rms => 0.0,
        };
        let variance =
            row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / cols as f64;
        let factor = 1.0 / (variance + f64::from(spec.eps)).sqrt();
        for (column, &value) in row.iter().enumerate() {
            let scaled =
                (f64::from(value) - mean) * factor * scale.map_or(1.0, |s| f64::from(s[column]));
            out.push((scaled + bias.map_or(0.0, |b| f64::from(b[column]))) as f32);
        }
    }
    [Data::F32(out), Data::F32(sums)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    const SPEC: Spec = Spec {
        kind: Kind::Layer,
        rows: 2,
        cols: 4,
        eps: 0.0,
        residual: false,
        scale: true,
        bias: true,
        emit_sum: false,
    };

    #[test]
    fn reference_matches_a_table() {
        let x = Data::F32(vec![1.0, 3.0, 1.0, 3.0, 0.0, 0.0, 4.0, 4.0]);
        let scale = Data::F32(vec![1.0, 2.0, 1.0, 1.0]);
        let bias = Data::F32(vec![0.0, 0.0, 0.5, 0.0]);
        let [out, _] = reference(&SPEC, &[x.clone(), scale, bias]);
        assert_eq!(out.f32(), [-1.0, 2.0, -0.5, 1.0, -1.0, -2.0, 1.5, 1.0]);
        let rms = Spec { kind: Kind::Rms, scale: false, bias: false, cols: 2, rows: 4, ..SPEC };
        let [out, _] = reference(&rms, &[Data::F32(vec![3.0, 3.0, 0.0, 2.0])]);
        assert_eq!(out.f32(), [1.0, 1.0, 0.0, std::f32::consts::SQRT_2]);
    }

    #[test]
    fn every_variant_is_valid() {
        for bits in 0..32 {
            let flag = |bit: u32| bits >> bit & 1 == 1;
            let spec = Spec {
                kind: if flag(0) { Kind::Layer } else { Kind::Rms },
                residual: flag(1),
                scale: flag(2),
                bias: flag(3),
                emit_sum: flag(4),
                ..SPEC
            };
            for cols in [3, 4] {
                check::variants(|caps| variants(&Spec { cols, ..spec.clone() }, caps));
            }
        }
    }
}
