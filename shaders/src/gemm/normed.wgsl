// Products of whole rows, which are normalised where they were stored. The header gives what
// those of gemm.wgsl and norm.wgsl have.

// An invocation stores every LANES-th vec4 of a row, and reads back just those: nothing has to
// wait for what others store.
fn whole_rows(group: u32, lane: u32) {
    let down = (params.m + ROWS - 1u) / ROWS;
    let tiles = (params.n + 4u * QUADS * LANES - 1u) / (4u * QUADS * LANES);
    let first = group / down * tiles * down + group % down;
    for (var tile = 0u; tile < tiles; tile++) {
        rows_in_registers(first + tile * down, lane);
    }
    let row = group % down * ROWS;
    for (var r = 0u; r < min(ROWS, params.m - row); r++) {
        normalise(group / down * params.m + row + r, lane);
    }
}
