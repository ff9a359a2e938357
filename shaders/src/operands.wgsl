// How a matrix product reads its operands. Offsets and strides of wide buffers count vec4.

// What a lone invocation hears is its own.
fn hear_self(value: vec4<f32>, lane: u32) -> vec4<f32> {
    return value;
}

fn a_at_strided(z: vec2<u32>, row: u32) -> u32 {
    let inside = min(row, params.m - 1u);
    return params.a_offset + z.x * params.a_z0 + z.y * params.a_z1 + inside * params.a_row;
}

fn load_a_wide(base: u32, k: u32) -> vec4<f32> {
    let value = a_four(base + min(k, params.k - 1u) / 4u);
    return select(vec4(0.0), value, k < params.k);
}

fn load_a_scattered(base: u32, k: u32) -> vec4<f32> {
    var value = vec4(0.0);
    for (var i = 0u; i < 4u; i++) { // unroll
        if (k + i < params.k) {
            value[i] = a[base + (k + i) * params.a_k];
        }
    }
    return value;
}

// Rows of k side by side, or packed in tiles of 64 columns: the distance of two tiles tells.
fn b_at_tiled(z: vec2<u32>, quad: u32) -> u32 {
    let inside = min(quad, params.b_last);
    let tile = inside / 16u * params.b_tile + inside % 16u;
    return params.b_offset + z.x * params.b_z0 + z.y * params.b_z1 + tile;
}

fn load_b_wide(z: vec2<u32>, base: u32, quad: u32, k: u32) -> mat4x4<f32> {
    let last = params.k - 1u;
    return mat4x4<f32>(
        b_four(base + min(k, last) * params.b_k),
        b_four(base + min(k + 1u, last) * params.b_k),
        b_four(base + min(k + 2u, last) * params.b_k),
        b_four(base + min(k + 3u, last) * params.b_k),
    );
}

fn b_at_strided(z: vec2<u32>, quad: u32) -> u32 {
    return params.b_offset + z.x * params.b_z0 + z.y * params.b_z1;
}

// A transposed matrix: four k of one column lie side by side.
fn load_b_columns(z: vec2<u32>, base: u32, quad: u32, k: u32) -> mat4x4<f32> {
    let last = params.n - 1u;
    let along = base + min(k, params.k - 1u) / 4u;
    return transpose(mat4x4<f32>(
        b_four(along + min(quad * 4u, last) * params.b_n),
        b_four(along + min(quad * 4u + 1u, last) * params.b_n),
        b_four(along + min(quad * 4u + 2u, last) * params.b_n),
        b_four(along + min(quad * 4u + 3u, last) * params.b_n),
    ));
}

fn load_b_scattered(z: vec2<u32>, base: u32, quad: u32, k: u32) -> mat4x4<f32> {
    var value: mat4x4<f32>;
    for (var i = 0u; i < 4u; i++) { // unroll
        let row = base + min(k + i, params.k - 1u) * params.b_k;
        for (var j = 0u; j < 4u; j++) { // unroll
            value[i][j] = b[row + min(quad * 4u + j, params.n - 1u) * params.b_n];
        }
    }
    return value;
}

// Columns of blocks along k, of which each has its scale and zero point.
fn b_at_blocks(z: vec2<u32>, quad: u32) -> u32 {
    return quad * 4u;
}

fn load_b_blocks(z: vec2<u32>, base: u32, quad: u32, k: u32) -> mat4x4<f32> {
    let along = select(k, 0u, k >= params.k);
    return transpose(mat4x4<f32>(
        block_column(base, along),
        block_column(base + 1u, along),
        block_column(base + 2u, along),
        block_column(base + 3u, along),
    ));
}

fn block_column(column: u32, k: u32) -> vec4<f32> {
    let inside = min(column, params.n - 1u);
    let block = blocks[inside * params.b_count + k / params.b_block];
    return (four_along(inside * params.b_words, k) - block.y) * block.x;
}

fn four_nibbles(row: u32, k: u32) -> vec4<f32> {
    let half = b[row + k / 8u] >> (k % 8u * 4u);
    return vec4<f32>(vec4(half, half >> 4u, half >> 8u, half >> 12u) & vec4(15u));
}

fn four_bytes(row: u32, k: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xU8(b[row + k / 4u]));
}
