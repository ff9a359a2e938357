// One output element per invocation.

struct Cell {
    plane: u32,
    y: f32,
    x: f32,
    known: bool,
}

fn cell_of(index: u32, batch: i32) -> Cell {
    let rest = index / params.out_w;
    let channel = rest / params.out_h % params.channels;
    let plane = (u32(batch) * params.channels + channel) * params.in_h * params.in_w;
    // A batch entry that does not exist is read nowhere.
    let known = u32(batch) < params.batch;
    return Cell(plane, f32(rest % params.out_h), f32(index % params.out_w), known);
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
    points.start = start + at * bin;
    points.count = select(f32(params.ratio), ceil(bin), params.ratio == 0u);
    points.step = bin / points.count;
    // Points outside of the plane are zero: only those near it are read, however large the
    // region is.
    let count = max(points.count, 0.0);
    let most = select(params.ratio, size + NEAR, params.ratio == 0u);
    points.first = u32(clamp((-1.0 - points.start) / points.step - 2.0, 0.0, count));
    points.end = u32(clamp((f32(size) - points.start) / points.step + 2.0, 0.0, count));
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
    let near = clamp(at, 0.0, f32(size) - 1.0);
    let low = min(u32(near), size - 1u);
    let inside = at >= -1.0 && at <= f32(size);
    return Pair(low, min(low + 1u, size - 1u), near - f32(low), inside);
}

fn roi_align(group: u32, lane: u32) {
    let index = group * WIDTH + lane;
    if (index >= params.count) {
        return;
    }
    let roi = index / params.out_w / params.out_h / params.channels;
    let base = roi * 4u;
    let cell = cell_of(index, batches[roi]);
    let rows = points_of(rois[base + 1u], rois[base + 3u], cell.y, params.out_h, params.in_h);
    let columns = points_of(rois[base], rois[base + 2u], cell.x, params.out_w, params.in_w);
    var total = 0.0;
    var seen = 0.0;
    if (cell.known) {
        for (var i = rows.first; i < rows.end; i++) {
            let y = pair_at(rows, i, params.in_h);
            for (var j = columns.first; j < columns.end; j++) {
                let x = pair_at(columns, j, params.in_w);
                if (y.inside && x.inside) {
                    let low = cell.plane + y.low * params.in_w;
                    let high = cell.plane + y.high * params.in_w;
                    let top = vec2(data[low + x.low], data[low + x.high]) * (1.0 - y.part);
                    let bottom = vec2(data[high + x.low], data[high + x.high]) * y.part;
                    let across = vec4(1.0 - x.part, x.part, 1.0 - x.part, x.part);
                    total = merge(total, vec4(top, bottom) * across, seen == 0.0);
                    seen += 1.0;
                }
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
    let cell = cell_of(index, i32(rois[base]));
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
