// One column of one head's state per invocation, token after token: columns never meet, because
// queries and keys only sum over rows. The state lives in the output, before the results.

fn attend_column(group: u32, lane: u32) {
    let column = group * WIDTH + lane;
    if (column >= params.columns) {
        return;
    }
    let head = column / params.value_dim;
    let at = column % params.value_dim;
    let first = head * params.key_dim * params.value_dim + at;
    let kv_head = head % params.kv_heads;
    if (params.begin == 0u) {
        for (var d = 0u; d < params.key_dim; d++) {
            let cell = first + d * params.value_dim;
            result[cell] = past_state(cell);
        }
    }
    for (var t = params.begin; t < params.end; t++) {
        let token = head / params.kv_heads * params.length + t;
        let place = token * params.kv_heads + kv_head;
        var recalled = 0.0;
        for (var d = 0u; d < params.key_dim; d++) {
            let cell = first + d * params.value_dim;
            let kept = result[cell] * keep(place, d);
            result[cell] = kept;
            recalled += kept * key[place * params.key_dim + d];
        }
        let written = correct(value[place * params.value_dim + at], recalled, token, place);
        for (var d = 0u; d < params.key_dim; d++) {
            let cell = first + d * params.value_dim;
            result[cell] += key[place * params.key_dim + d] * written;
        }
        for (var g = 0u; g < params.group; g++) {
            let reader = place * params.group + g;
            var sum = 0.0;
            for (var d = 0u; d < params.key_dim; d++) {
                let cell = first + d * params.value_dim;
                sum += query[reader * params.key_dim + d] * result[cell];
            }
            result[params.results + reader * params.value_dim + at] = params.scale * sum;
        }
    }
}

fn state_none(cell: u32) -> f32 {
    return 0.0;
}

fn state_given(cell: u32) -> f32 {
    return past[cell];
}

fn keep_all(place: u32, d: u32) -> f32 {
    return 1.0;
}

fn keep_by_head(place: u32, d: u32) -> f32 {
    return exp(decay[place]);
}

fn keep_by_key(place: u32, d: u32) -> f32 {
    return exp(decay[place * params.key_dim + d]);
}

fn correct_none(value: f32, recalled: f32, token: u32, place: u32) -> f32 {
    return value;
}

fn correct_by_token(value: f32, recalled: f32, token: u32, place: u32) -> f32 {
    return beta[token] * (value - recalled);
}

fn correct_by_head(value: f32, recalled: f32, token: u32, place: u32) -> f32 {
    return beta[place] * (value - recalled);
}
