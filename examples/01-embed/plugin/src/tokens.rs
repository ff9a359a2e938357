//! From texts to the tokens that the model sees, and no further.

use tokenizers::{
    Encoding, NormalizedString, Normalizer as _, PostProcessor as _, Result, Tokenizer,
};

/// The positions that the model knows; `tokenizer.json` would cut texts at 128 tokens already.
pub const TOKENS_MAX: usize = 512;
/// Bytes of a text that are tokenised at a time. The tokenizer needs some hundred times as much
/// memory, and most of a long text is never looked at.
const PIECE_BYTES: usize = 4096;
/// A word of more than 100 characters is one unknown token, whatever it goes on with.
const WORD_CHARS_MAX: usize = 101;

/// The tokens of one text, with the special ones around them.
#[derive(Debug, PartialEq)]
pub struct Tokens {
    pub ids: Vec<u32>,
    /// The text has more than [`TOKENS_MAX`].
    pub truncated: bool,
}

/// A tokenizer that stops where the model does.
pub struct Encoder {
    tokenizer: Tokenizer,
    /// Texts that are tokens wherever they stand, such as `[SEP]`.
    special: Vec<String>,
    /// How many tokens the model wants around every text.
    around: usize,
}

impl Encoder {
    /// Reads a `tokenizer.json` of the BERT family: words between white space and punctuation.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let mut tokenizer = Tokenizer::from_bytes(json)?;
        tokenizer.with_truncation(None)?;
        tokenizer.with_padding(None);
        let special = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        let special = special.values().map(|token| token.content.clone()).collect();
        let around = tokenizer.get_post_processor().map_or(0, |post| post.added_tokens(false));
        Ok(Self { tokenizer, special, around })
    }

    /// As if the whole text were tokenised and then cut, but piece by piece. Only the last word of
    /// a piece can go on in the next, so it is left over to it. Accents that end up in another
    /// order that way make no difference: the vocabulary has no word with any.
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        let room = TOKENS_MAX - self.around;
        let mut ids = Vec::new();
        let (mut piece, mut rest) = (String::new(), text);
        loop {
            let (next, tail) = rest.split_at(self.cut(rest));
            piece.push_str(next);
            if tail.is_empty() {
                let encoding = self.tokenizer.encode_fast(piece.as_str(), false)?;
                ids.extend_from_slice(encoding.get_ids());
                break;
            }
            let encoding = self.tokenizer.encode(piece.as_str(), false)?;
            let (whole, open) = self.last_word(&encoding, &piece);
            ids.extend_from_slice(&encoding.get_ids()[..whole]);
            if ids.len() > room {
                break;
            }
            piece = self.shortened(&piece[open..])?;
            let unknown = piece.chars().count() == WORD_CHARS_MAX && !piece.ends_with(' ');
            let tail = if unknown { tail.trim_start_matches(goes_on) } else { tail };
            rest = tail.trim_start_matches([' ', '\t', '\r', '\n']);
            if rest.len() < tail.len() {
                piece.push(' ');
            }
        }
        let truncated = ids.len() > room;
        ids.truncate(room);
        let ids = self.tokenizer.post_process(encoding(ids), None, true)?.get_ids().to_vec();
        Ok(Tokens { ids, truncated })
    }

    /// Where the next piece ends: not inside a special token.
    fn cut(&self, text: &str) -> usize {
        if text.len() <= PIECE_BYTES {
            return text.len();
        }
        let cut = text.floor_char_boundary(PIECE_BYTES);
        let across = |special: &String| {
            let starts = cut.saturating_sub(special.len() - 1)..cut;
            let mut ends = starts.map(|start| (start, start + special.len()));
            let found = ends.find(|&(start, end)| text.get(start..end) == Some(special))?;
            Some(found.1)
        };
        self.special.iter().find_map(across).unwrap_or(cut)
    }

    /// How many tokens lie before the last word of `piece`, and where in it that word begins. A
    /// special token is no word.
    fn last_word(&self, encoding: &Encoding, piece: &str) -> (usize, usize) {
        let (words, offsets) = (encoding.get_word_ids(), encoding.get_offsets());
        let Some((last, &(begin, end))) = words.last().zip(offsets.last()) else { return (0, 0) };
        if self.special.iter().any(|special| *special == piece[begin..end]) {
            return (words.len(), end);
        }
        let whole = words.iter().rposition(|word| word != last).map_or(0, |before| before + 1);
        (whole, offsets[whole].0)
    }

    /// One word, and the white space behind it, with the same tokens and few characters.
    fn shortened(&self, word: &str) -> Result<String> {
        if word.len() < WORD_CHARS_MAX {
            return Ok(word.to_owned());
        }
        let mut normal = NormalizedString::from(word);
        if let Some(normalizer) = self.tokenizer.get_normalizer() {
            normalizer.normalize(&mut normal)?;
        }
        let mut short: String = normal.get().trim().chars().take(WORD_CHARS_MAX).collect();
        if normal.get().ends_with(char::is_whitespace) {
            short.push(' ');
        }
        Ok(short)
    }
}

/// Letters and digits that surely belong to the word before them. The ideographs behind them are
/// words by themselves.
fn goes_on(c: char) -> bool {
    c < '\u{3400}' && c.is_alphanumeric()
}

/// Tokens of which only the numbers matter from here on.
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

/// Texts of similar length as one input of the model: rows of one length.
#[derive(Debug, PartialEq)]
pub struct Batch {
    /// Which text each row is.
    pub texts: Vec<usize>,
    /// `[texts, tokens]`
    pub dims: [usize; 2],
    pub ids: Vec<i64>,
    pub mask: Vec<i64>,
}

/// Texts of up to so many tokens run together: a short one shall not cost as much as a long one.
const CLASSES: [usize; 3] = [32, 128, TOKENS_MAX];
/// A run's answer is copied into the guest, at 1.5 KiB a token, and then read out of the copy.
const BATCH_TOKENS_MAX: usize = 8192;

impl Batch {
    /// All texts, in as few batches as their lengths allow.
    pub fn of(texts: &[Tokens]) -> Vec<Self> {
        let mut batches = Vec::new();
        let mut from = 0;
        for to in CLASSES {
            let length = |&text: &usize| texts[text].ids.len();
            let class: Vec<usize> =
                (0..texts.len()).filter(|text| (from + 1..=to).contains(&length(text))).collect();
            from = to;
            let Some(longest) = class.iter().map(length).max() else { continue };
            let rows = BATCH_TOKENS_MAX / padded(longest);
            batches.extend(class.chunks(rows).map(|rows| Self::new(rows, padded(longest), texts)));
        }
        batches
    }

    fn new(rows: &[usize], length: usize, texts: &[Tokens]) -> Self {
        let dims = [rows.len(), length];
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for (row, &text) in rows.iter().enumerate() {
            let tokens = &texts[text].ids;
            ids.extend(tokens.iter().map(|&id| i64::from(id)));
            ids.resize((row + 1) * length, 0);
            mask.resize(row * length + tokens.len(), 1);
            mask.resize((row + 1) * length, 0);
        }
        Self { texts: rows.to_vec(), dims, ids, mask }
    }
}

/// The length that rows of so many tokens get. A GPU plans each length once, so there are few:
/// multiples of 4, of 8 above 32, of 16 above 64 and so on. Those of the CPU pay for every token.
fn padded(tokens: usize) -> usize {
    tokens.next_multiple_of((tokens.next_power_of_two() / 8).max(4))
}

#[cfg(test)]
mod tests;
