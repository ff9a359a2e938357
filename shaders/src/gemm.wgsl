// Matrix products. The header gives ROWS, QUADS (vec4 columns of one invocation), LANES; hooks
// are a_at and load_a (four values along k of a row), b_at and load_b (four k of four columns),
// columns and store (the epilogue).

// The product's tile that a workgroup computes: the batch entry, the first row, the first vec4
// column. Row tiles come first, so that neighbours share b.
struct Tile {
    z: vec2<u32>,
    row: u32,
    quad: u32,
}

fn tile_of(group: u32, rows: u32, quads: u32) -> Tile {
    let down = (params.m + rows - 1u) / rows;
    let across = (params.n + 4u * quads - 1u) / (4u * quads);
    let rest = group / down;
    let batch = rest / across;
    let z = vec2(batch / params.inner_batch, batch % params.inner_batch);
    return Tile(z, group % down * rows, rest % across * quads);
}

// SHARE lanes load their shares of a once, and the others hear them: a subgroup, or one alone.
fn rows_in_registers(group: u32, lane: u32) {
    let tile = tile_of(group, ROWS, QUADS * LANES);
    let sharer = lane % SHARE;
    var a_from: array<u32, A_LOADS>;
    for (var s = 0u; s < A_LOADS; s++) { // unroll
        a_from[s] = a_at(tile.z, tile.row + (s * SHARE + sharer) % ROWS);
    }
    var b_from: array<u32, QUADS>;
    for (var j = 0u; j < QUADS; j++) { // unroll
        b_from[j] = b_at(tile.z, tile.quad + j * LANES + lane);
    }
    var sums: array<vec4<f32>, ROWS * QUADS>;
    for (var k = 0u; k < params.k; k += 4u * STEPS) {
        var a_mine: array<vec4<f32>, A_LOADS>;
        for (var s = 0u; s < A_LOADS; s++) { // unroll
            a_mine[s] = load_a(a_from[s], k + (s * SHARE + sharer) / ROWS * 4u);
        }
        for (var step = 0u; step < STEPS; step++) { // unroll
            var b: array<mat4x4<f32>, QUADS>;
            for (var j = 0u; j < QUADS; j++) { // unroll
                let quad = tile.quad + j * LANES + lane;
                b[j] = load_b(tile.z, b_from[j], quad, k + step * 4u);
            }
            for (var r = 0u; r < ROWS; r++) { // unroll
                let a = hear(a_mine[(step * ROWS + r) / SHARE], (step * ROWS + r) % SHARE);
                for (var j = 0u; j < QUADS; j++) { // unroll
                    sums[r * QUADS + j] = add_four(sums[r * QUADS + j], a, b[j]);
                }
            }
        }
    }
    for (var j = 0u; j < QUADS; j++) { // unroll
        let quad = tile.quad + j * LANES + lane;
        let known = columns(quad);
        for (var r = 0u; r < ROWS; r++) { // unroll
            store(tile.z, tile.row + r, quad, sums[r * QUADS + j], known);
        }
    }
}

// In order of k and fused, so that every variant rounds alike.
fn add_four(sum: vec4<f32>, a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
    let two = fma(vec4(a.y), b[1], fma(vec4(a.x), b[0], sum));
    return fma(vec4(a.w), b[3], fma(vec4(a.z), b[2], two));
}

// Where subgroups may have several sizes, SHARE lanes of one side by side are a cluster; `main`
// sets its place.
var<private> place_in_subgroup: u32;

fn hear_cluster(value: vec4<f32>, lane: u32) -> vec4<f32> {
    return subgroupShuffle(value, place_in_subgroup / SHARE * SHARE + lane);
}
