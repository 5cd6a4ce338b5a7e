"""Words of texts in any script, for keywords.

A word begins with a letter and goes on with letters, digits and the marks that belong to them: vowel signs and viramas
of Indic scripts, points of Hebrew and Arabic, accents that are characters of their own. Text is composed first
(Unicode's NFC), so that both ways to write an accented letter are one word. Han, kana, Thai, Lao, Khmer and Burmese
have no spaces between words: there, pairs of neighbouring characters stand for words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

__all__ = ["composed", "in_text", "mostly_unspaced", "split_words"]

# Thai, Lao; Burmese; Khmer; kana; Han and its extensions.
_UNSPACED = (
    "\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
)
_JOINERS = "\u200c\u200d"  # inside words of Persian and Indic scripts
_SAMPLE = 200  # documents
_BEGINNING = 500  # characters of each
_BEYOND_LATIN = re.compile("[\u0300-\U0010ffff]")
_PLAIN = re.compile(r"(\b[^\W\d_](?:[\w+#]|['’.-](?=\w))*)|\S")  # c++, x-ray, don't, u.s; never a number


def composed(text: str) -> str:
    """The text in composed form (NFC)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def split_words(text: str) -> list[str]:
    """The words of a composed text in their order; an empty one for whatever stands between two but white space.

    No word follows directly on another one of the same run of an unspaced script: its pairs of characters overlap.
    """
    if text.isascii() or not _BEYOND_LATIN.search(text):
        return _PLAIN.findall(text)
    words: list[str] = []
    for run, word in _any_script().findall(text):
        for start in range(max(len(run) - 1, 0)):
            words += (run[start : start + 2], "")
        if not run:
            words.append(word)
    return words


def in_text(term: str) -> str:
    """A pattern that finds a term of :func:`split_words`, or several with spaces between, in a composed text."""
    spaced = r"\s+".join(re.escape(word) for word in term.split(" "))
    if re.search(f"[{_UNSPACED}]", term):
        return spaced
    return rf"\b{spaced}(?!\w)" if term.isascii() else rf"\b{spaced}(?![\w{_marks()}{_JOINERS}])"


def mostly_unspaced(texts: Sequence[str]) -> bool:
    """Whether most letters of the texts belong to scripts without spaces between words."""
    sample = "".join(text[:_BEGINNING] for text in texts[:: max(1, len(texts) // _SAMPLE)])
    letters = len(re.findall(r"[^\W\d_]", sample))
    return 2 * len(re.findall(f"[{_UNSPACED}]", sample)) > letters


@cache
def _any_script() -> re.Pattern[str]:
    other = rf"(?![{_UNSPACED}])"
    word = rf"\b{other}[^\W\d_](?:{other}[\w+#{_marks()}{_JOINERS}]|['’.-](?={other}\w))*"
    return re.compile(rf"([{_UNSPACED}]+)|({word})|\S")


@cache
def _marks() -> str:
    """All combining marks (Unicode's category M), as the inside of a character class."""
    ranges: list[list[int]] = []
    for code in range(0x300, 0x20000):  # then comes Han, without a mark, and at the end the selectors of variants
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in [*ranges, [0xE0100, 0xE01EF]])
