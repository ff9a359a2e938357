//! Loops of as many turns as a family takes on a software adapter, and of more.
//!
//! llvmpipe leaves every loop of an invocation, without a word, once it has taken 65,535 turns in
//! all: a family that counted too few would give wrong sums here.

use gw_shaders::data::Data;
use gw_shaders::gemm::{Epilogue, Weights};
use gw_shaders::kernel::{Caps, Dispatch, Scalar, Unsupported};
use gw_shaders::layout::Matrix;
use gw_shaders::{
    attention, conv, fold, gemm, linear_attention, lrn, pool, resample, roi, scan, scatter, sort,
    trees,
};

use crate::harness::{Random, Tolerance, agree_here};

/// Some hundred thousand terms near one in size, whose errors are those of a random walk.
const SUMS: Tolerance = Tolerance::of(1e-3, 1e-2);

fn software() -> Caps {
    Caps { software: true, ..Caps::minimal() }
}

fn refused(variants: Result<Vec<Dispatch>, Unsupported>) {
    let error = variants.expect_err("too many turns").to_string();
    assert!(["software adapter", "at once"].iter().any(|part| error.contains(part)), "{error}");
}

/// Not all the same, so that it matters which are left out; positive, so that sums grow.
fn terms(random: &mut Random, count: u32) -> Data {
    Data::F32((0..count).map(|_| 0.5 + random.float() / 4.0).collect())
}

fn product(m: u32, k: u32) -> gemm::Spec {
    gemm::Spec {
        batch: [1, 1],
        m,
        n: 3,
        k,
        a: Matrix::dense([1, 1], m, k),
        b: Weights::Strided(Matrix::dense([1, 1], k, 3)),
        output: Matrix::dense([1, 1], m, 3),
        epilogue: Epilogue::identity(),
    }
}

#[test]
fn sums_of_products() {
    let most = gemm::k_at_once(&software());
    let mut random = Random::new(1);
    // The shortest that the shared tile leaves out, the longest of all, and one that only a
    // subgroup of eight takes, whose lanes share the k of two rows.
    let mut specs = vec![product(2, 50_528), product(5, most)];
    if crate::device::shared().is_some_and(|device| device.caps().subgroup == Some((8, 8))) {
        specs.push(product(2, 4 * most));
    }
    for spec in specs {
        let inputs = [terms(&mut random, spec.m * spec.k), terms(&mut random, 3 * spec.k)];
        let expected = gemm::reference(&spec, &inputs);
        agree_here(|caps| gemm::variants(&spec, caps), &inputs, &[expected], SUMS);
    }
    refused(gemm::variants(&product(5, most + 1), &software()));
    assert!(gemm::variants(&product(5, most + 1), &Caps::minimal()).is_ok());
}

fn convolution(channels: [u32; 2], kernel: [u32; 2]) -> conv::Spec {
    conv::Spec {
        batch: 1,
        groups: 1,
        channels_in: channels[0],
        channels_out: channels[1],
        windows: conv::Windows {
            input: [1, 3],
            output: [1, 4 - kernel[1]],
            kernel,
            strides: [1, 1],
            pads: [0, 0],
            dilations: [1, 1],
        },
        epilogue: Epilogue::identity(),
    }
}

#[test]
fn channels_of_a_convolution() {
    let mut random = Random::new(2);
    // A product, the direct form, and products because the direct form has too many turns.
    let cases = [
        ([240_000, 3], [1, 1]),
        ([7_499, 1], [1, 2]),
        ([7_500, 1], [1, 2]),
        ([14_000, 1], [1, 2]),
        ([70_000, 1], [1, 3]),
    ];
    for (channels, kernel) in cases {
        let spec = convolution(channels, kernel);
        let size = channels[0] * channels[1] * kernel[1];
        let inputs = [terms(&mut random, 3 * channels[0]), terms(&mut random, size)];
        let expected = conv::reference(&spec, &inputs);
        agree_here(|caps| conv::variants(&spec, caps), &inputs, &[expected], SUMS);
    }
    refused(conv::variants(&convolution([240_001, 5], [1, 1]), &software()));
}

#[test]
fn keys_of_an_attention() {
    let spec = |keys: u32| {
        let rows = |count: u32| attention::Rows {
            offset: 0,
            batch: (4 * count).cast_signed(),
            head: (4 * count).cast_signed(),
            row: 4,
        };
        attention::Spec {
            batch: 1,
            heads: 1,
            kv_heads: 1,
            queries: 2,
            keys,
            head_dim: 4,
            value_dim: 4,
            scale: 1.0,
            q: rows(2),
            k: rows(keys),
            v: rows(keys),
            output: rows(2),
            mask: attention::Mask::None,
            mask_expr: None,
            window: attention::Window::ALL,
            counts: None,
            nan_to_zero: false,
        }
    };
    let long = spec(239_744);
    let mut random = Random::new(3);
    let mut inputs = [random.floats(8), random.floats(958_976), random.floats(958_976)];
    // The last value decides the mean.
    if let Data::F32(values) = &mut inputs[2] {
        values[958_976 - 4..].fill(1e6);
    }
    let expected = attention::reference(&long, &inputs);
    agree_here(|caps| attention::variants(&long, caps), &inputs, &[expected], SUMS);
    refused(attention::variants(&spec(240_001), &software()));
}

