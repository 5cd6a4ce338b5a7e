"""Query likelihood: how likely the query is to the language model that has read a passage, or its memory vectors.

    s(q, D) = mean over t of log g(q_t given D, prompt, q_<t)

g is the frozen LM under the encoder. Given the passage's text it is UPR (Sachan et al., EMNLP 2022, arXiv 2204.07496).
Given the passage's k memory vectors in place of the text it reads k vectors instead of hundreds of tokens, which can be
stored. Both need the decoder, so the encoder's adapter stays beside it, see :mod:`llm2comp_apps.encoder.decoding`.

Experimental: on what ships neither was seen to raise a score, see the guide "Search".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.retrieval.rerank.protocol import Passage, StoredMemory

if TYPE_CHECKING:
    from llm2comp_apps.encoder.decoding import MemoryReader

__all__ = ["LikelihoodReranker"]

PROMPT = "\nPlease write a question based on this passage.\n"
"""UPR's instruction, between passage and query."""


class LikelihoodReranker:
    """Scores passages by the likelihood of the query.

    Args:
        reader: the encoder and its decoder.
        given: what of a passage the decoder reads: ``memory`` or ``text``.
        stored: gives stored memory vectors by ids and spans; ``None`` encodes each passage's text.
    """

    def __init__(self, reader: MemoryReader, *, given: str = "memory", stored: StoredMemory | None = None) -> None:
        self._reader, self._given, self._stored = reader, given, stored

    @property
    def has_stored(self) -> bool:
        """Whether memory vectors of every chunk are stored, so that none has to be encoded."""
        return self._stored is not None

    def reading(self, stored: StoredMemory) -> LikelihoodReranker:
        """The same reranker with memory vectors from elsewhere, if it takes stored ones at all."""
        return LikelihoodReranker(self._reader, given=self._given, stored=stored) if self.has_stored else self

    def score(self, query: str, passages: Sequence[Passage]) -> FloatArray:
        """See :class:`Reranker`; in nats a token of the query."""
        if not passages:
            return np.zeros(0, np.float32)
        texts = [passage.content for passage in passages]
        if self._given == "text":
            return self._reader.likelihood_after([query] * len(texts), texts, prompt=PROMPT)
        if self._stored is not None:
            found = self._stored([passage.id for passage in passages], [passage.span for passage in passages])
            memory = found.astype(np.float32)
        else:
            memory = self._reader.memory(texts, prompt=self._reader.prompts.get("document", ""))
        return self._reader.likelihood([query] * len(texts), memory, prompt=PROMPT)
