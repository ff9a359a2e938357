//! Where lines of text are: rectangles around what the first model marks.

/// From here on a pixel is text, and so is a mark whose pixels are so likely in the mean.
const PIXEL_MIN: f32 = 0.3;
const MARK_MIN: f32 = 0.5;
/// A mark that is thinner, in pixels, is no text.
const SIDE_MIN: f32 = 3.0;
/// A mark is the core of a line, which grows on all sides by so much of area / perimeter. With
/// less, the third model misses spaces (see the README).
const GROWTH: f32 = 2.4;
/// A rectangle is turned further only where that makes it so much smaller.
const SMALLER: f32 = 0.98;

/// The corners of a line, clockwise from where its text begins at the top. It may stand on its
/// head.
pub type Corners = [[f32; 2]; 4];

/// The lines of a map of so many columns, from top to bottom and from left to right, in the pixels
/// of a picture of which the map is `scale` times as wide.
pub fn find(map: &[f32], columns: usize, scale: f32) -> Vec<Corners> {
    let (mut lines, mut seen) = (Vec::new(), vec![false; map.len()]);
    for start in 0..map.len() {
        let (mut points, mut sum, mut next) = (Vec::new(), 0.0, vec![start]);
        while let Some(at) = next.pop() {
            if map[at] < PIXEL_MIN || std::mem::replace(&mut seen[at], true) {
                continue;
            }
            let (x, y) = (at % columns, at / columns);
            sum += map[at];
            points.push([x as f32 + 0.5, y as f32 + 0.5]);
            // Its neighbours, counted from 1 as there is nothing below 0.
            let near = (0..9).map(|step| (x + step % 3, y + step / 3));
            let near = near.filter(|&(x, y)| (1..=columns).contains(&x) && y > 0);
            next.extend(near.map(|(x, y)| (y - 1) * columns + x - 1).filter(|&at| at < map.len()));
        }
        if sum > MARK_MIN * points.len() as f32 {
            lines.extend(around(&points));
        }
    }
    let middle = |line: &Corners, axis: usize| line[0][axis] + line[2][axis];
    let height = |line: &Corners| f32::hypot(line[3][0] - line[0][0], line[3][1] - line[0][1]);
    lines.sort_by(|a, b| middle(a, 1).total_cmp(&middle(b, 1)));
    for row in lines.chunk_by_mut(|a, b| middle(b, 1) - middle(a, 1) < 0.8 * height(a)) {
        row.sort_by(|a, b| middle(a, 0).total_cmp(&middle(b, 0)));
    }
    lines.iter().map(|line| line.map(|corner| corner.map(|side| side / scale))).collect()
}

/// The smallest rectangle around a mark, grown. In one that is higher than wide text runs upwards.
fn around(points: &[[f32; 2]]) -> Option<Corners> {
    let (mut smallest, mut best) = (f32::INFINITY, None);
    for degrees in (0..90).flat_map(|half| [half as f32 / 2.0, half as f32 / -2.0]) {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let [u, v] = [[cos, sin], [-sin, cos]].map(|[a, b]| {
            let along = points.iter().map(|[x, y]| a * x + b * y);
            along.fold([f32::MAX, f32::MIN], |[min, max], x| [min.min(x - 0.5), max.max(x + 0.5)])
        });
        let size = [u[1] - u[0], v[1] - v[0]];
        if size[0] * size[1] < smallest * SMALLER {
            (smallest, best) = (size[0] * size[1], Some((sin, cos, u, v, size)));
        }
    }
    let (sin, cos, u, v, size) = best.filter(|best| best.4[0].min(best.4[1]) >= SIDE_MIN)?;
    let growth = GROWTH * size[0] * size[1] / (size[0] + size[1]) / 2.0;
    let [u, v] = [u, v].map(|[from, to]| [from - growth, to + growth]);
    let corners = [[u[0], v[0]], [u[1], v[0]], [u[1], v[1]], [u[0], v[1]]];
    let mut corners = corners.map(|[u, v]| [u * cos - v * sin, u * sin + v * cos]);
    corners.rotate_right(usize::from(size[1] > 1.5 * size[0]));
    Some(corners)
}
