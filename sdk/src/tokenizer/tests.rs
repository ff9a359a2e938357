use serde_json::json;
use tokenizers::TruncationParams;

use super::batch::padded;
use super::pieces::{PIECE_BYTES, goes_on};
use super::*;

/// The positions that `MiniLM` knows.
const TOKENS_MAX: usize = 512;
/// A word of more than 100 characters is one unknown token.
const WORD_CHARS_MAX: usize = 101;

/// A tokenizer of BERT's kind with a small vocabulary, as a file. `GW_TEST_TOKENIZER` names
/// another.
fn file() -> Vec<u8> {
    if let Ok(path) = std::env::var("GW_TEST_TOKENIZER") {
        return std::fs::read(path).unwrap();
    }
    let words = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "##s", "##a", ".", "[", "]", "漢",
    ];
    let vocab: serde_json::Map<_, _> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    let added = |id: usize| {
        json!({
            "id": id, "content": words[id], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        })
    };
    let special = |token: &str, id: u32| json!({"id": token, "ids": [id], "tokens": [token]});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let json = json!({
        "version": "1.0",
        "truncation": {
            "max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"
        },
        "padding": null,
        "added_tokens": (0..5).map(added).collect::<Vec<_>>(),
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, text,
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}}
            ],
            "pair": [text, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": special("[CLS]", 2), "[SEP]": special("[SEP]", 3)}
        },
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab
        }
    });
    json.to_string().into_bytes()
}

/// The whole text tokenised, and then cut.
fn whole(text: &str) -> Tokens {
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(file()).unwrap();
    let truncation = TruncationParams { max_length: TOKENS_MAX, ..TruncationParams::default() };
    tokenizer.with_truncation(Some(truncation)).unwrap();
    tokenizer.with_padding(None);
    let encoding = tokenizer.encode(text, true).unwrap();
    let truncated = !encoding.get_overflowing().is_empty();
    Tokens { ids: encoding.get_ids().to_vec(), truncated }
}

#[track_caller]
fn agrees(tokenizer: &Tokenizer, text: &str) {
    let (given, whole) = (tokenizer.encode(text).unwrap(), whole(text));
    let start: String = text.chars().take(60).collect();
    assert_eq!(given, whole, "{} bytes from {start:?}", text.len());
}

#[test]
fn pieces_give_the_tokens_of_the_whole() {
    let tokenizer = Tokenizer::parse(&file(), TOKENS_MAX).unwrap();
    let long = PIECE_BYTES + 100;
    for text in [
        String::new(),
        "a cat".to_owned(),
        "cats ".repeat(254),
        "cats ".repeat(255) + "a",
        "a ".repeat(5000),
        " ".repeat(3 * long) + "cat" + &"\n\t".repeat(long) + "a",
        "a".repeat(3 * long),
        "a".repeat(3 * long) + " a cat",
        // Its accents are dropped, and then it is short.
        format!("c{}at", "\u{301}".repeat(2 * long)),
        format!("a{}cat", "\u{301}".repeat(2 * long)),
        format!("a {} cat", "\u{1}".repeat(2 * long)),
        "á".repeat(long) + "cat",
        "z".repeat(PIECE_BYTES - 100) + &"c".repeat(100) + "\u{1}" + &"a".repeat(long),
        " ".repeat(PIECE_BYTES - 101) + &"z".repeat(100) + " " + &"a ".repeat(long),
        "ж".repeat(long) + " " + &"ж".repeat(long) + "漢",
        "漢".repeat(long),
        "\u{1d165}\u{302e}\u{301}".repeat(long) + " a",
        "한국어 カタカナ。".repeat(long / 8),
        "[SEP]".repeat(400) + &"x".repeat(long) + "[SEP]a",
        "[".repeat(long) + "SEP]",
        "🙂".repeat(long),
        "\u{3000}".repeat(long) + "cat",
        "\u{b}\u{85}".repeat(long) + "cat",
        "a.".repeat(long),
    ] {
        agrees(&tokenizer, &text);
    }
}

/// A word, a special token or a mark across the end of a piece, at every place.
#[test]
fn it_does_not_matter_where_a_piece_ends() {
    let tokenizer = Tokenizer::parse(&file(), TOKENS_MAX).unwrap();
    for end in ["cats[SEP]cat", "cat s [MASK] a", "c\u{301}a\u{302}ts.a", "漢cat漢", "[[SEP]]a.[S"]
    {
        for short in 0..24 {
            let spaces = " ".repeat(PIECE_BYTES - short);
            agrees(&tokenizer, &format!("{spaces}{end}"));
            agrees(&tokenizer, &format!("{}{end}", "z".repeat(PIECE_BYTES - short)));
        }
    }
}

#[test]
fn what_goes_on_with_a_word_does_not_end_it() {
    let tokenizer = Tokenizer::parse(&file(), TOKENS_MAX).unwrap();
    let word = "z".repeat(WORD_CHARS_MAX);
    let one = tokenizer.encode(&word).unwrap();
    for c in ('\0'..='\u{3400}').filter(|&c| goes_on(c)) {
        assert_eq!(tokenizer.encode(&format!("{word}{c}z")).unwrap(), one, "{c:?}");
    }
}

