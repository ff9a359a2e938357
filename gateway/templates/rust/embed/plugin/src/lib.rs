//! Sentence embeddings: `{"input": ["text", …]}` in, vectors of unit length out.

use std::sync::LazyLock;

use gw_sdk::nn::{Graph, Tensor};
use gw_sdk::tokenizer::{Batch, Tokenizer};
use gw_sdk::{Error, Json, assets, handler};
use serde::{Deserialize, Serialize};

/// The model's name in `gw.toml`.
const MODEL: &str = "minilm";
/// More texts belong in several requests.
const TEXTS_MAX: usize = 32;
/// What comes behind so many tokens of a text does not count.
const TOKENS_MAX: usize = 128;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let json = assets::read("tokenizer.json").expect("gw.toml lists tokenizer.json");
    Tokenizer::parse(&json, TOKENS_MAX).expect("tokenizer.json is a tokenizer")
});

#[derive(Deserialize)]
struct Input {
    input: Vec<String>,
}

#[derive(Serialize)]
struct Answer {
    embeddings: Vec<Vec<f32>>,
    tokens: usize,
}

/// Runs once, when the plugin is built: every request starts with the tokenizer in place.
fn prepare() {
    LazyLock::force(&TOKENIZER);
}

#[handler(init = prepare)]
fn embed(Json(Input { input: texts }): Json<Input>) -> Result<Json<Answer>, Error> {
    if texts.is_empty() || texts.len() > TEXTS_MAX {
        let message = format!("{} texts are given; a request has 1 to {TEXTS_MAX}", texts.len());
        return Err(Error::new(422, "wrong_number_of_texts", message).field("input"));
    }
    let tokens = TOKENIZER.encode_all(&texts)?;
    let model = Graph::load(MODEL)?;
    let mut embeddings = vec![Vec::new(); texts.len()];
    // Texts of similar length run together.
    for batch in TOKENIZER.batches(&tokens) {
        let outputs = model.compute([
            ("input_ids", batch.ids.clone().into()),
            ("attention_mask", batch.mask.clone().into()),
            ("token_type_ids", batch.types().into()),
        ])?;
        let hidden = outputs.read::<f32>("last_hidden_state")?;
        for (&text, embedding) in batch.texts.iter().zip(pooled(&hidden, &batch)?) {
            embeddings[text] = embedding;
        }
    }
    Ok(Json(Answer { embeddings, tokens: tokens.iter().map(|text| text.ids.len()).sum() }))
}

/// The mean of each text's token vectors, scaled to unit length. `hidden` is
/// `[texts, tokens, width]`.
fn pooled(hidden: &Tensor<f32>, batch: &Batch) -> Result<Vec<Vec<f32>>, Error> {
    let [_, tokens, width] = hidden.shape()?;
    let texts = hidden.as_slice().chunks_exact(tokens * width).zip(batch.mask.rows());
    let embeddings = texts.map(|(vectors, mask)| {
        let mut sum = vec![0f32; width];
        for (vector, _) in vectors.chunks_exact(width).zip(mask).filter(|(_, mask)| **mask == 1) {
            sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        }
        // Scaling makes dividing by the number of tokens superfluous.
        let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        sum.iter_mut().for_each(|x| *x /= length);
        sum
    });
    Ok(embeddings.collect())
}

#[cfg(test)]
mod tests {
    use gw_sdk::Request;
    use gw_sdk::testing::Host;

    use super::*;

    /// Two texts of one and two words, as a model sees them that answers with a token's number.
    #[test]
    fn vectors_are_pooled_over_the_tokens_of_each_text() {
        let dims = [2, 2];
        let tensor = |values: [i64; 4]| Tensor::new(dims, values).unwrap();
        let (ids, mask) = (tensor([3, 0, 3, 4]), tensor([1, 0, 1, 1]));
        let batch = Batch { texts: vec![0, 1], ids, mask };
        let hidden = [3.0f32, 4.0, 9.0, 9.0, 3.0, 0.0, 0.0, 4.0];
        let hidden = Tensor::new([2, 2, 2], hidden).unwrap();
        assert_eq!(pooled(&hidden, &batch).unwrap(), [[0.6, 0.8], [0.6, 0.8]]);
    }

    #[test]
    fn a_request_without_texts_is_refused_before_anything_is_loaded() {
        for body in ["{}", r#"{"input": []}"#, r#"{"input": ["a", 3]}"#] {
            let request = Request::new("POST", "/embed").with_body(body);
            let response = Host::new().call(embed, request);
            let answer = String::from_utf8(response.body).unwrap();
            assert_eq!(response.status, 422, "{body}: {answer}");
            assert!(answer.contains(r#""field":"input"#), "{answer}");
        }
    }
}
