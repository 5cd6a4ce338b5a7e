"""Query likelihood: how likely the query is to the language model that has read a passage's memory vectors.

    s(q, D) = mean over t of log g(q_t given E(D), prompt, q_<t)

g is the frozen LM under the encoder, and E(D) are the k vectors that it reads in place of hundreds of tokens, and that
can be stored (:mod:`.upr` reads the tokens). Both encoder and LM are needed, so the encoder's adapter stays beside the
LM, see :mod:`llm2comp_apps.encoder.decoding`.

Experimental: on what ships it was not seen to raise a score, see the guide "Search".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.retrieval.rerank.protocol import Passage, StoredMemory
from llm2comp_apps.retrieval.rerank.upr import PROMPT

if TYPE_CHECKING:
    from llm2comp_apps.encoder.decoding import MemoryReader

__all__ = ["LikelihoodReranker"]


class LikelihoodReranker:
    """Scores passages by the likelihood of the query.

    Args:
        reader: the encoder and its decoder.
        stored: gives stored memory vectors by ids and spans; ``None`` encodes each passage's text.
    """

    def __init__(self, reader: MemoryReader, *, stored: StoredMemory | None = None) -> None:
        self._reader, self._stored = reader, stored

    @property
    def has_stored(self) -> bool:
        """Whether memory vectors of every chunk are stored, so that none has to be encoded."""
        return self._stored is not None

    def reading(self, stored: StoredMemory) -> LikelihoodReranker:
        """The same reranker with memory vectors from elsewhere, if it takes stored ones at all."""
        return LikelihoodReranker(self._reader, stored=stored) if self.has_stored else self

    def score(self, query: str, passages: Sequence[Passage]) -> FloatArray:
        """See :class:`Reranker`; in nats a token of the query."""
        if not passages:
            return np.zeros(0, np.float32)
        texts = [passage.content for passage in passages]
        if self._stored is not None:
            found = self._stored([passage.id for passage in passages], [passage.span for passage in passages])
            memory = found.astype(np.float32)
        else:
            memory = self._reader.memory(texts, prompt=self._reader.prompts.get("document", ""))
        return self._reader.likelihood([query] * len(texts), memory, prompt=PROMPT)
