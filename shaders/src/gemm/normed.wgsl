// Products of whole rows, which are normalised where they were stored. The header gives what
// those of gemm.wgsl and norm.wgsl have, and the hook finish_rows.

fn whole_rows(group: u32, lane: u32) {
    let down = (params.m + ROWS - 1u) / ROWS;
    let tiles = (params.n + 4u * QUADS * LANES - 1u) / (4u * QUADS * LANES);
    let first = group / down * tiles * down + group % down;
    for (var tile = 0u; tile < tiles; tile++) {
        rows_in_registers(first + tile * down, lane);
    }
    storageBarrier();
    finish_rows(group / down * params.m, group % down * ROWS, lane);
}

// Every invocation takes rows of its own.
fn finish_alone(before: u32, first: u32, lane: u32) {
    for (var r = lane; r < ROWS; r += LANES) {
        if (first + r < params.m) {
            normalise(before + first + r, 0u);
        }
    }
}

// All take one row after another.
fn finish_together(before: u32, first: u32, lane: u32) {
    for (var r = 0u; r < ROWS; r++) {
        if (first + r < params.m) {
            normalise(before + first + r, lane);
        }
    }
}
