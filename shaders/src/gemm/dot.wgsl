// Products of bytes. The tiles are those of gemm.wgsl; a word holds four of k, of a row of a or of
// a column of b, and sums are whole numbers. The header gives A_SHIFT, what is taken off a so that
// it fits a signed byte.

fn hear_self(value: u32, lane: u32) -> u32 {
    return value;
}

// Behind the last k, b has zeros in its last word; whole words of a are zero there.
fn word_wide(base: u32, k: u32) -> u32 {
    let four = a_four(base + min(k, params.k - 1u) / 4u);
    return select(0u, pack4xI8(four - vec4(i32(A_SHIFT))), k < params.k);
}

fn word_scattered(base: u32, k: u32) -> u32 {
    var four = vec4(0i);
    for (var i = 0u; i < 4u; i++) { // unroll
        four[i] = a[base + min(k + i, params.k - 1u) * params.a_k];
    }
    return select(0u, pack4xI8(four - vec4(i32(A_SHIFT))), k < params.k);
}

fn dots(a: u32, b: vec4<u32>) -> vec4<i32> {
    return vec4(
        dot4I8Packed(a, b.x),
        dot4I8Packed(a, b.y),
        dot4I8Packed(a, b.z),
        dot4I8Packed(a, b.w),
    );
}

fn dots_in_registers(group: u32, lane: u32) {
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
    var sums: array<vec4<i32>, ROWS * QUADS>;
    for (var k = 0u; k < params.k; k += 4u * STEPS) {
        var a_mine: array<u32, A_LOADS>;
        for (var s = 0u; s < A_LOADS; s++) { // unroll
            a_mine[s] = load_word(a_from[s], k + (s * SHARE + sharer) / ROWS * 4u);
        }
        for (var step = 0u; step < STEPS; step++) { // unroll
            var b_words: array<vec4<u32>, QUADS>;
            for (var j = 0u; j < QUADS; j++) { // unroll
                b_words[j] = b_four(four_of_k(b_from[j], k + step * 4u));
            }
            for (var r = 0u; r < ROWS; r++) { // unroll
                let word = hear(a_mine[(step * ROWS + r) / SHARE], (step * ROWS + r) % SHARE);
                for (var j = 0u; j < QUADS; j++) { // unroll
                    sums[r * QUADS + j] += dots(word, b_words[j]);
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

// 64 invocations compute 64 x 64 over 64 values of k at a time; both tiles are kept as
// [16 words][16 quads].
var<workgroup> words_a: array<vec4<u32>, 256>;
var<workgroup> words_b: array<vec4<u32>, 256>;

fn dots_of_shared_tile(group: u32, lane: u32) {
    let tile = tile_of(group, 64u, 16u);
    let load_quad = lane % 16u;
    let b_from = b_at(tile.z, tile.quad + load_quad);
    let my_row = lane / 8u * 2u;
    let my_quad = lane % 8u;
    var sums: array<vec4<i32>, 16>;
    for (var k = 0u; k < params.k; k += 64u) {
        for (var i = 0u; i < 4u; i++) { // unroll
            let step = lane / 16u + i * 4u;
            var rows: vec4<u32>;
            for (var r = 0u; r < 4u; r++) { // unroll
                rows[r] = load_word(a_at(tile.z, tile.row + load_quad * 4u + r), k + step * 4u);
            }
            words_a[step * 16u + load_quad] = rows;
            words_b[step * 16u + load_quad] = b_four(four_of_k(b_from, k + step * 4u));
        }
        workgroupBarrier();
        for (var i = 0u; i < 16u; i++) {
            let b0 = words_b[i * 16u + my_quad];
            let b1 = words_b[i * 16u + my_quad + 8u];
            for (var h = 0u; h < 2u; h++) { // unroll
                let rows = words_a[i * 16u + my_row + h];
                for (var r = 0u; r < 4u; r++) { // unroll
                    let at = h * 8u + r * 2u;
                    sums[at] += dots(rows[r], b0);
                    sums[at + 1u] += dots(rows[r], b1);
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
