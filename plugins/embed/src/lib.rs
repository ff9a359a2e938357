//! Sentence embeddings: `{"input": "text"}` or `{"input": ["text", …]}` in, unit vectors out.
//! The tokenizer is parsed once, when the plugin is built; every request starts with it in place.
//! Texts of similar length are one `compute`.

use std::sync::LazyLock;

use gw_sdk::nn::Graph;
use gw_sdk::tokenizer::Tokenizer;
use gw_sdk::{Error, Json, assets, handler};
use serde::Serialize;
use serde_json::Value;

/// The model's name in `gw.toml`.
const MODEL: &str = "minilm";
/// The positions that the model knows; `tokenizer.json` would cut texts at 128 tokens already.
const TOKENS_MAX: usize = 512;
/// More texts than this belong in several requests.
const TEXTS_MAX: usize = 64;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let json = assets::read("tokenizer.json").expect("gw.toml lists tokenizer.json");
    Tokenizer::parse(&json, TOKENS_MAX).expect("tokenizer.json is a tokenizer")
});

fn prepare() {
    LazyLock::force(&TOKENIZER);
}

#[derive(Serialize)]
struct Answer {
    model: &'static str,
    embeddings: Vec<Vec<f32>>,
    usage: Usage,
    /// The texts of which only the first [`TOKENS_MAX`] tokens count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    truncated: Vec<usize>,
}

#[derive(Serialize)]
struct Usage {
    tokens: usize,
}

#[handler(init = prepare)]
fn embed(Json(body): Json<Value>) -> Result<Json<Answer>, Error> {
    let texts = texts(body)?;
    let tokens = TOKENIZER.encode_all(&texts)?;
    let model = Graph::load(MODEL)?;
    let mut embeddings = vec![Vec::new(); texts.len()];
    for batch in TOKENIZER.batches(&tokens) {
        let outputs = model.compute([
            ("input_ids", (&batch.ids).into()),
            ("attention_mask", (&batch.mask).into()),
            ("token_type_ids", batch.types().into()),
        ])?;
        let hidden = outputs.read::<f32>("last_hidden_state")?;
        let [_, length, width] = hidden.shape()?;
        let rows = hidden.as_slice().chunks_exact(length * width).zip(batch.mask.rows());
        for (&text, (vectors, mask)) in batch.texts.iter().zip(rows) {
            embeddings[text] = unit_mean(vectors.chunks_exact(width), mask);
        }
    }
    let truncated = (0..tokens.len()).filter(|&text| tokens[text].truncated).collect();
    let usage = Usage { tokens: tokens.iter().map(|text| text.ids.len()).sum() };
    Ok(Json(Answer { model: MODEL, embeddings, usage, truncated }))
}

/// The texts of a request, or what is wrong with it.
fn texts(mut body: Value) -> Result<Vec<String>, Error> {
    let wrong = |code, message: &str, field: &str| Error::new(422, code, message).field(field);
    let kind = "`input` must be a text or a list of texts";
    let items = match body.get_mut("input").map(Value::take) {
        None => return Err(wrong("missing_field", kind, "input")),
        Some(Value::String(text)) => return Ok(vec![text]),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(wrong("invalid_type", kind, "input")),
    };
    if items.is_empty() {
        return Err(wrong("empty_list", "give at least one text", "input"));
    }
    if items.len() > TEXTS_MAX {
        let message = format!("{} texts are more than the {TEXTS_MAX} allowed", items.len());
        return Err(wrong("too_many_items", &message, "input"));
    }
    let texts = items.into_iter().enumerate().map(|(index, item)| match item {
        Value::String(text) => Ok(text),
        _ => Err(wrong("invalid_type", "every item must be a text", &format!("input[{index}]"))),
    });
    texts.collect()
}

/// The mean of a text's token vectors, scaled to unit length; padding does not count.
fn unit_mean<'a>(vectors: impl Iterator<Item = &'a [f32]>, mask: &[i64]) -> Vec<f32> {
    let mut sum = Vec::new();
    for (vector, _) in vectors.zip(mask).filter(|(_, mask)| **mask == 1) {
        sum.resize(vector.len(), 0f32);
        sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
    }
    // Scaling to unit length makes dividing by the number of tokens superfluous.
    let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    sum.iter_mut().for_each(|x| *x /= length);
    sum
}

#[cfg(test)]
mod tests;
