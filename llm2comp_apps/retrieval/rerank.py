"""Scoring a short list of candidates anew, more slowly and better than the first search could.

Two kinds: :class:`MemoryReranker` compares all memory vectors of query and document (late interaction at a fixed,
small cost per document), :class:`CrossEncoderReranker` reads query and document together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from llm2comp_apps.encoder.hub import find_model
from llm2comp_apps.encoder.protocol import FloatArray, MakesMemory, TextEncoder
from llm2comp_apps.errors import EncoderError, UsageError

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

__all__ = [
    "CrossEncoderReranker",
    "MemoryReranker",
    "Passage",
    "Reranker",
    "encode_memory_with",
    "max_sim",
    "pool_memory",
]


@dataclass(frozen=True, slots=True)
class Passage:
    """What a reranker reads of a document: all of it, or the chunk that a dense search found best.

    Attributes:
        id: the document's.
        title: may be empty.
        text: of the chunk or of the whole document.
        span: of the chunk; ``None`` for the whole document.
    """

    id: str
    title: str
    text: str
    span: tuple[int, int] | None = None

    @property
    def content(self) -> str:
        """Title and text, as they are embedded."""
        return f"{self.title} {self.text}".strip() if self.title else self.text


class Reranker(Protocol):
    """Scores passages for one query."""

    def score(self, query: str, passages: Sequence[Passage]) -> FloatArray:
        """Score passages.

        Returns:
            ``(n,)``, larger is better, in the order of ``passages``; comparable within one query only.
        """
        ...


StoredMemory: TypeAlias = Callable[[Sequence[str], Sequence[tuple[int, int] | None]], npt.NDArray[np.floating]]


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
    import torch

    from llm2comp_apps.encoder.pooling import pool

    return _unit(pool(torch.from_numpy(memory), pooling).numpy())


class MemoryReranker:
    """MaxSim over the k memory vectors of query and passage.

    Args:
        encoder: makes the query's memory vectors, and the passages' where none are stored.
        stored: gives stored memory vectors ``(n, k, d)`` by ids and spans; ``None`` encodes each passage's text.
    """

    def __init__(self, encoder: TextEncoder, stored: StoredMemory | None = None) -> None:
        self._encoder = encode_memory_with(encoder)
        self._stored = stored

    def score(self, query: str, passages: Sequence[Passage]) -> FloatArray:
        """See :class:`Reranker`."""
        if not passages:
            return np.zeros(0, np.float32)
        prompts = self._encoder.prompts
        asked = self._encoder.encode_memory([query], prompt=prompts.get("query"))[0]
        if self._stored is not None:
            memory = self._stored([passage.id for passage in passages], [passage.span for passage in passages])
        else:
            texts = [passage.content for passage in passages]
            memory = self._encoder.encode_memory(texts, prompt=prompts.get("document"))
        return max_sim(asked, memory)


class CrossEncoderReranker:
    """Any cross-encoder that sentence-transformers can load.

    Args:
        name: a Hugging Face id or a directory.
        device: where it runs; ``None`` for what is there.
        option: by which a person named it, for messages.

    Raises:
        EncoderError: sentence-transformers is not installed, or the model cannot be loaded.
    """

    def __init__(self, name: str, device: str | None = None, *, option: str = "--rerank") -> None:
        self._model = _load_cross_encoder(name, device, option)

    def score(self, query: str, passages: Sequence[Passage]) -> FloatArray:
        """See :class:`Reranker`."""
        if not passages:
            return np.zeros(0, np.float32)
        pairs = [(query, passage.content) for passage in passages]
        scores: FloatArray = np.asarray(self._model.predict(pairs, show_progress_bar=False), dtype=np.float32)
        return scores


def _load_cross_encoder(name: str, device: str | None, option: str) -> CrossEncoder:
    # Both looked for before the import, which takes seconds.
    if find_spec("sentence_transformers") is None:
        raise EncoderError(
            f"{option} {name} needs sentence-transformers; install it with: pip install 'llm2comp-apps[eval]'"
        )
    try:
        found = find_model(name)
        from sentence_transformers import CrossEncoder

        model = CrossEncoder(found, device=device, trust_remote_code=False)
    except (EncoderError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise EncoderError(f"{option}: cannot load the cross-encoder {name!r}: {_first_line(error)}") from error
    if model.num_labels != 1:
        raise EncoderError(
            f"{name!r} gives {model.num_labels} scores a pair and a reranker gives 1; it is a classifier"
        )
    return model


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
