//! Planes read at points, and regions pooled.

use gw_shaders::data::Data;
use gw_shaders::{roi, sample};

use crate::harness::{Random, Tolerance, agree};

#[test]
fn samples_agree() {
    // Coordinates near ten are rounded in f32, and values below one are as far apart as those.
    let tolerance = Tolerance::of(1e-5, 1e-5);
    let mut random = Random::new(1);
    for (axes, planes, shared, points, input) in [
        (2, 6, 3, 65, [1, 5, 7]),
        (3, 4, 2, 33, [3, 4, 2]),
        (1, 2, 1, 9, [1, 1, 6]),
        (2, 1, 1, 7, [1, 1, 1]),
        (2, 2, 2, 0, [1, 3, 3]),
        (2, 0, 2, 5, [1, 3, 3]),
    ] {
        let size = (planes * input.iter().product::<u32>()) as usize;
        let data = random.floats(size);
        let places: Vec<f32> =
            (0..planes / shared * points * axes).map(|_| 1.7 * random.float() + 0.01).collect();
        for mode in [sample::Mode::Nearest, sample::Mode::Linear, sample::Mode::Cubic] {
            for padding in
                [sample::Padding::Zeros, sample::Padding::Border, sample::Padding::Reflection]
            {
                for units in
                    [sample::Units::Corners, sample::Units::Halves, sample::Units::Elements]
                {
                    let spec =
                        sample::Spec { mode, padding, units, axes, planes, shared, points, input };
                    let inputs = [data.clone(), Data::F32(places.clone())];
                    let expected = sample::reference(&spec, &inputs);
                    agree(|caps| sample::variants(&spec, caps), &inputs, &[expected], tolerance);
                }
            }
        }
    }
}

#[test]
fn points_that_are_no_places_read_nothing() {
    let spec = sample::Spec {
        mode: sample::Mode::Linear,
        padding: sample::Padding::Zeros,
        units: sample::Units::Halves,
        axes: 1,
        planes: 1,
        shared: 1,
        points: 3,
        input: [1, 1, 2],
    };
    let far = [f32::MAX, -f32::MAX, 1e9];
    let inputs = [Data::F32(vec![1.0, 2.0]), Data::F32(far.to_vec())];
    let expected = Data::F32(vec![0.0; 3]);
    agree(|caps| sample::variants(&spec, caps), &inputs, &[expected], Tolerance::EXACT);
}

#[test]
fn regions_agree() {
    // A few dozen products are added in f32.
    let tolerance = Tolerance::of(1e-5, 1e-5);
    let mut random = Random::new(2);
    let align = |max, ratio, half_pixel| roi::Kind::Align { max, ratio, half_pixel };
    for kind in [
        align(false, 2, true),
        align(false, 0, true),
        align(false, 0, false),
        align(true, 3, false),
        align(true, 0, true),
        roi::Kind::Pool,
    ] {
        for (rois, output, scale) in [(5, [2, 3], 0.5), (1, [1, 1], 1.0), (0, [2, 2], 1.0)] {
            let (batch, channels, input) = (2, 3, [6, 5]);
            let spec = roi::Spec { kind, batch, channels, input, rois, output, scale };
            let data = random.floats((batch * channels * input[0] * input[1]) as usize);
            // Corners in and around the plane; batch entries 0 to 2, of which the last is none.
            let batches = random.integers(rois as usize, 3);
            let mut corners = Vec::new();
            for &batch in &batches {
                let low = [4.0 * random.float(), 4.0 * random.float()];
                let size = [6.3 * random.float() + 6.5, 6.3 * random.float() + 6.5];
                if kind == roi::Kind::Pool {
                    corners.push(batch as f32);
                }
                corners.extend([low[0], low[1], low[0] + size[0], low[1] + size[1]]);
            }
            let mut inputs = vec![data, Data::F32(corners)];
            if kind != roi::Kind::Pool {
                inputs.push(Data::I32(batches));
            }
            let expected = roi::reference(&spec, &inputs);
            agree(|caps| roi::variants(&spec, caps), &inputs, &[expected], tolerance);
        }
    }
}
