//! The first command of the README: `gw dev examples/01-embed`, on the CPU and on a GPU adapter.

use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use gw_tests::gateway::{Gateway, send};
use gw_tests::reference::{cosine, embeddings, sentences};
use gw_tests::repo;

/// `gw dev` on the example, without the watcher.
pub(crate) fn embed(device: &str) -> Gateway {
    Gateway::dev(&repo().join("examples/01-embed"), &["--no-watch", "--device", device])
}

pub(crate) fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn agrees_with_onnx_runtime(device: &str) {
    let gateway = embed(device);
    let sentences = sentences().expect("the sentences");
    let expected = embeddings().expect("the stored embeddings");
    let together = gateway.post("/embed", &json!({ "input": sentences }).to_string());
    assert_eq!(together.status, 200, "{}", together.body);
    let together = together.json();
    assert_eq!(together["model"], "minilm");
    let tokens: u64 = expected.iter().map(|row| row.tokens).sum();
    assert_eq!(together["usage"]["tokens"], tokens);
    for (index, (sentence, expected)) in sentences.iter().zip(&expected).enumerate() {
        let alone = gateway.post("/embed", &json!({ "input": sentence }).to_string()).json();
        for given in [&together["embeddings"][index], &alone["embeddings"][0]] {
            let given = floats(given);
            assert_eq!(given.len(), 384);
            let length = given.iter().map(|x| x * x).sum::<f64>().sqrt();
            assert!((length - 1.0).abs() < 1e-4, "unit length, not {length}");
            let cosine = cosine(&given, &expected.embedding);
            assert!(cosine >= 0.9999, "{device}, sentence {index}: cosine {cosine}");
        }
    }
}

#[test]
fn cpu_embeddings_agree_with_onnx_runtime() {
    agrees_with_onnx_runtime("cpu");
}

#[test]
fn gpu_embeddings_agree_with_onnx_runtime() {
    agrees_with_onnx_runtime("llvmpipe");
}

#[test]
fn a_second_identical_request_runs_no_plugin_and_no_inference() {
    let gateway = embed("cpu");
    let body = json!({ "input": "the same text twice" }).to_string();
    let first = gateway.post("/embed", &body);
    assert_eq!(first.status, 200, "{}", first.body);
    assert!(first.header("cache-status").contains("fwd=miss"), "{:?}", first.headers);
    assert!(first.timing("infer").is_some_and(|ms| ms > 0.0), "{:?}", first.headers);
    let plugins = gateway.metric("gw_plugin_requests_total", &[]);
    let runs = gateway.metric("gw_infer_requests_total", &[]);
    assert!(plugins >= 1.0 && runs >= 1.0, "the counters are there: {plugins} {runs}");

    let second = gateway.post("/embed", &body);
    assert_eq!(second.body, first.body);
    assert!(second.header("cache-status").contains("; hit"), "{:?}", second.headers);
    assert_eq!(gateway.metric("gw_plugin_requests_total", &[]), plugins);
    assert_eq!(gateway.metric("gw_infer_requests_total", &[]), runs);
    assert_ne!(second.header("x-request-id"), first.header("x-request-id"));
}

#[test]
fn health_readiness_and_metrics_answer() {
    let gateway = embed("cpu");
    assert_eq!(gateway.get("/healthz").status, 200);
    assert_eq!(gateway.get("/readyz").status, 200);
    let metrics = gateway.get("/metrics");
    assert!(metrics.header("content-type").contains("text"), "{:?}", metrics.headers);
    assert!(metrics.body.contains("# TYPE gw_"), "{}", metrics.body);
}

#[test]
fn the_printed_line_can_be_pasted() {
    let mut gateway = embed("cpu");
    let line = gateway.wait_for("curl ");
    let output = Command::new("sh").args(["-c", &line]).output().expect("sh starts");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("an answer in JSON");
    let embeddings = answer["embeddings"].as_array().expect("a list");
    assert!(embeddings.iter().all(|embedding| floats(embedding).len() == 384), "{answer}");
    assert_eq!(embeddings.len(), 2, "examples/01-embed/request.json has two texts");
}

#[test]
fn sigterm_answers_what_has_begun_and_exits_with_0() {
    let mut gateway = embed("cpu");
    let url = format!("{}/embed", gateway.url);
    let texts: Vec<_> =
        (0..64).map(|i| format!("text {i} {}", "of many words ".repeat(30))).collect();
    let body = json!({ "input": texts }).to_string();
    let begun = thread::spawn(move || send("POST", &url, Some(body.as_bytes())));
    // The request for the metrics is itself in flight.
    while gateway.metric("gw_http_in_flight", &[]) < 2.0 {
        assert!(!begun.is_finished(), "it was answered before anything else could be asked");
        thread::yield_now();
    }
    let code = gateway.terminate();
    let answer = begun.join().expect("the client ends");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(code, 0, "{}", gateway.log());
}
