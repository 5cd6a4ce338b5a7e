"""What the memory of a text holds: written back, word by word, beside another text's, and for a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from llm2comp_apps.encoder.decoding.reader import MemoryReader, TokenGain
from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.encoder.texts import half_of_a_pair
from llm2comp_apps.errors import UsageError

__all__ = ["Explanation", "Match", "check_explained", "explain", "explain_all", "match_memory"]

_WORDS = 4


@dataclass(frozen=True, slots=True)
class Match:
    """A memory vector of a query, and the vector of a text that is nearest to it.

    Attributes:
        query_vector: its number, from 0.
        text_vector: number of the other.
        cosine: of the two.
        query_words: what the query's vector carries most of.
        text_words: what the text's vector carries most of.
    """

    query_vector: int
    text_vector: int
    cosine: float
    query_words: tuple[str, ...]
    text_words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Of one text.

    Attributes:
        text: as far as the encoder reads it.
        tokens: each with the gain that the text's memory gives it.
        written: what the decoder writes from the memory: the likeliest token each time.
        beam: the same by beam search.
        vectors: for each memory vector the words that it carries most of.
        other: tokens of the text with the gain that another text's memory gives them, if one is compared.
        matches: with a query's memory vectors, if there is one.
    """

    text: str
    tokens: list[TokenGain]
    written: str
    beam: str
    vectors: list[tuple[str, ...]]
    other: list[TokenGain] | None = None
    matches: list[Match] | None = None

    @property
    def gain(self) -> float:
        """Mean gain of a token, in nats."""
        return float(np.mean([token.gain for token in self.tokens])) if self.tokens else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-shaped."""
        return asdict(self) | {"gain": self.gain}


def explain(
    reader: MemoryReader,
    text: str,
    *,
    memory: FloatArray | None = None,
    other: FloatArray | None = None,
    query: str | None = None,
    tokens: int = 48,
    beams: int = 4,
) -> Explanation:
    """Read a text's memory back.

    Args:
        reader: the encoder.
        text: what the memory was made of.
        memory: ``(k, d)``, as an index stored it; ``None`` to encode the text.
        other: ``(k, d)`` memory of another text, to see what the two share.
        query: to see which memory vectors match.
        tokens: most tokens that are written.
        beams: width of the beam search.

    Raises:
        UsageError: the text or the query is empty or no valid Unicode, or ``tokens`` or ``beams`` is below 1.
    """
    check_explained(tokens=tokens, beams=beams, text=text, query=query)
    if memory is None:
        memory = reader.memory([text], prompt=reader.prompts.get("document", ""))[0]
    memories = memory[None] if other is None else np.stack([memory, other])
    found = reader.gains(text, memories)
    carried = reader.carriers(text, memory)
    pieces = [token.text for token in found[0]]
    words = [_words(pieces, row) for row in carried]
    return Explanation(
        text="".join(pieces),
        tokens=found[0],
        written=reader.write(memory[None], tokens=tokens)[0],
        beam=reader.write(memory[None], tokens=tokens, beams=beams)[0],
        vectors=words,
        other=found[1] if other is not None else None,
        matches=None if query is None else match_memory(reader, query, memory, words),
    )


def explain_all(
    reader: MemoryReader,
    texts: Sequence[str],
    *,
    memory: FloatArray | None = None,
    query: str | None = None,
    tokens: int = 48,
    beams: int = 4,
) -> list[Explanation]:
    """Explain a text, or two texts, each also by the memory of the other.

    Args:
        reader: the encoder.
        texts: one or two.
        memory: ``(k, d)`` of the first, as an index stored it; ``None`` to encode it.
        query: see :func:`explain`, as for the following.
        tokens: most that are written.
        beams: width of the beam search.

    Raises:
        UsageError: see :func:`explain`; the second text is the field ``other``.
    """
    named = dict(zip(("text", "other"), texts, strict=False))
    check_explained(tokens=tokens, beams=beams, **named, query=query)
    memories = reader.memory(texts, prompt=reader.prompts.get("document", ""))
    if memory is not None:
        memories[0] = memory
    others = [None] if len(texts) == 1 else [memories[1], memories[0]]
    return [
        explain(reader, text, memory=own, other=other, query=query, tokens=tokens, beams=beams)
        for text, own, other in zip(texts, memories, others, strict=True)
    ]


def check_explained(*, tokens: int, beams: int, **texts: str | None) -> None:
    """Refuse what cannot be explained, before a language model is loaded for it.

    Args:
        tokens: most that are written.
        beams: width of the beam search.
        **texts: by their fields; ``None`` was not given.

    Raises:
        UsageError: a number is below 1, or there is nothing to read in a text, or it is none.
    """
    for field, value in (("tokens", tokens), ("beams", beams)):
        if value < 1:
            raise UsageError(f"must be at least 1, not {value}", field=field)
    for field, text in texts.items():
        if text is None:
            continue
        if not text.strip():
            raise UsageError("is empty: there is nothing to explain", field=field)
        if half := half_of_a_pair(text):
            raise UsageError(f"must be valid Unicode, but has half a surrogate pair ({half})", field=field)


def match_memory(reader: MemoryReader, query: str, memory: FloatArray, words: Sequence[tuple[str, ...]]) -> list[Match]:
    """For each memory vector of a query the nearest one of a text, as MaxSim sees them.

    Args:
        reader: the encoder.
        query: what is asked.
        memory: ``(k, d)`` of the text.
        words: what each of its vectors carries.
    """
    asked = reader.memory([query], prompt=reader.prompts.get("query", ""))[0]
    unit = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (asked, memory)]
    cosines = unit[0] @ unit[1].T
    pieces = [token.text for token in reader.gains(query, asked[None])[0]]
    carried = reader.carriers(query, asked)
    return [
        Match(number, int(row.argmax()), float(row.max()), _words(pieces, carried[number]), words[int(row.argmax())])
        for number, row in enumerate(cosines)
    ]


def _words(pieces: Sequence[str], weights: FloatArray) -> tuple[str, ...]:
    """The words whose tokens weigh most together; a word is a token that begins with a blank, and those that follow."""
    sums: dict[str, float] = {}
    word, total = "", 0.0
    for piece, weight in [*zip(pieces, weights.tolist(), strict=True), (" ", 0.0)]:
        if piece[:1].isspace() and word:
            key = word.strip(" \n\t.,;:!?()[]\"'").casefold()
            if key:
                sums[key] = sums.get(key, 0.0) + total
            word, total = "", 0.0
        word, total = word + piece, total + weight
    ranked = sorted((word for word in sums if sums[word] > 0), key=lambda word: -sums[word])
    return tuple(ranked[:_WORDS])
