//! Long texts of the BERT family, piece by piece: its words lie between white space and
//! punctuation, so a text can be cut there.

use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{Encoding, NormalizedString, Normalizer as _, Result, Tokenizer};

/// Bytes of a text that are tokenised at a time. The tokenizer needs some hundred times as much
/// memory, and most of a long text is never looked at.
pub(super) const PIECE_BYTES: usize = 4096;

/// How texts are cut.
pub(super) struct Pieces {
    /// Texts that are tokens wherever they stand, such as `[SEP]`.
    special: Vec<String>,
    /// A word of so many characters is one unknown token, whatever it goes on with.
    word_chars_max: usize,
}

impl Pieces {
    /// `None` where cutting a text could give other tokens.
    pub(super) fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let ModelWrapper::WordPiece(model) = tokenizer.get_model() else { return None };
        let Some(PreTokenizerWrapper::BertPreTokenizer(_)) = tokenizer.get_pre_tokenizer() else {
            return None;
        };
        let (None | Some(NormalizerWrapper::BertNormalizer(_))) = tokenizer.get_normalizer() else {
            return None;
        };
        let special = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        let special = special.values().map(|token| token.content.clone()).collect();
        Some(Self { special, word_chars_max: model.max_input_chars_per_word + 1 })
    }

    /// More tokens than there is room for, where the text has them: as if the whole text were
    /// tokenised. Only the last word of a piece can go on in the next, so it is left over to it.
    /// Accents that end up in another order that way make no difference: where they are put in
    /// order they are then dropped.
    pub(super) fn encode(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        room: usize,
    ) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        let (mut piece, mut rest) = (String::new(), text);
        loop {
            let (next, tail) = rest.split_at(self.cut(rest));
            piece.push_str(next);
            if tail.is_empty() {
                let encoding = tokenizer.encode_fast(piece.as_str(), false)?;
                ids.extend_from_slice(encoding.get_ids());
                return Ok(ids);
            }
            let encoding = tokenizer.encode(piece.as_str(), false)?;
            let (whole, open) = self.last_word(&encoding, &piece);
            ids.extend_from_slice(&encoding.get_ids()[..whole]);
            if ids.len() > room {
                return Ok(ids);
            }
            piece = self.shortened(tokenizer, &piece[open..])?;
            let unknown = piece.chars().count() == self.word_chars_max && !piece.ends_with(' ');
            let tail = if unknown { tail.trim_start_matches(goes_on) } else { tail };
            rest = tail.trim_start_matches([' ', '\t', '\r', '\n']);
            if rest.len() < tail.len() {
                piece.push(' ');
            }
        }
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
    fn shortened(&self, tokenizer: &Tokenizer, word: &str) -> Result<String> {
        if word.len() < self.word_chars_max {
            return Ok(word.to_owned());
        }
        let mut normal = NormalizedString::from(word);
        if let Some(normalizer) = tokenizer.get_normalizer() {
            normalizer.normalize(&mut normal)?;
        }
        let mut short: String = normal.get().trim().chars().take(self.word_chars_max).collect();
        if normal.get().ends_with(char::is_whitespace) {
            short.push(' ');
        }
        Ok(short)
    }
}

/// Letters and digits that surely belong to the word before them. The ideographs behind them are
/// words by themselves.
pub(super) fn goes_on(c: char) -> bool {
    c < '\u{3400}' && c.is_alphanumeric()
}
