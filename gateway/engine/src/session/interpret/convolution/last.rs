//! Convolutions with channels side by side: products of the windows with the weights.

use gw_shaders::conv::last::{Spec, weights};
use gw_shaders::data::Data;
use gw_shaders::gemm::Weights;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};

use super::super::epilogue::{self, Sums};
use super::super::product::view;
use super::WINDOWS_MAX;

pub(in super::super) fn run(spec: &Spec, inputs: &[&Data], out: &mut Data) {
    let Data::F32(out) = out else { unreachable!("convolutions are floats") };
    let columns = spec.channels_out as usize;
    let (x, mut weights) = (inputs[0].f32(), weights(spec, inputs[1]));
    let mut further = &inputs[2..];
    if let Weights::PackedI8 | Weights::PackedU8 = spec.filters {
        for row in weights.chunks_exact_mut(columns.max(1)) {
            row.iter_mut().zip(further[0].f32()).for_each(|(weight, scale)| *weight *= scale);
        }
        further = &further[1..];
    }
    let terms = weights.len() / columns.max(1);
    let pixels = (spec.batch * spec.windows.output[0] * spec.windows.output[1]) as usize;
    let at_once = (WINDOWS_MAX / terms.max(1)).max(1).min(pixels.max(1));
    let mut windows = Vec::new();
    let mut sums = vec![0.0; columns * pixels];
    for (part, sums) in sums.chunks_mut((columns * at_once).max(1)).enumerate() {
        // Pixels of a plan are `u32`.
        let first = (part * at_once) as u32;
        let count = sums.len() / columns;
        if spec.depthwise {
            for (pixel, sums) in (first..).zip(sums.chunks_exact_mut(columns)) {
                add_taps(spec, x, &weights, pixel, sums);
            }
            continue;
        }
        windows.clear();
        for pixel in (first..).take(count) {
            push_window(spec, x, pixel, &mut windows);
        }
        let done = GemmExecutor::<f32>::default().gemm(
            sums,
            GemmInputA::Unpacked(view(&windows, [count, terms])),
            GemmInputB::Unpacked(view(&weights, [terms, columns])),
            GemmOptions::default(),
        );
        done.expect("the sizes are those of the spec");
    }
    let entries = if spec.together { 1 } else { spec.batch };
    let each = (sums.len() / entries.max(1) as usize).max(1);
    for (entry, values) in (0..entries).zip(sums.chunks(each)) {
        let sums = Sums { values, batch: [entry, 0], first_column: 0, columns };
        epilogue::store(&sums, &spec.epilogue, further, &spec.result, out);
    }
}

/// The places in x of the channels that each tap reads; `None` in the padding.
fn taps(spec: &Spec, pixel: u32) -> impl Iterator<Item = Option<usize>> {
    let [rows, columns] = spec.windows.output;
    let (image, inside) = (pixel / (rows * columns), pixel % (rows * columns));
    let corner = [inside / columns, inside % columns];
    let at = move |tap| spec.windows.place(corner, tap).map(|[y, x]| spec.x.at(&[image, y, x, 0]));
    spec.windows.taps().map(at)
}

/// Adds the channels of x from a place on to what is there.
fn push_channels(spec: &Spec, x: &[f32], from: usize, to: &mut Vec<f32>) {
    let count = spec.channels_in as usize;
    match spec.x.strides[3] {
        1 => to.extend_from_slice(&x[from..from + count]),
        step => to.extend(
            (0..count as i64).map(|channel| x[(from as i64 + channel * i64::from(step)) as usize]),
        ),
    }
}

fn push_window(spec: &Spec, x: &[f32], pixel: u32, windows: &mut Vec<f32>) {
    for tap in taps(spec, pixel) {
        match tap {
            Some(from) => push_channels(spec, x, from, windows),
            None => windows.extend(std::iter::repeat_n(0.0, spec.channels_in as usize)),
        }
    }
}

fn add_taps(spec: &Spec, x: &[f32], weights: &[f32], pixel: u32, sums: &mut [f32]) {
    let mut values = Vec::with_capacity(sums.len());
    for (tap, weights) in taps(spec, pixel).zip(weights.chunks_exact(sums.len())) {
        let Some(from) = tap else { continue };
        values.clear();
        push_channels(spec, x, from, &mut values);
        for ((sum, weight), value) in sums.iter_mut().zip(weights).zip(&values) {
            *sum += weight * value;
        }
    }
}
