//! `out[b, c, y, x] = epilogue(sum over i, dy, dx of w[c, i, dy, dx] * in[b, i, …], …)`.
//!
//! An implicit matrix product with the variants of [`crate::gemm`]: rows are output channels,
//! columns pixels. A window of 1 x 1 reads x as the matrix that it is; a depthwise convolution has
//! a variant of its own, one invocation per four pixels. Source: `Conv` (ONNX 22).
//!
//! - [`last`]: with channels side by side; its `depthwise` convolutions.

mod depthwise;
pub mod last;
mod windows;

use std::borrow::Borrow;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::gemm::{self, Epilogue, Weights};
use crate::kernel::{Caps, Dispatch, Needs, Scalar, Unsupported, check_turns};
use crate::layout::Matrix;

pub use windows::Windows;

const NAME: &str = "conv";

/// Rows and columns of an output with shorter sides share a word.
const SIDE_MAX: u32 = 1 << 16;

/// What to compute: a 2-D convolution in NCHW (`Conv`, ONNX 22); one axis is height 1.
///
/// Bindings: x `[batch, channels_in, h, w]`, weights
/// `[channels_out, channels_in / groups, kernel h, kernel w]`, the epilogue's further inputs, the
/// output `[batch, channels_out, h, w]`. Pairs are (height, width).
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Batch entries.
    pub batch: u32,
    /// Groups; divides both channel counts.
    pub groups: u32,
    /// Channels of x.
    pub channels_in: u32,
    /// Channels of the output.
    pub channels_out: u32,
    /// Where the windows lie.
    pub windows: Windows,
    /// What is done to each accumulator. Further inputs are addressed by batch axes
    /// (batch entry, group), row = channel inside the group, column = pixel: see
    /// [`Spec::per_channel`] and [`Spec::like_output`].
    pub epilogue: Epilogue,
}

impl Spec {
    /// An epilogue input with one value per output channel, such as a bias.
    pub fn per_channel(&self) -> Matrix {
        let per_group = self.channels_out / self.groups.max(1);
        Matrix { offset: 0, batch: [0, per_group.cast_signed()], row: 1, col: 0 }
    }

    /// An epilogue input with the shape of the output, such as a residual.
    pub fn like_output(&self) -> Matrix {
        let pixels = self.windows.output[0].wrapping_mul(self.windows.output[1]);
        Matrix::dense([self.batch, self.groups], self.channels_out / self.groups.max(1), pixels)
    }
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where channel counts do not divide by the groups, or a size is beyond the kernel.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let unsupported = |reason: String| Err(Unsupported::new(NAME, reason));
    let groups = spec.groups;
    let divides = |channels: u32| groups != 0 && channels.is_multiple_of(groups);
    if !divides(spec.channels_in) || !divides(spec.channels_out) {
        let (channels_in, channels_out) = (spec.channels_in, spec.channels_out);
        return unsupported(format!(
            "{channels_in} and {channels_out} channels in {groups} groups"
        ));
    }
    let channels = spec.channels_in / groups;
    let k =
        u64::from(channels) * u64::from(spec.windows.kernel[0]) * u64::from(spec.windows.kernel[1]);
    let Ok(k) = u32::try_from(k) else {
        return unsupported(format!("{k} weights for one output channel"));
    };
    let shape = gemm::Shape {
        batch: [spec.batch, groups],
        m: spec.channels_out / groups,
        n: spec.windows.output[0].wrapping_mul(spec.windows.output[1]),
        k,
    };
    let whole = spec.windows.kernel == [1, 1]
        && spec.windows.strides == [1, 1]
        && spec.windows.pads == [0, 0]
        && spec.windows.input == spec.windows.output;
    let output = spec.like_output();
    let products = gemm::variants_with(NAME, shape, !whole, caps, &|composer| {
        if whole {
            pointwise_operands(composer, spec, shape);
        } else {
            window_operands(composer, spec, shape);
            filter_operand(composer, shape);
        }
        crate::operands::epilogue(composer, shape.n, &output, &spec.epilogue, false)
    })?;
    let loops = [channels, spec.windows.kernel[0], spec.windows.kernel[1]];
    if whole || shape.m > DIRECT_ROWS_MAX || check_turns(NAME, &loops, caps).is_err() {
        return Ok(products);
    }
    let mut found = vec![direct(spec, shape, caps)?];
    found.extend(products);
    Ok(found)
}

