// Tiles in workgroup memory. The hooks are those of gemm.wgsl.

// 8 x 8 invocations, each with DOWN quads of rows and ACROSS quads of columns, over 16 values of k
// at a time; both tiles are kept as [16 k][quads].
var<workgroup> tile_a: array<vec4<f32>, 16u * A_QUADS>;
var<workgroup> tile_b: array<vec4<f32>, 16u * B_QUADS>;

fn shared_tile(group: u32, lane: u32) {
    let tile = tile_of(group, 4u * A_QUADS, B_QUADS);
    let my_row = lane / 8u * DOWN;
    let my_quad = lane % 8u;
    var b_from: array<u32, B_BLOCKS>;
    for (var s = 0u; s < B_BLOCKS; s++) { // unroll
        b_from[s] = b_at(tile.z, tile.quad + (s * 64u + lane) % B_QUADS);
    }
    var sums: array<vec4<f32>, ROWS * ACROSS>;
    for (var k = 0u; k < params.k; k += 16u) {
        for (var s = 0u; s < A_BLOCKS; s++) { // unroll
            let quad = (s * 64u + lane) % A_QUADS;
            let at = (s * 64u + lane) / A_QUADS * 4u;
            if (at < 16u) {
                var rows: mat4x4<f32>;
                for (var r = 0u; r < 4u; r++) { // unroll
                    rows[r] = load_a(a_at(tile.z, tile.row + quad * 4u + r), k + at);
                }
                let along_rows = transpose(rows);
                for (var i = 0u; i < 4u; i++) { // unroll
                    tile_a[(at + i) * A_QUADS + quad] = along_rows[i];
                }
            }
        }
        for (var s = 0u; s < B_BLOCKS; s++) { // unroll
            let quad = (s * 64u + lane) % B_QUADS;
            let at = (s * 64u + lane) / B_QUADS * 4u;
            if (at < 16u) {
                let b = load_b(tile.z, b_from[s], tile.quad + quad, k + at);
                for (var i = 0u; i < 4u; i++) { // unroll
                    tile_b[(at + i) * B_QUADS + quad] = b[i];
                }
            }
        }
        workgroupBarrier();
        for (var i = 0u; i < 16u; i++) {
            var b: array<vec4<f32>, ACROSS>;
            for (var j = 0u; j < ACROSS; j++) { // unroll
                b[j] = tile_b[i * B_QUADS + my_quad + j * 8u];
            }
            for (var h = 0u; h < DOWN; h++) { // unroll
                let a = tile_a[i * A_QUADS + my_row + h];
                for (var r = 0u; r < 4u; r++) { // unroll
                    for (var j = 0u; j < ACROSS; j++) { // unroll
                        let at = (h * 4u + r) * ACROSS + j;
                        sums[at] = fma(vec4(a[r]), b[j], sums[at]);
                    }
                }
            }
        }
        workgroupBarrier();
    }
    for (var j = 0u; j < ACROSS; j++) { // unroll
        let quad = tile.quad + my_quad + j * 8u;
        let known = columns(quad);
        for (var r = 0u; r < ROWS; r++) { // unroll
            store(tile.z, tile.row + my_row * 4u + r, quad, sums[r * ACROSS + j], known);
        }
    }
}

// Few rows: 64 invocations fetch 64 values of k of eight vec4 columns, and one for each row and
// vec4 column adds them up in order.
var<workgroup> staged: array<vec4<f32>, 512>;

fn staged_rows(group: u32, lane: u32) {
    let tile = tile_of(group, ROWS, 8u);
    let quad = tile.quad + lane % 8u;
    let a_from = a_at(tile.z, tile.row + lane / 8u % ROWS);
    let b_from = b_at(tile.z, quad);
    var sum = vec4(0.0);
    for (var k = 0u; k < params.k; k += 64u) {
        for (var half = 0u; half < 2u; half++) { // unroll
            let mine = half * 32u + lane / 8u * 4u;
            let b = load_b(tile.z, b_from, quad, k + mine);
            for (var i = 0u; i < 4u; i++) { // unroll
                staged[(mine + i) * 8u + lane % 8u] = b[i];
            }
        }
        workgroupBarrier();
        if (lane < ROWS * 8u) {
            for (var i = 0u; i < 64u; i += 4u) {
                let at = i * 8u + lane % 8u;
                let b = mat4x4<f32>(
                    staged[at], staged[at + 8u], staged[at + 16u], staged[at + 24u],
                );
                sum = add_four(sum, load_a(a_from, k + i), b);
            }
        }
        workgroupBarrier();
    }
    if (lane < ROWS * 8u) {
        store(tile.z, tile.row + lane / 8u, quad, sum, columns(quad));
    }
}
