//! Where faces are in an image, by MTCNN: three networks, each of which looks closer at what the
//! one before has found. A network sees squares, and says how sure it is that each is a face, and
//! by which parts of its sides the edges are off.

use std::collections::BTreeMap;

use gw_sdk::image::{Image, Layout, Order, Rect, suppress};
use gw_sdk::nn::Graph;
use gw_sdk::{Body, Error, Json, Query, handler, within};
use serde::{Deserialize, Serialize};

/// A model's name in `gw.toml`, and its names of the input, scores, shifts of edges and landmarks.
struct Network(&'static str, &'static [&'static str]);

const P_NET: Network = Network("pnet", &["input_1", "softmax", "conv2d_4"]);
const R_NET: Network = Network("rnet", &["input_2", "softmax_1", "dense_2"]);
const O_NET: Network = Network("onet", &["input_3", "softmax_2", "dense_5", "dense_6"]);
const LANDMARKS: [&str; 5] = ["left_eye", "right_eye", "nose", "mouth_left", "mouth_right"];

/// P-Net says something of every other square of so many pixels.
const WINDOW: u32 = 12;
/// The longer sides at which P-Net sees an image: the same for every image, so that a GPU plans few
/// shapes and requests share runs.
const LEVELS: [u32; 12] = [640, 453, 321, 227, 160, 113, 80, 56, 39, 27, 19, 13];
/// What the levels are made from: each would take its time with all pixels of a photograph.
const LARGEST: u32 = 1280;
/// So many faces go on to the next network: a bound on what an image full of noise costs.
const FACES_MAX: usize = 1000;

/// `?min_size=&min_score=`: the smallest faces to look for, in pixels, and how sure one must be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    min_size: Option<f32>,
    min_score: Option<f32>,
}

#[derive(Serialize)]
struct Answer {
    /// The surest first.
    faces: Vec<Face>,
}

#[derive(Serialize)]
struct Face {
    score: f32,
    r#box: Rect,
    /// As x and y.
    landmarks: BTreeMap<&'static str, [f32; 2]>,
}

#[handler]
fn detect(Query(options): Query<Options>, Body(body): Body) -> Result<Json<Answer>, Error> {
    let min_size = within("min_size", options.min_size.unwrap_or(20.0), WINDOW as f32..=1e5)?;
    let min_score = within("min_score", options.min_score.unwrap_or(0.9), 0.0..=1.0)?;
    let image = Image::decode(&body)?;
    let found = propose(&image, min_size)?;
    let found = best(look_closer(&image, &found, &R_NET, 24, 0.7)?, Rect::over_union, 0.7);
    let found = look_closer(&image, &found, &O_NET, 48, min_score)?;
    Ok(Json(Answer { faces: best(found, Rect::over_smaller, 0.7) }))
}

/// What P-Net takes for faces of `min_size` pixels or more.
fn propose(image: &Image, min_size: f32) -> Result<Vec<Face>, Error> {
    let (short, long) = (image.width().min(image.height()), image.width().max(image.height()));
    let largest = scaled(image, long.min(LARGEST))?;
    let enough = (WINDOW * long) as f32 / min_size;
    let first = LEVELS.iter().rposition(|&side| side as f32 >= enough).unwrap_or(0);
    let mut found = Vec::new();
    for &side in LEVELS[first..].iter().filter(|&side| side * short >= WINDOW * long) {
        let square = |x, y, side| Rect::new(x as f32, y as f32, side as f32, side as f32);
        let level = scaled(&largest, side)?.cut(&square(0, 0, side))?;
        let rows = (side - 9) / 2;
        let windows = (0..rows * rows).map(|at| {
            let window = square(2 * (at / rows), 2 * (at % rows), WINDOW);
            window.scaled(long as f32 / side as f32)
        });
        found.extend(best(look(&[level], windows, &P_NET, 0.6)?, Rect::over_union, 0.5));
    }
    Ok(best(found, Rect::over_union, 0.7))
}

/// Looks at the squares around what was found, in `side` pixels.
fn look_closer(
    image: &Image,
    found: &[Face],
    network: &Network,
    side: u32,
    min_score: f32,
) -> Result<Vec<Face>, Error> {
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let squares = found.iter().map(|face| face.r#box.squared());
    let pictures = squares.clone().map(|square| image.cut(&square)?.resize(side, side));
    look(&pictures.collect::<Result<Vec<_>, _>>()?, squares, network, min_score)
}

/// What a network takes for faces among squares, which it sees in these pictures.
fn look(
    pictures: &[Image],
    squares: impl Iterator<Item = Rect>,
    Network(model, names): &Network,
    min_score: f32,
) -> Result<Vec<Face>, Error> {
    // They were trained on columns.
    let pictures: Vec<_> = pictures.iter().map(Image::transposed).collect();
    let input = Image::batch(&pictures, Layout::Nhwc, Order::Rgb, [127.5; 3], [1.0 / 128.0; 3])?;
    let outputs = Graph::load(model)?.compute([(names[0], input.into())])?;
    let (scores, shifts) = (outputs.read::<f32>(names[1])?, outputs.read::<f32>(names[2])?);
    let points = names.get(3).map(|name| outputs.read::<f32>(name)).transpose()?;
    let points = |at| points.as_ref().and_then(|points| points.rows().nth(at)).unwrap_or_default();
    let seen = squares.zip(scores.rows().zip(shifts.rows())).enumerate();
    let sure = seen.filter(|(_, (_, (score, _)))| score[1] >= min_score);
    Ok(sure
        .map(|(at, (square, (score, shifts)))| face(square, score[1], shifts, points(at)))
        .collect())
}

fn face(square: Rect, score: f32, shifts: &[f32], points: &[f32]) -> Face {
    let Rect { x, y, width, height } = square;
    let (left, top) = (x + shifts[0] * width, y + shifts[1] * height);
    let (right, bottom) = (x + width + shifts[2] * width, y + height + shifts[3] * height);
    let point = |at: usize| [x + points[at] * width, y + points[at + 5] * height];
    let landmarks = LANDMARKS.into_iter().zip((0..points.len() / 2).map(point)).collect();
    Face { score, r#box: Rect::new(left, top, right - left, bottom - top), landmarks }
}

fn best(found: Vec<Face>, overlap: fn(&Rect, &Rect) -> f32, overlap_max: f32) -> Vec<Face> {
    let overlap = |a: &Face, b: &Face| overlap(&a.r#box, &b.r#box);
    suppress(found, |face| face.score, overlap, overlap_max, FACES_MAX)
}

/// The image with a longer side of `long` pixels.
fn scaled(image: &Image, long: u32) -> Result<Image, Error> {
    let scale = long as f32 / image.width().max(image.height()) as f32;
    let side = |pixels: u32| ((pixels as f32 * scale).round() as u32).max(1);
    image.resize(side(image.width()), side(image.height()))
}

#[cfg(test)]
mod tests;
