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
