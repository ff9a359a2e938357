// One output element per invocation: it gathers the columns that land on it.

fn fold_element(group: u32, lane: u32) {
    let index = group * WIDTH + lane;
    if (index >= params.count) {
        return;
    }
    let right = index % params.out_w + params.pad_w;
    var rest = index / params.out_w;
    let bottom = rest % params.out_h + params.pad_h;
    rest = rest / params.out_h;
    let back = rest % params.out_d + params.pad_d;
    let plane = rest / params.out_d;
    var sum = 0.0;
    var tap = plane * params.kernel_d * params.kernel_h * params.kernel_w;
    for (var k = 0u; k < params.kernel_d; k++) {
        let z = column(back, k * params.dilation_d, params.stride_d, params.in_d);
        for (var i = 0u; i < params.kernel_h; i++) {
            let y = column(bottom, i * params.dilation_h, params.stride_h, params.in_h);
            for (var j = 0u; j < params.kernel_w; j++) {
                let at = column(right, j * params.dilation_w, params.stride_w, params.in_w);
                if (z < params.in_d && y < params.in_h && at < params.in_w) {
                    sum += x[((tap * params.in_d + z) * params.in_h + y) * params.in_w + at];
                }
                tap += 1u;
            }
        }
    }
    result[index] = sum;
}

// The window whose element at `offset` is `place`; none of them is a huge number.
fn column(place: u32, offset: u32, stride: u32, size: u32) -> u32 {
    let start = place - offset;
    if (place < offset || start % stride != 0u) {
        return 0xffffffffu;
    }
    return start / stride;
}
