use gw_shaders::conv::{Spec, Windows, last, reference, variants};
use gw_shaders::data::Data;
use gw_shaders::expr::{Binary, Expr, Instr, Unary};
use gw_shaders::gemm::{self, Epilogue, Weights};
use gw_shaders::kernel::Scalar;
use gw_shaders::layout::{Matrix, View};

use crate::harness::{Random, Tolerance, agree};

/// Up to 300 products of numbers below one in size, added in f32.
const SUMS: Tolerance = Tolerance::of(2e-5, 2e-5);

/// Everything that decides a shape; the output's size follows.
#[derive(Clone, Copy)]
struct Case {
    batch: u32,
    groups: u32,
    channels: [u32; 2],
    input: [u32; 2],
    kernel: [u32; 2],
    strides: [u32; 2],
    /// Before and after alike.
    pads: [u32; 2],
    dilations: [u32; 2],
}

const CASE: Case = Case {
    batch: 1,
    groups: 1,
    channels: [3, 5],
    input: [6, 7],
    kernel: [3, 3],
    strides: [1, 1],
    pads: [1, 1],
    dilations: [1, 1],
};

impl Case {
    fn spec(self) -> Spec {
        let output = [0, 1].map(|axis| {
            let reach = self.dilations[axis] * (self.kernel[axis] - 1) + 1;
            (self.input[axis] + 2 * self.pads[axis] - reach) / self.strides[axis] + 1
        });
        Spec {
            batch: self.batch,
            groups: self.groups,
            channels_in: self.channels[0],
            channels_out: self.channels[1],
            windows: Windows {
                input: self.input,
                output,
                kernel: self.kernel,
                strides: self.strides,
                pads: self.pads,
                dilations: self.dilations,
            },
            epilogue: Epilogue::identity(),
        }
    }

    fn check(self, seed: u32) {
        let plain = self.spec();
        agree_with(&plain, seed);
        // clip(sum + bias, 0, 6) + residual, as MobileNet has it.
        let mut expr = Expr::new(vec![Scalar::F32; 3]);
        let biased = expr.push(Instr::Binary(Binary::Add, 0, 1));
        let positive = expr.push(Instr::Unary(Unary::Relu, biased));
        let six = expr.constant(Scalar::F32, 6.0);
        let clipped = expr.push(Instr::Binary(Binary::Min, positive, six));
        expr.push(Instr::Binary(Binary::Add, clipped, 2));
        let inputs = vec![plain.per_channel(), plain.like_output()];
        agree_with(&Spec { epilogue: Epilogue { expr, inputs }, ..plain }, seed);
    }
}

fn agree_with(spec: &Spec, seed: u32) {
    let mut random = Random::new(seed);
    let [h, w] = spec.windows.input;
    let taps = spec.windows.kernel[0] * spec.windows.kernel[1] * spec.channels_in / spec.groups;
    let pixels = spec.windows.output[0] * spec.windows.output[1];
    let mut inputs = vec![
        random.floats((spec.batch * spec.channels_in * h * w) as usize),
        random.floats((spec.channels_out * taps) as usize),
    ];
    if !spec.epilogue.inputs.is_empty() {
        inputs.push(random.floats(spec.channels_out as usize));
        inputs.push(random.floats((spec.batch * spec.channels_out * pixels) as usize));
    }
    let expected = reference(spec, &inputs);
    agree(|caps| variants(spec, caps), &inputs, &[expected], SUMS);
}

#[test]
fn windows_agree() {
    CASE.check(1);
    Case { batch: 2, channels: [8, 40], input: [9, 8], strides: [2, 2], ..CASE }.check(2);
    Case { channels: [4, 17], kernel: [5, 3], pads: [2, 0], input: [12, 8], ..CASE }.check(3);
    Case { dilations: [2, 3], pads: [2, 3], input: [9, 12], ..CASE }.check(4);
    Case { kernel: [1, 1], strides: [2, 2], pads: [0, 0], ..CASE }.check(5);
    // One axis, and windows of one pixel that only see padding.
    Case { input: [1, 20], kernel: [1, 5], pads: [0, 2], ..CASE }.check(6);
    Case { input: [1, 1], kernel: [1, 1], pads: [2, 2], ..CASE }.check(7);
    Case { input: [3, 2], kernel: [2, 2], pads: [0, 0], ..CASE }.check(8);
}

