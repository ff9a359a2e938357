// One output element per invocation.

fn pool_element(group: u32, lane: u32) {
    let index = group * WIDTH + lane;
    if (index >= params.count) {
        return;
    }
    let out_x = index % params.out_w;
    let out_y = index / params.out_w % params.out_h;
    let plane = index / params.out_w / params.out_h * params.in_h * params.in_w;
    let top = i32(out_y * params.stride_h) - i32(params.pad_h);
    let left = i32(out_x * params.stride_w) - i32(params.pad_w);
    var total = start();
    var inside = 0u;
    var padded = 0u;
    for (var i = 0u; i < params.kernel_h; i++) {
        let y = top + i32(i * params.dilation_h);
        for (var j = 0u; j < params.kernel_w; j++) {
            let x_at = left + i32(j * params.dilation_w);
            if (y >= 0i && y < i32(params.in_h) && x_at >= 0i && x_at < i32(params.in_w)) {
                total = merge(total, x[plane + u32(y) * params.in_w + u32(x_at)]);
                inside += 1u;
            }
            // What lies beyond the padding (the last window of ceil_mode) never counts.
            let below = y < i32(params.in_h + params.end_h);
            let counts = below && x_at < i32(params.in_w + params.end_w);
            padded += u32(counts);
        }
    }
    result[index] = finish(total, inside, padded);
}

fn start_max() -> f32 {
    return from_bits(0xff800000u);
}

fn start_sum() -> f32 {
    return 0.0;
}

fn merge_sum(total: f32, value: f32) -> f32 {
    return total + value;
}

fn finish_max(total: f32, inside: u32, padded: u32) -> f32 {
    return total;
}

fn finish_inside(total: f32, inside: u32, padded: u32) -> f32 {
    return total / f32(max(inside, 1u));
}

fn finish_padded(total: f32, inside: u32, padded: u32) -> f32 {
    return total / f32(max(padded, 1u));
}