#[test]
fn any_mixture_agrees() {
    let tokenizer = Tokenizer::parse(&file(), TOKENS_MAX).unwrap();
    let parts = [
        "a",
        "cat",
        "cats",
        " ",
        "   ",
        "\n",
        ".",
        "[",
        "]",
        "[SEP]",
        "[UNK]",
        "[sep]",
        "漢",
        "É",
        "İ",
        "\u{301}",
        "\u{1}",
        "\u{302e}",
        "\u{1d165}",
        "\u{200b}",
        "🙂",
        "ß",
        "\u{a0}",
        "zzzzzzzzzzzzzzzz",
        "≠",
        "Ꭰ",
        "—",
    ];
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 33) as usize % bound
    };
    for _ in 0..60 {
        // Few kinds of parts make long words, marks and spaces.
        let kinds: Vec<&str> = (0..=below(4)).map(|_| parts[below(parts.len())]).collect();
        let repeats = 1 + below(200);
        let mut text = String::new();
        while text.len() < 3 * PIECE_BYTES {
            text.push_str(&kinds[below(kinds.len())].repeat(1 + below(repeats)));
        }
        agrees(&tokenizer, &text);
    }
}

fn text(tokens: usize) -> Tokens {
    Tokens { ids: vec![7; tokens], truncated: false }
}

/// One that is not of BERT's kind: its words lie between spaces, and one is as long as it likes.
fn words() -> Vec<u8> {
    let json = json!({
        "version": "1.0", "truncation": null, "padding": {
            "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 9, "pad_type_id": 0, "pad_token": "<pad>"
        },
        "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {
            "type": "WordLevel", "unk_token": "?",
            "vocab": {"?": 0, "a": 1, "cat": 2, "sat": 3}
        }
    });
    json.to_string().into_bytes()
}

#[test]
fn a_start_that_is_long_enough_gives_the_tokens_of_the_whole() {
    let tokenizer = Tokenizer::parse(&words(), 8).unwrap();
    let whole = tokenizers::Tokenizer::from_bytes(words()).unwrap();
    for text in [
        String::new(),
        "a cat".to_owned(),
        "a cat sat ".repeat(2) + "a cat",
        "a cat sat ".repeat(3),
        "a cat sat ".repeat(500),
        "x".repeat(5000) + " a cat",
        " ".repeat(5000) + "a" + &" ".repeat(5000) + "cat",
        "漢".repeat(400) + " sat",
    ] {
        let ids = whole.encode(text.as_str(), true).unwrap().get_ids().to_vec();
        let start: String = text.chars().take(20).collect();
        let given = tokenizer.encode(&text).unwrap();
        assert_eq!(given.truncated, ids.len() > 8, "{start:?}");
        assert_eq!(given.ids, ids[..ids.len().min(8)], "{start:?}");
    }
}

#[test]
fn a_batch_is_filled_up_with_what_the_tokenizer_pads_with() {
    let tokenizer = Tokenizer::parse(&words(), 8).unwrap();
    let tokens = tokenizer.encode_all(&["a cat sat", "a"]).unwrap();
    let [batch] = &tokenizer.batches(&tokens)[..] else { panic!("one batch") };
    assert_eq!(batch.ids.as_slice(), [1, 2, 3, 9, 1, 9, 9, 9]);
    // Rows are never longer than what the model sees.
    let tokenizer = Tokenizer::parse(&words(), 7).unwrap();
    let tokens = tokenizer.encode_all(&["a a a a a"]).unwrap();
    assert_eq!(tokenizer.batches(&tokens)[0].ids.dims(), [1, 7]);
}

#[test]
fn what_is_no_tokenizer_or_leaves_no_room_is_refused() {
    for (json, tokens_max, with) in [
        (b"{}".to_vec(), 8, "Model missing"),
        (file(), 2, "2 special tokens leave no room within 2"),
    ] {
        let error = Tokenizer::parse(&json, tokens_max).map(drop).unwrap_err();
        assert_eq!(error.code, "wrong_tokenizer");
        assert!(error.message.contains(with), "{error}");
    }
}

fn batches(texts: &[Tokens]) -> Vec<Batch> {
    super::batch::batches(texts, TOKENS_MAX, 0)
}

#[test]
fn few_lengths_are_planned() {
    let lengths: std::collections::BTreeSet<usize> = (1..=TOKENS_MAX).map(padded).collect();
    let steps = [(4, 32), (8, 64), (16, 128), (32, 256), (64, TOKENS_MAX)];
    let expected = steps.into_iter().flat_map(|(step, to)| (to / 2 + step..=to).step_by(step));
    assert!(lengths.into_iter().eq([4, 8, 12, 16].into_iter().chain(expected)));
}

#[test]
fn a_batch_is_padded_and_its_mask_says_where() {
    let [batch] = &batches(&[text(3), text(17)])[..] else { panic!("one batch") };
    assert_eq!((batch.ids.dims(), &batch.texts[..]), (&[2, 20][..], &[0, 1][..]));
    let row = |tokens: usize| [vec![1i64; tokens], vec![0; 20 - tokens]].concat();
    assert_eq!(batch.mask.as_slice(), [row(3), row(17)].concat());
    assert_eq!(batch.types().dims(), [2, 20]);
    assert_eq!(batch.ids.as_slice().iter().filter(|&&id| id == 7).count(), 20);
}

#[test]
fn a_long_text_does_not_run_with_short_ones() {
    let mut texts: Vec<Tokens> = (0..16).map(|_| text(12)).collect();
    texts.insert(3, text(400));
    let batches = batches(&texts);
    let dims: Vec<_> = batches.iter().map(|batch| batch.ids.dims()).collect();
    assert_eq!(dims, [[16, 12], [1, 448]]);
    assert_eq!(batches[1].texts, [3]);
}

#[test]
fn what_a_run_answers_fits_the_memory_of_a_plugin() {
    let texts: Vec<Tokens> = (0..64).map(|_| text(TOKENS_MAX)).collect();
    let batches = batches(&texts);
    assert!(batches.iter().all(|batch| batch.ids.dims() == [16, TOKENS_MAX]), "{}", batches.len());
    assert!(batches.iter().flat_map(|batch| batch.texts.clone()).eq(0..64));
}