/// Output channels of a group up to which a product has too few rows to gain.
const DIRECT_ROWS_MAX: u32 = 2;

fn direct(spec: &Spec, shape: gemm::Shape, caps: &Caps) -> Result<Dispatch, Unsupported> {
    let lanes = if caps.software { 8 } else { 64 };
    let mut composer = Composer::new(NAME, format!("direct{lanes}"));
    composer.u32("m", shape.m).u32("n", shape.n).u32("k", shape.k);
    composer.u32("inner_batch", shape.batch[1].max(1)).constant("LANES", lanes);
    window_operands(&mut composer, spec, shape);
    composer.read("a", "f32");
    let output = spec.like_output();
    crate::operands::epilogue(&mut composer, shape.n, &output, &spec.epilogue, false)?;
    let tiles = u64::from(shape.n.div_ceil(4 * lanes)) * u64::from(shape.m);
    let batch = u64::from(shape.batch[0]) * u64::from(shape.batch[1]);
    let groups = tiles.saturating_mul(batch);
    composer.finish("direct", lanes, groups, Needs::default(), caps)
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

/// x is a matrix of channels by pixels.
fn pointwise_operands(composer: &mut Composer, spec: &Spec, shape: gemm::Shape) {
    let mut a = Matrix::dense([1, spec.groups], shape.m, shape.k);
    a.batch[0] = 0;
    let product = gemm::Spec {
        batch: shape.batch,
        m: shape.m,
        n: shape.n,
        k: shape.k,
        a,
        b: Weights::Strided(Matrix::dense(shape.batch, shape.k, shape.n)),
        output: spec.like_output(),
        epilogue: Epilogue::identity(),
    };
    crate::operands::b(composer, &product);
    crate::operands::a(composer, &product);
}

fn window_operands(composer: &mut Composer, spec: &Spec, shape: gemm::Shape) {
    composer.source(include_str!("conv.wgsl")).source(include_str!("operands.wgsl"));
    spec.windows.declare(composer);
    composer.u32("kernel_h", spec.windows.kernel[0]);
    composer.u32("channels", spec.channels_in / shape.batch[1]);
    let is_far = spec.windows.output.iter().any(|&side| side >= SIDE_MAX);
    let (packed, unpacked) = if is_far {
        ("b_at_far_window", "pixel_of_whole")
    } else {
        ("b_at_window", "pixel_of_halves")
    };
    composer.read("b", "f32").hook("b_at", packed).hook("pixel_of", unpacked);
    composer.hook("load_b", "load_b_window");
}

fn filter_operand(composer: &mut Composer, shape: gemm::Shape) {
    composer.hook("a_at", "a_at_filter");
    if shape.k.is_multiple_of(4) {
        composer.constant("A_UNIT", 4).read_fours("a", Scalar::F32).hook("load_a", "load_a_wide");
    } else {
        composer.constant("A_UNIT", 1).u32("a_k", 1);
        composer.read("a", "f32").hook("load_a", "load_a_scattered");
    }
}

/// What the output buffer holds.
///
/// # Panics
/// Where the inputs are not those of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let (x, weights) = (inputs[0].f32(), inputs[1].f32());
    let (channels_in, channels_out) =
        (spec.channels_in / spec.groups, spec.channels_out / spec.groups);
    let [height, width] = spec.windows.input;
    let [rows, columns] = spec.windows.output;
    let taps = spec.windows.kernel.iter().product::<u32>();
    let sum = |[batch, group]: [u32; 2], row: u32, pixel: u32| {
        let corner = [pixel / columns, pixel % columns];
        let mut total = 0.0;
        for channel in 0..channels_in {
            for (number, tap) in (0..).zip(spec.windows.taps()) {
                let Some([y, z]) = spec.windows.place(corner, tap) else { continue };
                let plane = batch * spec.channels_in + group * channels_in + channel;
                let filter = (group * channels_out + row) * channels_in + channel;
                let value = x[((plane * height + y) * width + z) as usize];
                total += f64::from(value) * f64::from(weights[(filter * taps + number) as usize]);
            }
        }
        total
    };
    let batch = [spec.batch, spec.groups];
    let output = spec.like_output();
    gemm::product(batch, [channels_out, rows * columns], &output, &spec.epilogue, &inputs[2..], sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;
    use crate::expr::{Binary, Expr};

    fn spec(groups: u32, channels: [u32; 2], input: [u32; 2], kernel: [u32; 2]) -> Spec {
        Spec {
            batch: 1,
            groups,
            channels_in: channels[0],
            channels_out: channels[1],
            windows: Windows {
                input,
                output: [input[0] - kernel[0] + 1, input[1] - kernel[1] + 1],
                kernel,
                strides: [1, 1],
                pads: [0, 0],
                dilations: [1, 1],
            },
            epilogue: Epilogue::identity(),
        }
    }

    #[test]
    fn reference_matches_a_table() {
        let x = Data::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let ones = Data::F32(vec![1.0; 4]);
        let given = reference(&spec(1, [1, 1], [2, 3], [2, 2]), &[x.clone(), ones]);
        assert_eq!(given.f32(), [12.0, 16.0]);
        let mut strided = spec(1, [1, 1], [2, 3], [2, 2]);
        strided.windows = Windows {
            output: [1, 2],
            strides: [2, 2],
            pads: [1, 1],
            dilations: [2, 2],
            ..strided.windows
        };
        let taps = Data::F32(vec![1000.0, 100.0, 10.0, 1.0]);
        // Windows reach rows -1 and 1, columns -1 and 1, then 1 and 3.
        assert_eq!(reference(&strided, &[x.clone(), taps]).f32(), [5.0, 50.0]);
        let mut grouped = spec(2, [2, 2], [1, 3], [1, 1]);
        grouped.epilogue = Epilogue {
            expr: Expr::binary(Binary::Add, Scalar::F32),
            inputs: vec![grouped.per_channel()],
        };
        let factors = Data::F32(vec![10.0, 100.0]);
        let bias = Data::F32(vec![1.0, 2.0]);
        let given = reference(&grouped, &[x, factors, bias]);
        assert_eq!(given.f32(), [11.0, 21.0, 31.0, 402.0, 502.0, 602.0]);
    }

    #[test]
    fn every_variant_is_valid() {
        let shapes = [
            spec(1, [3, 32], [9, 9], [3, 3]),
            spec(8, [8, 8], [9, 8], [3, 3]),
            spec(1, [4, 16], [4, 4], [1, 1]),
            spec(2, [6, 4], [5, 5], [1, 1]),
            spec(1, [4, 40], [6, 5], [2, 2]),
            spec(1, [4, 40], [1, 70_000], [1, 3]),
        ];
        for mut spec in shapes {
            check::variants(|caps| variants(&spec, caps));
            let mut expr = Expr::binary(Binary::Add, Scalar::F32);
            expr = expr.then(&Expr::binary(Binary::Add, Scalar::F32), 0);
            spec.epilogue = Epilogue { expr, inputs: vec![spec.per_channel(), spec.like_output()] };
            check::variants(|caps| variants(&spec, caps));
        }
    }

    #[test]
    fn groups_that_do_not_divide_are_refused() {
        assert!(dispatch(&spec(2, [3, 4], [3, 3], [1, 1]), &Caps::minimal()).is_err());
        assert!(dispatch(&spec(0, [2, 2], [3, 3], [1, 1]), &Caps::minimal()).is_err());
    }
}
