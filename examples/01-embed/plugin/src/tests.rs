use serde_json::json;

use super::*;

#[test]
fn one_text_and_a_list_are_both_taken() {
    assert_eq!(texts(json!({"input": "a"})).unwrap(), ["a"]);
    assert_eq!(texts(json!({"input": ["a", ""]})).unwrap(), ["a", ""]);
    assert_eq!(texts(json!({"input": vec!["a"; 64]})).unwrap().len(), 64);
}

#[test]
fn bad_input_names_its_field() {
    let cases = [
        (json!([]), "missing_field", "input"),
        (json!({}), "missing_field", "input"),
        (json!({"input": null}), "invalid_type", "input"),
        (json!({"input": 3}), "invalid_type", "input"),
        (json!({"input": []}), "empty_list", "input"),
        (json!({"input": vec!["a"; 65]}), "too_many_items", "input"),
        (json!({"input": ["a", "b", "c", 4]}), "invalid_type", "input[3]"),
    ];
    for (body, code, field) in cases {
        let error = texts(body.clone()).unwrap_err();
        let given = (error.status, error.code.as_str(), error.field.as_deref());
        assert_eq!(given, (422, code, Some(field)), "{body}");
    }
}

#[test]
fn padding_does_not_count_in_the_mean() {
    let batch = Batch { texts: vec![0], dims: [1, 3], ids: vec![2, 3, 0], mask: vec![1, 1, 0] };
    let embeddings = embeddings(&[1.0, 0.0, 5.0, 8.0, 99.0, 99.0], &batch);
    assert_eq!(embeddings, [[0.6, 0.8]]);
}
