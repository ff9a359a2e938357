// One batch entry of one direction: a workgroup walks its steps, an invocation per unit and turn.
// The header gives Gates (one float per gate), LANES and STATE; hooks are advance, next_state,
// read_x, read_r, finish_row, get_state, set_state, sync and those of the cell's options.

// Where the numbers of one step lie: its projections, the recurrent weights and the vectors of
// the direction, the states that are kept between steps, and the row of the result.
struct Now {
    x: u32,
    r: u32,
    direction: u32,
    last: u32,
    cell: u32,
    to: u32,
}

fn walk(group: u32, lane: u32) {
    let direction = group / params.batch;
    let entry = group % params.batch;
    let hidden = params.hidden;
    // All states of one step.
    let slab = params.groups * hidden;
    let own = group * hidden;
    var now: Now;
    now.r = direction * hidden * hidden;
    now.direction = direction;
    now.last = params.steps * slab + own;
    now.cell = now.last + slab;
    let length = u32(clamp(lengths[entry], 0i, i32(params.steps)));
    let backwards = direction + params.reverse != 0u;
    let begins = params.first == 0u;
    for (var unit = lane; unit < hidden; unit += LANES) {
        if (begins) {
            set_state(now.last, unit, first_state[params.state_at + own + unit]);
            begin_cell(now.cell + unit, own + unit);
        } else {
            // What the dispatch before left.
            set_state(now.last, unit, result[now.last + unit]);
        }
    }
    sync();
    // Every entry takes every turn, so that all invocations meet at each barrier.
    for (var step = params.first; step < params.end; step++) {
        let live = step < length;
        let time = select(step, length - 1u - step, backwards && live);
        now.x = ((time * params.batch + entry) * params.directions + direction) * hidden;
        now.to = time * slab + own;
        advance(now, lane, live);
    }
    // An entry without steps has no last state: zeros, as in ONNX Runtime.
    for (var unit = lane; unit < hidden; unit += LANES) {
        result[now.last + unit] = select(0.0, get_state(now.last, unit), length > 0u);
        end_cell(now.cell + unit, length > 0u);
    }
}

// Steps beyond the length of an entry leave zeros.
fn advance_once(now: Now, lane: u32, live: bool) {
    for (var unit = lane; unit < params.hidden; unit += LANES) {
        var value = 0.0;
        if (live) {
            value = next_state(now, unit);
        }
        result[now.to + unit] = value;
    }
    sync();
    remember(now, lane, live);
}

fn remember(now: Now, lane: u32, live: bool) {
    for (var unit = lane; unit < params.hidden; unit += LANES) {
        if (live) {
            set_state(now.last, unit, result[now.to + unit]);
        }
        finish_row(now.to + unit);
    }
    sync();
}

fn finish_nothing(at: u32) {
}

// Whoever wrote the state reads it back, after it was remembered.
fn finish_stored(at: u32) {
    result[at] = stored(result[at]);
}

// A GRU whose reset gate acts on the state before the product: two products, one after another.
fn advance_reset(now: Now, lane: u32, live: bool) {
    let resets = now.cell + params.groups * params.hidden;
    if (live) {
        for (var unit = lane; unit < params.hidden; unit += LANES) {
            let x = read_x(now.x + unit);
            let sums = product_with_state(now, unit);
            let update = act_f(clipped(x.x + sums.x));
            let reset = act_f(clipped(x.y + sums.y));
            result[now.cell + unit] = update;
            set_reset(resets, unit, reset * get_state(now.last, unit));
        }
    }
    sync();
    for (var unit = lane; unit < params.hidden; unit += LANES) {
        var value = 0.0;
        if (live) {
            var sum = read_x(now.x + unit).z;
            let whole = params.hidden / 8u * 8u;
            for (var k = 0u; k < whole; k += 8u) {
                for (var i = 0u; i < 8u; i++) { // unroll
                    sum += reset_product(now, resets, unit, k + i);
                }
            }
            for (var k = whole; k < params.hidden; k++) {
                sum += reset_product(now, resets, unit, k);
            }
            value = mixed(now, unit, result[now.cell + unit], act_g(clipped(sum)));
        }
        result[now.to + unit] = value;
    }
    sync();
    remember(now, lane, live);
}

fn reset_product(now: Now, resets: u32, unit: u32, k: u32) -> f32 {
    return get_reset(resets, k) * r[3u * (now.r + k * params.hidden + unit) + 2u];
}

// Eight in a turn: turns are counted, and dear.
fn product_with_state(now: Now, unit: u32) -> Gates {
    var sums = Gates();
    let whole = params.hidden / 8u * 8u;
    for (var k = 0u; k < whole; k += 8u) {
        for (var i = 0u; i < 8u; i++) { // unroll
            sums += get_state(now.last, k + i) * read_r(now.r + (k + i) * params.hidden + unit);
        }
    }
    for (var k = whole; k < params.hidden; k++) {
        sums += get_state(now.last, k) * read_r(now.r + k * params.hidden + unit);
    }
    return sums;
}
