"""Long documents in pieces that an encoder can read whole, cut on sentence borders.

A text is cut into sentences, a sentence that alone is too long into halves at white space, and those again, until each
piece fits. Then pieces are packed greedily. Every count is made by the backbone's own tokenizer on exactly the text
that will be encoded: counts of parts do not add up under byte-pair encoding, so a packed chunk is counted again as a
whole and gives pieces back until it fits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["MIN_CHUNK_TOKENS", "Chunk", "chunk_document", "sentence_spans"]

MIN_CHUNK_TOKENS = 16
_BATCH = 256  # sentences tokenised at a time
_LONGEST_SENTENCE = 4096  # characters; text without sentence ends (tables, code) is cut here at the latest

# A sentence ends after ., ! or ? and closing quotes before white space, after CJK full stops, and at an empty line.
# The runs are bounded because a long line of dots (a table of contents) would take quadratic time else.
_SENTENCE_END = re.compile(
    r"""(?: [.!?…]{1,4} ["'”’»)\]]{0,4} (?=\s)
        |   [。！？｡]+ ["'”’」』）]{0,4}
        |   (?= \n[ \t\r]*\n )
        )\s*""",
    re.VERBOSE,
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Za-z]|Dr|Mr|Mrs|Ms|Prof|St|vs|cf|al|etc|Fig|Figs|Eq|Eqs|Ref|Refs|Sec|No|Nos|Vol|pp|approx|Inc|Ltd|Jr|Sr"
    r"|e\.g|i\.e|a\.m|p\.m|U\.S|Ph\.D))\.\Z"
)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document: ``text == document.text[start:end]``, without white space at its ends."""

    text: str
    start: int
    end: int


def chunk_document(document: Document, tokenizer: PreTrainedTokenizerBase, size: int, overlap: int = 0) -> list[Chunk]:
    """Cut a document's text into chunks of at most ``size`` tokens.

    The title is not part of any chunk and not counted.

    Args:
        document: any document; one without text gives one empty chunk, so that its title is not lost.
        tokenizer: the encoder's.
        size: most tokens in a chunk, special tokens not counted; only a single character can have more.
        overlap: a chunk begins with the last sentences of the one before, as many as have together at most this many
            tokens (none if the last sentence has more).

    Returns:
        At least one chunk; in order, and every character that is not white space is in one.

    Raises:
        UsageError: ``size`` is below 16 or ``overlap`` not below ``size``.
    """
    if size < MIN_CHUNK_TOKENS:
        raise UsageError(f"must be at least {MIN_CHUNK_TOKENS} tokens, not {size}", field="size")
    if not 0 <= overlap < size:
        raise UsageError(f"must be at least 0 and below `size` ({size}), not {overlap}", field="overlap")
    text = document.text
    counter = _Counter(tokenizer)
    pieces = list(_pieces(text, counter, size, overlap))
    chunks: list[Chunk] = []
    first = last = 0
    while last < len(pieces):
        first = _overlap_start(text, pieces, first, last, counter, overlap)
        first, last = _pack(text, pieces, first, last, counter, size)
        start, end = pieces[first].start, pieces[last - 1].end
        chunks.append(Chunk(text[start:end], start, end))
    return chunks or [Chunk("", 0, 0)]


def sentence_spans(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence, white space at its ends left out; at most 4096 characters each."""
    start = 0
    for match in _SENTENCE_END.finditer(text):
        if not _inside_sentence(text, match):
            yield from _bounded(text, start, match.start() + len(match.group().rstrip()))
            start = match.end()
    yield from _bounded(text, start, len(text))


def _inside_sentence(text: str, match: re.Match[str]) -> bool:
    """Whether what looks like an end is an abbreviation's full stop, or a small letter follows."""
    if match.group()[:1] not in (".", "!", "?", "…"):
        return False
    if text[match.end() : match.end() + 1].islower():
        return True
    return _ABBREVIATION.search(text, max(0, match.start() - 8), match.start() + 1) is not None


def _bounded(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    start, end = _trim(text, start, end)
    while end - start > _LONGEST_SENTENCE:
        middle = _middle(text, start, start + _LONGEST_SENTENCE)
        yield _trim(text, start, middle)
        start, end = _trim(text, middle, end)
    if start < end:
        yield start, end


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _middle(text: str, start: int, end: int) -> int:
    """Where to cut ``text[start:end]`` in two: the white space nearest to the middle, else the middle."""
    middle = (start + end) // 2
    for distance in range((end - start) // 4):
        for place in (middle - distance, middle + distance):
            if text[place].isspace():
                return place
    return middle


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is never cut when chunks are packed: a sentence, or a part of a long one; with its number of tokens."""

    start: int
    end: int
    tokens: int


class _Counter:
    """Counts tokens as the encoder will see them, without special tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def __call__(self, texts: Sequence[str]) -> list[int]:
        # verbose=False: a text beyond the model's maximum is what we are here for, and no reason to warn
        encoded = self._tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]


def _pieces(text: str, counter: _Counter, size: int, overlap: int) -> Iterator[_Piece]:
    # Parts of a long sentence are small enough to be an overlap, so that the context does not break inside it.
    part = max(overlap, MIN_CHUNK_TOKENS) if overlap else size
    sentences = sentence_spans(text)
    while spans := list(islice(sentences, _BATCH)):
        for (start, end), tokens in zip(spans, counter([text[start:end] for start, end in spans]), strict=True):
            if tokens <= size:
                yield _Piece(start, end, tokens)
            else:
                yield from _halves(text, _Piece(start, end, tokens), counter, part)


def _halves(text: str, piece: _Piece, counter: _Counter, limit: int) -> Iterator[_Piece]:
    if piece.tokens <= limit or piece.end - piece.start == 1:
        yield piece
        return
    middle = _middle(text, piece.start, piece.end)
    spans = (_trim(text, piece.start, middle), _trim(text, middle, piece.end))
    for (start, end), tokens in zip(spans, counter([text[start:end] for start, end in spans]), strict=True):
        yield from _halves(text, _Piece(start, end, tokens), counter, limit)


def _overlap_start(
    text: str, pieces: Sequence[_Piece], previous: int, new: int, counter: _Counter, overlap: int
) -> int:
    """The earliest piece that the chunk of piece ``new`` may repeat; always after the chunk before's first."""
    first, total = new, 0
    while first > previous + 1 and total + pieces[first - 1].tokens <= overlap:
        first -= 1
        total += pieces[first].tokens
    while first < new and counter([text[pieces[first].start : pieces[new - 1].end]])[0] > overlap:
        first += 1
    return first


def _pack(text: str, pieces: Sequence[_Piece], first: int, new: int, counter: _Counter, size: int) -> tuple[int, int]:
    """The pieces ``first <= i < last`` of the chunk that begins with ``new``, after as much overlap as has room."""
    total = sum(piece.tokens for piece in pieces[first : new + 1])
    while first < new and total > size:
        total -= pieces[first].tokens
        first += 1
    last = new + 1
    while last < len(pieces) and total + pieces[last].tokens <= size:
        total += pieces[last].tokens
        last += 1
    while counter([text[pieces[first].start : pieces[last - 1].end]])[0] > size:
        if last > new + 1:
            last -= 1
        elif first < new:
            first += 1
        else:
            break  # a single character of more tokens than a chunk may have
    return first, last
