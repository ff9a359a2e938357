// One channel of x for each of the output, channels side by side. An invocation takes four
// channels of ROWS x PIXELS neighbours.

struct Spot {
    quad: u32,
    image: u32,
    // Where it begins in the output, and in x.
    y: u32,
    x: u32,
    corner: Corner,
    wanted: bool,
}

fn spot_of(index: u32) -> Spot {
    let quads = (params.n + 3u) / 4u;
    let across = (params.out_w + PIXELS - 1u) / PIXELS;
    let down = (params.out_h + ROWS - 1u) / ROWS;
    let strip = quotient(index, quads);
    let band = quotient(strip, across);
    let image = quotient(band, down);
    let y = (band - image * down) * ROWS;
    let x = (strip - band * across) * PIXELS;
    let wanted = image < params.images;
    return Spot(index - strip * quads, image, y, x, corner_of(image, y, x), wanted);
}

fn store_at(spot: Spot, r: u32, p: u32, sum: vec4<f32>, known: Columns) {
    let y = spot.y + r;
    let x = spot.x + p;
    let pixel = spot.image * params.pixels + y * params.out_w + x;
    let entry = quotient(pixel, params.m);
    let inside = spot.wanted && y < params.out_h && x < params.out_w;
    let row = select(params.m, pixel - entry * params.m, inside);
    store(vec2(entry, 0u), row, spot.quad, sum, known);
}

// LINES x COLUMNS taps, DOWN and ALONG from pixel to pixel: together they reach over TALL x WIDE
// pixels of x, of which each is read once.
fn depthwise_in_registers(group: u32, lane: u32) {
    let spot = spot_of(group * LANES + lane);
    let quads = (params.n + 3u) / 4u;
    var reach: array<vec4<f32>, TALL * WIDE>;
    for (var i = 0u; i < TALL; i++) { // unroll
        for (var j = 0u; j < WIDE; j++) { // unroll
            let y = spot.corner.y + i32(i);
            let x = spot.corner.x + i32(j);
            reach[i * WIDE + j] =
                four_channels(spot.corner, y, x, spot.quad * 4u, spot.wanted);
        }
    }
    var sums: array<vec4<f32>, ROWS * PIXELS>;
    for (var i = 0u; i < LINES; i++) { // unroll
        for (var j = 0u; j < COLUMNS; j++) { // unroll
            let weights = b_four((i * COLUMNS + j) * quads + spot.quad);
            for (var r = 0u; r < ROWS; r++) { // unroll
                for (var p = 0u; p < PIXELS; p++) { // unroll
                    sums[r * PIXELS + p] +=
                        weights * reach[(r * DOWN + i) * WIDE + p * ALONG + j];
                }
            }
        }
    }
    let known = columns(spot.quad);
    for (var r = 0u; r < ROWS; r++) { // unroll
        for (var p = 0u; p < PIXELS; p++) { // unroll
            store_at(spot, r, p, sums[r * PIXELS + p], known);
        }
    }
}

// Any window, tap by tap.
fn depthwise_by_taps(group: u32, lane: u32) {
    let spot = spot_of(group * LANES + lane);
    let quads = (params.n + 3u) / 4u;
    var sums: array<vec4<f32>, PIXELS>;
    var tap = spot.quad;
    for (var i = 0u; i < params.kernel_h; i++) {
        let y = spot.corner.y + i32(i * params.dilation_h);
        for (var j = 0u; j < params.kernel_w; j++) {
            let weights = b_four(tap);
            tap += quads;
            let left = spot.corner.x + i32(j * params.dilation_w);
            for (var p = 0u; p < PIXELS; p++) { // unroll
                let x = left + i32(p * params.stride_w);
                let four = four_channels(spot.corner, y, x, spot.quad * 4u, spot.wanted);
                sums[p] += weights * four;
            }
        }
    }
    let known = columns(spot.quad);
    for (var p = 0u; p < PIXELS; p++) { // unroll
        store_at(spot, 0u, p, sums[p], known);
    }
}
