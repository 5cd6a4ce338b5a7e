"""Rerankers by memory over documents that no index has memory of: made once for each candidate, and kept."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray, TextEncoder
from llm2comp_apps.retrieval.rerank import (
    LIKELIHOOD,
    LTR,
    MEMORY,
    TOKENS,
    WORDS,
    LtrReranker,
    MemoryReranker,
    Passage,
    Reranker,
    TokensReranker,
    WordsReranker,
    encode_memory_with,
    load_likelihood_reranker,
    load_reranker,
)


class KeptMemory:
    """Memory vectors of passages.

    Args:
        encoder: makes them.
        name: loads the encoder; for the language model beside it.

    Attributes:
        seconds: of CPU time that went into them.
    """

    def __init__(self, encoder: TextEncoder, name: str) -> None:
        self.seconds = 0.0
        self._encoder, self._name = encoder, name
        self._kept: dict[tuple[str, tuple[int, int] | None], FloatArray] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, passages: Sequence[Passage]) -> None:
        """Make what is missing."""
        new = {(passage.id, passage.span): passage.content for passage in passages}
        new = {place: text for place, text in new.items() if place not in self._kept}
        if new:
            begun = time.process_time()
            encode = encode_memory_with(self._encoder).encode_memory
            made = encode([*new.values()], prompt=self._encoder.prompts.get("document"))
            self._kept |= zip(new, made, strict=True)
            self.seconds += time.process_time() - begun

    def read(self, ids: Sequence[str], spans: Sequence[tuple[int, int] | None]) -> FloatArray:
        """As an index reads stored ones."""
        return np.stack([self._kept[place] for place in zip(ids, spans, strict=True)])

    def reranker(self, name: str) -> Reranker:
        """A reranker by name; ``memory`` and ``likelihood`` read what is kept here."""
        if name == MEMORY:
            return _Keeping(self, MemoryReranker(self._encoder, self.read))
        if name == LIKELIHOOD:
            return _Keeping(self, load_likelihood_reranker(self._name, stored=self.read))
        if name == TOKENS:  # as a search loads it, beside whose scores it counts
            return TokensReranker(self._encoder)
        if name in (LTR, WORDS):
            return LtrReranker() if name == LTR else WordsReranker()
        return load_reranker(name, encoder=self._name)


class _Keeping:
    """Has the memory made before another reranker reads it."""

    def __init__(self, kept: KeptMemory, scorer: Reranker) -> None:
        self._kept, self._scorer = kept, scorer

    def score(self, query: str, passages: Sequence[Passage]) -> FloatArray:
        self._kept.add(passages)
        return self._scorer.score(query, passages)
