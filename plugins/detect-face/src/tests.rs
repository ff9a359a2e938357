use std::cell::RefCell;
use std::io::Cursor;
use std::rc::Rc;

use gw_sdk::Request;
use gw_sdk::nn::Tensor;
use gw_sdk::testing::Host;
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};

use super::*;

/// A white picture with one red pixel, at 3, 1.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let pixel = |x, y| Rgb(if (x, y) == (3, 1) { [255, 0, 0] } else { [255; 3] });
    RgbImage::from_fn(width, height, pixel).write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

/// What P-Net was shown.
type Seen = Rc<RefCell<Vec<Tensor<f32>>>>;

/// A host whose P-Net is this sure of windows: level, column, row, score. It finds no edge wrong.
fn host(windows: &'static [(usize, usize, usize, f32)]) -> (Host, Seen) {
    let seen = Seen::default();
    let shown = Rc::clone(&seen);
    let host = Host::new().model("pnet", move |inputs| {
        let input = inputs.read::<f32>("input_1")?;
        let [_, side, _, _] = input.shape()?;
        shown.borrow_mut().push(input);
        let rows = (side - 9) / 2;
        let mut scores = vec![0f32; rows * rows * 2];
        for &(_, x, y, score) in windows.iter().filter(|(level, ..)| *level == side) {
            scores[(x * rows + y) * 2 + 1] = score;
        }
        let shifts = vec![0f32; rows * rows * 4];
        Ok(vec![
            ("conv2d_4", Tensor::new([1, rows, rows, 4], shifts)?.into()),
            ("softmax", Tensor::new([1, rows, rows, 2], scores)?.into()),
        ])
    });
    (host, seen)
}

/// The same with an R-Net and an O-Net that are this sure of everything.
fn sure(windows: &'static [(usize, usize, usize, f32)], refined: f32, described: f32) -> Host {
    let rows = |count: usize, row: &[f32]| Tensor::new([count, row.len()], row.repeat(count));
    let (host, _) = host(windows);
    let host = host.model("rnet", move |inputs| {
        let [count, ..] = inputs.read::<f32>("input_2")?.shape::<4>()?;
        Ok(vec![
            // As wide and half as high, a quarter further down: a square again for the next.
            ("dense_2", rows(count, &[0.0, 0.25, 0.0, -0.25])?.into()),
            ("softmax_1", rows(count, &[1.0 - refined, refined])?.into()),
        ])
    });
    host.model("onet", move |inputs| {
        let [count, ..] = inputs.read::<f32>("input_3")?.shape::<4>()?;
        let points = [0.25, 0.75, 0.5, 0.25, 0.75, 0.25, 0.25, 0.5, 0.75, 0.75];
        Ok(vec![
            ("dense_5", rows(count, &[0.125, 0.0, -0.125, 0.25])?.into()),
            ("dense_6", rows(count, &points)?.into()),
            ("softmax_2", rows(count, &[1.0 - described, described])?.into()),
        ])
    })
}

fn ask(host: &Host, path: &str, body: Vec<u8>) -> (u16, Value) {
    let response = host.call(detect, Request::new("POST", path).with_body(body));
    (response.status, serde_json::from_slice(&response.body).unwrap())
}

#[test]
fn a_face_is_where_all_three_networks_move_it() {
    // At 80 of 160 pixels a window of 12 is 24 wide.
    let host = sure(&[(80, 10, 5, 0.75)], 0.75, 0.9375);
    let (status, answer) = ask(&host, "/faces", png(160, 80));
    assert_eq!(status, 200, "{answer}");
    let landmarks = json!({
        "left_eye": [46.0, 26.0], "right_eye": [58.0, 26.0], "nose": [52.0, 32.0],
        "mouth_left": [46.0, 38.0], "mouth_right": [58.0, 38.0],
    });
    let place = json!({"x": 43.0, "y": 20.0, "width": 18.0, "height": 30.0});
    let face = json!({"score": 0.9375, "box": place, "landmarks": landmarks});
    assert_eq!(answer, json!({ "faces": [face] }));
}

