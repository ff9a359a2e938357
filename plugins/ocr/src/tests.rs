use gw_sdk::Request;
use gw_sdk::testing::Host;

use super::*;

/// A map that is 0 but for 0.9 where `marked` says, in the middles of pixels.
fn map(columns: usize, rows: usize, marked: impl Fn(f32, f32) -> bool) -> Vec<f32> {
    let pixels = (0..columns * rows).map(|at| (at % columns, at / columns));
    let marks = pixels.map(|(x, y)| marked(x as f32 + 0.5, y as f32 + 0.5));
    marks.map(|marked| if marked { 0.9 } else { 0.0 }).collect()
}

fn rounded(corners: &areas::Corners) -> [[i32; 2]; 4] {
    corners.map(|corner| corner.map(|side| side.round() as i32))
}

#[test]
fn a_mark_grows_to_a_line() {
    // 40 by 10 from (20, 10): grown by 2.4 * 400 / 100 = 9.6 on all sides.
    let map = map(96, 64, |x, y| (20.0..60.0).contains(&x) && (10.0..20.0).contains(&y));
    let [line] = &areas::find(&map, 96, 1.0)[..] else { panic!("one line") };
    assert_eq!(rounded(line), [[10, 0], [70, 0], [70, 30], [10, 30]]);
    let [line] = &areas::find(&map, 96, 0.5)[..] else { panic!("one line") };
    assert_eq!(rounded(line), [[21, 1], [139, 1], [139, 59], [21, 59]]);
}

#[test]
fn a_turned_mark_has_a_turned_rectangle() {
    // 60 by 8 around (64, 64), 20 degrees clockwise.
    let (sin, cos) = 20f32.to_radians().sin_cos();
    let map = map(128, 128, |x, y| {
        let (u, v) = ((x - 64.0) * cos + (y - 64.0) * sin, (y - 64.0) * cos - (x - 64.0) * sin);
        u.abs() < 30.0 && v.abs() < 4.0
    });
    let [line] = &areas::find(&map, 128, 1.0)[..] else { panic!("one line") };
    let along = [line[1][0] - line[0][0], line[1][1] - line[0][1]];
    assert!((along[1].atan2(along[0]).to_degrees() - 20.0).abs() < 1.0, "{line:?}");
    // 61 by 9 with the sides of its pixels, grown by 9.4 on all sides: 39.9 and 13.9 from there.
    let [left, top] = line[0];
    assert!((left - 31.3).abs() < 0.5 && (top - 37.3).abs() < 0.5, "{line:?}");
}

#[test]
fn text_in_a_high_rectangle_runs_upwards() {
    let map = map(64, 96, |x, y| (30.0..36.0).contains(&x) && (20.0..80.0).contains(&y));
    let [line] = &areas::find(&map, 64, 1.0)[..] else { panic!("one line") };
    assert!(line[0][1] > line[1][1] && line[3][0] > line[0][0], "{line:?}");
}

#[test]
fn lines_are_read_from_top_to_bottom_and_from_left_to_right() {
    let marks = [(60.0, 12.0), (10.0, 10.0), (10.0, 40.0)];
    let map = map(128, 64, |x, y| {
        marks
            .iter()
            .any(|(left, top)| (*left..left + 30.0).contains(&x) && (*top..top + 6.0).contains(&y))
    });
    let lines = areas::find(&map, 128, 1.0);
    let starts: Vec<_> = lines.iter().map(|line| rounded(line)[1][0] / 32).collect();
    assert_eq!(starts, [1, 3, 1], "{lines:?}");
}

#[test]
fn specks_and_faint_marks_are_no_lines() {
    let speck = map(64, 64, |x, y| (20.0..22.0).contains(&x) && (20.0..40.0).contains(&y));
    assert!(areas::find(&speck, 64, 1.0).is_empty());
    let faint: Vec<f32> = speck.iter().map(|_| 0.4).collect();
    assert!(areas::find(&faint, 64, 1.0).is_empty());
    assert!(areas::find(&[], 64, 1.0).is_empty());
}

