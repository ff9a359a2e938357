// How projections are made, and how states are read and kept. The header says how Gates are read.

// The product of x with its weights, of one unit: `at` counts units of all steps.
fn read_x_product(at: u32) -> Gates {
    let columns = params.directions * params.hidden;
    let start = at / columns * params.width;
    let column = at % columns;
    var sums = first_sums(column);
    let whole = params.width / 8u * 8u;
    for (var k = 0u; k < whole; k += 8u) {
        for (var i = 0u; i < 8u; i++) { // unroll
            sums += x[start + k + i] * read_w((k + i) * columns + column);
        }
    }
    for (var k = whole; k < params.width; k++) {
        sums += x[start + k] * read_w(k * columns + column);
    }
    return sums;
}

fn first_none(column: u32) -> Gates {
    return Gates();
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
