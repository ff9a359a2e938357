//! Bad input: each kind has its own clear 4xx, and never costs a neighbour anything.

use serde_json::{Value, json};

use crate::embed::embed;
use gw_tests::connection::Connection;
use gw_tests::gateway::Answer;

/// A request that must be refused, and how.
pub(crate) struct Refusal {
    name: &'static str,
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) body: Vec<u8>,
    pub(crate) status: u16,
    code: &'static str,
    field: &'static str,
}

impl Refusal {
    pub(crate) fn check(&self, answer: &Answer) {
        let name = self.name;
        assert_eq!(answer.status, self.status, "{name}: {}", answer.body);
        let error = answer.json()["error"].clone();
        assert_eq!(error["code"], self.code, "{name}: {error}");
        assert!(error["message"].as_str().is_some_and(|text| text.len() > 10), "{name}: {error}");
        assert_eq!(error["field"], self.field, "{name}: {error}");
        assert!(!answer.header("x-request-id").is_empty(), "{name}: {:?}", answer.headers);
    }
}

/// Bad requests of every kind.
pub(crate) fn refusals() -> Vec<Refusal> {
    let case = |name, body: Vec<u8>, status, code, field| {
        let (method, path) = ("POST", "/embed");
        Refusal { name, method, path, body, status, code, field }
    };
    let input = |value: Value| json!({ "input": value }).to_string().into_bytes();
    let good = || input(json!("good"));
    vec![
        case("not JSON", b"{\"input\": ".to_vec(), 400, "invalid_json", "body"),
        case("an empty body", Vec::new(), 400, "invalid_json", "body"),
        case("not UTF-8", b"{\"input\": \"\xff\xfe\"}".to_vec(), 400, "invalid_json", "body"),
        case("half a character", br#"{"input": "\ud83d"}"#.to_vec(), 400, "invalid_json", "body"),
        case("a number", input(json!(3)), 422, "invalid_type", "input"),
        case("nothing", input(Value::Null), 422, "invalid_type", "input"),
        case("an object", input(json!({ "text": "a" })), 422, "invalid_type", "input"),
        case("no input", b"{}".to_vec(), 422, "missing_field", "input"),
        case("a list as the body", b"[\"a\"]".to_vec(), 422, "missing_field", "input"),
        case("an empty list", input(json!([])), 422, "empty_list", "input"),
        case("65 items", input(json!(vec!["a"; 65])), 422, "too_many_items", "input"),
        case("a number in the list", input(json!(["a", 1])), 422, "invalid_type", "input[1]"),
        case("a list in the list", input(json!([["a"], "b"])), 422, "invalid_type", "input[0]"),
        case("10 MiB", vec![b' '; 10 << 20], 413, "body_too_large", "body"),
        Refusal {
            name: "an unknown route",
            method: "POST",
            path: "/nothing/here",
            body: good(),
            status: 404,
            code: "route_not_found",
            field: "path",
        },
        Refusal {
            name: "a wrong method",
            method: "PUT",
            path: "/embed",
            body: good(),
            status: 405,
            code: "method_not_allowed",
            field: "method",
        },
    ]
}

#[test]
fn bad_input_is_refused_with_its_own_error() {
    let gateway = embed("cpu");
    let mut connection = Connection::open(&gateway.url);
    for refusal in refusals() {
        refusal.check(&connection.send(refusal.method, refusal.path, &refusal.body));
    }
    assert_eq!(gateway.get("/embed").header("allow"), "POST");
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
