//! Text in pictures: PNG or JPEG in, lines out. Three models of PP-OCRv4 answer one request: where
//! text is, whether it stands on its head, and what it says.

mod areas;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::OnceLock;

use gw_sdk::image::{Image, Layout, Order};
use gw_sdk::nn::{Graph, Tensor};
use gw_sdk::{Body, Error, Json, handler};
use serde::Serialize;

/// The longer side of what the first model sees. The sides of what is seen are multiples of 32.
const SIDE: u32 = 960;
/// How high a line is for the others, how wide at most for the second, at least for the third.
const HEIGHT: u32 = 48;
const TURN_WIDTH: u32 = 192;
const READ_WIDTH: u32 = 320;
/// From here on the second model is believed that a line may stand on its head.
const TURNED_MIN: f32 = 0.9;
/// What is read with less confidence is no text.
const CONFIDENCE_MIN: f32 = 0.5;

static CHARACTERS: OnceLock<Vec<String>> = OnceLock::new();

#[derive(Serialize)]
struct Answer {
    /// From top to bottom and from left to right.
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    text: String,
    /// The mean of the probabilities of its characters.
    confidence: f32,
    /// In pixels, clockwise from where the text begins at the top.
    corners: [[f32; 2]; 4],
}

/// Reads only the end of the third model: what `init` takes stays in the memory of each instance.
fn prepare() {
    let mut end = Vec::new();
    let mut file = File::open("/assets/rec.onnx").expect("gw.toml lists rec.onnx");
    file.seek(SeekFrom::End(-(1 << 16))).expect("it has some megabytes");
    file.read_to_end(&mut end).expect("it can be read");
    CHARACTERS.get_or_init(|| characters(&end).expect("it ends with the characters it knows"));
}

/// What the classes of the third model mean: nothing, what its metadata list, a space.
fn characters(end: &[u8]) -> Option<Vec<String>> {
    // In protobuf: a key and its length, then the tag of its value, whose length ends with a byte
    // below 128.
    let key = b"\n\tcharacter\x12";
    let at = end.windows(key.len()).position(|bytes| bytes == key)? + key.len();
    let at = at + end[at..].iter().position(|&byte| byte < 128)? + 1;
    let listed = std::str::from_utf8(&end[at..]).ok()?.lines();
    Some([""].into_iter().chain(listed).chain([" "]).map(str::to_owned).collect())
}

#[handler(init = prepare)]
fn answer(Body(file): Body) -> Result<Json<Answer>, Error> {
    let picture = Image::decode(&file)?;
    let scale = SIDE as f32 / picture.width().max(picture.height()) as f32;
    let sides = [picture.width(), picture.height()];
    let [width, height] = sides.map(|side| ((side as f32 * scale).round() as u32).max(1));
    let [columns, rows] = [width, height].map(|side| side.next_multiple_of(32));
    let map = run("det", &picture.resize(width, height)?, columns, rows)?;
    let mut lines = Vec::new();
    for mut corners in areas::find(map.as_slice(), columns as usize, scale) {
        let line = picture.straighten(corners)?;
        let line = line.resize((line.width() * HEIGHT / line.height()).max(1), HEIGHT)?;
        let (mut text, mut confidence) = read(&line)?;
        let narrow = line.resize(line.width().min(TURN_WIDTH), HEIGHT)?;
        if run("cls", &narrow, TURN_WIDTH, HEIGHT)?.as_slice()[1] > TURNED_MIN {
            // The second model errs at times: the way that reads better is right.
            let (other, better) = read(&line.turned_round())?;
            if better > confidence {
                (text, confidence) = (other, better);
                corners.rotate_left(2);
            }
        }
        if confidence >= CONFIDENCE_MIN {
            lines.push(Line { text, confidence, corners });
        }
    }
    Ok(Json(Answer { lines }))
}

/// A line's text by the third model, and the mean of the probabilities of its characters. What
/// follows itself is one character (CTC).
fn read(line: &Image) -> Result<(String, f32), Error> {
    let characters = CHARACTERS.get().expect("init ran before any request");
    // Few widths are planned: eight at most up to twice as wide.
    let width = line.width().max(READ_WIDTH);
    let steps = run("rec", line, width.next_multiple_of(width.next_power_of_two() / 8), HEIGHT)?;
    let steps = steps.expect_dims([Some(1), None, Some(characters.len())])?;
    let (mut text, mut sum, mut count, mut before) = (String::new(), 0.0, 0.0, 0);
    for step in steps.rows() {
        let classes = step.iter().copied().enumerate();
        let (class, probability) = classes.fold((0, 0.0), |a, b| if b.1 > a.1 { b } else { a });
        if class != 0 && class != before {
            (sum, count) = (sum + probability, count + 1.0);
            text.push_str(&characters[class]);
        }
        before = class;
    }
    Ok((text, sum / f32::max(count, 1.0)))
}

/// Runs a model of one input and one output on a picture from -1 to 1 that grey makes so large.
fn run(model: &str, picture: &Image, width: u32, height: u32) -> Result<Tensor<f32>, Error> {
    let picture = picture.pad(width, height, [128; 3])?;
    let x = picture.to_tensor(Layout::Nchw, Order::Bgr, [127.5; 3], [1.0 / 127.5; 3]);
    let outputs = Graph::load(model)?.compute([("x", x.into())])?;
    let name = outputs.names().next().unwrap_or_default();
    Ok(outputs.read(name)?)
}

#[cfg(test)]
mod tests;
