use gw_shaders::conv::{Spec, reference, variants};
use gw_shaders::expr::{Binary, Expr, Instr, Unary};
use gw_shaders::gemm::Epilogue;
use gw_shaders::kernel::Scalar;

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
            input: self.input,
            output,
            kernel: self.kernel,
            strides: self.strides,
            pads: self.pads,
            dilations: self.dilations,
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
    let [h, w] = spec.input;
    let taps = spec.kernel[0] * spec.kernel[1] * spec.channels_in / spec.groups;
    let pixels = spec.output[0] * spec.output[1];
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
