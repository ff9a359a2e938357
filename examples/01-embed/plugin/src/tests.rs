use serde_json::json;

use super::*;

/// A tokenizer with four words and the post-processing of BERT.
fn small() -> Tokenizer {
    let vocab = json!({"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "cat": 5});
    let special = |token: &str, id: u32| json!({"id": token, "ids": [id], "tokens": [token]});
    let json = json!({
        "version": "1.0",
        "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}}
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": special("[CLS]", 2), "[SEP]": special("[SEP]", 3)}
        },
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab
        }
    });
    tokenizer(json.to_string().as_bytes())
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
fn a_batch_is_padded_to_its_longest_text() {
    let batch = Batch::new(&small(), vec!["a cat".into(), String::new()]).unwrap();
    assert_eq!(batch.dims, [2, 4]);
    assert_eq!(batch.ids, [2, 4, 5, 3, 2, 3, 0, 0]);
    assert_eq!(batch.mask, [1, 1, 1, 1, 1, 1, 0, 0]);
    assert!(batch.truncated.is_empty());
}

#[test]
fn a_long_text_is_cut_and_said_so() {
    let batch = Batch::new(&small(), vec!["cat".into(), "a ".repeat(600)]).unwrap();
    assert_eq!(batch.dims, [2, TOKENS_MAX]);
    assert_eq!(batch.truncated, [1]);
}

#[test]
fn padding_does_not_count_in_the_mean() {
    let batch = Batch { dims: [1, 3], ids: vec![2, 3, 0], mask: vec![1, 1, 0], truncated: vec![] };
    let embeddings = embeddings(&[1.0, 0.0, 5.0, 8.0, 99.0, 99.0], &batch);
    assert_eq!(embeddings, [[0.6, 0.8]]);
}
