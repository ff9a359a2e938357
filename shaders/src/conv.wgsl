// A convolution as a matrix product: rows are output channels, columns output pixels, and k runs
// over (channel, window row, window column). What is left of matrices is in gemm.wgsl.

fn a_at_filter(z: vec2<u32>, row: u32) -> u32 {
    return (z.y * params.m + min(row, params.m - 1u)) * (params.k / A_UNIT);
}

// Row and column of the first of four pixels, in one word.
fn b_at_window(z: vec2<u32>, quad: u32) -> u32 {
    let pixel = min(quad * 4u, params.n - 1u);
    return (pixel / params.out_w << 16u) | pixel % params.out_w;
}

// Four steps along k for four pixels. Both walk on by carrying, since divisions cost more than
// all else here.
fn load_b_window(z: vec2<u32>, base: u32, quad: u32, k: u32) -> mat4x4<f32> {
    var y: array<i32, 4>;
    var x: array<i32, 4>;
    var pixel = vec2(base >> 16u, base & 0xffffu);
    for (var j = 0u; j < 4u; j++) { // unroll
        y[j] = i32(pixel.x * params.stride_h) - i32(params.pad_h);
        x[j] = i32(pixel.y * params.stride_w) - i32(params.pad_w);
        pixel.y += 1u;
        let wraps = pixel.y == params.out_w;
        pixel = select(pixel, vec2(pixel.x + 1u, 0u), wraps);
    }
    let area = params.kernel_h * params.kernel_w;
    let channel = k / area;
    let tap = k - channel * area;
    var row = tap / params.kernel_w;
    var col = tap - row * params.kernel_w;
    let plane = params.in_h * params.in_w;
    let group = z.x * params.inner_batch + z.y;
    var from_plane = (group * params.channels + channel) * plane;
    var value: mat4x4<f32>;
    for (var i = 0u; i < 4u; i++) { // unroll
        let down = i32(row * params.dilation_h);
        let right = i32(col * params.dilation_w);
        for (var j = 0u; j < 4u; j++) { // unroll
            let at_y = y[j] + down;
            let at_x = x[j] + right;
            // A negative coordinate is a huge unsigned one.
            let inside = u32(at_y) < params.in_h && u32(at_x) < params.in_w && k + i < params.k;
            let at = select(0u, from_plane + u32(at_y) * params.in_w + u32(at_x), inside);
            value[i][j] = select(0.0, b[at], inside);
        }
        col += 1u;
        let next_row = col == params.kernel_w;
        row += select(0u, 1u, next_row);
        col = select(col, 0u, next_row);
        let next_channel = row == params.kernel_h;
        from_plane += select(0u, plane, next_channel);
        row = select(row, 0u, next_channel);
    }
    return value;
}
