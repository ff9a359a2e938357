// One result per invocation. The header gives merge.

fn scatter_element(group: u32, lane: u32) {
    let index = group * WIDTH + lane;
    if (index >= params.size) {
        return;
    }
    let row = i32(index / params.inner);
    let column = index % params.inner;
    var low = 0u;
    var high = params.updates;
    while (low < high) {
        let half = (low + high) / 2u;
        if (position_of(half) < row) {
            low = half + 1u;
        } else {
            high = half;
        }
    }
    var value = data[index];
    // Sixteen at a time: software adapters do not take many turns.
    while (low < params.updates && position_of(low) == row) {
        for (var step = 0u; step < 16u; step++) { // unroll
            if (low < params.updates && position_of(low) == row) {
                value = merge(value, updates[update_at(low) * params.inner + column]);
                low += 1u;
            }
        }
    }
    result[index] = value;
}

fn update_at(place: u32) -> u32 {
    return min(u32(order[min(place, params.updates - 1u)]), params.updates - 1u);
}

fn position_of(place: u32) -> i32 {
    return positions[update_at(place)];
}
