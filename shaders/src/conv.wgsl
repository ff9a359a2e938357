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

fn pixel_of_halves(packed: u32) -> vec2<u32> {
    return vec2(packed >> 16u, packed & 0xffffu);
}

// Where a side is longer than half a word the pixel is kept, and divided when it is needed.
fn b_at_far_window(z: vec2<u32>, quad: u32) -> u32 {
    return min(quad * 4u, params.n - 1u);
}

fn pixel_of_whole(packed: u32) -> vec2<u32> {
    return vec2(packed / params.out_w, packed % params.out_w);
}

// Where the windows of four neighbouring pixels begin.
struct Corners {
    y: vec4<i32>,
    x: vec4<i32>,
}

fn corners_of(packed: u32) -> Corners {
    var corners: Corners;
    var pixel = pixel_of(packed);
    for (var j = 0u; j < 4u; j++) { // unroll
        corners.y[j] = i32(pixel.x * params.stride_h) - i32(params.pad_h);
        corners.x[j] = i32(pixel.y * params.stride_w) - i32(params.pad_w);
        pixel.y += 1u;
        pixel = select(pixel, vec2(pixel.x + 1u, 0u), pixel.y == params.out_w);
    }
    return corners;
}

// Zero outside; a negative coordinate is a huge unsigned one.
fn read_four(plane: u32, y: vec4<i32>, x: vec4<i32>, wanted: bool) -> vec4<f32> {
    let rows = vec4<u32>(y);
    let columns = vec4<u32>(x);
    let inside = (rows < vec4(params.in_h)) & (columns < vec4(params.in_w)) & vec4(wanted);
    let at = select(vec4(0u), plane + rows * params.in_w + columns, inside);
    return select(vec4(0.0), vec4(b[at.x], b[at.y], b[at.z], b[at.w]), inside);
}

// Four steps along k for four pixels, by carrying: divisions cost more than all else here.
fn load_b_window(z: vec2<u32>, base: u32, quad: u32, k: u32) -> mat4x4<f32> {
    let corners = corners_of(base);
    let area = params.kernel_h * params.kernel_w;
    let channel = k / area;
    let tap = k - channel * area;
    var row = tap / params.kernel_w;
    var col = tap - row * params.kernel_w;
    let size = params.in_h * params.in_w;
    var plane = ((z.x * params.inner_batch + z.y) * params.channels + channel) * size;
    var value: mat4x4<f32>;
    for (var i = 0u; i < 4u; i++) { // unroll
        let y = corners.y + i32(row * params.dilation_h);
        let x = corners.x + i32(col * params.dilation_w);
        value[i] = read_four(plane, y, x, k + i < params.k);
        col += 1u;
        let next_row = col == params.kernel_w;
        row += select(0u, 1u, next_row);
        col = select(col, 0u, next_row);
        let next_channel = row == params.kernel_h;
        plane += select(0u, size, next_channel);
        row = select(row, 0u, next_channel);
    }
    return value;
}

// One output channel and four pixels per invocation: with one or two channels in a group there
// are no rows to share what is read.
fn direct(group: u32, lane: u32) {
    let tiles = ((params.n + 3u) / 4u + LANES - 1u) / LANES;
    let quad = group % tiles * LANES + lane;
    let row = group / tiles % params.m;
    let batch = group / tiles / params.m;
    let z = vec2(batch / params.inner_batch, batch % params.inner_batch);
    let corners = corners_of(b_at(z, quad));
    let size = params.in_h * params.in_w;
    var plane = batch * params.channels * size;
    var tap = (z.y * params.m + row) * params.k;
    var sum = vec4(0.0);
    for (var channel = 0u; channel < params.channels; channel++) {
        for (var i = 0u; i < params.kernel_h; i++) {
            let y = corners.y + i32(i * params.dilation_h);
            for (var j = 0u; j < params.kernel_w; j++) {
                let x = corners.x + i32(j * params.dilation_w);
                sum += a[tap] * read_four(plane, y, x, true);
                tap += 1u;
            }
        }
        plane += size;
    }
    store(z, row, quad, sum, columns(quad));
}
