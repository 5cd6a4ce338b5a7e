"""The piece of a document that shows why it was found, with the query's words marked.

Words match by their stem (``running`` marks ``runs``), by the analysis of the lexical side of the index.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from llm2comp_indexes import DEFAULT_LANGUAGE, function_words, words

__all__ = ["SNIPPET_WIDTH", "Snippet", "beginning", "make_snippet", "matching_words"]

#: Characters of text in a snippet: about three lines of an 80-column terminal.
SNIPPET_WIDTH = 220
#: Characters of context kept before the first match, so that a match does not start the snippet out of the blue.
_LEAD_CHARACTERS = 40
#: Where no blank comes for so long, a text is cut without one: within a long word, or one of a script without blanks.
_LONGEST_WORD = 40
#: Longer texts are searched for matches only this far: a snippet has to be quick, not exhaustive.
_MAX_SCANNED = 200_000

_Match: TypeAlias = tuple[int, int, str]  # start and end in the text, stem

_SENTENCE_START = re.compile(r"(?<=[.!?])\s+(?=\S)")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Snippet:
    """A window of a text.

    Attributes:
        text: the window, runs of white space made one blank, ellipses where the text continues.
        marks: ``(start, end)`` character ranges of matching words in ``text``, in order, not overlapping.
    """

    text: str
    marks: tuple[tuple[int, int], ...] = ()

    def marked(self, before: str = "**", after: str = "**") -> str:
        """The text with every mark put between two strings."""
        pieces, last = [], 0
        for start, end in self.marks:
            pieces += [self.text[last:start], before, self.text[start:end], after]
            last = end
        return "".join([*pieces, self.text[last:]])


def make_snippet(
    text: str,
    query: str,
    *,
    span: tuple[int, int] | None = None,
    width: int = SNIPPET_WIDTH,
    language: str = DEFAULT_LANGUAGE,
    prefixes: tuple[str, ...] = (),
) -> Snippet:
    """Choose the window of ``text`` that holds most of the query's words and mark them.

    Args:
        text: a document's text.
        query: what was asked.
        span: look only here: the character range of the chunk that a dense search found.
        width: characters of text at most, ellipses not counted.
        language: of the index's lexical side.
        prefixes: words that begin so are marked, too.

    Returns:
        The window; the beginning of the text (or of the span) where no word of the query occurs.
    """
    start, end = span if span is not None else (0, min(len(text), _MAX_SCANNED))
    matches = _matches(text, start, end, query, language, prefixes)
    window_start = _best_start(text, matches, start, end, width)
    position = min(end, window_start + width)
    held = max((last for first, last, _ in matches if first >= window_start and last <= position), default=-1)
    window_end = _cut_end(text, window_start, position, end, held)
    return _clean(text, window_start, window_end, [(first, last) for first, last, _ in matches])


def matching_words(text: str, query: str, language: str = DEFAULT_LANGUAGE) -> list[_Match]:
    """Start, end and stem of each word of a text that a lexical search for ``query`` finds, in order."""
    return _matches(text, 0, min(len(text), _MAX_SCANNED), query, language, ())


def beginning(prefix: str) -> str | None:
    """With what the words begin that a prefix means, as words are without a stemmer; ``None`` where it is several."""
    forms = [word.term for word in words(prefix, "none")]
    return forms[0] if len(forms) == 1 else None


def _best_start(text: str, matches: Sequence[_Match], start: int, end: int, width: int) -> int:
    """Where the window with most distinct stems (then most matches, then the earliest) begins."""
    if not matches:
        return start
    best, best_value = start, (0, 0)
    ends = [last for _, last, _ in matches]
    for number, (first, _, _) in enumerate(matches):
        opening = _opening(text, first, start)
        inside = matches[number : bisect_left(ends, opening + width + 1)]
        value = (len({stem for _, _, stem in inside}), len(inside))
        if value > best_value:
            best, best_value = opening, value
    # A short text or a late match: use the room that is left at the end.
    return best if best + width <= end else _word_start(text, max(start, end - width), best)


def _opening(text: str, match_start: int, floor: int) -> int:
    """A natural place to start before a match: its sentence's start if that is near, else some words before it."""
    earliest = max(floor, match_start - _LEAD_CHARACTERS)
    sentences = [found.end() for found in _SENTENCE_START.finditer(text, earliest, match_start)]
    if sentences:
        return sentences[-1]
    return floor if earliest == floor else _word_start(text, earliest, match_start)


def _word_start(text: str, position: int, ceiling: int) -> int:
    """The first start of a word at or after ``position``, ``ceiling`` at the latest."""
    if position == 0 or text[position - 1].isspace():
        return position
    space = _SPACE.search(text, position, min(ceiling, position + _LONGEST_WORD))
    if space is None:
        return ceiling if ceiling - position <= _LONGEST_WORD else position
    return space.end()


def _cut_end(text: str, start: int, position: int, end: int, held: int) -> int:
    """The last end of a word at or before ``position``, but none before ``held``, where the last match ends."""
    if position >= end or text[position].isspace():
        return position
    floor = max(start, held, position - _LONGEST_WORD)
    cut = position
    while cut > floor and not text[cut - 1].isspace():
        cut -= 1
    return cut if cut > floor or floor == held else position


def _clean(text: str, start: int, end: int, matches: Sequence[tuple[int, int]]) -> Snippet:
    """Cut the window out, make white space single blanks, and move the marks along."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    pieces: list[str] = ["... "] if text[:start].strip() else []
    length = sum(map(len, pieces))
    marks: list[tuple[int, int]] = []
    position = start
    inside = [(first, last) for first, last in matches if first >= start and last <= end]
    for first, last in [*inside, (end, end)]:
        if first < position:  # another word of the same characters: ½ is a 1 and a 2
            continue
        between = _SPACE.sub(" ", text[position:first])
        word = text[first:last]
        begins, ends = length + len(between), length + len(between) + len(word)
        if word and marks and marks[-1][1] == begins:  # words without a blank between them: Chinese, Japanese, Thai
            marks[-1] = (marks[-1][0], ends)
        elif word:
            marks.append((begins, ends))
        pieces += [between, word]
        length = ends
        position = last
    if text[end:].strip():
        pieces.append(" ...")
    return Snippet("".join(pieces), tuple(marks))


def _matches(text: str, start: int, end: int, query: str, language: str, prefixes: tuple[str, ...]) -> list[_Match]:
    """The words of ``text[start:end]`` that lexical search would match."""
    wanted = _wanted(query, language)
    begins = tuple(begin for begin in map(beginning, prefixes) if begin is not None)
    found = words(text[start:end], language)
    forms = words(text[start:end], "none") if begins else found
    return [
        (start + word.start, start + word.end, word.term)
        for word, form in zip(found, forms, strict=True)
        if word.term in wanted or (begins and form.term.startswith(begins))
    ]


@lru_cache(maxsize=256)
def _wanted(query: str, language: str) -> frozenset[str]:
    """The stems of a query that are worth marking: no function words, unless there is nothing else."""
    # Function words are known by their form in the text; a word is stemmed alone, after they have gone.
    empty = function_words(query, language)
    kept = [word.term for word, says_nothing in zip(words(query, "none"), empty, strict=True) if not says_nothing]
    stems = {word.term for form in kept for word in words(form, language)}
    return frozenset(stems) or frozenset(word.term for word in words(query, language))
