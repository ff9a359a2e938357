//! A row's result does not depend on its batch, on padding behind it, or on a restart: bit by bit.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gw_engine::{Model, PlanCache, Session, SessionOptions};
use gw_tensor::{Shape, Tensor};

use crate::device::{open, shared};

/// Models of `GW_REAL_MODELS`; without it these tests pass with a message.
fn model(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("GW_REAL_MODELS") else {
        eprintln!("skipped: GW_REAL_MODELS is not set");
        return None;
    };
    Some(PathBuf::from(folder).join(name).join("model.onnx"))
}

fn session(path: &Path) -> Option<Session> {
    let model = Arc::new(Model::open(path).unwrap());
    Some(Session::new(model, shared()?, SessionOptions::default()))
}

/// Texts of `seq` tokens of which row `r` has its own number and its own words.
fn texts(rows: &[usize], seq: usize) -> Vec<(String, Tensor)> {
    let tensor = |name: &str, value: &dyn Fn(usize, usize) -> i64| {
        let values: Vec<i64> = rows
            .iter()
            .flat_map(|&row| (0..seq).map(move |at| (row, at)))
            .map(|(r, a)| value(r, a))
            .collect();
        (name.to_owned(), Tensor::from_slice([rows.len(), seq], &values).unwrap())
    };
    let is_real = |row: usize, at: usize| at < tokens(row);
    vec![
        tensor("input_ids", &|row, at| {
            if is_real(row, at) { (row * 7919 + at * 104_729 + 101) as i64 % 30_522 } else { 0 }
        }),
        tensor("attention_mask", &|row, at| is_real(row, at).into()),
        tensor("token_type_ids", &|row, at| (is_real(row, at) && at >= tokens(row) / 2).into()),
    ]
}

/// From 5 to 16.
const fn tokens(row: usize) -> usize {
    5 + row * 7 % 12
}

/// The bits of the first `count` tokens of entry `index`.
fn bits(output: &Tensor, index: usize, count: usize) -> Vec<u32> {
    let dims = output.shape().dims();
    let (seq, width) = (dims[1], dims[2]);
    let all = output.as_slice::<f32>().unwrap();
    all[index * seq * width..][..count * width].iter().map(|value| value.to_bits()).collect()
}

fn texts_keep_their_bits(path: &Path) {
    let Some(session) = session(path) else { return };
    let run = |rows: &[usize], seq| session.run(&texts(rows, seq)).unwrap().swap_remove(0).1;
    let alone: Vec<Vec<u32>> = (0..3).map(|row| bits(&run(&[row], 16), 0, tokens(row))).collect();
    assert!(alone.iter().flatten().all(|&bits| f32::from_bits(bits).is_finite()));
    for (batch, seq) in [(1, 24), (1, 64), (2, 16), (3, 32), (8, 16), (17, 16), (32, 16)] {
        for shift in [0, 1] {
            // The same text at several places, among different neighbours.
            let rows: Vec<usize> = (0..batch)
                .map(|at| if at % 3 == shift { at % 2 } else { 40 * shift + at })
                .collect();
            let output = run(&rows, seq);
            for (index, &row) in rows.iter().enumerate() {
                let Some(due) = alone.get(row) else { continue };
                let given = bits(&output, index, tokens(row));
                assert!(given == *due, "text {row} at {index} of {batch}x{seq} differs");
            }
        }
    }
}

#[test]
fn a_text_of_floats_has_the_same_bits_in_every_batch_and_length() {
    if let Some(path) = model("minilm-f32") {
        texts_keep_their_bits(&path);
    }
}

#[test]
fn a_text_of_bytes_has_the_same_bits_in_every_batch_and_length() {
    if let Some(path) = crate::minilm::path() {
        texts_keep_their_bits(&path);
    }
}

#[test]
fn a_restart_and_kept_plans_change_no_bit() {
    let Some(path) = crate::minilm::path() else { return };
    let folder = tempfile::tempdir().unwrap();
    let texts = texts(&[0, 1, 2], 16);
    let mut seen = Vec::new();
    for _ in 0..2 {
        // A device of its own, as after a start.
        let Some(device) = open() else { return };
        let model = Arc::new(Model::open(&path).unwrap());
        let cache = Some(Arc::new(PlanCache::new(folder.path(), 1 << 30)));
        let options = SessionOptions { cache, ..SessionOptions::default() };
        let session = Session::new(model, device, options);
        seen.push((bits(&session.run(&texts).unwrap()[0].1, 0, 16), session.stats().loaded));
    }
    assert!(seen[0].0 == seen[1].0, "a second start gives other bits");
    assert_eq!([seen[0].1, seen[1].1], [0, 1], "the second start finds the plan");
}

#[test]
fn an_image_has_the_same_bits_in_every_batch() {
    let Some(path) = model("ocr-cls") else { return };
    let Some(session) = session(&path) else { return };
    let name = session.signature().inputs[0].name.clone();
    let pixels = 3 * 48 * 192;
    let image = |index: usize| crate::onnx::noise(&format!("image {index}"), pixels);
    let run = |images: &[usize]| -> Vec<u32> {
        let data: Vec<f32> = images.iter().flat_map(|&index| image(index)).collect();
        let shape = Shape::from([images.len(), 3, 48, 192]);
        let input = Tensor::from_slice(shape, &data).unwrap();
        let output = session.run(&[(name.clone(), input)]).unwrap().swap_remove(0).1;
        output.as_slice::<f32>().unwrap().iter().map(|value| value.to_bits()).collect()
    };
    let alone = run(&[7]);
    for images in [&[7, 1][..], &[2, 7, 3], &[4, 5, 6, 1, 7, 8, 9]] {
        let place = images.iter().position(|&index| index == 7).unwrap();
        let given = run(images);
        assert!(given[place * alone.len()..][..alone.len()] == alone, "in {images:?}");
    }
}