#[test]
fn steps_of_a_scan() {
    let spec = |len: u32| scan::Spec {
        op: scan::Op::Sum,
        scalar: Scalar::I32,
        exclusive: false,
        reverse: false,
        outer: 1,
        len,
        inner: 1,
    };
    for len in [60_000u32, 100_000, 426_000] {
        let x = Data::I32((0..len.cast_signed()).map(|at| at % 7).collect());
        let expected = scan::reference(&spec(len), std::slice::from_ref(&x));
        agree_here(|caps| scan::variants(&spec(len), caps), &[x], &[expected], Tolerance::EXACT);
    }
    refused(scan::variants(&spec(500_000), &software()));
}

#[test]
fn elements_of_a_sort() {
    let len = 100_000;
    let mut random = Random::new(4);
    let x = random.floats(len as usize);
    let spec =
        sort::Spec { scalar: Scalar::F32, largest: true, outer: 1, len, inner: 1, keep: 3, run: 0 };
    let mut inputs = vec![x.clone()];
    for pass in sort::passes(&spec) {
        let expected = sort::reference(&pass, &inputs);
        let result = [expected.clone()];
        agree_here(|caps| sort::variants(&pass, caps), &inputs, &result, Tolerance::EXACT);
        inputs = vec![x.clone(), expected];
    }
}

#[test]
fn updates_of_one_row() {
    let spec = |count: u32| scatter::Spec {
        op: scatter::Op::Add,
        scalar: Scalar::I32,
        rows: 2,
        inner: 1,
        count,
    };
    let count: u32 = 16 * (60_000 - 64);
    let inputs = [
        Data::I32(vec![7, 9]),
        Data::I32(vec![1; count as usize]),
        Data::I32((0..count.cast_signed()).collect()),
        Data::I32((0..count.cast_signed()).map(|at| at % 11).collect()),
    ];
    let expected = scatter::reference(&spec(count), &inputs);
    let spec_of = |caps: &Caps| scatter::variants(&spec(count), caps);
    agree_here(spec_of, &inputs, &[expected], Tolerance::EXACT);
    refused(scatter::variants(&spec(count + 16), &software()));
}

#[test]
fn elements_of_a_window() {
    let pooling = |kernel: [u32; 2]| pool::Spec {
        kind: pool::Kind::Average { count_include_pad: false },
        planes: 1,
        inner: 1,
        input: [1, kernel[0], kernel[1]],
        output: [1, 1, 1],
        kernel: [1, kernel[0], kernel[1]],
        strides: [1; 3],
        pads_begin: [0; 3],
        pads_end: [0; 3],
        dilations: [1; 3],
    };
    let mut random = Random::new(5);
    let inputs = [terms(&mut random, 243 * 243)];
    for kernel in [[243, 243], [14_998, 1], [1, 59_000]] {
        let spec = pooling(kernel);
        let inputs = [terms(&mut random, kernel[0] * kernel[1])];
        let expected = pool::reference(&spec, &inputs);
        agree_here(|caps| pool::variants(&spec, caps), &inputs, &[expected], SUMS);
    }
    refused(pool::variants(&pooling([256, 256]), &software()));
    refused(pool::variants(&pooling([20_000, 1]), &software()));

    // One element, of which every window holds a part.
    let folding = |side: u32| fold::Spec {
        planes: 1,
        windows: [1, side, side],
        output: [1, 1, 1],
        kernel: [1, side, side],
        strides: [1; 3],
        pads: [0, side - 1, side - 1],
        dilations: [1; 3],
    };
    refused(fold::variants(&folding(256), &software()));
    let spec =
        fold::Spec { windows: [1, 1, 1], pads: [0; 3], output: [1, 243, 243], ..folding(243) };
    let expected = fold::reference(&spec, &inputs);
    agree_here(|caps| fold::variants(&spec, caps), &inputs, &[expected], Tolerance::EXACT);

    let window = |size: u32| lrn::Spec {
        batch: 1,
        channels: size,
        inner: 1,
        size,
        alpha: 1.0,
        beta: 0.5,
        bias: 1.0,
    };
    assert!(lrn::variants(&window(59_000), &software()).is_ok());
    refused(lrn::variants(&window(70_000), &software()));
}

#[test]
fn taps_of_a_resampling() {
    let spec = |taps: u32| resample::Spec { outer: 1, axis: taps, inner: 1, count: 1, taps };
    let taps = 59_998u32;
    let mut random = Random::new(6);
    let places = Data::I32((0..taps.cast_signed()).collect());
    let inputs = [terms(&mut random, taps), places, terms(&mut random, taps)];
    let expected = resample::reference(&spec(taps), &inputs);
    agree_here(|caps| resample::variants(&spec(taps), caps), &inputs, &[expected], SUMS);
    refused(resample::variants(&spec(70_000), &software()));
}

