// One row: its mean, then its variance, then the result. The header gives Part (f32 or a vec4)
// and how the row is read and stored.

fn normalise(row: u32, lane: u32) {
    let start = row * params.parts;
    let mean = row_mean(start, lane);
    var squares = Part();
    for (var i = lane; i < params.parts; i += LANES) {
        let off = row_value(start + i) - mean;
        squares += off * off;
    }
    let variance = sum_of_lanes(across(squares), lane) / f32(params.cols);
    let factor = inverseSqrt(variance + params.eps);
    for (var i = lane; i < params.parts; i += LANES) {
        let value = row_value(start + i);
        store(start + i, i, (value - mean) * factor, value);
    }
}

fn mean_layer(start: u32, lane: u32) -> f32 {
    var total = Part();
    for (var i = lane; i < params.parts; i += LANES) {
        total += row_value(start + i);
    }
    return sum_of_lanes(across(total), lane) / f32(params.cols);
}

fn mean_rms(start: u32, lane: u32) -> f32 {
    return 0.0;
}

fn value_plain(at: u32) -> Part {
    return x[at];
}

fn value_sum(at: u32) -> Part {
    return x[at] + residual[at];
}

fn across_one(value: f32) -> f32 {
    return value;
}

fn across_four(value: vec4<f32>) -> f32 {
    return (value.x + value.y) + (value.z + value.w);
}
