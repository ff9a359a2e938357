// A convolution whose channels lie side by side. As a matrix product: rows are pixels, columns
// output channels, and k runs over (window row, window column, channel).

// Exact for values below 2^21; a division of integers costs more than all else here.
fn quotient_small(value: u32, by: u32) -> u32 {
    return u32(i32((f32(value) + 0.5) / f32(by)));
}

fn quotient_any(value: u32, by: u32) -> u32 {
    return value / by;
}

// Where the window of a pixel begins: the batch entry's first element, row and column.
struct Corner {
    base: u32,
    y: i32,
    x: i32,
}

fn corner_of(image: u32, y: u32, x: u32) -> Corner {
    return Corner(
        params.x_offset + image * params.x_n,
        i32(y * params.stride_h) - i32(params.pad_h),
        i32(x * params.stride_w) - i32(params.pad_w),
    );
}

// Zero outside; a negative coordinate is a huge unsigned one.
fn is_in_x(y: i32, x: i32) -> bool {
    return u32(y) < params.in_h && u32(x) < params.in_w;
}

fn place_of(base: u32, y: i32, x: i32) -> u32 {
    return base + u32(y) * params.x_h + u32(x) * params.x_w;
}

fn four_channels_wide(corner: Corner, y: i32, x: i32, channel: u32, wanted: bool) -> vec4<f32> {
    let inside = wanted && is_in_x(y, x);
    let at = select(0u, place_of(corner.base, y, x) + channel / 4u, inside);
    return select(vec4(0.0), a_four(at), inside);
}

fn four_channels_apart(corner: Corner, y: i32, x: i32, channel: u32, wanted: bool) -> vec4<f32> {
    let inside = vec4(wanted && is_in_x(y, x));
    let channels = vec4(channel) + vec4(0u, 1u, 2u, 3u);
    let known = inside & (channels < vec4(params.channels));
    let at = select(vec4(0u), place_of(corner.base, y, x) + channels * params.x_c, known);
    return select(vec4(0.0), vec4(a[at.x], a[at.y], a[at.z], a[at.w]), known);
}

// Pixels are counted through all batch entries.
fn a_at_pixel(z: vec2<u32>, row: u32) -> u32 {
    return z.x * params.m + min(row, params.m - 1u);
}

fn corner_of_row(row: u32) -> Corner {
    let image = quotient(row, params.pixels);
    let pixel = row - image * params.pixels;
    let y = quotient(pixel, params.out_w);
    return corner_of(image, y, pixel - y * params.out_w);
}

// Four channels of one tap.
fn load_a_tap(row: u32, k: u32) -> vec4<f32> {
    let corner = corner_of_row(row);
    let tap = quotient(k, params.channels);
    let i = quotient(tap, params.kernel_w);
    let y = corner.y + i32(i * params.dilation_h);
    let x = corner.x + i32((tap - i * params.kernel_w) * params.dilation_w);
    return four_channels(corner, y, x, k - tap * params.channels, k < params.k);
}

// Four values along k, each of its own tap.
fn load_a_taps(row: u32, k: u32) -> vec4<f32> {
    let corner = corner_of_row(row);
    var value = vec4(0.0);
    for (var step = 0u; step < 4u; step++) { // unroll
        let tap = quotient(k + step, params.channels);
        let channel = k + step - tap * params.channels;
        let i = quotient(tap, params.kernel_w);
        let y = corner.y + i32(i * params.dilation_h);
        let x = corner.x + i32((tap - i * params.kernel_w) * params.dilation_w);
        let inside = k + step < params.k && is_in_x(y, x);
        let at = place_of(corner.base, y, x) + channel * params.x_c;
        value[step] = select(0.0, a[select(0u, at, inside)], inside);
    }
    return value;
}

// Weights in tiles of 64 columns, as `gemm::pack_f32` lays them out.
fn b_at_packed(z: vec2<u32>, quad: u32) -> u32 {
    let inside = min(quad, (params.n + 3u) / 4u - 1u);
    return inside / 16u * 16u * params.k + inside % 16u;
}

fn load_b_packed(z: vec2<u32>, base: u32, quad: u32, k: u32) -> mat4x4<f32> {
    let last = params.k - 1u;
    return mat4x4<f32>(
        b_four(base + min(k, last) * 16u),
        b_four(base + min(k + 1u, last) * 16u),
        b_four(base + min(k + 2u, last) * 16u),
        b_four(base + min(k + 3u, last) * 16u),
    );
}
