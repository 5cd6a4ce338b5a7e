"""What memory vectors say of hits: the query with all memory vectors of a passage, at a small cost per document."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from llm2comp_apps.encoder.backends.poolings import pool
from llm2comp_apps.encoder.protocol import FloatArray, MakesMemory, TextEncoder
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.rerank.protocol import Passage, StoredMemory

__all__ = [
    "MemoryReranker",
    "encode_memory_with",
    "max_sim",
    "memory_scores",
    "pool_memory",
]


def max_sim(query: FloatArray, documents: npt.NDArray[np.floating]) -> FloatArray:
    r"""Late interaction between sets of vectors.

    .. math:: s(q, D) = \frac{1}{k_q} \sum_{i=1}^{k_q} \max_{j} \cos(q_i, D_j)

    Source: MaxSim of Khattab and Zaharia, "ColBERT", SIGIR 2020 (arXiv 2004.12832), as a mean instead of a sum, so
    that the score is a cosine whatever the number of vectors.

    Args:
        query: ``(k_q, d)``.
        documents: ``(n, k_d, d)``, any float type.

    Returns:
        ``(n,)`` float32 in [-1, 1]; a vector of zeros has cosine 0 with everything.
    """
    similarities = _unit(documents.astype(np.float32)) @ _unit(query.astype(np.float32)).T  # (n, k_d, k_q)
    result: FloatArray = similarities.max(axis=1).mean(axis=1)
    return result


def memory_scores(query: FloatArray, documents: npt.NDArray[np.floating], pooling: str = "mean") -> FloatArray:
    r"""How near a query is to documents, by one vector of the query and all of a document.

    .. math:: s(q, D) = (\cos(\bar q, \bar D) + \max_{j} \cos(\bar q, D_j)) / 2

    The bars stand for pooling. A query says one thing, and its own memory vectors mean little one by one where it is a
    word or two, so that :func:`max_sim` fails there; a document says several, of which one may answer.

    Args:
        query: ``(k_q, d)``.
        documents: ``(n, k_d, d)``, any float type.
        pooling: of the encoder, see :mod:`llm2comp_apps.encoder.pooling`.

    Returns:
        ``(n,)`` float32 in [-1, 1].
    """
    held = documents.astype(np.float32)
    asked = pool_memory(query[None].astype(np.float32), pooling)
    whole = pool_memory(held, pooling) @ asked[0]
    scores: FloatArray = (whole + max_sim(asked, held)) / 2
    return scores


def _unit(vectors: FloatArray) -> FloatArray:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    norms[norms == 0] = 1
    unit: FloatArray = vectors / norms.astype(np.float32)
    return unit


def encode_memory_with(encoder: TextEncoder) -> MakesMemory:
    """The same encoder, if it has memory vectors.

    Raises:
        UsageError: it has none (a training-free baseline, another library's model).
    """
    if not isinstance(encoder, MakesMemory):
        raise UsageError(f"the encoder {encoder.name} has no memory vectors to rerank by; take an LLM2Comp checkpoint")
    return encoder


def pool_memory(memory: FloatArray, pooling: str) -> FloatArray:
    """The embeddings ``(n, d)`` that an encoder makes of memory vectors ``(n, k, d)``."""
    return _unit(pool(memory, pooling))


class MemoryReranker:
    """:func:`memory_scores` of a query's and a passage's k memory vectors.

    Args:
        encoder: makes the query's memory vectors, and the passages' where none are stored.
        stored: gives stored memory vectors ``(n, k, d)`` by ids and spans; ``None`` encodes each passage's text.
    """

    def __init__(self, encoder: TextEncoder, stored: StoredMemory | None = None) -> None:
        self._encoder = encode_memory_with(encoder)
        self._stored = stored

    @property
    def has_stored(self) -> bool:
        """Whether memory vectors of every chunk are stored, so that none has to be encoded."""
        return self._stored is not None

    def reading(self, stored: StoredMemory) -> MemoryReranker:
        """The same reranker with memory vectors from elsewhere, if it takes stored ones at all."""
        return MemoryReranker(self._encoder, stored) if self.has_stored else self

    def read(self, queries: Sequence[str]) -> FloatArray:
        """Memory vectors ``(q, k, d)`` of queries."""
        return self._encoder.encode_memory(queries, prompt=self._encoder.prompts.get("query"))

    def embeddings(self, asked: FloatArray, encoder: TextEncoder) -> FloatArray | None:
        """The embeddings ``(q, d)`` of queries that were read, if ``encoder`` read them."""
        return pool_memory(asked, self._encoder.pooling) if encoder is self._encoder else None

    def score(self, query: str, passages: Sequence[Passage], *, asked: FloatArray | None = None) -> FloatArray:
        """See :class:`Reranker`; ``asked (k, d)`` are the query's memory vectors, where it was read already."""
        if not passages:
            return np.zeros(0, np.float32)
        if asked is None:
            asked = self.read([query])[0]
        if self._stored is not None:
            memory = self._stored([passage.id for passage in passages], [passage.span for passage in passages])
        else:
            texts = [passage.content for passage in passages]
            memory = self._encoder.encode_memory(texts, prompt=self._encoder.prompts.get("document"))
        return memory_scores(asked, memory, self._encoder.pooling)
