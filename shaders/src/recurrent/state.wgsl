// How projections, weights and states are read and kept.

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

fn read_w_one(at: u32) -> f32 {
    return w[at];
}

fn read_w_three(at: u32) -> vec3<f32> {
    return vec3(w[3u * at], w[3u * at + 1u], w[3u * at + 2u]);
}

fn read_w_four(at: u32) -> vec4<f32> {
    return w[at];
}

fn first_none(column: u32) -> Gates {
    return Gates();
}

fn first_one(column: u32) -> f32 {
    return bias[column];
}

fn first_three(column: u32) -> vec3<f32> {
    return vec3(bias[3u * column], bias[3u * column + 1u], bias[3u * column + 2u]);
}

fn first_four(column: u32) -> vec4<f32> {
    return bias[column];
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