#[test]
fn sides_longer_than_half_a_word_agree() {
    let line = Case { input: [1, 70_000], kernel: [1, 3], pads: [0, 1], ..CASE };
    Case { channels: [2, 4], ..line }.check(1);
    Case { channels: [1, 1], strides: [1, 2], input: [1, 140_000], ..line }.check(2);
    let tall = Case { input: [70_000, 2], kernel: [3, 2], ..CASE };
    Case { channels: [1, 3], ..tall }.check(3);
}

#[test]
fn groups_and_depthwise_windows_agree() {
    Case { groups: 2, channels: [6, 8], ..CASE }.check(1);
    Case { groups: 8, channels: [8, 8], batch: 2, input: [8, 8], ..CASE }.check(2);
    Case { groups: 4, channels: [4, 8], strides: [2, 1], ..CASE }.check(3);
}

#[test]
fn windows_of_one_pixel_agree() {
    let one = Case { kernel: [1, 1], pads: [0, 0], ..CASE };
    one.check(1);
    Case { batch: 2, channels: [16, 24], input: [4, 8], ..one }.check(2);
    Case { groups: 2, channels: [6, 70], input: [7, 7], ..one }.check(3);
}

/// A case with channels side by side; `apart` where those of x are not.
fn last_spec(case: Case, apart: bool) -> last::Spec {
    let Spec { batch, channels_in, channels_out, windows, .. } = case.spec();
    let Windows { input: [h, w], output, .. } = windows;
    let planes = View::dense(&[batch, channels_in, h, w]).strides;
    let apart =
        apart.then(|| View { offset: 0, strides: [0, 2, 3, 1].map(|a| planes[a]).to_vec() });
    last::Spec {
        batch,
        depthwise: case.groups > 1,
        filters: Weights::PackedF32,
        channels_in,
        channels_out,
        windows,
        x: apart.unwrap_or_else(|| View::dense(&[batch, h, w, channels_in])),
        together: true,
        result: Matrix::dense([1, 1], batch * output[0] * output[1], channels_out),
        epilogue: Epilogue::identity(),
    }
}

/// x and packed weights.
fn last_inputs(spec: &last::Spec, random: &mut Random) -> Vec<Data> {
    let taps = spec.windows.kernel[0] * spec.windows.kernel[1];
    let terms = if spec.depthwise { taps } else { taps * spec.channels_in };
    let weights = random.floats((terms * spec.channels_out) as usize);
    let packed = if spec.depthwise {
        last::pack_depthwise(weights.f32(), terms, spec.channels_out)
    } else {
        gemm::pack_f32(weights.f32(), terms, spec.channels_out)
    };
    let pixels = spec.windows.input[0] * spec.windows.input[1];
    let x = random.floats((spec.batch * spec.channels_in * pixels) as usize);
    vec![x, Data::F32(packed)]
}

#[test]
fn narrow_filters_agree() {
    let one = Case { kernel: [1, 1], pads: [0, 0], ..CASE };
    let cases = [
        CASE,
        one,
        Case { channels: [5, 70], batch: 2, ..CASE },
        Case { channels: [8, 12], kernel: [3, 2], strides: [2, 1], ..CASE },
    ];
    let Some(device) = crate::device::shared() else { return };
    for (seed, case) in (0..).zip(cases) {
        let mut spec = last_spec(case, seed == 2);
        let mut random = Random::new(seed);
        let x = last_inputs(&spec, &mut random).swap_remove(0);
        let (k, n) =
            (spec.windows.kernel[0] * spec.windows.kernel[1] * spec.channels_in, spec.channels_out);
        let bytes = random.bytes((k * n) as usize);
        let packed = Data::U32(gemm::pack_i8(&bytes, k, n));
        let (scales, bias) = (random.floats(n as usize), random.floats(n as usize));
        let scales = Data::F32(scales.f32().iter().map(|scale| scale / 128.0).collect());
        let expr = Expr::binary(Binary::Add, Scalar::F32);
        spec.epilogue = Epilogue { expr, inputs: vec![Matrix::per_column()] };
        for filters in [Weights::PackedI8, Weights::PackedU8] {
            let inputs = [x.clone(), packed.clone(), scales.clone(), bias.clone()];
            agree_last(&last::Spec { filters, ..spec.clone() }, &inputs);
        }
        if gemm::keeps_halves(&device.caps()) {
            let halves: Vec<u16> = bytes
                .iter()
                .map(|&byte| half::f16::from_f32(f32::from(byte) / 99.0).to_bits())
                .collect();
            let packed = Data::U32(gemm::pack_halves(&halves, k, n));
            let inputs = [x.clone(), packed, bias.clone()];
            agree_last(&last::Spec { filters: Weights::PackedF16, ..spec.clone() }, &inputs);
        }
    }
}

