// Right-hand matrices in tiles of 64 columns whose elements are narrower than 32 bits. Four of k
// lie together and take B_STEP vec4; rows of k beyond the last are zeros.

fn b_at_fours(z: vec2<u32>, quad: u32) -> u32 {
    let inside = min(quad, (params.n - 1u) / 4u);
    return inside / 16u * B_STEP * ((params.k + 3u) / 4u) + inside % 16u;
}

fn four_of_k(base: u32, k: u32) -> u32 {
    return base + min(k, params.k - 1u) / 4u * B_STEP;
}

// One word holds four columns of one k, one load four of those.
fn load_b_bytes(z: vec2<u32>, base: u32, quad: u32, k: u32) -> mat4x4<f32> {
    let words = b_four(four_of_k(base, k));
    return mat4x4<f32>(
        four_of(words.x),
        four_of(words.y),
        four_of(words.z),
        four_of(words.w),
    );
}

fn four_signed(word: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(word));
}

fn four_unsigned(word: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xU8(word));
}

// Two words hold four columns of one k, one load two of those.
fn load_b_halves(z: vec2<u32>, base: u32, quad: u32, k: u32) -> mat4x4<f32> {
    let at = four_of_k(base, k);
    let first = b_four(at);
    let second = b_four(at + 16u);
    return mat4x4<f32>(
        four_of(first.xy),
        four_of(first.zw),
        four_of(second.xy),
        four_of(second.zw),
    );
}

fn four_halves(words: vec2<u32>) -> vec4<f32> {
    return vec4(unpack2x16float(words.x), unpack2x16float(words.y));
}

// A `bfloat16` is the upper half of an `f32`.
fn four_brains(words: vec2<u32>) -> vec4<f32> {
    let high = words & vec2(0xffff0000u);
    let low = words << vec2(16u);
    return bitcast<vec4<f32>>(vec4(low.x, high.x, low.y, high.y));
}

// The same buffer as `load_b_halves` reads, bound as what it is.
fn load_b_native(z: vec2<u32>, base: u32, quad: u32, k: u32) -> mat4x4<f32> {
    let at = 2u * four_of_k(base, k);
    return mat4x4<f32>(
        vec4<f32>(b[at]),
        vec4<f32>(b[at + 1u]),
        vec4<f32>(b[at + 32u]),
        vec4<f32>(b[at + 33u]),
    );
}
