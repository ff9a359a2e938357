"""Texts as the numbers of BERT's words and pieces of words, in lower case and without accents."""

import unicodedata
from collections.abc import Iterable, Iterator

# What the model can see.
TOKENS_MAX = 512
# A longer word is no word.
CHARACTERS_MAX = 100


class Vocabulary:
    """The pieces with their numbers."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def read(self, lines: Iterable[str]) -> None:
        """Takes one piece a line, numbered from 0."""
        self.numbers = {line.rstrip("\n"): number for number, line in enumerate(lines)}

    def tokens(self, text: str) -> list[int]:
        """The numbers of a text, between those of its begin and end, cut to what the model sees."""
        numbers = [number for word in _words(text) for number in self._pieces(word)]
        begin, end = self.numbers["[CLS]"], self.numbers["[SEP]"]
        return [begin, *numbers[: TOKENS_MAX - 2], end]

    def _pieces(self, word: str) -> list[int]:
        """The longest piece that a word begins with, then the longest of the rest, and so on."""
        found: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            known = (end for end in ends if prefix + word[start:end] in self.numbers)
            end = next(known, None)
            if end is None or len(word) > CHARACTERS_MAX:
                return [self.numbers["[UNK]"]]
            found.append(self.numbers[prefix + word[start:end]])
            start = end
        return found


def _words(text: str) -> Iterator[str]:
    """Runs of letters and digits; every punctuation mark and every Chinese character alone."""
    word = ""
    for character in unicodedata.normalize("NFD", text.lower()):
        category = unicodedata.category(character)
        if category == "Mn" or (category[0] == "C" and character not in "\t\n\r"):
            continue
        alone = _is_punctuation(character, category) or _is_chinese(character)
        if not alone and not character.isspace():
            word += character
            continue
        if word:
            yield word
        word = ""
        if alone:
            yield character
    if word:
        yield word


def _is_punctuation(character: str, category: str) -> bool:
    ascii_mark = character.isascii() and character.isprintable() and not character.isalnum()
    return category[0] == "P" or (ascii_mark and character != " ")


def _is_chinese(character: str) -> bool:
    return "\u4e00" <= character <= "\u9fff" or "\u3400" <= character <= "\u4dbf"