fn agree_last(spec: &last::Spec, inputs: &[Data]) {
    let expected = last::reference(spec, inputs);
    agree(|caps| last::variants(spec, caps), inputs, &[expected], SUMS);
}

fn check_last(case: Case, apart: bool, seed: u32) {
    let plain = last_spec(case, apart);
    agree_last(&plain, &last_inputs(&plain, &mut Random::new(seed)));
    let (biased, inputs) = with_epilogue(plain, seed);
    // Beside the channels of another tensor, as in a joined one.
    let row = (biased.channels_out + 8).cast_signed();
    let result = Matrix { offset: 4, row, ..biased.result };
    agree_last(&last::Spec { result, ..biased }, &inputs);
}

/// The same with a bias and a residual added, and its inputs.
fn with_epilogue(plain: last::Spec, seed: u32) -> (last::Spec, Vec<Data>) {
    let mut random = Random::new(seed);
    let mut inputs = last_inputs(&plain, &mut random);
    let mut expr = Expr::binary(Binary::Add, Scalar::F32);
    expr = expr.then(&Expr::binary(Binary::Add, Scalar::F32), 0);
    inputs.push(random.floats(plain.channels_out as usize));
    inputs.push(random.floats((rows_of(&plain) * plain.channels_out) as usize));
    let epilogue = Epilogue { expr, inputs: vec![Matrix::per_column(), plain.result] };
    (last::Spec { epilogue, ..plain }, inputs)
}

fn rows_of(spec: &last::Spec) -> u32 {
    spec.batch * spec.windows.output.iter().product::<u32>()
}

#[test]
fn results_lie_with_channels_first_where_that_is_wanted() {
    let four = Case { channels: [4, 12], batch: 2, input: [9, 8], ..CASE };
    for case in [CASE, four, Case { groups: 8, channels: [8, 8], ..four }] {
        let (spec, inputs) = with_epilogue(last_spec(case, false), 9);
        let rows = rows_of(&spec);
        let result = Matrix { row: 1, col: rows.cast_signed(), ..spec.result };
        agree_last(&last::Spec { result, ..spec.clone() }, &inputs);
        // Each batch entry for itself, and a residual too.
        let each = rows / spec.batch;
        let planes = Matrix::dense([spec.batch, 1], spec.channels_out, each).transposed();
        let epilogue =
            Epilogue { inputs: vec![Matrix::per_column(), planes], ..spec.epilogue.clone() };
        agree_last(&last::Spec { together: false, result: planes, epilogue, ..spec }, &inputs);
    }
}

#[test]
fn windows_with_channels_last_agree() {
    check_last(CASE, false, 1);
    check_last(CASE, true, 2);
    let four = Case { channels: [4, 12], batch: 2, input: [9, 8], ..CASE };
    check_last(four, false, 3);
    check_last(Case { strides: [2, 2], channels: [8, 40], ..four }, false, 4);
    check_last(Case { dilations: [2, 3], pads: [2, 3], input: [9, 12], ..four }, false, 5);
    check_last(Case { kernel: [5, 3], pads: [2, 0], channels: [4, 70], ..four }, true, 6);
    check_last(Case { kernel: [1, 1], strides: [2, 2], pads: [0, 0], ..four }, false, 7);
    check_last(Case { input: [1, 20], kernel: [1, 5], pads: [0, 2], ..four }, false, 8);
}

#[test]
fn depthwise_windows_with_channels_last_agree() {
    let depthwise = Case { groups: 8, channels: [8, 8], batch: 2, input: [9, 11], ..CASE };
    check_last(depthwise, false, 1);
    check_last(depthwise, true, 2);
    check_last(Case { strides: [2, 2], ..depthwise }, false, 3);
    check_last(Case { kernel: [5, 5], pads: [2, 2], ..depthwise }, false, 4);
    check_last(Case { kernel: [3, 2], strides: [3, 3], ..depthwise }, false, 5);
    check_last(Case { dilations: [1, 2], pads: [1, 2], ..depthwise }, false, 6);
    check_last(Case { groups: 6, channels: [6, 6], ..depthwise }, false, 7);
    check_last(Case { input: [2, 2], kernel: [1, 9], pads: [0, 4], ..depthwise }, false, 8);
}

/// More strips than a float counts exactly.
#[test]
fn large_depthwise_images_agree() {
    let tall = Case { groups: 2, channels: [2, 2], input: [2_100_000, 1], ..CASE };
    let spec = last_spec(Case { kernel: [1, 1], pads: [0, 0], ..tall }, false);
    agree_last(&spec, &last_inputs(&spec, &mut Random::new(1)));
}
