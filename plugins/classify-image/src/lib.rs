//! What an image shows: the likeliest of ImageNet's 1,000 classes, by EfficientNet-lite0.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use gw_sdk::image::{Image, Layout, Order};
use gw_sdk::nn::Graph;
use gw_sdk::{Body, Error, Json, Query, assets, handler, within};
use serde::{Deserialize, Serialize};

/// The model's name in `gw.toml`.
const MODEL: &str = "efficientnet-lite0";
/// The sides of what the model sees.
const SIDE: u32 = 224;
const CLASSES: usize = 1000;

static LABELS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let json = assets::read("labels.json").expect("gw.toml lists labels.json");
    labels(&json).expect("labels.json names every class")
});

/// `?top=`: how many classes are answered.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    top: Option<usize>,
}

#[derive(Serialize)]
struct Answer {
    /// The likeliest first.
    classes: Vec<Class>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Class {
    label: &'static str,
    /// Its number in ImageNet, from 0 on: two classes have the label "crane".
    index: usize,
    /// From 0 to 1, and 1 for all classes together.
    score: f32,
}

/// The labels are parsed when the plugin is built.
fn prepare() {
    LazyLock::force(&LABELS);
}

#[handler(init = prepare)]
fn classify(Query(options): Query<Options>, Body(body): Body) -> Result<Json<Answer>, Error> {
    let top = within("top", options.top.unwrap_or(5), 1..=CLASSES)?;
    let image = middle(&Image::decode(&body)?)?;
    let input = image.to_tensor(Layout::Nchw, Order::Rgb, [127.0; 3], [1.0 / 128.0; 3]);
    let outputs = Graph::load(MODEL)?.compute([("image", input.into())])?;
    let scores = outputs.read::<f32>("probs")?.expect_dims([Some(1), Some(CLASSES)])?;
    Ok(Json(Answer { classes: best(scores.as_slice(), top) }))
}

/// The square in the middle of an image, in the size that the model sees.
fn middle(image: &Image) -> Result<Image, Error> {
    let (width, height) = (image.width(), image.height());
    let side = width.min(height);
    image.crop((width - side) / 2, (height - side) / 2, side, side)?.resize(SIDE, SIDE)
}

/// The `top` classes with the highest scores.
fn best(scores: &[f32], top: usize) -> Vec<Class> {
    let classes = LABELS.iter().zip(scores).enumerate();
    let mut classes: Vec<_> =
        classes.map(|(index, (label, &score))| Class { label, index, score }).collect();
    classes.sort_by(|a, b| b.score.total_cmp(&a.score));
    classes.truncate(top);
    classes
}

/// The first name of each class, from JSON such as `{"0": "tench, Tinca tinca", …}`.
fn labels(json: &[u8]) -> Option<Vec<String>> {
    let names: BTreeMap<usize, String> = serde_json::from_slice(json).ok()?;
    let first = |index| Some(names.get(&index)?.split(',').next()?.to_owned());
    (0..CLASSES).map(first).collect()
}

#[cfg(test)]
mod tests;
