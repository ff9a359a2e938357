// One output element per invocation.

struct Cell {
    roi: u32,
    plane: u32,
    y: f32,
    x: f32,
    known: bool,
}

fn cell_of(index: u32, batch: i32, roi: u32) -> Cell {
    let rest = index / params.out_w;
    let channel = rest / params.out_h % params.channels;
    var cell: Cell;
    cell.roi = roi;
    // A batch entry that does not exist is read nowhere.
    cell.known = u32(batch) < params.batch;
    cell.plane = (u32(batch) * params.channels + channel) * params.in_h * params.in_w;
    cell.y = f32(rest % params.out_h);
    cell.x = f32(index % params.out_w);
    return cell;
}

// What one axis of a bin is sampled at: `first` to `end` of `count` points, `step` apart.
struct Points {
    start: f32,
    step: f32,
    count: f32,
    first: u32,
    end: u32,
}

fn points_of(low: f32, high: f32, at: f32, bins: u32, size: u32) -> Points {
    let start = low * params.scale - params.shift;
    let extent = max(high * params.scale - params.shift - start, params.least);
    let bin = extent / f32(bins);
    var points: Points;
    points.count = select(f32(params.ratio), ceil(bin), params.ratio == 0u);
    points.step = bin / points.count;
    points.start = start + at * bin;
    // Points outside of the plane are zero: only those near it are read, however large the
    // region is.
    let before = (-1.0 - points.start) / points.step - 2.0;
    let after = (f32(size) - points.start) / points.step + 2.0;
    let most = max(params.ratio, 2u * size + 16u);
    points.first = u32(clamp(before, 0.0, max(points.count, 0.0)));
    points.end = u32(clamp(after, 0.0, max(points.count, 0.0)));
    points.end = min(points.end, points.first + most);
    return points;
}

// The neighbours of a point and the part of the second.
struct Pair {
    low: u32,
    high: u32,
    part: f32,
    inside: bool,
}

fn pair_at(points: Points, index: u32, size: u32) -> Pair {
    let at = points.start + (f32(index) + 0.5) * points.step;
    var pair: Pair;
    pair.inside = at >= -1.0 && at <= f32(size);
    let near = clamp(at, 0.0, f32(size) - 1.0);
    pair.low = min(u32(near), size - 1u);
    pair.high = min(pair.low + 1u, size - 1u);
    pair.part = near - f32(pair.low);
    return pair;
}

fn roi_align(group: u32, lane: u32) {
    let index = group * WIDTH + lane;
    if (index >= params.count) {
        return;
    }
    let roi = index / params.out_w / params.out_h / params.channels;
    let cell = cell_of(index, batches[roi], roi);
    let rows = points_of(rois[roi * 4u + 1u], rois[roi * 4u + 3u], cell.y, params.out_h, params.in_h);
    let columns = points_of(rois[roi * 4u], rois[roi * 4u + 2u], cell.x, params.out_w, params.in_w);
    var total = 0.0;
    var seen = 0.0;
    if (cell.known) {
        for (var i = rows.first; i < rows.end; i++) {
            let y = pair_at(rows, i, params.in_h);
            for (var j = columns.first; j < columns.end; j++) {
                let x = pair_at(columns, j, params.in_w);
                if (!y.inside || !x.inside) {
                    continue;
                }
                let low = cell.plane + y.low * params.in_w;
                let high = cell.plane + y.high * params.in_w;
                let value = vec4(
                    (1.0 - y.part) * (1.0 - x.part) * data[low + x.low],
                    (1.0 - y.part) * x.part * data[low + x.high],
                    y.part * (1.0 - x.part) * data[high + x.low],
                    y.part * x.part * data[high + x.high],
                );
                total = merge(total, value, seen == 0.0);
                seen += 1.0;
            }
        }
    }
    result[index] = finish(total, seen, max(rows.count, 0.0) * max(columns.count, 0.0));
}

fn merge_sum(total: f32, value: vec4<f32>, first: bool) -> f32 {
    return total + value.x + value.y + value.z + value.w;
}

fn finish_mean(total: f32, seen: f32, count: f32) -> f32 {
    return total / max(count, 1.0);
}

fn merge_max(total: f32, value: vec4<f32>, first: bool) -> f32 {
    let largest = max(max(value.x, value.y), max(value.z, value.w));
    return select(max(total, largest), largest, first);
}

// A point that is not read is zero.
fn finish_max(total: f32, seen: f32, count: f32) -> f32 {
    return select(total, max(total, 0.0), seen < count);
}

// Whole elements from `x` to `y` that a bin covers.
fn covered(low: f32, high: f32, at: f32, bins: u32, size: u32) -> vec2<u32> {
    let start = rounded(low * params.scale);
    let extent = max(rounded(high * params.scale) - start + 1.0, 1.0);
    let bin = extent / f32(bins);
    let first = clamp(floor(at * bin) + start, 0.0, f32(size));
    let end = clamp(ceil((at + 1.0) * bin) + start, 0.0, f32(size));
    return vec2(min(u32(first), size), min(u32(end), size));
}

// Halves go away from zero.
fn rounded(x: f32) -> f32 {
    return sign(x) * floor(abs(x) + 0.5);
}

fn roi_pool(group: u32, lane: u32) {
    let index = group * WIDTH + lane;
    if (index >= params.count) {
        return;
    }
    let roi = index / params.out_w / params.out_h / params.channels;
    let base = roi * 5u;
    let cell = cell_of(index, i32(rois[base]), roi);
    let rows = covered(rois[base + 2u], rois[base + 4u], cell.y, params.out_h, params.in_h);
    let columns = covered(rois[base + 1u], rois[base + 3u], cell.x, params.out_w, params.in_w);
    var total = 0.0;
    var first = true;
    if (cell.known) {
        for (var y = rows.x; y < rows.y; y++) {
            for (var x = columns.x; x < columns.y; x++) {
                let value = data[cell.plane + y * params.in_w + x];
                total = select(max(total, value), value, first);
                first = false;
            }
        }
    }
    result[index] = total;
}
