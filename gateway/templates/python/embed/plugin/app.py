"""Sentence embeddings: {"input": ["text", …]} in, vectors of unit length out."""

import json
from dataclasses import dataclass
from math import sqrt

from gw_sdk import Graph, HttpError, Tensor, handler, init

from wordpiece import Wordpiece

# The model's name in gw.toml.
MODEL = "minilm"
# More texts belong in several requests.
TEXTS_MAX = 32
# What comes behind so many tokens of a text does not count.
TOKENS_MAX = 128

wordpiece: Wordpiece


@dataclass
class Input:
    input: list[str]


@init
def prepare() -> None:
    """Runs once, when the plugin is built: every request starts with the vocabulary in place."""
    global wordpiece
    with open("/assets/tokenizer.json", encoding="utf-8") as file:
        wordpiece = Wordpiece(json.load(file))


@handler
def embed(given: Input) -> dict[str, object]:
    texts = given.input
    if not 1 <= len(texts) <= TEXTS_MAX:
        message = f"{len(texts)} texts are given; a request has 1 to {TEXTS_MAX}"
        raise HttpError(422, "wrong_number_of_texts", message, field="input")
    rows = [wordpiece.encode(text, TOKENS_MAX) for text in texts]

    # Shorter texts are filled up, and the mask says how far each goes.
    width = max(len(row) for row in rows)
    model = Graph.load(MODEL)
    outputs = model.compute(
        {
            "input_ids": Tensor.of([filled(row, width) for row in rows], "i64"),
            "attention_mask": Tensor.of([filled([1] * len(row), width) for row in rows], "i64"),
            "token_type_ids": Tensor.of([filled([], width) for _ in rows], "i64"),
        }
    )
    hidden = outputs.read("last_hidden_state").expect_dims([len(rows), width, None])
    size = hidden.dims[2]
    ends = [len(row) * size for row in rows]
    embeddings = [pooled(vectors[:end], size) for vectors, end in zip(hidden.rows(), ends)]
    return {"embeddings": embeddings, "tokens": sum(len(row) for row in rows)}


def filled(row: list[int], width: int) -> list[int]:
    return row + [0] * (width - len(row))


def pooled(vectors: memoryview, size: int) -> list[float]:
    """The mean of the vectors of a text's tokens, scaled to unit length."""
    values = vectors.tolist()
    sums = [sum(values[at::size]) for at in range(size)]
    # Scaling makes dividing by the number of tokens superfluous.
    length = sqrt(sum(value * value for value in sums))
    return [value / length for value in sums]
