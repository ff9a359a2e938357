//! Bad input: each kind has its own clear 4xx, and never costs a neighbour anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::embed::embed;
use gw_tests::gateway::{Gateway, send};

/// A request body that must be refused, and how.
struct Case {
    name: &'static str,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    field: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let case = |name, body: Vec<u8>, status, code, field| Case { name, body, status, code, field };
    let input = |value: Value| json!({ "input": value }).to_string().into_bytes();
    vec![
        case("not JSON", b"{\"input\": ".to_vec(), 400, "invalid_json", None),
        case("an empty body", Vec::new(), 400, "invalid_json", None),
        case("a number", input(json!(3)), 422, "invalid_type", Some("input")),
        case("no input", b"{}".to_vec(), 422, "missing_field", Some("input")),
        case("an empty list", input(json!([])), 422, "empty_list", Some("input")),
        case("65 items", input(json!(vec!["a"; 65])), 422, "too_many_items", Some("input")),
        case("a number in the list", input(json!(["a", 1])), 422, "invalid_type", Some("input[1]")),
        case("10 MiB", vec![b' '; 10 << 20], 413, "body_too_large", None),
    ]
}

#[test]
fn bad_input_is_refused_with_its_own_error() {
    let gateway = embed("cpu");
    for case in cases() {
        let answer = send("POST", &format!("{}/embed", gateway.url), Some(&case.body));
        let name = case.name;
        assert_eq!(answer.status, case.status, "{name}: {}", answer.body);
        let error = answer.json()["error"].clone();
        assert_eq!(error["code"], case.code, "{name}: {error}");
        assert!(error["message"].as_str().is_some_and(|text| text.len() > 10), "{name}: {error}");
        if let Some(field) = case.field {
            assert_eq!(error["field"], field, "{name}: {error}");
        }
    }
    let unknown = gateway.post("/nothing/here", "{}");
    assert_eq!(
        (unknown.status, &unknown.json()["error"]["code"]),
        (404, &json!("route_not_found"))
    );
    let method = gateway.get("/embed");
    assert_eq!(method.status, 405);
    assert_eq!(method.header("allow"), "POST");
    assert_eq!(method.json()["error"]["code"], "method_not_allowed");
}

#[test]
fn text_over_the_token_limit_is_truncated_and_said_so() {
    let gateway = embed("cpu");
    let long = "word ".repeat(3000);
    let answer = gateway.post("/embed", &json!({ "input": ["short", long] }).to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    assert_eq!(answer["truncated"], json!([1]), "the second text was cut");
    assert_eq!(answer["embeddings"].as_array().map(Vec::len), Some(2));
    let short = gateway.post("/embed", &json!({ "input": "short" }).to_string()).json();
    assert!(short.get("truncated").is_none(), "nothing was cut: {short}");
}

/// What each connection of the mixed load sends in turn, with the status it must get.
fn mixed(index: usize) -> (String, u16) {
    match index % 5 {
        0 => (json!({ "input": format!("sentence number {}", index % 40) }).to_string(), 200),
        1 => (json!({ "input": ["two", format!("texts {}", index % 25)] }).to_string(), 200),
        2 => (json!({ "input": [] }).to_string(), 422),
        3 => ("{not json".to_owned(), 400),
        _ => (
            json!({ "input": format!("a longer one, {}", "more ".repeat(index % 20)) }).to_string(),
            200,
        ),
    }
}

fn first_numbers(gateway: &Gateway, body: &str) -> Vec<f64> {
    embedding(&gateway.post("/embed", body).body)
}

fn embedding(body: &str) -> Vec<f64> {
    let answer: Value = serde_json::from_str(body).expect("JSON");
    let first = answer["embeddings"][0].as_array().expect("an embedding");
    first.iter().map(|x| x.as_f64().expect("a number")).collect()
}

#[test]
fn two_thousand_mixed_requests_on_sixteen_connections_are_all_answered_right() {
    let gateway = Arc::new(embed("cpu"));
    let next = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..16)
        .map(|_| {
            let (gateway, next) = (Arc::clone(&gateway), Arc::clone(&next));
            thread::spawn(move || {
                let mut good = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= 2000 {
                        return good;
                    }
                    let (body, expected) = mixed(index);
                    let answer = gateway.post("/embed", &body);
                    assert_eq!(answer.status, expected, "{body}: {}", answer.body);
                    if expected == 200 {
                        good.push((body, embedding(&answer.body)));
                    } else {
                        let error = &answer.json()["error"];
                        let code = if expected == 422 { "empty_list" } else { "invalid_json" };
                        assert_eq!(error["code"], code, "{error}");
                        assert_eq!(error["field"] == "input", expected == 422, "{error}");
                    }
                }
            })
        })
        .collect();
    let good: Vec<_> =
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker ends")).collect();
    assert_eq!(good.len(), 1200);
    // Each distinct request once more, alone: its neighbours must not have changed its answer.
    let mut seen = std::collections::HashMap::new();
    for (body, given) in good {
        let alone = seen
            .entry(body.clone())
            .or_insert_with(|| first_numbers(&gateway, &body.replacen('{', "{ ", 1)));
        let dot: f64 = given.iter().zip(alone.iter()).map(|(a, b)| a * b).sum();
        assert!(dot > 0.9999, "{body}: cosine {dot} to the answer it gets alone");
    }
}
