// Chains of multiply-adds that wait only for themselves: as many as registers hold, so that the
// units are never idle. Nothing else bounds the time.

fn peak_chains(group: u32, lane: u32) {
    let i = group * WIDTH + lane;
    let start = x[i];
    let factor = vec4<f32>(params.factor);
    let term = vec4<f32>(params.term);
    var a = vec4<f32>(start);
    var b = vec4<f32>(start + 1.0);
    var c = vec4<f32>(start + 2.0);
    for (var round = 0u; round < params.rounds; round++) {
        for (var turn = 0u; turn < UNROLLED; turn++) { // unroll
            a = fma(a, factor, term);
            b = fma(b, factor, term);
            c = fma(c, factor, term);
        }
    }
    let sum = a + b + c;
    result[i] = sum.x + sum.y + sum.z + sum.w;
}
