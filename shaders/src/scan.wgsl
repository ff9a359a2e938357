// Running folds along one row: by one invocation, or by LANES in tiles, each tile scanned in log2
// steps and joined to what came before. The header gives Elem, start and merge.

var<workgroup> scanned: array<Elem, LANES>;

// The element that is `step` on the way along the row.
fn scan_place(row: u32, step: u32) -> u32 {
    let along = select(step, params.len - 1u - step, params.reverse != 0u);
    return (row / params.inner * params.len + along) * params.inner + row % params.inner;
}

fn scan_alone(row: u32, lane: u32) {
    var total = start();
    for (var step = 0u; step < params.len; step++) {
        let at = scan_place(row, step);
        let next = merge(total, x[at]);
        result[at] = select(next, total, params.exclusive != 0u);
        total = next;
    }
}

fn scan_shared(row: u32, lane: u32) {
    var carry = start();
    for (var tile = 0u; tile < params.len; tile += LANES) {
        let step = tile + lane;
        var value = start();
        if (step < params.len) {
            value = x[scan_place(row, step)];
        }
        scanned[lane] = value;
        workgroupBarrier();
        for (var reach = 1u; reach < LANES; reach *= 2u) {
            var left = start();
            if (lane >= reach) {
                left = scanned[lane - reach];
            }
            workgroupBarrier();
            scanned[lane] = merge(left, scanned[lane]);
            workgroupBarrier();
        }
        var before = start();
        if (lane > 0u) {
            before = scanned[lane - 1u];
        }
        let own = select(scanned[lane], before, params.exclusive != 0u);
        if (step < params.len) {
            result[scan_place(row, step)] = merge(carry, own);
        }
        carry = merge(carry, scanned[LANES - 1u]);
        workgroupBarrier();
    }
}
