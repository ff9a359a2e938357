// One element per invocation.

fn lrn_element(group: u32, lane: u32) {
    let index = group * WIDTH + lane;
    if (index >= params.count) {
        return;
    }
    let channel = index / params.inner % params.channels;
    let before = (params.size - 1u) / 2u;
    let first = channel - min(channel, before);
    let last = min(channel + params.size - 1u - before, params.channels - 1u);
    var squares = 0.0;
    for (var c = first; c <= last; c++) {
        let value = x[index + (c - channel) * params.inner];
        squares += value * value;
    }
    let scale = params.bias + params.alpha / f32(params.size) * squares;
    result[index] = x[index] * pow(scale, -params.beta);
}
