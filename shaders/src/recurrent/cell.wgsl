// The next state of one unit, for each kind of cell, and what its options mean.

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
    result[at] = first_cell[params.cell_at + own];
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