#[test]
fn one_face_is_found_once_and_two_twice() {
    const WINDOWS: &[(usize, usize, usize, f32)] =
        &[(80, 10, 5, 0.7), (80, 11, 5, 0.9), (56, 7, 3, 0.8), (80, 20, 5, 0.65), (80, 0, 0, 0.5)];
    let (status, answer) = ask(&sure(WINDOWS, 0.75, 0.95), "/faces", png(160, 80));
    assert_eq!(status, 200, "{answer}");
    let left = |face: &Value| face["box"]["x"].as_f64().unwrap();
    let left: Vec<f64> = answer["faces"].as_array().unwrap().iter().map(left).collect();
    assert_eq!(left, [47.0, 83.0], "{answer}");
}

#[test]
fn each_network_may_find_that_there_is_no_face() {
    for (refined, described) in [(0.5, 0.95), (0.75, 0.5)] {
        let host = sure(&[(80, 10, 5, 0.75)], refined, described);
        let (status, answer) = ask(&host, "/faces", png(160, 80));
        assert_eq!((status, answer), (200, json!({"faces": []})));
    }
    // Nobody asks a network for nothing.
    let (host, _) = host(&[(80, 10, 5, 0.5)]);
    assert_eq!(ask(&host, "/faces", png(160, 80)).1, json!({"faces": []}));
    let host = sure(&[(80, 10, 5, 0.75)], 0.75, 0.5);
    let (_, answer) = ask(&host, "/faces?min_score=0.5", png(160, 80));
    assert_eq!(answer["faces"].as_array().unwrap().len(), 1);
}

#[test]
fn levels_fit_the_image_and_the_smallest_face() {
    let cases = [
        ("/faces", (120, 60), &[80, 56, 39, 27][..]),
        ("/faces?min_size=18", (60, 120), &[80, 56, 39, 27]),
        ("/faces?min_size=40", (120, 60), &[39, 27]),
        ("/faces?min_size=12", (13, 13), &[13]),
        ("/faces?min_size=12", (3000, 40), &[]),
        ("/faces?min_size=61", (120, 60), &[27]),
        ("/faces?min_size=12", (1300, 1000), &[640, 453, 321, 227, 160, 113, 80, 56, 39, 27, 19]),
    ];
    for (path, (width, height), expected) in cases {
        let (host, seen) = host(&[]);
        let (status, answer) = ask(&host, path, png(width, height));
        assert_eq!((status, answer), (200, json!({"faces": []})));
        let sides: Vec<usize> = seen.borrow().iter().map(|input| input.dims()[1]).collect();
        assert_eq!(sides, expected, "{path} {width} × {height}");
    }
}

#[test]
fn columns_are_shown_on_black_squares() {
    let (host, seen) = host(&[]);
    ask(&host, "/faces?min_size=12", png(19, 17));
    let seen = seen.borrow();
    let [_, width, height, _] = seen[0].shape().unwrap();
    assert_eq!((width, height), (19, 19), "no pixel is made of two");
    let pixel = |x: usize, y: usize| seen[0].rows().nth(x * height + y).unwrap();
    let (white, black) = (127.5 / 128.0, -127.5 / 128.0);
    assert_eq!(pixel(3, 1), [white, black, black]);
    assert_eq!(pixel(1, 3), [white; 3]);
    assert_eq!(pixel(18, 16), [white; 3]);
    assert_eq!(pixel(18, 17), [black; 3]);
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let cases = [
        ("/faces?min_size=11", png(20, 20), 422, "out_of_range", "min_size"),
        ("/faces?min_size=NaN", png(20, 20), 422, "out_of_range", "min_size"),
        ("/faces?min_score=1.5", png(20, 20), 422, "out_of_range", "min_score"),
        ("/faces?min_score=low", png(20, 20), 422, "invalid_query", "min_score"),
        ("/faces", b"no image".to_vec(), 415, "unsupported_image", "body"),
    ];
    for (path, body, expected, code, field) in cases {
        let (status, answer) = ask(&host(&[]).0, path, body);
        assert_eq!(status, expected, "{path}: {answer}");
        assert_eq!(answer["error"]["code"], code, "{path}: {answer}");
        assert_eq!(answer["error"]["field"], field, "{path}: {answer}");
    }
}
