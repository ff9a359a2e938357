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

// 64 invocations compute 64 x 64 over 16 values of k at a time; both tiles are kept as
// [16 k][16 quads].
var<workgroup> tile_a: array<vec4<f32>, 256>;
var<workgroup> tile_b: array<vec4<f32>, 256>;

fn shared_tile(group: u32, lane: u32) {
    let tile = tile_of(group, 64u, 16u);
    let load_quad = lane % 16u;
    let load_k = lane / 16u * 4u;
    let b_from = b_at(tile.z, tile.quad + load_quad);
    let my_row = lane / 8u * 2u;
    let my_quad = lane % 8u;
    var sums: array<vec4<f32>, 16>;
    for (var k = 0u; k < params.k; k += 16u) {
        var rows: mat4x4<f32>;
        for (var r = 0u; r < 4u; r++) { // unroll
            rows[r] = load_a(a_at(tile.z, tile.row + load_quad * 4u + r), k + load_k);
        }
        let along_rows = transpose(rows);
        let b = load_b(tile.z, b_from, tile.quad + load_quad, k + load_k);
        for (var i = 0u; i < 4u; i++) { // unroll
            tile_a[(load_k + i) * 16u + load_quad] = along_rows[i];
            tile_b[(load_k + i) * 16u + load_quad] = b[i];
        }
        workgroupBarrier();
        for (var i = 0u; i < 16u; i++) {
            let b0 = tile_b[i * 16u + my_quad];
            let b1 = tile_b[i * 16u + my_quad + 8u];
            for (var h = 0u; h < 2u; h++) { // unroll
                let a = tile_a[i * 16u + my_row + h];
                for (var r = 0u; r < 4u; r++) { // unroll
                    let at = h * 8u + r * 2u;
                    sums[at] = fma(vec4(a[r]), b0, sums[at]);
                    sums[at + 1u] = fma(vec4(a[r]), b1, sums[at + 1u]);
                }
            }
        }
        workgroupBarrier();
    }
    for (var j = 0u; j < 2u; j++) { // unroll
        let quad = tile.quad + my_quad + j * 8u;
        let known = columns(quad);
        for (var r = 0u; r < 8u; r++) { // unroll
            store(tile.z, tile.row + my_row * 4u + r, quad, sums[r * 2u + j], known);
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