#[test]
fn points_of_a_region() {
    let mut random = Random::new(7);
    let spec = |kind: roi::Kind, side: u32| roi::Spec {
        kind,
        batch: 1,
        channels: 1,
        input: [side, side],
        rois: 1,
        output: [1, 1],
        scale: 1.0,
    };
    let align = |max: bool, ratio: u32| roi::Kind::Align { max, ratio, half_pixel: false };
    let whole = |side: u32| side as f32;
    for (kind, side) in [
        (align(false, 0), 234),
        (align(true, 0), 234),
        (align(false, 240), 300),
        (roi::Kind::Pool, 243),
    ] {
        let spec = spec(kind, side);
        let mut data = terms(&mut random, side * side);
        if let Data::F32(data) = &mut data {
            // The last element is the largest.
            *data.last_mut().expect("a plane has elements") = 2.0;
        }
        let inputs = match kind {
            roi::Kind::Pool => {
                vec![data, Data::F32(vec![0.0, 0.0, 0.0, whole(side), whole(side)])]
            }
            roi::Kind::Align { .. } => {
                let region = Data::F32(vec![0.0, 0.0, whole(side), whole(side)]);
                vec![data, region, Data::I32(vec![0])]
            }
        };
        let expected = roi::reference(&spec, &inputs);
        agree_here(|caps| roi::variants(&spec, caps), &inputs, &[expected], SUMS);
    }
    refused(roi::variants(&spec(align(false, 0), 500), &software()));
    refused(roi::variants(&spec(align(false, 1000), 500), &software()));
    refused(roi::variants(&spec(roi::Kind::Pool, 600), &software()));
}

#[test]
fn tokens_of_a_linear_attention() {
    let whole = linear_attention::Spec {
        batch: 1,
        length: 3000,
        kv_heads: 1,
        group: 2,
        key_dim: 16,
        value_dim: 3,
        scale: 1.0,
        past: true,
        decay: linear_attention::Decay::Head,
        beta: linear_attention::Beta::None,
        part: [0, 3000],
    };
    refused(linear_attention::variants(&whole, &software()));
    let mut random = Random::new(8);
    let inputs = [
        random.floats(3000 * 2 * 16),
        random.floats(3000 * 16),
        random.floats(3000 * 3),
        random.floats(16 * 3),
        Data::F32(vec![-0.01; 3000]),
    ];
    let Some(device) = crate::device::shared() else { return };
    let caps = device.caps();
    let expected = linear_attention::reference(&whole, &inputs);
    let mut buffers: Vec<Vec<u8>> = inputs.iter().map(|data| data.bytes().to_vec()).collect();
    buffers.push(vec![0; 4 * expected.len()]);
    let at_once = whole.tokens_at_once().expect("a token fits").min(3000);
    for first in (0..3000).step_by(at_once as usize) {
        let part = [first, 3000.min(first + at_once)];
        let spec = linear_attention::Spec { part, ..whole.clone() };
        let dispatch = linear_attention::dispatch(&spec, &caps).expect("a part is supported");
        buffers = device.run_dispatch(&dispatch, &buffers).expect("it runs");
    }
    let given = Data::from_bytes(Scalar::F32, buffers.last().expect("a dispatch has an output"));
    for (given, due) in given.f32().iter().zip(expected.f32()) {
        assert!((given - due).abs() <= 1e-3 * due.abs() + 1e-3, "{given} where {due} is due");
    }
    let wide = linear_attention::Spec { key_dim: 20_000, ..whole };
    assert!(wide.tokens_at_once().is_err());
}

#[test]
fn nodes_of_a_tree() {
    let depth = 59_980i32;
    // Every node leads to the next, the last to a leaf of weight 5.
    let mut nodes: Vec<i32> = Vec::new();
    for node in 0..depth {
        nodes.extend([
            trees::Mode::Leq as i32,
            0,
            1.0f32.to_bits().cast_signed(),
            node + 1,
            node,
            0,
        ]);
    }
    nodes.extend([trees::Mode::Leaf as i32, 0, 0, 0, 1, 0]);
    let spec = trees::Spec {
        fold: trees::Fold::Sum,
        rows: 2,
        features: 1,
        nodes: depth.cast_unsigned() + 1,
        trees: 1,
        weights: 1,
        targets: 1,
        turns: 59_990,
    };
    let inputs = [
        Data::F32(vec![0.5, 1.0]),
        Data::I32(nodes),
        Data::I32(vec![0]),
        Data::I32(vec![0]),
        Data::F32(vec![5.0]),
    ];
    let expected = trees::reference(&spec, &inputs);
    assert_eq!(expected.f32(), [5.0, 5.0]);
    agree_here(|caps| trees::variants(&spec, caps), &inputs, &[expected], Tolerance::EXACT);
    refused(trees::variants(&trees::Spec { turns: 70_000, ..spec }, &software()));
}
