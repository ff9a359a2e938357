use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Input {
    input: Vec<Item>,
    #[serde(default)]
    limit: u8,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Item {
    text: String,
}

fn read(body: &str) -> Result<Input, Error> {
    Request::new("POST", "/").with_body(body).json()
}

#[test]
fn a_wrong_body_names_the_path_of_the_wrong_value() {
    let cases = [
        ("", 400, "invalid_json", "body"),
        ("{oops", 400, "invalid_json", "body"),
        (r#"{"input": []} x"#, 400, "invalid_json", "body"),
        (r#"{"input": [{"text": "a"}, {"text": 3}]}"#, 422, "invalid_type", "input[1].text"),
        (r#"{"input": [{"text": "a"}, {}]}"#, 422, "missing_field", "input[1].text"),
        (r#"{"input": {}}"#, 422, "invalid_type", "input"),
        ("{}", 422, "missing_field", "input"),
        ("7", 422, "invalid_type", "body"),
        (r#"{"input": [], "limit": 300}"#, 422, "invalid_value", "limit"),
        (r#"{"input": [], "limits": 3}"#, 422, "unknown_field", "limits"),
    ];
    for (body, status, code, field) in cases {
        let error = read(body).unwrap_err();
        let given = (error.status, error.code.as_str(), error.field.as_deref());
        assert_eq!(given, (status, code, Some(field)), "{body}: {error}");
    }
    assert_eq!(read(r#"{"input": [], "limit": 3}"#), Ok(Input { input: vec![], limit: 3 }));
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
    let error =
        Request::new("POST", "/").with_body("[".repeat(100_000)).json::<serde_json::Value>();
    assert_eq!(error.unwrap_err().code, "invalid_json");
}

#[derive(Debug, Deserialize, PartialEq)]
struct Search {
    q: String,
    #[serde(default)]
    limit: Option<u32>,
}

fn query(path: &str) -> Result<Search, Error> {
    Query::from_request(&Request::new("GET", path)).map(|Query(value)| value)
}

#[test]
fn a_query_is_decoded_and_a_wrong_parameter_named() {
    let expected = Search { q: "a cat & ü".to_owned(), limit: Some(3) };
    assert_eq!(query("/search?q=a+cat%20%26%20%C3%BC&limit=3"), Ok(expected));
    for (path, field) in [("/?limit=3", "q"), ("/?q=a&limit=many", "limit"), ("/", "q")] {
        let error = query(path).unwrap_err();
        assert_eq!((error.status, error.code.as_str()), (422, "invalid_query"));
        assert_eq!(error.field.as_deref(), Some(field), "{path}: {error}");
    }
}

#[test]
fn arguments_come_in_order_and_the_first_wrong_one_answers() {
    let handler = |Query(query): Query<Search>, Body(body): Body, request: Request| {
        format!("{} {} {}", query.q, body.len(), request.body.len())
    };
    let request = Request::new("POST", "/?q=a").with_body("four");
    assert_eq!(handler.respond(request).body, b"a 4 4");
    let response = handler.respond(Request::new("POST", "/"));
    assert_eq!(response.status, 422);
    assert!(String::from_utf8(response.body).unwrap().contains("invalid_query"));
}

#[test]
fn results_become_responses() {
    let error = || Err::<Json<u8>, _>(Error::new(418, "teapot", "no coffee"));
    assert_eq!(error.respond(Request::default()).status, 418);
    let number = || Ok::<_, Error>(Json(7u8));
    assert_eq!(number.respond(Request::default()).body, b"7");
    assert_eq!((|| {}).respond(Request::default()).status, 204);
    assert_eq!(
        (|| "hi").respond(Request::default()).header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    let lists_as_keys = || Json(std::collections::BTreeMap::from([(vec![1], 2)]));
    assert_eq!(lists_as_keys.respond(Request::default()).status, 500);
}
