"""Splitting text into words, as GPT-2 does before byte-pair encoding."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

__all__ = ["split_words"]

_PATTERN = re.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d"  # the ends of English contractions
    r"| ?[a-z]+"  # letters, with the space before them
    r"| ?1+"  # digits
    r"| ?[^\sa-z1]+"  # other characters
    r"|\s+(?!\S)"  # spaces up to the last one, which belongs to the next word
    r"|\s+"
)
WHITE_SPACE = frozenset("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | {
    chr(c) for c in range(0x2000, 0x200B)
}
"""Unicode's property White_Space. ``str.isspace`` has four control characters more."""
_KEPT = frozenset("stremvld' ")
"""The characters of the contractions, and the space, stand for themselves."""


class _Kinds(dict[int, str]):
    """The character that stands for the kind of each character, in a text that has one for each."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character in _KEPT:
            kind = character
        elif character in WHITE_SPACE:
            kind = "\n"
        else:  # category L is letters, N is numbers
            kind = {"L": "a", "N": "1"}.get(unicodedata.category(character)[0], "!")
        if len(self) < 1 << 16:
            self[code] = kind
        return kind


_kinds = _Kinds()


def split_words(text: str) -> Iterator[str]:
    r"""Yield the parts of a text that byte-pair encoding does not cross; joined, they are the text.

    GPT-2's pattern needs Unicode's categories of letters and numbers, which the standard library's ``re`` lacks::

        's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

    So each character is replaced by one that stands for its kind, and an ordinary pattern finds the places at which to split
    the text. The categories are those of Python's Unicode (``unicodedata.unidata_version``).

    Parameters
    ----------
    text : str

    Examples
    --------
    >>> list(split_words("It's 25 °C   here"))
    ['It', "'s", ' 25', ' °', 'C', '  ', ' here']
    """
    for match in _PATTERN.finditer(text.translate(_kinds)):
        yield text[match.start() : match.end()]
