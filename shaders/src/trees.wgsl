// One result per invocation: it walks every tree from its root. The header gives merge.

fn is_nan_bits(bits: u32) -> bool {
    return (bits & 0x7fffffffu) > 0x7f800000u;
}

fn goes_left(mode: u32, x: f32, value: f32) -> bool {
    let kind = mode & 15u;
    if (is_nan_bits(bitcast<u32>(x))) {
        return (mode & NAN_LEFT) != 0u || kind == 6u;
    }
    switch kind {
        case 1u: { return x <= value; }
        case 2u: { return x < value; }
        case 3u: { return x >= value; }
        case 4u: { return x > value; }
        case 5u: { return x == value; }
        default: { return x != value; }
    }
}

// Where the words of the leaf start that the row which starts at `first` falls into.
fn leaf_of(root: u32, first: u32) -> u32 {
    var node = min(root, params.nodes - 1u) * NODE_WORDS;
    for (var step = 0u; step < params.nodes; step++) {
        let mode = u32(nodes[node]);
        if ((mode & 15u) == 0u) {
            break;
        }
        var value = 0.0;
        let feature = u32(nodes[node + 1u]);
        if (feature < params.features) {
            value = x[first + feature];
        }
        let left = goes_left(mode, value, bitcast<f32>(nodes[node + 2u]));
        let next = u32(nodes[node + select(4u, 3u, left)]);
        node = min(next, params.nodes - 1u) * NODE_WORDS;
    }
    return node;
}

fn walk_trees(group: u32, lane: u32) {
    let index = group * WIDTH + lane;
    if (index >= params.count) {
        return;
    }
    let first = index / params.targets * params.features;
    let own = i32(index % params.targets);
    var total = 0.0;
    var found = false;
    for (var tree = 0u; tree < params.trees; tree++) {
        let leaf = leaf_of(u32(roots[tree]), first);
        let end = min(u32(nodes[leaf + 4u]), params.weights);
        for (var weight = u32(nodes[leaf + 3u]); weight < end; weight++) {
            if (leaf_targets[weight] == own) {
                let value = leaf_weights[weight];
                total = select(value, merge(total, value), found);
                found = true;
            }
        }
    }
    result[index] = total;
}
