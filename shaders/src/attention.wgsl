// ROWS queries per invocation against four keys at a time, with a running maximum (Milakov and
// Gimelshein 2018; Rabe and Staats 2021). SHARE lanes load their shares of keys and values once.

// Below every score that counts: scores are held above it, so that a hidden key is told apart
// from one that a large negative mask makes unlikely.
const HIDDEN: f32 = -3.4e38;

const LEAST: f32 = -3.0e38;

struct Place {
    batch: u32,
    head: u32,
}

fn attend(group: u32, lane: u32) {
    let tiles = (params.queries + ROWS * LANES - 1u) / (ROWS * LANES);
    let place = Place(group / tiles / params.heads, group / tiles % params.heads);
    let tile = group % tiles * ROWS * LANES;
    let first = tile + lane;
    let kv_head = place.head / params.heads_per_kv;
    let k_from = params.k_offset + place.batch * params.k_batch + kv_head * params.k_head;
    let v_from = params.v_offset + place.batch * params.v_batch + kv_head * params.v_head;
    let q_from = params.q_offset + place.batch * params.q_batch + place.head * params.q_head;
    let entry = entry_of(place.batch);
    let sharer = lane % SHARE;
    let last_key = params.keys - 1u;

    var q: array<vec4<f32>, ROWS * D4>;
    var sums: array<vec4<f32>, ROWS * V4>;
    var top: array<f32, ROWS>;
    var weight: array<f32, ROWS>;
    var sight: array<vec2<u32>, ROWS>;
    for (var r = 0u; r < ROWS; r++) { // unroll
        top[r] = LEAST;
        let query = min(first + r * LANES, params.queries - 1u);
        sight[r] = vec2(seen_from(entry, query), seen_to(entry, query));
        for (var d = 0u; d < D4; d++) { // unroll
            q[r * D4 + d] = load_q(q_from + query * params.q_row, d) * params.scale;
        }
    }
    // What no query of the tile sees is passed over, by fours, so that sums do not depend on it.
    let end = seen_to(entry, min(tile + ROWS * LANES, params.queries) - 1u);
    for (var key = seen_from(entry, tile) / 4u * 4u; key < end; key += 4u) {
        var k_mine: array<vec4<f32>, K_LOADS>;
        for (var s = 0u; s < K_LOADS; s++) { // unroll
            let e = s * SHARE + sharer;
            k_mine[s] = load_k(k_from + min(key + e / D4, last_key) * params.k_row, e % D4);
        }
        var scores: array<vec4<f32>, ROWS>;
        for (var i = 0u; i < 4u; i++) { // unroll
            for (var d = 0u; d < D4; d++) { // unroll
                let part = hear(k_mine[(i * D4 + d) / SHARE], (i * D4 + d) % SHARE);
                for (var r = 0u; r < ROWS; r++) { // unroll
                    scores[r][i] += dot(q[r * D4 + d], part);
                }
            }
        }
        for (var i = 0u; i < 4u; i++) { // unroll
            let about_key = mask_of_key(place, min(key + i, last_key));
            for (var r = 0u; r < ROWS; r++) { // unroll
                let query = min(first + r * LANES, params.queries - 1u);
                let seen = sight[r].x <= key + i && key + i < sight[r].y;
                let held = min(key + i, last_key);
                let masked = add_mask(scores[r][i], about_key, place, query, held);
                scores[r][i] = select(HIDDEN, masked, seen);
            }
        }
        for (var r = 0u; r < ROWS; r++) { // unroll
            let s = scores[r];
            let now = max(top[r], max(max(s.x, s.y), max(s.z, s.w)));
            let keep = power(vec4(top[r] - now)).x;
            let p = select(power(s - now), vec4(0.0), s <= vec4(HIDDEN));
            top[r] = now;
            weight[r] = weight[r] * keep + ((p.x + p.y) + (p.z + p.w));
            scores[r] = p;
            for (var d = 0u; d < V4; d++) { // unroll
                sums[r * V4 + d] *= keep;
            }
        }
        var v_mine: array<vec4<f32>, V_LOADS>;
        for (var s = 0u; s < V_LOADS; s++) { // unroll
            let e = s * SHARE + sharer;
            v_mine[s] = load_v(v_from + min(key + e / V4, last_key) * params.v_row, e % V4);
        }
        for (var i = 0u; i < 4u; i++) { // unroll
            for (var d = 0u; d < V4; d++) { // unroll
                let part = hear(v_mine[(i * V4 + d) / SHARE], (i * V4 + d) % SHARE);
                for (var r = 0u; r < ROWS; r++) { // unroll
                    sums[r * V4 + d] += scores[r][i] * part;
                }
            }
        }
    }
    let out = params.out_offset + place.batch * params.out_batch + place.head * params.out_head;
    for (var r = 0u; r < ROWS; r++) { // unroll
        let query = first + r * LANES;
        if (query < params.queries) {
            let none = bitcast<f32>(params.no_key);
            for (var d = 0u; d < V4; d++) { // unroll
                let value = select(sums[r * V4 + d] / weight[r], vec4(none), weight[r] == 0.0);
                store(out + query * params.out_row, d, value);
            }
        }
    }
}

// Exponents below this give nothing, and drivers differ on what they make of huge ones. A choice
// lets NaN through, where a maximum would not.
fn power(x: vec4<f32>) -> vec4<f32> {
    return select(exp(x), vec4(0.0), x < vec4(-100.0));
}

fn mask_at(place: Place, query: u32, key: u32) -> u32 {
    return params.mask_offset + place.batch * params.mask_batch + place.head * params.mask_head
        + query * params.mask_query + key * params.mask_key;
}

fn no_mask_of_key(place: Place, key: u32) -> u32 {
    return 0u;
}

fn read_mask_of_key(place: Place, key: u32) -> u32 {
    return mask_bits(mask_at(place, 0u, key));
}

fn add_none(score: f32, about_key: u32, place: Place, query: u32, key: u32) -> f32 {
    return score;
}

fn add_by_key(score: f32, about_key: u32, place: Place, query: u32, key: u32) -> f32 {
    return apply(score, about_key);
}

fn add_by_cell(score: f32, about_key: u32, place: Place, query: u32, key: u32) -> f32 {
    return apply(score, mask_bits(mask_at(place, query, key)));
}

fn apply_additive(score: f32, bits: u32) -> f32 {
    let sum = score + bitcast<f32>(bits);
    return select(select(sum, LEAST, sum < LEAST), HIDDEN, bits == 0xff800000u);
}

fn apply_boolean(score: f32, bits: u32) -> f32 {
    return select(score, HIDDEN, bits == 0u);
}
