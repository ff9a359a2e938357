// One row: its mean, then its variance, then the result. The header gives Part (f32 or a vec4)
// and how the row is read.

fn normalise(row: u32, lane: u32) {
    let start = row * params.row_parts;
    let mean = row_mean(start, lane);
    var squares = Part();
    for (var i = lane; i < params.row_parts; i += ROW_LANES) {
        let off = row_value(start + i) - mean;
        squares = fma(off, off, squares);
    }
    let variance = sum_of_lanes(fold_part(squares), lane) / f32(params.cols);
    let factor = inverseSqrt(variance + params.eps);
    for (var i = lane; i < params.row_parts; i += ROW_LANES) {
        result[start + i] = weighted((row_value(start + i) - mean) * factor, i);
    }
}

fn mean_layer(start: u32, lane: u32) -> f32 {
    var total = Part();
    for (var i = lane; i < params.row_parts; i += ROW_LANES) {
        total += row_value(start + i);
    }
    return sum_of_lanes(fold_part(total), lane) / f32(params.cols);
}

fn mean_rms(start: u32, lane: u32) -> f32 {
    return 0.0;
}

fn value_of_x(at: u32) -> Part {
    return x[at];
}

// A row that this workgroup has just stored, in place.
fn value_of_result(at: u32) -> Part {
    return result[at];
}

fn fold_one(value: f32) -> f32 {
    return value;
}

fn fold_four(value: vec4<f32>) -> f32 {
    return (value.x + value.y) + (value.z + value.w);
}
