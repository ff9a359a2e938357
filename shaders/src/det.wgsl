// One matrix per workgroup, eliminated in place. Every lane finds the pivot and the product by
// itself, so that all agree without a word.

var<workgroup> cells: array<f32, CELLS>;

fn pivot_of(k: u32) -> u32 {
    var pivot = k;
    for (var row = k + 1u; row < params.n; row++) {
        if (abs(cells[row * params.n + k]) > abs(cells[pivot * params.n + k])) {
            pivot = row;
        }
    }
    return pivot;
}

fn det_matrix(group: u32, lane: u32) {
    let n = params.n;
    for (var i = lane; i < n * n; i += LANES) {
        cells[i] = x[group * n * n + i];
    }
    workgroupBarrier();
    var det = 1.0;
    for (var k = 0u; k < n; k++) {
        let pivot = pivot_of(k);
        let head = cells[pivot * n + k];
        det *= select(head, -head, pivot != k);
        workgroupBarrier();
        for (var column = lane; column < n; column += LANES) {
            let above = cells[k * n + column];
            cells[k * n + column] = cells[pivot * n + column];
            cells[pivot * n + column] = above;
        }
        workgroupBarrier();
        let rest = n - k - 1u;
        // A column of zeros makes the product zero: what follows cannot change that.
        if (head != 0.0) {
            for (var i = lane; i < rest * rest; i += LANES) {
                let row = k + 1u + i / rest;
                let column = k + 1u + i % rest;
                let factor = cells[row * n + k] / head;
                cells[row * n + column] -= factor * cells[k * n + column];
            }
        }
        workgroupBarrier();
    }
    if (lane == 0u) {
        result[group] = det;
    }
}
