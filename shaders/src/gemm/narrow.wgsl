// Products of few columns. Every lane of a subgroup has ROWS rows of its own and all of the QUADS
// columns; the lanes share the loads of b, STEPS times four of k at once.

fn rows_in_lanes(group: u32, lane: u32) {
    let tile = tile_of(group, ROWS * LANES, QUADS);
    var a_from: array<u32, ROWS>;
    for (var r = 0u; r < ROWS; r++) { // unroll
        a_from[r] = a_at(tile.z, tile.row + r * LANES + lane);
    }
    let mine = tile.quad + lane % QUADS;
    let b_from = b_at(tile.z, mine);
    var sums: array<vec4<f32>, ROWS * QUADS>;
    for (var k = 0u; k < params.k; k += 4u * STEPS) {
        let b_mine = load_b(tile.z, b_from, mine, k + lane / QUADS * 4u);
        for (var step = 0u; step < STEPS; step++) { // unroll
            var a: array<vec4<f32>, ROWS>;
            for (var r = 0u; r < ROWS; r++) { // unroll
                a[r] = load_a(a_from[r], k + step * 4u);
            }
            for (var q = 0u; q < QUADS; q++) { // unroll
                let b = mat4x4<f32>(
                    subgroupBroadcast(b_mine[0], step * QUADS + q),
                    subgroupBroadcast(b_mine[1], step * QUADS + q),
                    subgroupBroadcast(b_mine[2], step * QUADS + q),
                    subgroupBroadcast(b_mine[3], step * QUADS + q),
                );
                for (var r = 0u; r < ROWS; r++) { // unroll
                    sums[r * QUADS + q] = add_four(sums[r * QUADS + q], a[r], b);
                }
            }
        }
    }
    for (var q = 0u; q < QUADS; q++) { // unroll
        let known = columns(tile.quad + q);
        for (var r = 0u; r < ROWS; r++) { // unroll
            let row = tile.row + r * LANES + lane;
            store(tile.z, row, tile.quad + q, sums[r * QUADS + q], known);
        }
    }
}