#[test]
fn marks_at_the_borders_and_touching_by_a_corner_are_whole() {
    let all = areas::find(&map(64, 32, |_, _| true), 64, 1.0);
    assert_eq!(all.len(), 1);
    let steps = areas::find(&map(64, 64, |x, y| (x / 8.0).floor() == (y / 8.0).floor()), 64, 1.0);
    assert_eq!(steps.len(), 1, "{steps:?}");
    // The end of a row is no neighbour of the beginning of the next.
    let ends = areas::find(&map(64, 64, |x, _| !(5.0..59.0).contains(&x)), 64, 1.0);
    assert_eq!(ends.len(), 2, "{ends:?}");
}

#[test]
fn the_characters_are_at_the_end_of_the_model() {
    let mut file = vec![7; 100];
    file.extend(b"\n\tcharacter\x12\x82\x00a\n\xe6\xbc\xa2");
    assert_eq!(characters(&file).unwrap(), ["", "a", "漢", " "]);
    assert_eq!(characters(&[0; 100]), None);
}

/// One line on the page; the third model reads `ab ` upright, and `b` with more confidence turned.
fn read_with(turned: f32) -> serde_json::Value {
    CHARACTERS.get_or_init(|| ["", "a", "b", " "].map(str::to_owned).to_vec());
    let host = Host::new()
        .model("det", |inputs| {
            let x =
                inputs.read::<f32>("x")?.expect_dims([Some(1), Some(3), Some(480), Some(960)])?;
            // Dark on the left, in all three planes, from -1 to 1.
            assert_eq!(x.as_slice()[0], -1.0);
            assert_eq!(x.as_slice().last(), Some(&1.0));
            let marked =
                |x: f32, y: f32| (200.0..400.0).contains(&x) && (100.0..120.0).contains(&y);
            Ok(vec![("map", Tensor::new([1, 1, 480, 960], map(960, 480, marked))?.into())])
        })
        .model("cls", move |inputs| {
            inputs.read::<f32>("x")?.expect_dims([Some(1), Some(3), Some(48), Some(192)])?;
            Ok(vec![("y", Tensor::new([1, 2], [1.0 - turned, turned])?.into())])
        })
        .model("rec", |inputs| {
            let x =
                inputs.read::<f32>("x")?.expect_dims([Some(1), Some(3), Some(48), Some(320)])?;
            // The left of the line is darker than its right, unless it is turned.
            let row = x.rows().nth(24).unwrap();
            let [p, steps] = match row[2] < row[100] {
                true => [0.6f32, 8.0],
                false => [0.8, 4.0],
            };
            let classes: &[usize] =
                if steps > 4.0 { &[1, 1, 0, 2, 2, 0, 3, 0] } else { &[0, 2, 2, 0] };
            let mut values = vec![(1.0 - p) / 3.0; classes.len() * 4];
            classes.iter().enumerate().for_each(|(step, class)| values[step * 4 + class] = p);
            Ok(vec![("softmax", Tensor::new([1, classes.len(), 4], values)?.into())])
        });
    // Black to white, 100 by 50.
    let pixels: Vec<u8> = (0..50).flat_map(|_| (0..100u32).map(|x| (x * 255 / 99) as u8)).collect();
    let response = host.call(answer, Request::new("POST", "/").with_body(png(100, 50, &pixels)));
    assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
    serde_json::from_slice(&response.body).unwrap()
}

/// A PNG file of grey pixels.
fn png(width: u32, height: u32, grey: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut file);
    let colour = image::ExtendedColorType::L8;
    image::ImageEncoder::write_image(encoder, grey, width, height, colour).unwrap();
    file
}

#[test]
fn three_models_read_a_line() {
    let answer = read_with(0.1);
    let line = &answer["lines"][0];
    assert_eq!((&line["text"], answer["lines"].as_array().unwrap().len()), (&"ab ".into(), 1));
    assert!((line["confidence"].as_f64().unwrap() - 0.6).abs() < 1e-6);
    assert!(line["corners"][0][0].as_f64() < line["corners"][1][0].as_f64());
}

#[test]
fn a_line_that_may_stand_on_its_head_is_read_the_way_that_reads_better() {
    let line = &read_with(0.95)["lines"][0];
    assert_eq!(line["text"], "b");
    assert!(line["corners"][0][0].as_f64() > line["corners"][1][0].as_f64());
}

#[test]
fn what_is_no_picture_is_refused() {
    let response = Host::new().call(answer, Request::new("POST", "/").with_body("text"));
    assert_eq!(response.status, 415);
}
