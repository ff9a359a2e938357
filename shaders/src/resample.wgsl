// One part (an element, or four) of one output row per invocation.

fn resample_part(group: u32, lane: u32) {
    let index = group * WIDTH + lane;
    if (index >= params.count) {
        return;
    }
    let column = index % params.parts;
    let row = index / params.parts;
    let outer = row / params.rows * params.axis;
    let first = row % params.rows * params.taps;
    var sum = Part();
    for (var tap = first; tap < first + params.taps; tap++) {
        let place = u32(places[tap]);
        // A negative place is a huge unsigned one: neither is read.
        if (place < params.axis) {
            sum += weights[tap] * x[(outer + place) * params.parts + column];
        }
    }
    result[index] = sum;
}
