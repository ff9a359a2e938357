// One output element per invocation.

fn pool_element(group: u32, lane: u32) {
    let index = group * WIDTH + lane;
    if (index >= params.count) {
        return;
    }
    // With one or two axes there is nothing to divide, and one turn of the outer loop.
    let channel = select(index % params.inner, 0u, LAST == 0u);
    var rest = select(index / params.inner, index, LAST == 0u);
    let out_x = rest % params.out_w;
    rest = rest / params.out_w;
    let out_y = rest % params.out_h;
    rest = rest / params.out_h;
    let out_z = select(rest % params.out_d, 0u, FLAT == 1u);
    let plane = select(rest / params.out_d * params.in_d, rest, FLAT == 1u);
    let depth = select(params.kernel_d, 1u, FLAT == 1u);
    let front = i32(out_z * params.stride_d) - i32(params.pad_d);
    let top = i32(out_y * params.stride_h) - i32(params.pad_h);
    let left = i32(out_x * params.stride_w) - i32(params.pad_w);
    var total = start();
    var inside = 0u;
    var padded = 0u;
    for (var k = 0u; k < depth; k++) {
        let z = front + i32(k * params.dilation_d);
        for (var i = 0u; i < params.kernel_h; i++) {
            let y = top + i32(i * params.dilation_h);
            let row = ((plane + u32(z)) * params.in_h + u32(y)) * params.in_w;
            let is_row = is_inside(z, params.in_d) && is_inside(y, params.in_h);
            // What lies beyond the padding (the last window of ceil_mode) never counts.
            let counts = z < i32(params.in_d + params.end_d) && y < i32(params.in_h + params.end_h);
            for (var j = 0u; j < params.kernel_w; j++) {
                let at = left + i32(j * params.dilation_w);
                if (is_row && is_inside(at, params.in_w)) {
                    let value = x[(row + u32(at)) * params.inner + channel];
                    total = merge(total, value, row + u32(at));
                    inside += 1u;
                }
                padded += u32(counts && at < i32(params.in_w + params.end_w));
            }
        }
    }
    result[index] = finish(total, inside, padded);
}

// A negative coordinate is a huge unsigned one.
fn is_inside(at: i32, size: u32) -> bool {
    return u32(at) < size;
}

fn start_lowest_f32() -> f32 {
    return from_bits(params.lowest);
}

fn start_lowest_i32() -> i32 {
    return bitcast<i32>(params.lowest);
}

fn merge_max_f32(total: f32, value: f32, place: u32) -> f32 {
    return max_f32(total, value);
}

fn merge_max_i32(total: i32, value: i32, place: u32) -> i32 {
    return max(total, value);
}

fn finish_as_it_is(total: Elem, inside: u32, padded: u32) -> Elem {
    return total;
}

// The largest element so far, and where the first such element lies.
struct Best {
    value: Elem,
    place: u32,
}

fn start_best() -> Best {
    return Best(Elem(), 0xffffffffu);
}

fn merge_best(total: Best, value: Elem, place: u32) -> Best {
    if (total.place == 0xffffffffu || value > total.value) {
        return Best(value, place);
    }
    return total;
}

fn finish_place(total: Best, inside: u32, padded: u32) -> i32 {
    if (inside == 0u) {
        return -1i;
    }
    let x_at = total.place % params.in_w;
    var rest = total.place / params.in_w;
    let y = rest % params.in_h;
    rest = rest / params.in_h;
    let z = rest % params.in_d;
    let plane = rest / params.in_d * (params.in_d * params.in_h * params.in_w);
    return i32(plane + z * params.place_d + y * params.place_h + x_at * params.place_w);
}

fn start_sum() -> f32 {
    return 0.0;
}

fn merge_sum(total: f32, value: f32, place: u32) -> f32 {
    return total + value;
}

fn finish_inside(total: f32, inside: u32, padded: u32) -> f32 {
    return total / f32(max(inside, 1u));
}

fn finish_padded(total: f32, inside: u32, padded: u32) -> f32 {
    return total / f32(max(padded, 1u));
}

fn merge_abs(total: f32, value: f32, place: u32) -> f32 {
    return total + abs(value);
}

fn merge_square(total: f32, value: f32, place: u32) -> f32 {
    return total + value * value;
}

fn finish_root(total: f32, inside: u32, padded: u32) -> f32 {
    return sqrt(total);
}

fn merge_power(total: f32, value: f32, place: u32) -> f32 {
    return total + pow_f32(abs(value), params.p);
}

fn finish_power(total: f32, inside: u32, padded: u32) -> f32 {
    return pow_f32(total, 1.0 / params.p);
}
