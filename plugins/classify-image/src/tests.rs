use std::fmt::Write as _;
use std::io::Cursor;

use gw_sdk::Request;
use gw_sdk::nn::Tensor;
use gw_sdk::testing::Host;
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};

use super::*;

fn png(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let image = RgbImage::from_fn(width, height, |x, y| Rgb(pixel(x, y)));
    image.write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

/// `{"0": "thing 0, also 0", …}`.
fn names(count: usize) -> String {
    let mut json = String::new();
    for index in 0..count {
        write!(json, ", \"{index}\": \"thing {index}, also {index}\"").unwrap();
    }
    format!("{{{}}}", json.trim_start_matches(", "))
}

/// Asks with a model that has these scores and sees only `expected`, where that is given.
fn ask(path: &str, body: Vec<u8>, scores: &[(usize, f32)], expected: Option<f32>) -> (u16, Value) {
    let assets = tempfile::tempdir().unwrap();
    std::fs::write(assets.path().join("labels.json"), names(CLASSES)).unwrap();
    let mut probs = vec![0f32; CLASSES];
    scores.iter().for_each(|&(index, score)| probs[index] = score);
    let host = Host::new().assets(assets.path()).model("efficientnet-lite0", move |inputs| {
        let seen = inputs.read::<f32>("image")?.expect_dims([1, 3, 224, 224].map(Some))?;
        if let Some(expected) = expected {
            assert!(seen.as_slice().iter().all(|value| *value == expected));
        }
        Ok(vec![("probs", Tensor::new([1, CLASSES], probs.clone())?.into())])
    });
    let response = host.call(classify, Request::new("POST", path).with_body(body));
    (response.status, serde_json::from_slice(&response.body).unwrap())
}

fn grey() -> Vec<u8> {
    png(3, 2, |_, _| [127; 3])
}

#[test]
fn the_likeliest_classes_come_first() {
    let scores = [(7, 0.25), (3, 0.5), (999, 0.125)];
    let (status, answer) = ask("/classify?top=2", grey(), &scores, Some(0.0));
    assert_eq!(status, 200, "{answer}");
    let first = json!({"label": "thing 3", "index": 3, "score": 0.5});
    let second = json!({"label": "thing 7", "index": 7, "score": 0.25});
    assert_eq!(answer, json!({ "classes": [first, second] }));
    let (_, answer) = ask("/classify", grey(), &scores, None);
    assert_eq!(answer["classes"].as_array().unwrap().len(), 5);
    assert_eq!(answer["classes"][2]["index"], 999);
    let (_, answer) = ask("/classify?top=1000", grey(), &scores, None);
    assert_eq!(answer["classes"].as_array().unwrap().len(), 1000);
}

#[test]
fn the_model_sees_the_square_in_the_middle() {
    let in_middle = |at: u32| if (4..8).contains(&at) { [255; 3] } else { [0; 3] };
    for body in [png(12, 4, |x, _| in_middle(x)), png(4, 12, |_, y| in_middle(y))] {
        let (status, answer) = ask("/classify", body, &[], Some(1.0));
        assert_eq!(status, 200, "{answer}");
    }
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let cases = [
        ("/classify?top=0", grey(), 422, "out_of_range", "top"),
        ("/classify?top=1001", grey(), 422, "out_of_range", "top"),
        ("/classify?top=many", grey(), 422, "invalid_query", "top"),
        ("/classify", b"GIF89a".to_vec(), 415, "unsupported_image", "body"),
        ("/classify", grey()[..40].to_vec(), 422, "invalid_image", "body"),
    ];
    for (path, body, expected, code, field) in cases {
        let (status, answer) = ask(path, body, &[], None);
        assert_eq!(status, expected, "{path}: {answer}");
        assert_eq!(
            (&answer["error"]["code"], &answer["error"]["field"]),
            (&json!(code), &json!(field))
        );
    }
}

#[test]
fn labels_name_every_class_or_are_refused() {
    let labels = labels(names(CLASSES).as_bytes()).unwrap();
    assert_eq!((labels.len(), &*labels[999]), (CLASSES, "thing 999"));
    assert!(super::labels(names(CLASSES - 1).as_bytes()).is_none());
    assert!(super::labels(b"[]").is_none());
}
