// One row: its largest value, the sum of exponentials, the result.

fn softmax_row(row: u32, lane: u32) {
    let start = row / params.inner * params.len * params.inner + row % params.inner;
    var largest = x[start];
    for (var i = lane; i < params.len; i += LANES) {
        largest = max(largest, x[start + i * params.inner]);
    }
    let top = max_of_lanes(largest, lane);
    // Sums of few first, so that a long row loses nothing.
    var total = 0.0;
    var i = lane;
    while (i < params.len) {
        var part = 0.0;
        for (var step = 0u; step < 32u && i < params.len; step++) {
            part += exp(x[start + i * params.inner] - top);
            i += LANES;
        }
        total += part;
    }
    let sum = sum_of_lanes(total, lane);
    for (var i = lane; i < params.len; i += LANES) {
        let at = start + i * params.inner;
        result[at] = share_of(x[at] - top, sum);
    }
}

fn share_plain(off: f32, sum: f32) -> f32 {
    return exp(off) / sum;
}

fn share_log(off: f32, sum: f32) -> f32 {
    return off - log(sum);
}
