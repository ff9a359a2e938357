//! Transforms, random numbers and n-grams.

use std::sync::Arc;

use gw_engine::PlanOptions;
use gw_tensor::Tensor;

use crate::onnx::{FLOAT, INT64, Onnx, Value, noise};
use crate::run::{constants, error, run};

#[test]
fn half_a_spectrum_and_back_is_the_signal() {
    for length in [8, 9] {
        let one = [("onesided", Value::Int(1))];
        let back = [("onesided", Value::Int(1)), ("inverse", Value::Int(1))];
        let size = i64::from(length);
        let file = Onnx::new(20)
            .input("x", FLOAT, &[2, size, 3, 1])
            .ints("length", &[size])
            .ints("axis", &[1])
            .node_with("DFT", &["x", "length", "axis"], "spectrum", &one)
            .node_with("DFT", &["spectrum", "length", "axis"], "y", &back)
            .output("spectrum")
            .output("y");
        let dims = [2, usize::try_from(length).unwrap(), 3, 1];
        let x = Tensor::from_slice(dims, &noise("x", dims.iter().product())).unwrap();
        let inputs = [("x".to_owned(), x.clone())];
        let Some(given) = run(&Arc::new(file.model()), &inputs, PlanOptions::default()) else {
            return;
        };
        assert_eq!(given[0].1.shape().dims(), [2, dims[1] / 2 + 1, 3, 2]);
        let error = error(&given[1].1, &x);
        assert!(error < 1e-5, "off by {error}");
    }
}

#[test]
fn frames_are_cut_weighted_and_transformed() {
    let file = Onnx::new(17)
        .input("x", FLOAT, &[1, 6, 1])
        .ints("step", &[2])
        .floats("window", &[4], &[0.0, 1.0, 1.0, 0.0])
        .node("STFT", &["x", "step", "window"], "y")
        .output("y");
    let x = Tensor::from_slice([1, 6, 1], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let inputs = [("x".to_owned(), x)];
    let Some(given) = run(&Arc::new(file.model()), &inputs, PlanOptions::default()) else { return };
    assert_eq!(given[0].1.shape().dims(), [1, 2, 3, 2]);
    // Frame 0 is (0, 2, 3, 0): bins 2 + 3, -2i - 3, -2 + 3.
    let due = [5.0, 0.0, -3.0, -2.0, 1.0, 0.0, 9.0, 0.0, -5.0, -4.0, 1.0, 0.0];
    let due = Tensor::from_slice([1, 2, 3, 2], &due.map(|value: f32| value)).unwrap();
    assert!(error(&given[0].1, &due) < 1e-6);
}

#[test]
fn random_numbers_are_spread_as_asked_and_the_same_in_every_run() {
    let shape = || ("shape", Value::Ints(vec![100, 100]));
    let seed = |seed: f32| ("seed", Value::Float(seed));
    let file = Onnx::new(15)
        .node_with("RandomNormal", &[], "a", &[shape(), seed(1.0), ("mean", Value::Float(3.0))])
        .node_with("RandomUniform", &[], "b", &[shape(), seed(1.0)])
        .node_with("RandomUniform", &[], "c", &[shape(), seed(1.0)])
        .node_with("RandomUniform", &[], "d", &[shape(), seed(2.0)])
        .node_with("RandomUniform", &[], "e", &[shape()])
        .node_with("RandomUniform", &[], "f", &[shape()]);
    let file = ["a", "b", "c", "d", "e", "f"].iter().fold(file, |file, name| file.output(name));
    let given = constants(&file.model());
    let moments = |at: usize| {
        let values: Vec<f64> =
            given[at].to_vec::<f32>().unwrap().into_iter().map(f64::from).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        (mean, squares / values.len() as f64)
    };
    // Of 10 000 draws a mean is off by a hundredth of a deviation; five of them are rare.
    let (mean, variance) = moments(0);
    assert!((mean - 3.0).abs() < 0.05 && (variance - 1.0).abs() < 0.075, "{mean} {variance}");
    let (mean, variance) = moments(1);
    assert!((mean - 0.5).abs() < 0.015 && (variance - 1.0 / 12.0).abs() < 0.004);
    assert_eq!(given[1], given[2]);
    assert_ne!(given[1], given[3]);
    assert_ne!(given[4], given[5]);
    assert_eq!(given, constants(&file.model()));
}

#[test]
fn chances_of_none_and_one_are_kept() {
    let file = Onnx::new(15)
        .input("x", FLOAT, &[1000])
        .node_with("Bernoulli", &["x"], "y", &[("dtype", Value::Int(7))])
        .output("y");
    let chances: Vec<f32> = (0..1000).map(|at| [0.0, 0.25, 1.0, 0.25][at % 4]).collect();
    let x = ("x".to_owned(), Tensor::from_slice([1000], &chances).unwrap());
    let Some(given) = run(&Arc::new(file.model()), &[x], PlanOptions::default()) else { return };
    let drawn = given[0].1.to_vec::<i64>().unwrap();
    let count = |rest: usize| drawn.iter().skip(rest).step_by(4).sum::<i64>();
    assert_eq!((count(0), count(2)), (0, 250));
    // 500 draws of a quarter: 125, with a deviation below 10.
    assert!((75..175).contains(&(count(1) + count(3))));
}

#[test]
fn n_grams_are_counted_over_gaps() {
    let ints = |values: &[i64]| Value::Ints(values.to_vec());
    let attributes = [
        ("mode", Value::Text("TFIDF")),
        ("min_gram_length", Value::Int(1)),
        ("max_gram_length", Value::Int(2)),
        ("max_skip_count", Value::Int(1)),
        ("ngram_counts", ints(&[0, 1])),
        ("ngram_indexes", ints(&[2, 0])),
        ("pool_int64s", ints(&[5, 5, 6])),
        ("weights", Value::Floats(vec![10.0, 0.5])),
    ];
    let file = Onnx::new(9)
        .input("x", INT64, &[6])
        .node_with("TfIdfVectorizer", &["x"], "y", &attributes)
        .output("y");
    // 5 occurs three times; 5 6 twice side by side and once over a gap.
    let x = Tensor::from_slice([6], &[5i64, 6, 5, 5, 6, 7]).unwrap();
    let inputs = [("x".to_owned(), x)];
    let Some(given) = run(&Arc::new(file.model()), &inputs, PlanOptions::default()) else { return };
    assert_eq!(given[0].1.to_vec::<f32>().unwrap(), [1.5, 0.0, 30.0]);
}
