"""Which of several texts is closest to a question: the meaning counts, not the words."""

from dataclasses import dataclass
from math import sqrt

from gw_sdk import Graph, HttpError, Tensor, handler, init

from wordpiece import Vocabulary

TEXTS_MAX = 32
vocabulary = Vocabulary()


@dataclass
class Question:
    """What a client sends."""

    question: str
    texts: list[str]


@dataclass
class Ranked:
    """One of its texts, with the cosine between it and the question."""

    index: int
    text: str
    score: float


@init
def prepare() -> None:
    """Runs once, when the plugin is built: every request starts with the words read."""
    with open("/assets/vocab.txt", encoding="utf-8") as file:
        vocabulary.read(file)


@handler
def rank(asked: Question) -> list[Ranked]:
    """Answers the texts, the closest first."""
    if not 1 <= len(asked.texts) <= TEXTS_MAX:
        message = f"give 1 to {TEXTS_MAX} texts, not {len(asked.texts)}"
        raise HttpError(422, "wrong_number_of_texts", message, field="texts")
    question, *texts = embed([asked.question, *asked.texts])
    ranked = [
        Ranked(index, text, sum(a * b for a, b in zip(question, vector)))
        for index, (text, vector) in enumerate(zip(asked.texts, texts))
    ]
    return sorted(ranked, key=lambda one: -one.score)


def embed(texts: list[str]) -> list[list[float]]:
    """A vector of unit length for each text: the mean over its tokens."""
    tokens = [vocabulary.tokens(text) for text in texts]
    length = max(map(len, tokens))
    padding = [[0] * (length - len(row)) for row in tokens]
    ids = Tensor.of([row + pad for row, pad in zip(tokens, padding)], "i64")
    mask = Tensor.of([[1] * len(row) + pad for row, pad in zip(tokens, padding)], "i64")
    kinds = Tensor(ids.dims, [0] * len(ids.data), "i64")
    outputs = Graph.load("minilm").compute(
        {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}
    )
    hidden = outputs.read("last_hidden_state").expect_dims([len(texts), length, None])
    width = hidden.dims[2]
    means = [
        [sum(row[at : len(own) * width : width]) / len(own) for at in range(width)]
        for row, own in zip(hidden.rows(), tokens)
    ]
    return [[value / length for value in mean] for mean in means for length in [norm(mean)]]


def norm(vector: list[float]) -> float:
    """The length of a vector."""
    return sqrt(sum(value * value for value in vector))
