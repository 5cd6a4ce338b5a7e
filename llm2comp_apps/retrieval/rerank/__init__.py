"""Scoring a short list of candidates again, more slowly and better than the first search could; one file a reranker."""

from __future__ import annotations

from llm2comp_apps.encoder.locate import READABLE
from llm2comp_apps.retrieval.rerank.cross_encoder import CrossEncoderReranker
from llm2comp_apps.retrieval.rerank.likelihood import LikelihoodReranker
from llm2comp_apps.retrieval.rerank.memory import (
    MemoryReranker,
    encode_memory_with,
    max_sim,
    pool_memory,
)
from llm2comp_apps.retrieval.rerank.own import OwnReranker, is_own
from llm2comp_apps.retrieval.rerank.protocol import Passage, ReadsStored, Reranker, StoredMemory

__all__ = [
    "LIKELIHOOD",
    "MEMORY",
    "UPR",
    "CrossEncoderReranker",
    "LikelihoodReranker",
    "MemoryReranker",
    "OwnReranker",
    "Passage",
    "ReadsStored",
    "Reranker",
    "encode_memory_with",
    "load_joint_reranker",
    "load_likelihood_reranker",
    "load_reranker",
    "max_sim",
    "pool_memory",
]

MEMORY = "memory"
"""The name of :class:`MemoryReranker`."""
LIKELIHOOD, UPR = "likelihood", "upr"
"""The names of :class:`LikelihoodReranker`: given the memory vectors of a passage, and given its text.

Any other name is one of :func:`load_joint_reranker`."""


def load_likelihood_reranker(
    name: str, encoder: str, *, stored: StoredMemory | None = None, device: str | None = None
) -> LikelihoodReranker:
    """Load the language model under an encoder as a reranker.

    Args:
        name: :data:`LIKELIHOOD` or :data:`UPR`.
        encoder: whose memory vectors it reads, by name.
        stored: gives stored ones; ``None`` encodes each passage.
        device: where it runs; ``None`` for the best there is.

    Raises:
        EncoderError: the encoder's memory cannot be read back, or it cannot be loaded.
    """
    from llm2comp_apps.encoder.decoding import load_reader

    reader = load_reader(encoder, device=device)
    return LikelihoodReranker(reader, given="text" if name == UPR else "memory", stored=None if name == UPR else stored)


def load_joint_reranker(name: str, device: str | None = None) -> Reranker:
    """Load a reranker that reads query and passage together: one of our own by its folder, else a cross-encoder.

    Args:
        name: a folder or a Hugging Face id.
        device: where it runs; ``None`` for the best there is.

    Raises:
        EncoderError: it cannot be found or loaded.
    """
    return OwnReranker(name, device) if is_own(name) else CrossEncoderReranker(name, device)


def load_reranker(name: str = MEMORY, *, encoder: str | None = None, device: str | None = None) -> Reranker:
    """Load a reranker for documents that lie in no index.

    Args:
        name: ``memory``, ``likelihood``, ``upr``, or as :func:`load_joint_reranker` takes it.
        encoder: makes the memory vectors; ``None`` for the default, or where the language model reads them for
            :data:`~llm2comp_apps.encoder.locate.READABLE`.
        device: where it runs; ``None`` for the best there is.

    Raises:
        EncoderError: it cannot be found or loaded.
    """
    if name in (LIKELIHOOD, UPR):
        return load_likelihood_reranker(name, encoder or READABLE, device=device)
    if name != MEMORY:
        return load_joint_reranker(name, device)
    from llm2comp_apps.encoder import load_encoder

    return MemoryReranker(load_encoder(encoder or "default", device=device))
