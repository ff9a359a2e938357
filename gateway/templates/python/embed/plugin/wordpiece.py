"""Texts to tokens as BERT's models without letter case want them."""

import unicodedata

# A longer word is not looked up.
CHARACTERS_MAX = 100


class Wordpiece:
    """The vocabulary of a ``tokenizer.json``: words, and their ends with ``##`` before them."""

    def __init__(self, tokenizer: dict) -> None:
        self.ids: dict[str, int] = tokenizer["model"]["vocab"]

    def encode(self, text: str, most: int) -> list[int]:
        """The tokens of a text with those that begin and end it, at most so many."""
        ids = [piece for word in words(text) for piece in self.pieces(word)]
        return [self.ids["[CLS]"], *ids[: most - 2], self.ids["[SEP]"]]

    def pieces(self, word: str) -> list[int]:
        """The longest piece that begins the word, then that of the rest, until nothing is left."""
        unknown = [self.ids["[UNK]"]]
        if len(word) > CHARACTERS_MAX:
            return unknown
        pieces, start = [], 0
        while start < len(word):
            lead = "##" if start else ""
            stops = range(len(word), start, -1)
            stop = next((stop for stop in stops if lead + word[start:stop] in self.ids), None)
            if stop is None:
                return unknown
            pieces.append(self.ids[lead + word[start:stop]])
            start = stop
        return pieces


def words(text: str) -> list[str]:
    """The words of a text, without accents and letter case."""
    letters = []
    for letter in unicodedata.normalize("NFD", text).lower():
        category = unicodedata.category(letter)
        if letter in "\t\n\r" or category == "Zs":
            letters.append(" ")
        elif category.startswith("C") or category == "Mn" or letter == "\ufffd":
            continue
        elif stands_alone(letter, category):
            letters.append(f" {letter} ")
        else:
            letters.append(letter)
    return "".join(letters).split()


def stands_alone(letter: str, category: str) -> bool:
    """Whether it is punctuation, or a sign of Chinese: each is a word."""
    if letter.isascii():
        return not letter.isalnum()
    code = ord(letter)
    is_chinese = 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code <= 0x2FA1F
    return is_chinese or category.startswith("P")
