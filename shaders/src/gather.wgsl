// One part (an element, or four) of one gathered row per invocation.

fn gather_part(group: u32, lane: u32) {
    let index = group * WIDTH + lane;
    if (index >= params.count) {
        return;
    }
    let column = index % params.parts;
    let row = index / params.parts;
    let named = indices[row % params.indices];
    let axis = i32(params.axis);
    let place = select(named, named + axis, named < 0i) - i32(params.first);
    var value = Part();
    let here = place >= 0i && place < i32(params.held);
    if (here) {
        value = read_part(row / params.indices * params.held + u32(place), column);
    }
    if (here || params.first == 0u) {
        result[index] = value;
    }
}

fn read_plain(row: u32, column: u32) -> Part {
    return data[row * params.parts + column];
}

fn read_four_bytes(row: u32, column: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(data[row * params.parts + column])) * scales[row];
}

fn read_one_byte(row: u32, column: u32) -> f32 {
    let words = (params.parts + 3u) / 4u;
    let shift = 24u - 8u * (column % 4u);
    let byte = bitcast<i32>(data[row * words + column / 4u] << shift) >> 24u;
    return f32(byte) * scales[row];
}

fn read_four_halves(row: u32, column: u32) -> vec4<f32> {
    return four_of(data[row * params.parts + column]);
}

fn read_one_half(row: u32, column: u32) -> f32 {
    let words = (params.parts + 1u) / 2u;
    return four_of(vec2(data[row * words + column / 2u], 0u))[column % 2u];
}
