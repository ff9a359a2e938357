//! From texts to the tokens that a model sees, and no further.
//!
//! ```no_run
//! use std::sync::LazyLock;
//! use gw_sdk::nn::Graph;
//! use gw_sdk::tokenizer::Tokenizer;
//! use gw_sdk::{Error, Json, assets, handler};
//!
//! static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
//!     let json = assets::read("tokenizer.json").expect("gw.toml lists tokenizer.json");
//!     Tokenizer::parse(&json, 512).expect("tokenizer.json is a tokenizer")
//! });
//!
//! fn prepare() {
//!     LazyLock::force(&TOKENIZER);
//! }
//!
//! #[handler(init = prepare)]
//! fn answer(Json(texts): Json<Vec<String>>) -> Result<Json<usize>, Error> {
//!     let tokens = TOKENIZER.encode_all(&texts)?;
//!     let model = Graph::load("minilm")?;
//!     for batch in TOKENIZER.batches(&tokens) {
//!         let outputs = model.compute([
//!             ("input_ids", batch.ids.into()),
//!             ("attention_mask", batch.mask.into()),
//!         ])?;
//!         let _hidden = outputs.read::<f32>("last_hidden_state")?;
//!     }
//!     Ok(Json(tokens.iter().map(|text| text.ids.len()).sum()))
//! }
//! ```

use tokenizers::{Encoding, PostProcessor as _};

use crate::Error;

mod batch;
mod pieces;

pub use self::batch::Batch;

/// The tokens of one text, with the special ones around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Their numbers in the vocabulary.
    pub ids: Vec<u32>,
    /// Whether the text has more than the model sees.
    pub truncated: bool,
}

/// A `tokenizer.json` that stops where the model does.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// What the model sees of a text.
    tokens_max: usize,
    /// How many special tokens the model wants around every text.
    around: usize,
    /// What fills the rest of a row.
    pad: i64,
    /// How long texts are cut into pieces, where that gives the same tokens.
    pieces: Option<pieces::Pieces>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json` for a model that sees `tokens_max` tokens, special ones included.
    /// What the file says of truncation does not count.
    ///
    /// # Errors
    /// 500 `wrong_tokenizer` where it is none, or leaves no room for a text.
    pub fn parse(json: &[u8], tokens_max: usize) -> Result<Self, Error> {
        let wrong = |message: String| Error::new(500, "wrong_tokenizer", message);
        let read = || -> tokenizers::Result<tokenizers::Tokenizer> {
            let mut inner = tokenizers::Tokenizer::from_bytes(json)?;
            inner.with_truncation(None)?;
            Ok(inner)
        };
        let mut inner = read().map_err(|error| wrong(error.to_string()))?;
        let pad = inner.get_padding().map(|padding| padding.pad_id);
        let pad = pad.or_else(|| inner.token_to_id("[PAD]")).or_else(|| inner.token_to_id("<pad>"));
        inner.with_padding(None);
        let around = inner.get_post_processor().map_or(0, |post| post.added_tokens(false));
        if around >= tokens_max {
            let message = format!("{around} special tokens leave no room within {tokens_max}");
            return Err(wrong(message));
        }
        let pieces = pieces::Pieces::of(&inner);
        Ok(Self { inner, tokens_max, around, pad: pad.unwrap_or(0).into(), pieces })
    }

    /// The tokens of a text: as if all of it were tokenised and then cut, without taking the time
    /// and memory for what the model does not see.
    ///
    /// # Errors
    /// 422 `untokenizable`, about the field `input`.
    pub fn encode(&self, text: &str) -> Result<Tokens, Error> {
        let room = self.tokens_max - self.around;
        let encoded = match &self.pieces {
            Some(pieces) => pieces.encode(&self.inner, text, room),
            None => self.encode_start(text, room),
        };
        let tokens = encoded.and_then(|mut ids| {
            let truncated = ids.len() > room;
            ids.truncate(room);
            let ids = self.inner.post_process(encoding(ids), None, true)?.get_ids().to_vec();
            Ok(Tokens { ids, truncated })
        });
        tokens.map_err(|error| Error::new(422, "untokenizable", error.to_string()).field("input"))
    }

    /// The tokens of several texts.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], about the field of the text, such as `input[3]`.
    pub fn encode_all(&self, texts: &[impl AsRef<str>]) -> Result<Vec<Tokens>, Error> {
        let tokens = texts.iter().enumerate().map(|(index, text)| {
            self.encode(text.as_ref()).map_err(|error| error.field(format!("input[{index}]")))
        });
        tokens.collect()
    }

    /// All texts, in as few batches as their lengths allow: those of similar length run together.
    pub fn batches(&self, texts: &[Tokens]) -> Vec<Batch> {
        batch::batches(texts, self.tokens_max, self.pad)
    }

    /// More tokens than there is room for, where the text has them: those of a start of the text
    /// that is long enough for the cut not to matter.
    fn encode_start(&self, text: &str, room: usize) -> tokenizers::Result<Vec<u32>> {
        let mut bytes = 16 * room;
        loop {
            let start = &text[..text.floor_char_boundary(bytes)];
            let ids = self.inner.encode_fast(start, false)?.get_ids().to_vec();
            // Where the text is cut, the last tokens may differ; half of them is far from it.
            if start.len() == text.len() || ids.len() > 2 * room {
                return Ok(ids);
            }
            bytes *= 2;
        }
    }
}

/// Tokens of which only the numbers matter from here on.
#[allow(clippy::default_trait_access, reason = "the map of ranges is the tokenizer's own affair")]
fn encoding(ids: Vec<u32>) -> Encoding {
    let count = ids.len();
    Encoding::new(
        ids,
        vec![0; count],
        vec![String::new(); count],
        vec![None; count],
        vec![(0, 0); count],
        vec![0; count],
        vec![1; count],
        Vec::new(),
        Default::default(),
    )
}

#[cfg(test)]
mod tests;
