"""What counts as a word, and when two words are the same: for the lexical index, its queries, and what is marked.

A text goes through three steps. The first, `plain`, makes texts equal that read the same: Unicode's compatible
composition (NFKC, so that "é" is one character whether it was typed as one or as two), without invisible characters,
case folded, without accents that have no composed form on a Latin letter. The second finds the words: runs of letters
and digits, single characters of scripts that are written without spaces. The third, by tantivy, folds accents and
takes the stem.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from llm2comp_indexes.errors import InputError

if TYPE_CHECKING:
    import tantivy

__all__ = [
    "ANALYSIS",
    "DEFAULT_LANGUAGE",
    "LENT",
    "Word",
    "analysed",
    "analyzer",
    "check_language",
    "function_words",
    "matching_spans",
    "plain",
    "terms",
    "words",
]

DEFAULT_LANGUAGE: Final = "english"

ANALYSIS: Final = 4
"""Version of all this: words that were indexed by another one do not meet those of a query.

1 knew no `plain`; 2 made one word of C, C++ and C#, and kept no order of words, which `operators` need;
3 counted the words of a title once.
"""

# Scripts written without spaces are indexed character by character; every other word is a run of letters and digits.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_NAMED = r"[A-Za-z](?:\+\+|#)"  # C++, C#, F#: a letter alone would be another word
_WORD_2 = rf"[{_UNSPACED}]|[\p{{Alphabetic}}\p{{M}}\p{{N}}--[{_UNSPACED}]]+"
_WORD = rf"{_NAMED}|{_WORD_2}"
_LONGEST_WORD = 255  # bytes; longer runs are not words

# Languages for which tantivy lists function words; for any other it fails, and old versions of it abort.
_LISTED_LANGUAGES: Final = {
    *("danish", "dutch", "finnish", "french", "german", "hungarian", "italian", "norwegian", "portuguese"),
    *("russian", "spanish", "swedish"),
}
# tantivy knows 33 English ones, and none of those that a question is made of.
_ENGLISH: Final = frozenset(
    """
    a about above after again against all also am an and any anybody anything are as at be because been before being
    below between both but by can cannot could did do does doing down during each every everybody everything few for
    from further get got had has have having he her here hers him his how i if in into is it its itself just let
    lets make many may me might more most much must my myself need no nor not now of off on once only or other our
    ours out over own per same shall she should so some somebody something such than that the their theirs them
    themselves then there these they thing things this those through to too under until up upon us very via want was
    way ways we were what when where which while who whom whose why will with within without would you your yours
    """.split()  # noqa: SIM905 - a table is easier to read
)

# Unicode's Default_Ignorable_Code_Point: soft hyphens, joiners, direction marks, variation selectors, fillers.
_IGNORABLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_INVISIBLE: Final = re.compile(f"[{_IGNORABLE}]+")
_MARK: Final = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_LATIN: Final = "A-Za-z\u00aa\u00ba\u00c0-\u02af\u1d00-\u1dbf\u1e00-\u1eff\u2c60-\u2c7f\ua722-\ua7ff\uab30-\uab6f"
_MARKED_LATIN: Final = re.compile(f"([{_LATIN}])[{_MARK}]+")
_JOINING: Final = re.compile("[\u1161-\u11ff\ud7b0-\ud7ff\uff9e\uff9f]")  # vowels after consonants, voicing of kana
LENT: Final = threading.RLock()
"""Held while a chain is used. Tantivy lends it to one caller, and fails the next one with "Already borrowed": another
thread gets its turn within such a call where garbage is collected there, such as the files of an earlier generation."""
_PIECE: Final = re.compile(r"\S+|\s+")


class Word(NamedTuple):
    """A word of a text.

    Attributes:
        start: its first character in the text.
        end: the character after it.
        term: what it is indexed as.
    """

    start: int
    end: int
    term: str


def check_language(language: str) -> None:
    """Refuse a language without a stemmer (``none`` turns stemming off).

    Raises:
        InputError: tantivy has no such stemmer.
    """
    if not isinstance(language, str):
        raise InputError(f"must be text, not {language!r:.60}", field="language")
    try:
        analyzer(language)
    except ValueError as error:
        raise InputError(f"{language!r}: {error}; `language=none` turns stemming off", field="language") from error


def plain(text: str) -> str:
    """The text as it is analysed; ASCII stays as it is, since tantivy folds its case."""
    return text if text.isascii() else _folded(text)


def _folded(text: str) -> str:
    composed = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    return _MARKED_LATIN.sub(r"\1", unicodedata.normalize("NFKC", composed.casefold()))


@cache
def analyzer(language: str, version: int = ANALYSIS) -> tantivy.TextAnalyzer:
    """Terms of a `plain` text: its words, lower-cased, accents folded, stemmed for ``language``."""
    import tantivy

    chain = _lower_cased(version).filter(tantivy.Filter.ascii_fold())
    return chain.build() if language == "none" else chain.filter(tantivy.Filter.stemmer(language)).build()


def _lower_cased(version: int) -> tantivy.TextAnalyzerBuilder:
    """Finds the words of a `plain` text."""
    import tantivy

    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.regex(_WORD if version > 2 else _WORD_2))
        .filter(tantivy.Filter.remove_long(_LONGEST_WORD))
        .filter(tantivy.Filter.lowercase())
    )


def analysed(chain: tantivy.TextAnalyzer, text: str) -> list[str]:
    """The terms that a chain makes of a text, which it does for any number of threads."""
    with LENT:
        found: list[str] = chain.analyze(text)
    return found


@cache
def _spelling(version: int) -> tantivy.TextAnalyzer:
    """The same words as `analyzer` gives, with their accents, by which lists of function words have them."""
    return _lower_cased(version).build()


def terms(text: str, language: str = DEFAULT_LANGUAGE, version: int = ANALYSIS) -> list[str]:
    """The words of a text in the form in which they are compared, in their order: one for each of `function_words`."""
    return analysed(analyzer(language, version), plain(text) if version > 1 else text)


def function_words(text: str, language: str, version: int = ANALYSIS) -> list[bool]:
    """For each word of a text whether it says nothing by itself: *the*, *how*, *für*."""
    read = plain(text) if version > 1 else text
    spelled, folded = (analysed(chain, read) for chain in (_spelling(version), analyzer("none", version)))
    return [
        _is_function_word(with_accents, language) or _is_function_word(without, language)
        for with_accents, without in zip(spelled, folded, strict=True)
    ]


def _is_function_word(word: str, language: str) -> bool:
    if language == "english":
        return word in _ENGLISH
    if language not in _LISTED_LANGUAGES:
        return False
    if not analysed(_listed_words(language), word):
        return True
    # Case folding made "ss" of a sharp s, and the list has "daß" alone.
    return language == "german" and not analysed(_listed_words(language), word.replace("ss", "ß"))


@cache
def _listed_words(language: str) -> tantivy.TextAnalyzer:
    """Gives nothing for a function word."""
    import tantivy

    return tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.raw()).filter(tantivy.Filter.stopword(language)).build()


def words(text: str, language: str = DEFAULT_LANGUAGE) -> list[Word]:
    """The words of a text as the lexical index has them, each with its place in the text as it is given."""
    read = plain(text)
    aligned = _aligned(text, read)
    places = [] if aligned else _places(text)
    with LENT:
        tokens = analyzer(language).pre_tokenize(read).tokens
    return [
        Word(start, end, token.text) if aligned else Word(places[start][0], places[end - 1][1], token.text)
        for token in tokens
        for start, end in [(token.char_offset_from, token.char_offset_to)]
    ]


def _aligned(text: str, read: str) -> bool:
    """Whether each character of a text became one of its `plain` form, as in most."""
    if len(text) != len(read):
        return False
    # Then only case folding could have changed anything, which makes no text shorter.
    return text.isascii() or not (
        _INVISIBLE.search(text) or _MARKED_LATIN.search(text) or not unicodedata.is_normalized("NFKC", text)
    )


def _places(text: str) -> list[tuple[int, int]]:
    """For each character of the `plain` text the start and end of what it was made of."""
    places: list[tuple[int, int]] = []
    for piece in _PIECE.finditer(text):
        start, end = piece.span()
        if piece[0].isascii():
            places.extend(zip(range(start, end), range(start + 1, end + 1), strict=True))
        else:
            places.extend((start + first, start + last) for first, last in _places_in(piece[0]))
    return places


@lru_cache(maxsize=4096)  # words come again
def _places_in(piece: str) -> list[tuple[int, int]]:
    folded = _folded(piece)
    if _aligned(piece, folded):
        return [(position, position + 1) for position in range(len(piece))]
    parts = [(_folded(piece[first:last]), first, last) for first, last in _clusters(piece)]
    if "".join(part for part, _, _ in parts) != folded:  # what is composed of several clusters has no finer place
        return [(0, len(piece))] * len(folded)
    return [(first, last) for part, first, last in parts for _ in part]


def _clusters(piece: str) -> Iterator[tuple[int, int]]:
    """Spans of the characters that a reader sees: each with its marks and the invisible ones after it."""
    first = 0
    for position in range(1, len(piece)):
        if not _joins(piece[position]):
            yield first, position
            first = position
    yield first, len(piece)


def _joins(character: str) -> bool:
    """Whether a character belongs to the one before it."""
    if character < "\u0300":
        return character == "\u00ad"
    category = unicodedata.category(character)
    return category[0] == "M" or bool(_INVISIBLE.match(character) or _JOINING.match(character))


def matching_spans(query: str, text: str, language: str = DEFAULT_LANGUAGE) -> list[tuple[int, int]]:
    """Character spans of the words of ``text`` that lexical search for ``query`` matches."""
    wanted = {word.term for word in words(query, language)}
    return [(word.start, word.end) for word in words(text, language) if word.term in wanted]
