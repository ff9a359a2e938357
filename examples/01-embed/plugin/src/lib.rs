//! Sentence embeddings: `{"input": "text"}` or `{"input": ["text", …]}` in, unit vectors out.
//! The tokenizer is parsed once, in `init`, when the plugin is built; every request starts with it
//! in place. Texts of similar length are one `compute`.

mod tokens;

use std::sync::OnceLock;

use gw_sdk::nn::{Graph, Tensor};
use gw_sdk::{Error, Plugin, Request, Response};
use serde::Serialize;
use serde_json::Value;

use crate::tokens::{Batch, Encoder, Tokens};

/// The model's name in `gw.toml`.
const MODEL: &str = "minilm";
/// More texts than this belong in several requests.
const TEXTS_MAX: usize = 64;

static ENCODER: OnceLock<Encoder> = OnceLock::new();

struct Embed;

gw_sdk::export!(Embed);

impl Plugin for Embed {
    fn init() {
        let json = std::fs::read("/assets/tokenizer.json").expect("gw.toml lists tokenizer.json");
        ENCODER.get_or_init(|| Encoder::parse(&json).expect("tokenizer.json is a tokenizer"));
    }

    fn handle(request: Request) -> Result<Response, Error> {
        let texts = texts(request.json()?)?;
        let encoder = ENCODER.get().expect("init ran before any request");
        let tokens = tokens(encoder, &texts)?;
        let model = Graph::load(MODEL)?;
        let mut vectors = vec![Vec::new(); texts.len()];
        for batch in Batch::of(&tokens) {
            let outputs = model.compute(vec![
                ("input_ids", Tensor::new(&batch.dims, &batch.ids)),
                ("attention_mask", Tensor::new(&batch.dims, &batch.mask)),
                ("token_type_ids", Tensor::new(&batch.dims, &vec![0i64; batch.ids.len()])),
            ])?;
            let hidden = outputs.read("last_hidden_state")?.to_vec::<f32>()?;
            for (&text, vector) in batch.texts.iter().zip(embeddings(&hidden, &batch)) {
                vectors[text] = vector;
            }
        }
        Response::json(&Answer {
            model: MODEL,
            embeddings: vectors,
            usage: Usage { tokens: tokens.iter().map(|text| text.ids.len()).sum() },
            truncated: (0..tokens.len()).filter(|&text| tokens[text].truncated).collect(),
        })
    }
}

#[derive(Serialize)]
struct Answer {
    model: &'static str,
    embeddings: Vec<Vec<f32>>,
    usage: Usage,
    /// The texts of which only the first [`tokens::TOKENS_MAX`] tokens count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    truncated: Vec<usize>,
}

#[derive(Serialize)]
struct Usage {
    tokens: usize,
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

fn tokens(encoder: &Encoder, texts: &[String]) -> Result<Vec<Tokens>, Error> {
    let encoded = texts.iter().map(|text| encoder.encode(text)).collect::<Result<_, _>>();
    encoded.map_err(|error| Error::new(422, "untokenizable", error.to_string()).field("input"))
}

/// The mean of each text's token vectors, scaled to unit length.
/// `hidden` is `[texts, tokens, width]`.
fn embeddings(hidden: &[f32], batch: &Batch) -> Vec<Vec<f32>> {
    let [texts, tokens] = batch.dims;
    let width = hidden.len() / (texts * tokens);
    let rows = hidden.chunks_exact(tokens * width).zip(batch.mask.chunks_exact(tokens));
    rows.map(|(vectors, mask)| {
        let mut sum = vec![0f32; width];
        for (vector, _) in vectors.chunks_exact(width).zip(mask).filter(|(_, mask)| **mask == 1) {
            sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        }
        // Scaling to unit length makes dividing by the number of tokens superfluous.
        let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        sum.iter_mut().for_each(|x| *x /= length);
        sum
    })
    .collect()
}

#[cfg(test)]
mod tests;
