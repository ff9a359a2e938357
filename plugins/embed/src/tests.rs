use gw_sdk::Request;
use gw_sdk::nn::Tensor;
use gw_sdk::testing::Host;
use serde_json::json;

use super::*;

/// A model whose vectors are each token's number and its place. The vocabulary is `[PAD]`,
/// `[UNK]`, `[CLS]`, `[SEP]`, `a`, `cat`.
fn host() -> Host {
    let assets = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    Host::new().assets(assets).model(MODEL, |inputs| {
        let ids = inputs.read::<i64>("input_ids")?;
        let [texts, tokens] = ids.shape()?;
        let _ = inputs.read::<i64>("token_type_ids")?.expect_dims([Some(texts), Some(tokens)])?;
        let _ = inputs.read::<i64>("attention_mask")?.expect_dims([Some(texts), Some(tokens)])?;
        let values: Vec<f32> = ids
            .rows()
            .flat_map(|row| row.iter().zip(0..).flat_map(|(&id, place)| [id as f32, place as f32]))
            .collect();
        let hidden = Tensor::new([texts, tokens, 2], values)?;
        Ok(vec![("last_hidden_state", hidden.into())])
    })
}

fn answer(body: &str) -> Value {
    let response = host().call(embed, Request::new("POST", "/embed").with_body(body));
    serde_json::from_slice(&response.body).unwrap()
}

#[test]
fn texts_of_all_lengths_are_answered_in_their_order() {
    let long = "cat ".repeat(600);
    let answer = answer(&json!({"input": ["a", long, "cat"]}).to_string());
    assert_eq!(answer["usage"]["tokens"], 3 + 512 + 3);
    assert_eq!(answer["truncated"], json!([1]));
    // [CLS] a [SEP] is 2, 4, 3 at the places 0, 1, 2.
    let unit = |x: f32, y: f32| {
        let length = (x * x + y * y).sqrt();
        [f64::from(x / length), f64::from(y / length)]
    };
    for (index, (x, y)) in [(0, (9.0, 3.0)), (2, (10.0, 3.0))] {
        let [x, y] = unit(x, y);
        let given = &answer["embeddings"][index];
        let close = |given: &Value, x: f64| (given.as_f64().unwrap() - x).abs() < 1e-6;
        assert!(close(&given[0], x) && close(&given[1], y), "{index}: {given}");
    }
}

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
    let vectors: [&[f32]; 3] = [&[1.0, 0.0], &[5.0, 8.0], &[99.0, 99.0]];
    assert_eq!(unit_mean(vectors.into_iter(), &[1, 1, 0]), [0.6, 0.8]);
}
