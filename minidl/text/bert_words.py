r"""Splitting text into words, as BERT does before WordPiece: normalise the characters, then split at spaces and punctuation.

======  ============================================================================  =====================
step    what it does                                                                  "Café,\t茶"
======  ============================================================================  =====================
clean   leave out control characters; white space becomes a space                     ``Café, 茶``
CJK     spaces around each ideograph, since Chinese and Japanese have none            ``Café,  茶``
strip   decompose characters, and leave out the marks without a width of their own    ``Cafe,  茶``
lower   lower case                                                                    ``cafe,  茶``
split   at spaces; each punctuation character is a word                               ``cafe`` ``,`` ``茶``
======  ============================================================================  =====================

J. Devlin et al., "BERT: Pre-training of deep bidirectional Transformers for language understanding", NAACL 2019; these steps are in
its published code, tokenization.py. The categories of characters are those of Python's Unicode (``unicodedata.unidata_version``).
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from minidl.text.words import WHITE_SPACE

__all__ = ["BertWords"]

_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (
        0x2B920,
        0x2CEAF,
    ),  # not 0x2B820, as in the paper's code: the package tokenizers, with which files are read, has this
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
_ASCII_WORD = re.compile(f"[{re.escape(string.punctuation)}]|[^ {re.escape(string.punctuation)}]+")


class _Table(dict[int, str]):
    """What a function makes of each character, for ``str.translate``; found once for each."""

    def __init__(self, function: Callable[[str], str]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, code: int) -> str:
        found = self._function(chr(code))
        if len(self) < 1 << 16:
            self[code] = found
        return found


class BertWords:
    r"""Normalise a text and split it into words.

    Parameters
    ----------
    clean_text : bool, default True
    handle_chinese_chars : bool, default True
    strip_accents : bool, optional
        By default as ``lowercase``.
    lowercase : bool, default True

    Examples
    --------
    >>> words = BertWords()
    >>> words.split("Café,\t茶!")
    ['cafe', ',', '茶', '!']
    >>> [(word, places[0], places[-1]) for word, places in words.locate("Café,\t茶!")]
    [('cafe', 0, 3), (',', 4, 4), ('茶', 6, 6), ('!', 7, 7)]
    """

    def __init__(
        self,
        clean_text: bool = True,
        handle_chinese_chars: bool = True,
        strip_accents: bool | None = None,
        lowercase: bool = True,
    ) -> None:
        self.clean_text, self.handle_chinese_chars = clean_text, handle_chinese_chars
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self.lowercase = lowercase
        self._first, self._second = _Table(self._clean), _Table(self._fold)

    def split(self, text: str) -> list[str]:
        """Return the words of a text."""
        text = text.translate(self._first)
        if self.strip_accents and not text.isascii():
            text = unicodedata.normalize("NFD", text)
        return [word for word in text.translate(self._second).split(" ") if word]

    def locate(self, text: str) -> Iterator[tuple[str, Sequence[int]]]:
        """Yield each word, and for each of its characters the place of the one in the text that it was made of."""
        cleaned = text.translate(self._first)
        if text.isascii() and len(cleaned) == len(text):  # then every character stays in its place
            for match in _ASCII_WORD.finditer(cleaned.lower() if self.lowercase else cleaned):
                yield match[0], range(match.start(), match.end())
            return
        places: Sequence[int] = range(len(text))
        steps: list[Callable[[int], str]] = [self._first.__getitem__, _decompose, self._second.__getitem__]
        for step in steps if self.strip_accents else steps[::2]:
            made = [step(ord(character)) for character in text]
            places = [place for place, new in zip(places, made, strict=True) for _ in new]
            text = "".join(made)
            if step is _decompose:
                text = unicodedata.normalize("NFD", text)  # which puts several marks of one letter into their order
        start = 0
        for word in text.split(" "):
            end = start + len(word)
            if word:
                yield word, places[start:end]
            start = end + 1

    def _clean(self, character: str) -> str:
        """Return what the first two steps make of a character; a space for all white space, at which words are split anyway."""
        if self.clean_text and character not in "\t\n\r":
            category = unicodedata.category(character)
            if character in "\0\ufffd" or (category[0] == "C" and category != "Cn"):
                return ""
        if character in WHITE_SPACE:
            return " "
        code = ord(character)
        if self.handle_chinese_chars and any(first <= code <= last for first, last in _IDEOGRAPHS):
            return f" {character} "
        return character

    def _fold(self, character: str) -> str:
        """Return what the other steps make of a character, with spaces around punctuation."""
        if self.strip_accents and unicodedata.category(character) == "Mn":
            return ""
        return "".join(
            f" {c} " if _is_punctuation(c) else c for c in (character.lower() if self.lowercase else character)
        )


def _decompose(code: int) -> str:
    return unicodedata.normalize("NFD", chr(code))


def _is_punctuation(character: str) -> bool:
    """Return whether a character is punctuation to BERT: Unicode's category P, and all of ASCII that is no letter or digit."""
    return character in string.punctuation or unicodedata.category(character)[0] == "P"
