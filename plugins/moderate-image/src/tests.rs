use std::io::Cursor;

use gw_sdk::Request;
use gw_sdk::nn::Tensor;
use gw_sdk::testing::Host;
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};

use super::*;

/// A picture whose edge of a sixteenth is green, and its middle red.
fn png() -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let in_middle = |at: u32| (16..240).contains(&at);
    let image = RgbImage::from_fn(256, 256, |x, y| {
        Rgb(if in_middle(x) && in_middle(y) { [255, 0, 0] } else { [0, 255, 0] })
    });
    image.write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

/// Asks with a model that finds a picture unfit by `nsfw`.
fn ask(path: &str, body: Vec<u8>, nsfw: f32) -> (u16, Value) {
    let host = Host::new().model("open-nsfw", move |inputs| {
        let seen = inputs.read::<f32>("input:0")?.expect_dims([1, 224, 224, 3].map(Some))?;
        let red = [-104.0, -117.0, 255.0 - 123.0];
        assert!(seen.rows().all(|pixel| pixel == red), "blue, green, red, of the middle only");
        Ok(vec![("outputs", Tensor::new([1, 2], [1.0 - nsfw, nsfw])?.into())])
    });
    let response = host.call(moderate, Request::new("POST", path).with_body(body));
    (response.status, serde_json::from_slice(&response.body).unwrap())
}

#[test]
fn an_image_is_flagged_from_the_threshold_on() {
    let cases = [
        ("/moderate", 0.75, false),
        ("/moderate", 0.875, true),
        ("/moderate?threshold=0.75", 0.75, true),
        ("/moderate?threshold=1", 0.875, false),
    ];
    for (path, nsfw, flagged) in cases {
        let (status, answer) = ask(path, png(), nsfw);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["flagged"], flagged, "{path}: {answer}");
        assert_eq!(answer["scores"], json!({"safe": 1.0 - nsfw, "nsfw": nsfw}));
    }
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let cases = [
        ("/moderate?threshold=1.5", png(), 422, "out_of_range", "threshold"),
        ("/moderate?threshold=NaN", png(), 422, "out_of_range", "threshold"),
        ("/moderate?threshold=high", png(), 422, "invalid_query", "threshold"),
        ("/moderate", b"no image".to_vec(), 415, "unsupported_image", "body"),
    ];
    for (path, body, expected, code, field) in cases {
        let (status, answer) = ask(path, body, 0.5);
        assert_eq!(status, expected, "{path}: {answer}");
        assert_eq!(answer["error"]["code"], code, "{path}: {answer}");
        assert_eq!(answer["error"]["field"], field, "{path}: {answer}");
    }
}
