// How LANES invocations agree on one number per row: alone, through workgroup memory, or as a
// subgroup.

var<workgroup> lane_values: array<f32, LANES>;

fn sum_alone(value: f32, lane: u32) -> f32 {
    return value;
}

fn sum_shared(value: f32, lane: u32) -> f32 {
    lane_values[lane] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (lane < half) {
            lane_values[lane] += lane_values[lane + half];
        }
        workgroupBarrier();
    }
    let total = lane_values[0];
    workgroupBarrier();
    return total;
}

// In the order of lanes, which a built-in sum does not promise.
fn sum_subgroup(value: f32, lane: u32) -> f32 {
    var total = 0.0;
    for (var other = 0u; other < LANES; other++) { // unroll
        total += subgroupBroadcast(value, other);
    }
    return total;
}

fn max_alone(value: f32, lane: u32) -> f32 {
    return value;
}

fn max_shared(value: f32, lane: u32) -> f32 {
    lane_values[lane] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (lane < half) {
            lane_values[lane] = max_f32(lane_values[lane], lane_values[lane + half]);
        }
        workgroupBarrier();
    }
    let largest = lane_values[0];
    workgroupBarrier();
    return largest;
}

// The same in any order: each step takes the larger of two halves.
fn max_subgroup(value: f32, lane: u32) -> f32 {
    var largest = value;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        largest = max_f32(largest, subgroupShuffleXor(largest, half));
    }
    return largest;
}
