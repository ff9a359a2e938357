//! `out[b, y, x, c] = epilogue(sum over dy, dx, i of in[b, …, i] * w[dy, dx, i, c], …)`.
//!
//! A convolution whose channels lie side by side, so that one load brings four: a pixel's window
//! is a row of an implicit matrix product, with the variants of [`crate::gemm`]. A depthwise one
//! keeps neighbouring pixels in registers, see [`depthwise`]. Source: `Conv` (ONNX 22).

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::gemm::{self, Epilogue, Weights};
use crate::kernel::{Caps, Dispatch, Scalar, Unsupported};
use crate::layout::{Matrix, View};
use crate::operands;

pub use super::depthwise::pack as pack_depthwise;
use super::{NAME, Windows, depthwise};

/// What to compute.
///
/// Bindings: x, seen as `[batch, h, w, channels_in]`, the weights, their scales `[channels_out]`
/// where they are bytes, the epilogue's further inputs, the output. Pairs are (height, width). The
/// weights are a packed matrix `[kernel h * kernel w * channels_in, channels_out]` of
/// [`crate::gemm`], or of a depthwise convolution `[kernel h * kernel w, channels]` of
/// [`pack_depthwise`].
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Batch entries.
    pub batch: u32,
    /// Whether each channel of the output is made of the same channel of x, and of no other.
    pub depthwise: bool,
    /// How the weights are packed: not strided, not in blocks. Those of a depthwise convolution are
    /// `f32`: a window per channel is a small share of a model.
    pub filters: Weights,
    /// Channels of x.
    pub channels_in: u32,
    /// Channels of the output; as many where `depthwise`.
    pub channels_out: u32,
    /// Where the windows lie.
    pub windows: Windows,
    /// Where x lies: any strides.
    pub x: View,
    /// Whether the pixels of all batch entries are the rows of one matrix; else each entry has a
    /// matrix of its own, along the first batch axis.
    pub together: bool,
    /// Where the output goes: rows are pixels, columns channels.
    pub result: Matrix,
    /// What is done to each accumulator; further inputs lie as the output does.
    pub epilogue: Epilogue,
}

impl Spec {
    /// The rows, columns and terms of the product.
    fn shape(&self) -> Result<gemm::Shape, Unsupported> {
        let product = |sizes: &[u32]| {
            sizes.iter().try_fold(1u32, |all, &size| all.checked_mul(size)).ok_or_else(|| {
                Unsupported::new(NAME, format!("a product of {sizes:?} beyond 32 bits"))
            })
        };
        let rows = product(&[self.batch, self.windows.output[0], self.windows.output[1]])?;
        let (batch, m) = if self.together || self.batch == 0 {
            (1, rows)
        } else {
            (self.batch, rows / self.batch)
        };
        let each = if self.depthwise { 1 } else { self.channels_in };
        let k = product(&[self.windows.kernel[0], self.windows.kernel[1], each])?;
        Ok(gemm::Shape { batch: [batch, 1], m, n: self.channels_out, k })
    }
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let shape = spec.shape()?;
    let is_packed = !matches!(spec.filters, Weights::Strided(_) | Weights::Blocks { .. });
    if !is_packed || (spec.depthwise && spec.filters != Weights::PackedF32) {
        return Err(Unsupported::new(NAME, format!("filters as {:?}", spec.filters)));
    }
    if spec.depthwise {
        return depthwise::variants(spec, shape, caps);
    }
    let rows = shape.batch[0].saturating_mul(shape.m);
    gemm::variants_with(NAME, shape, false, caps, &|composer| {
        window(composer, spec, rows.max(shape.k));
        if !operands::packed::b(composer, spec.filters) {
            composer.read_fours("b", Scalar::F32);
            composer.hook("b_at", "b_at_packed").hook("load_b", "load_b_packed");
        }
        let scaled = gemm::is_scaled(spec.filters);
        operands::epilogue(composer, shape.n, &spec.result, &spec.epilogue, scaled)
    })
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

/// Declares x and its windows; `largest` bounds what is divided.
pub(super) fn window(composer: &mut Composer, spec: &Spec, largest: u32) {
    composer.source(include_str!("last.wgsl")).source(include_str!("../operands.wgsl"));
    let wide = is_wide(spec);
    spec.windows.declare(composer);
    let [rows, columns] = spec.windows.output;
    composer.u32("channels", spec.channels_in).u32("pixels", rows * columns);
    let unit: i32 = if wide { 4 } else { 1 };
    composer.u32("x_offset", spec.x.offset / unit.cast_unsigned());
    for (axis, stride) in ["n", "h", "w"].into_iter().zip(&spec.x.strides) {
        composer.u32(format!("x_{axis}"), (stride / unit).cast_unsigned());
    }
    if wide {
        composer.read_fours("a", Scalar::F32).hook("load_a", "load_a_tap");
        composer.hook("four_channels", "four_channels_wide");
    } else {
        composer.u32("x_c", spec.x.strides[3].cast_unsigned());
        composer.read("a", "f32").hook("load_a", "load_a_taps");
        composer.hook("four_channels", "four_channels_apart");
    }
    let quotient = if largest < 1 << 21 { "quotient_small" } else { "quotient_any" };
    composer.hook("a_at", "a_at_pixel").hook("quotient", quotient);
}

/// Whether four channels of x are one aligned vec4.
fn is_wide(spec: &Spec) -> bool {
    let [outer @ .., channel] = spec.x.strides.as_slice() else { return false };
    *channel == 1
        && spec.channels_in.is_multiple_of(4)
        && spec.x.offset.is_multiple_of(4)
        && outer.iter().all(|stride| stride % 4 == 0)
}

/// What the output buffer holds, zero where nothing is stored.
///
/// # Panics
/// Where the inputs are not those of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let (x, weights) = (inputs[0].f32(), weights(spec, inputs[1]));
    let [rows, columns] = spec.windows.output;
    let shape = spec.shape().expect("the sizes are those of a dispatch");
    let sum = |z: [u32; 2], row: u32, channel: u32| {
        let row = z[0] * shape.m + row;
        let (image, pixel) = (row / (rows * columns), row % (rows * columns));
        let corner = [pixel / columns, pixel % columns];
        let mut total = 0.0;
        for (tap, of) in spec.windows.taps().enumerate() {
            let Some(at) = spec.windows.place(corner, of) else { continue };
            let channels = if spec.depthwise { channel..channel + 1 } else { 0..spec.channels_in };
            for from in channels {
                let value = x[spec.x.at(&[image, at[0], at[1], from])];
                let row = if spec.depthwise {
                    tap
                } else {
                    tap * spec.channels_in as usize + from as usize
                };
                let weight = weights[row * spec.channels_out as usize + channel as usize];
                total += f64::from(value) * f64::from(weight);
            }
        }
        total
    };
    let size = [shape.m, spec.channels_out];
    let scales = gemm::is_scaled(spec.filters).then(|| inputs[2].f32());
    let further = &inputs[2 + usize::from(scales.is_some())..];
    let scaled = |z, row, channel: u32| {
        let scale = scales.map_or(1.0, |scales| scales[channel as usize]);
        sum(z, row, channel) * f64::from(scale)
    };
    gemm::product(shape.batch, size, &spec.result, &spec.epilogue, further, scaled)
}

