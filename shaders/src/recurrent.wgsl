// One batch entry of one direction: a workgroup walks its steps, an invocation per unit and turn.
// The header gives Gates (one float per gate), LANES and STATE; hooks are advance, next_state,
// read_x, read_r, get_state, set_state, sync and those of the cell's options.

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
            set_state(now.last, unit, first_state[own + unit]);
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
    if (live) {
        for (var unit = lane; unit < params.hidden; unit += LANES) {
            set_state(now.last, unit, result[now.to + unit]);
        }
    }
    sync();
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

fn next_rnn(now: Now, unit: u32) -> f32 {
    return act_f(clipped(read_x(now.x + unit) + product_with_state(now, unit)));
}

fn next_lstm(now: Now, unit: u32) -> f32 {
    // Input, output, forget, cell.
    let gates = read_x(now.x + unit) + product_with_state(now, unit);
    let before = result[now.cell + unit];
    let input = act_f(clipped(gates.x + peephole(now, 0u, unit) * before));
    let forget = forget_gate(gates.z + peephole(now, 2u, unit) * before, input);
    let cell = forget * before + input * act_g(clipped(gates.w));
    let output = act_f(clipped(gates.y + peephole(now, 1u, unit) * cell));
    result[now.cell + unit] = cell;
    return output * act_h(cell);
}

fn next_gru(now: Now, unit: u32) -> f32 {
    let x = read_x(now.x + unit);
    let sums = product_with_state(now, unit);
    let update = act_f(clipped(x.x + sums.x));
    let reset = act_f(clipped(x.y + sums.y));
    let bias = recurrent_bias[now.direction * params.hidden + unit];
    let candidate = act_g(clipped(x.z + reset * (sums.z + bias)));
    return mixed(now, unit, update, candidate);
}

fn mixed(now: Now, unit: u32, update: f32, candidate: f32) -> f32 {
    return (1.0 - update) * candidate + update * get_state(now.last, unit);
}

fn forget_own(sum: f32, input: f32) -> f32 {
    return act_f(clipped(sum));
}

fn forget_coupled(sum: f32, input: f32) -> f32 {
    return 1.0 - input;
}

fn peephole_given(now: Now, gate: u32, unit: u32) -> f32 {
    return peepholes[(now.direction * 3u + gate) * params.hidden + unit];
}

fn peephole_none(now: Now, gate: u32, unit: u32) -> f32 {
    return 0.0;
}

fn clipped_to_bound(x: f32) -> f32 {
    return clamp(x, -params.bound, params.bound);
}

fn clipped_never(x: f32) -> f32 {
    return x;
}

fn begin_cell_given(at: u32, own: u32) {
    result[at] = first_cell[own];
}

fn end_cell_given(at: u32, live: bool) {
    if (!live) {
        result[at] = 0.0;
    }
}

// What a GRU computes on the way is nobody's result.
fn end_cell_clear(at: u32, live: bool) {
    result[at] = 0.0;
    result[at + params.groups * params.hidden] = 0.0;
}

fn begin_cell_none(at: u32, own: u32) {
}

fn end_cell_none(at: u32, live: bool) {
}

fn read_x_one(at: u32) -> f32 {
    return x[at];
}

fn read_x_three(at: u32) -> vec3<f32> {
    return vec3(x[3u * at], x[3u * at + 1u], x[3u * at + 2u]);
}

fn read_x_four(at: u32) -> vec4<f32> {
    return x[at];
}

fn read_r_one(at: u32) -> f32 {
    return r[at];
}

fn read_r_three(at: u32) -> vec3<f32> {
    return vec3(r[3u * at], r[3u * at + 1u], r[3u * at + 2u]);
}

fn read_r_four(at: u32) -> vec4<f32> {
    return r[at];
}

// States that fit lie in workgroup memory, others in rows of the result behind the steps.
var<workgroup> states: array<f32, STATE>;
var<workgroup> reset_states: array<f32, STATE>;

fn get_state_shared(row: u32, unit: u32) -> f32 {
    return states[unit];
}

fn set_state_shared(row: u32, unit: u32, value: f32) {
    states[unit] = value;
}

fn get_reset_shared(row: u32, unit: u32) -> f32 {
    return reset_states[unit];
}

fn set_reset_shared(row: u32, unit: u32, value: f32) {
    reset_states[unit] = value;
}

fn get_in_result(row: u32, unit: u32) -> f32 {
    return result[row + unit];
}

fn set_in_result(row: u32, unit: u32, value: f32) {
    result[row + unit] = value;
}

fn sync_shared() {
    workgroupBarrier();
}

fn sync_in_result() {
    storageBarrier();
    workgroupBarrier();
}
