//! Whether an image is fit to be shown at work, by Yahoo's open-nsfw.

use gw_sdk::image::{Image, Layout, Order};
use gw_sdk::nn::Graph;
use gw_sdk::{Body, Error, Json, Query, handler, within};
use serde::{Deserialize, Serialize};

/// The model's name in `gw.toml`.
const MODEL: &str = "open-nsfw";
/// The model was trained on the middle of images that were scaled to squares of this size.
const WHOLE: u32 = 256;
const MIDDLE: u32 = 224;
/// The mean of blue, green and red in what it was trained on.
const MEAN: [f32; 3] = [104.0, 117.0, 123.0];

/// What scores higher is surely unfit, by the model's authors.
const THRESHOLD: f32 = 0.8;

/// `?threshold=`: from which score on an image is flagged.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    threshold: Option<f32>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Answer {
    /// Whether `nsfw` is at least the threshold.
    flagged: bool,
    threshold: f32,
    scores: Scores,
}

/// From 0 to 1, and 1 together.
#[derive(Debug, PartialEq, Serialize)]
struct Scores {
    safe: f32,
    nsfw: f32,
}

#[handler]
fn moderate(Query(options): Query<Options>, Body(body): Body) -> Result<Json<Answer>, Error> {
    let threshold = within("threshold", options.threshold.unwrap_or(THRESHOLD), 0.0..=1.0)?;
    let edge = (WHOLE - MIDDLE) / 2;
    let image = Image::decode(&body)?.resize(WHOLE, WHOLE)?.crop(edge, edge, MIDDLE, MIDDLE)?;
    let input = image.to_tensor(Layout::Nhwc, Order::Bgr, MEAN, [1.0; 3]);
    let outputs = Graph::load(MODEL)?.compute([("input:0", input.into())])?;
    let scores = outputs.read::<f32>("outputs")?.expect_dims([Some(1), Some(2)])?;
    let (safe, nsfw) = (scores.as_slice()[0], scores.as_slice()[1]);
    Ok(Json(Answer { flagged: nsfw >= threshold, threshold, scores: Scores { safe, nsfw } }))
}

#[cfg(test)]
mod tests;