/// The weights as a row-major matrix, one row per term of the sum, before the scales of channels.
///
/// # Panics
/// Where `packed` are not those of the spec.
pub fn weights(spec: &Spec, packed: &Data) -> Vec<f32> {
    let taps = spec.windows.kernel[0] * spec.windows.kernel[1];
    if spec.depthwise {
        return depthwise::unpacked(packed.f32(), taps, spec.channels_out);
    }
    let (k, n) = (taps * spec.channels_in, spec.channels_out);
    match spec.filters {
        Weights::PackedF32 => gemm::unpack_f32(packed.f32(), k, n),
        narrow => gemm::dense(narrow, [k, n], &[packed]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;
    use crate::expr::{Binary, Expr};

    fn spec(depthwise: bool, channels: [u32; 2], input: [u32; 2], kernel: [u32; 2]) -> Spec {
        let output = [input[0] - kernel[0] + 1, input[1] - kernel[1] + 1];
        Spec {
            batch: 1,
            depthwise,
            filters: Weights::PackedF32,
            channels_in: channels[0],
            channels_out: channels[1],
            windows: Windows {
                input,
                output,
                kernel,
                strides: [1, 1],
                pads: [0, 0],
                dilations: [1, 1],
            },
            x: View::dense(&[1, input[0], input[1], channels[0]]),
            together: true,
            result: Matrix::dense([1, 1], output[0] * output[1], channels[1]),
            epilogue: Epilogue::identity(),
        }
    }

    #[test]
    fn reference_matches_a_table() {
        // Two channels, three pixels in a row, a window of two.
        let x = Data::F32(vec![1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
        let full = spec(false, [2, 1], [1, 3], [1, 2]);
        let packed = Data::F32(gemm::pack_f32(&[1.0, 0.1, 100.0, 10.0], 4, 1));
        assert_eq!(reference(&full, &[&x, &packed]).f32(), [402.0, 604.0]);
        let bytes = Spec { filters: Weights::PackedI8, ..full };
        let packed = Data::U32(gemm::pack_i8(&[10, 1, 100, 10], 4, 1));
        let scale = Data::F32(vec![0.5]);
        assert_eq!(reference(&bytes, &[&x, &packed, &scale]).f32(), [210.0, 320.0]);
        let each = spec(true, [2, 2], [1, 3], [1, 2]);
        let packed = Data::F32(pack_depthwise(&[1.0, 2.0, 10.0, 20.0], 2, 2));
        let mut padded = each.clone();
        padded.windows.pads = [0, 1];
        assert_eq!(reference(&each, &[&x, &packed]).f32(), [21.0, 420.0, 32.0, 640.0]);
        assert_eq!(reference(&padded, &[&x, &packed]).f32(), [10.0, 200.0, 21.0, 420.0]);
    }

    #[test]
    fn every_variant_is_valid() {
        let shapes = [
            spec(false, [8, 32], [9, 9], [3, 3]),
            spec(false, [3, 6], [9, 8], [3, 3]),
            spec(false, [4, 40], [2000, 2000], [1, 1]),
            spec(true, [8, 8], [9, 8], [3, 3]),
            spec(true, [6, 6], [9, 8], [5, 5]),
            spec(true, [8, 8], [20, 20], [3, 9]),
        ];
        for mut spec in shapes {
            check::variants(|caps| variants(&spec, caps));
            let mut expr = Expr::binary(Binary::Add, Scalar::F32);
            expr = expr.then(&Expr::binary(Binary::Add, Scalar::F32), 0);
            let inputs = vec![Matrix::per_column(), spec.result];
            spec.epilogue = Epilogue { expr, inputs };
            check::variants(|caps| variants(&spec, caps));
            for filters in [Weights::PackedI8, Weights::PackedU8, Weights::PackedF16] {
                spec.filters = filters;
                if spec.depthwise {
                    assert!(dispatch(&spec, &Caps::minimal()).is_err());
                } else {
                    check::variants(|caps| variants(&spec, caps));
                }
            }
        }
    }
}
