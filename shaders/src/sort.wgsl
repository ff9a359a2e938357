// One element per invocation finds its place: in its block by counting, or in the run beside its
// own by bisection. Keys are words whose order is that of the elements.

// NaN is the largest, zeros are equal.
fn key_f32(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    var key = select(bits | 0x80000000u, ~bits, bits >> 31u == 1u);
    if (bits << 1u == 0u) {
        key = 0x80000000u;
    }
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        key = 0xffffffffu;
    }
    return key;
}

fn key_i32(x: i32) -> u32 {
    return bitcast<u32>(x) ^ 0x80000000u;
}

fn key_u32(x: u32) -> u32 {
    return x;
}

// The element at `position` of the row that starts at `first`.
fn key_at(first: u32, position: u32) -> u32 {
    return key_of(x[first + position * params.inner]) ^ params.flip;
}

fn leave(row: u32, column: u32, place: u32, position: u32) {
    result[(row * params.out_len + place) * params.inner + column] = i32(position);
}

fn sort_block(group: u32, lane: u32) {
    let index = group * WIDTH + lane;
    if (index >= params.count) {
        return;
    }
    let column = index % params.inner;
    let own = index / params.inner % params.len;
    let row = index / params.inner / params.len;
    let first = row * params.len * params.inner + column;
    let start = own / BLOCK * BLOCK;
    let key = key_at(first, own);
    var place = 0u;
    for (var other = start; other < min(start + BLOCK, params.len); other++) {
        let beside = key_at(first, other);
        place += u32(beside < key || (beside == key && other < own));
    }
    if (place < params.keep) {
        leave(row, column, start + place, own);
    }
}

fn sort_merge(group: u32, lane: u32) {
    let index = group * WIDTH + lane;
    if (index >= params.count) {
        return;
    }
    let column = index % params.inner;
    let slot = index / params.inner % params.len;
    let row = index / params.inner / params.len;
    let first = row * params.len * params.inner + column;
    // Two runs from `start`, the second from `middle`; both end early at the end of the row.
    let start = slot / params.run / 2u * params.run * 2u;
    let middle = min(start + params.run, params.len);
    let end = middle + min(params.run, params.len - middle);
    let is_left = slot < middle;
    let ahead = select(slot - middle, slot - start, is_left);
    if (ahead >= params.keep) {
        return;
    }
    let own = u32(order[first + slot * params.inner]);
    let key = key_at(first, min(own, params.len - 1u));
    let beside = select(start, middle, is_left);
    var low = 0u;
    var high = min(select(middle - start, end - middle, is_left), params.keep);
    while (low < high) {
        let half = (low + high) / 2u;
        let other = u32(order[first + (beside + half) * params.inner]);
        let found = key_at(first, min(other, params.len - 1u));
        // What is equal on the left comes before what is equal on the right.
        if (found < key || (found == key && !is_left)) {
            low = half + 1u;
        } else {
            high = half;
        }
    }
    if (ahead + low < params.keep) {
        leave(row, column, start + ahead + low, own);
    }
}
