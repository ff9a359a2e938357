// One point of one plane per invocation.

fn sample_point(group: u32, lane: u32) {
    let index = group * WIDTH + lane;
    if (index >= params.count) {
        return;
    }
    let plane = index / params.points;
    let base = (plane / params.planes * params.points + index % params.points) * AXES;
    let x_at = moved(pixel(points[base], params.in_w), params.in_w);
    var y_at = 0.0;
    var z_at = 0.0;
    if (AXES > 1u) {
        y_at = moved(pixel(points[base + 1u], params.in_h), params.in_h);
    }
    if (AXES > 2u) {
        z_at = moved(pixel(points[base + 2u], params.in_d), params.in_d);
    }
    let corner = plane * params.in_d;
    var sum = 0.0;
    for (var k = 0u; k < TAPS_D; k++) {
        let z = select(element(tap_place(z_at, k), params.in_d), 0i, AXES < 3u);
        let z_weight = select(weight(z_at, k), 1.0, AXES < 3u);
        for (var i = 0u; i < TAPS_H; i++) {
            let y = select(element(tap_place(y_at, i), params.in_h), 0i, AXES < 2u);
            let y_weight = select(weight(y_at, i), 1.0, AXES < 2u) * z_weight;
            let row = ((corner + u32(z)) * params.in_h + u32(y)) * params.in_w;
            for (var j = 0u; j < TAPS_W; j++) {
                let x = element(tap_place(x_at, j), params.in_w);
                // A negative place is a huge unsigned one: what lies outside adds nothing.
                if (u32(z) < params.in_d && u32(y) < params.in_h && u32(x) < params.in_w) {
                    sum += weight(x_at, j) * y_weight * data[row + u32(x)];
                }
            }
        }
    }
    result[index] = sum;
}

fn pixel_of_corners(at: f32, size: u32) -> f32 {
    return (at + 1.0) / 2.0 * (f32(size) - 1.0);
}

fn pixel_of_halves(at: f32, size: u32) -> f32 {
    return ((at + 1.0) * f32(size) - 1.0) / 2.0;
}

fn pixel_as_it_is(at: f32, size: u32) -> f32 {
    return at;
}

// A point outside is moved before its neighbours are named, and then they are too.
fn moved_nearest(at: f32, size: u32) -> f32 {
    return padded(round(at), size);
}

fn moved_linear(at: f32, size: u32) -> f32 {
    return padded(at, size);
}

// As in PyTorch, the neighbours are those of the point itself.
fn moved_cubic(at: f32, size: u32) -> f32 {
    return at;
}

fn padded_zeros(at: f32, size: u32) -> f32 {
    return at;
}

fn padded_border(at: f32, size: u32) -> f32 {
    return clamp(at, 0.0, f32(size) - 1.0);
}

fn padded_reflection(at: f32, size: u32) -> f32 {
    let low = params.low;
    let range = f32(size) - 1.0 - 2.0 * low;
    if (range <= 0.0) {
        return 0.0;
    }
    let over = max(low - at, at - low - range);
    if (over <= 0.0) {
        return at;
    }
    let turns = floor(over / range);
    let rest = over - turns * range;
    // After an even number of turns it comes back from the end that it left by.
    let from_low = (at < low) == (turns - 2.0 * floor(turns / 2.0) == 0.0);
    return select(low + range - rest, low + rest, from_low);
}

// Which neighbour, as a whole number.
fn place_nearest(at: f32, tap: u32) -> f32 {
    return at;
}

fn place_linear(at: f32, tap: u32) -> f32 {
    return floor(at) + f32(tap);
}

fn place_cubic(at: f32, tap: u32) -> f32 {
    return floor(at) + f32(tap) - 1.0;
}

// -1 outside of what can be an element; a place that is no number is outside too.
fn element(place: f32, size: u32) -> i32 {
    let at = padded(place, size);
    if (at > -1.0 && at < f32(size)) {
        return i32(at);
    }
    return -1i;
}

fn weight_nearest(at: f32, tap: u32) -> f32 {
    return 1.0;
}

fn weight_linear(at: f32, tap: u32) -> f32 {
    let part = at - floor(at);
    return select(part, 1.0 - part, tap == 0u);
}

// Keys' cubic convolution with a = -0.75.
fn weight_cubic(at: f32, tap: u32) -> f32 {
    let a = -0.75;
    let x = abs(at - floor(at) + 1.0 - f32(tap));
    let near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    let far = ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
    return select(far, near, x <= 1.0);
}
