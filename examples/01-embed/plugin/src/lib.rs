//! Sentence embeddings: `{"input": "text"}` or `{"input": ["text", …]}` in, unit vectors out.
//! The tokenizer is parsed once, in `init`, when the plugin is built; every request starts with it
//! in place. A request of several texts is one `compute`.

use std::sync::OnceLock;

use gw_sdk::nn::{Graph, Tensor};
use gw_sdk::{Error, Plugin, Request, Response};
use serde::Serialize;
use serde_json::Value;
use tokenizers::{Encoding, Tokenizer, TruncationParams};

/// The model's name in `gw.toml`.
const MODEL: &str = "minilm";
/// The positions that the model knows; `tokenizer.json` would cut texts at 128 tokens already.
const TOKENS_MAX: usize = 512;
/// More texts than this belong in several requests.
const TEXTS_MAX: usize = 64;

static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();

struct Embed;

gw_sdk::export!(Embed);

impl Plugin for Embed {
    fn init() {
        let json = std::fs::read("/assets/tokenizer.json").expect("gw.toml lists tokenizer.json");
        TOKENIZER.get_or_init(|| tokenizer(&json));
    }

    fn handle(request: Request) -> Result<Response, Error> {
        let texts = texts(request.json()?)?;
        let tokenizer = TOKENIZER.get().expect("init ran before any request");
        let batch = Batch::new(tokenizer, texts)?;
        let outputs = Graph::load(MODEL)?.compute(vec![
            ("input_ids", Tensor::new(&batch.dims, &batch.ids)),
            ("attention_mask", Tensor::new(&batch.dims, &batch.mask)),
            ("token_type_ids", Tensor::new(&batch.dims, &vec![0i64; batch.ids.len()])),
        ])?;
        let hidden = outputs.read("last_hidden_state")?.to_vec::<f32>()?;
        Response::json(&Answer {
            model: MODEL,
            embeddings: embeddings(&hidden, &batch),
            usage: Usage { tokens: batch.mask.iter().sum() },
            truncated: batch.truncated,
        })
    }
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
    tokens: i64,
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

fn tokenizer(json: &[u8]) -> Tokenizer {
    let mut tokenizer = Tokenizer::from_bytes(json).expect("tokenizer.json is a tokenizer");
    let truncation = TruncationParams { max_length: TOKENS_MAX, ..TruncationParams::default() };
    tokenizer.with_truncation(Some(truncation)).expect("the stride is shorter than the length");
    // A batch is padded to its own longest text, not to a fixed length.
    tokenizer.with_padding(None);
    tokenizer
}

/// Texts as the model takes them: rows of one length.
struct Batch {
    /// `[texts, tokens]`
    dims: [usize; 2],
    ids: Vec<i64>,
    mask: Vec<i64>,
    truncated: Vec<usize>,
}

impl Batch {
    fn new(tokenizer: &Tokenizer, texts: Vec<String>) -> Result<Self, Error> {
        let encodings: Vec<Encoding> = (texts.into_iter())
            .map(|text| tokenizer.encode_fast(text, true))
            .collect::<Result<_, _>>()
            .map_err(|error| Error::new(422, "untokenizable", error.to_string()).field("input"))?;
        let tokens = encodings.iter().map(Encoding::len).max().unwrap_or(0);
        let dims = [encodings.len(), tokens];
        let mut batch = Self { dims, ids: Vec::new(), mask: Vec::new(), truncated: Vec::new() };
        for (row, encoding) in encodings.iter().enumerate() {
            batch.ids.extend(encoding.get_ids().iter().map(|&id| i64::from(id)));
            batch.ids.resize((row + 1) * tokens, 0);
            batch.mask.resize(row * tokens + encoding.len(), 1);
            batch.mask.resize((row + 1) * tokens, 0);
            if !encoding.get_overflowing().is_empty() {
                batch.truncated.push(row);
            }
        }
        Ok(batch)
    }
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
