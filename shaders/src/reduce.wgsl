// One row folded. Parts of 32 are folded first, so that a long row's sum loses nothing. The header
// gives Elem and what the hooks start, prepare, merge, merge_lanes and finish mean.

fn row_start(row: u32) -> u32 {
    return row / params.inner * params.reduced * params.inner + row % params.inner;
}

fn reduce_row(row: u32, lane: u32) {
    let first = row_start(row);
    let shift = shift_of(first, lane);
    var total = start();
    var i = lane;
    while (i < params.reduced) {
        var part = start();
        for (var step = 0u; step < 32u && i < params.reduced; step++) {
            part = merge(part, prepare(x[first + i * params.inner], shift));
            i += LANES;
        }
        total = merge(total, part);
    }
    result[row] = finish(merge_lanes(total, lane), shift);
}

fn no_shift(first: u32, lane: u32) -> Elem {
    return Elem();
}

// The largest value, without which exponentials would overflow.
fn largest_shift(first: u32, lane: u32) -> f32 {
    var largest = x[first];
    for (var i = lane; i < params.reduced; i += LANES) {
        largest = max(largest, x[first + i * params.inner]);
    }
    return max_of_lanes(largest, lane);
}

fn merge_alone(value: Elem, lane: u32) -> Elem {
    return value;
}

fn merge_min_lanes(value: f32, lane: u32) -> f32 {
    return -max_of_lanes(-value, lane);
}

// NaN is the largest and the smallest, as in NumPy.
fn is_before(a: Elem, b: Elem) -> bool {
    return beats(a, b) || (is_odd(a) && !is_odd(b));
}

fn arg_row(row: u32, lane: u32) {
    let first = row_start(row);
    var best = x[first];
    var place = 0u;
    for (var i = 1u; i < params.reduced; i++) {
        let value = x[first + i * params.inner];
        if (replaces(value, best)) {
            best = value;
            place = i;
        }
    }
    result[row] = i32(place);
}

fn replaces_first(value: Elem, best: Elem) -> bool {
    return is_before(value, best);
}

fn replaces_last(value: Elem, best: Elem) -> bool {
    return !is_before(best, value);
}

fn is_never_odd(value: Elem) -> bool {
    return false;
}
