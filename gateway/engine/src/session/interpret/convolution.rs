//! Convolutions, as products of the weights with the windows of x.
//!
//! - `last`: with channels side by side.

pub(super) mod last;

use gw_shaders::conv::Spec;
use gw_shaders::data::Data;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};

use super::epilogue::{self, Sums};
use super::product::view;

/// Elements of windows that are written out at once.
const WINDOWS_MAX: usize = 1 << 22;

pub(super) fn run(spec: &Spec, inputs: &[&Data], out: &mut Data) {
    let Data::F32(out) = out else { unreachable!("convolutions are floats") };
    let (x, weights) = (inputs[0].f32(), inputs[1].f32());
    let groups = spec.groups.max(1);
    let channels = (spec.channels_in / groups) as usize;
    let per_group = (spec.channels_out / groups) as usize;
    let k = channels * spec.windows.kernel.iter().map(|&size| size as usize).product::<usize>();
    let plane = spec.windows.input[0] as usize * spec.windows.input[1] as usize;
    let pixels = spec.windows.output[0] as usize * spec.windows.output[1] as usize;
    let at_once = (WINDOWS_MAX / k.max(1)).max(1).min(pixels.max(1));
    let output = spec.like_output();
    let mut windows = Vec::new();
    let mut sums = vec![0.0; per_group * at_once];
    for (batch, group) in (0..spec.batch).flat_map(|b| (0..groups).map(move |g| (b, g))) {
        let from = (batch as usize * groups as usize + group as usize) * channels * plane;
        let x = &x[from..from + channels * plane];
        let weights = &weights[group as usize * per_group * k..][..per_group * k];
        for first in (0..pixels).step_by(at_once) {
            let count = at_once.min(pixels - first);
            windows_of(spec, x, channels, first..first + count, &mut windows);
            let sums = &mut sums[..per_group * count];
            let done = GemmExecutor::<f32>::default().gemm(
                sums,
                GemmInputA::Unpacked(view(weights, [per_group, k])),
                GemmInputB::Unpacked(view(&windows, [k, count])),
                GemmOptions::default(),
            );
            done.expect("the sizes are those of the spec");
            // Pixels of a plan are `u32`.
            let first_column = first as u32;
            let sums = Sums { values: sums, batch: [batch, group], first_column, columns: count };
            epilogue::store(&sums, &spec.epilogue, &inputs[2..], &output, out);
        }
    }
}

/// What each tap reads of each pixel, `[channel, tap, pixel]`; zero outside of x.
fn windows_of(
    spec: &Spec,
    x: &[f32],
    channels: usize,
    pixels: std::ops::Range<usize>,
    windows: &mut Vec<f32>,
) {
    let [height, width] = spec.windows.input.map(i64::from);
    let columns = (spec.windows.output[1] as usize).max(1);
    windows.clear();
    for channel in 0..channels {
        let plane = &x[channel * (height * width) as usize..][..(height * width) as usize];
        for tap in spec.windows.taps() {
            let place = |axis: usize, out: usize| {
                out as i64 * i64::from(spec.windows.strides[axis])
                    - i64::from(spec.windows.pads[axis])
                    + i64::from(tap[axis]) * i64::from(spec.windows.dilations[axis])
            };
            let mut at = pixels.start;
            while at < pixels.end {
                let (row, column) = (at / columns, at % columns);
                let end = (at - column + columns).min(pixels.end);
                let y = place(0, row);
                if (0..height).contains(&y) {
                    let line = &plane[(y * width) as usize..][..width as usize];
                    windows.extend((column..column + end - at).map(|column| {
                        let z = usize::try_from(place(1, column)).ok();
                        z.and_then(|z| line.get(z)).copied().unwrap_or(0.0)
                    }));
                } else {
                    windows.extend(std::iter::repeat_n(0.0, end - at));
                }
                at = end;
            }
        }
    }
}
