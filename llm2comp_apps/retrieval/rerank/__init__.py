"""Scoring a short list of candidates again, more slowly and better than the first search could; one file a reranker."""

from __future__ import annotations

from llm2comp_apps.retrieval.rerank.cross_encoder import CrossEncoderReranker
from llm2comp_apps.retrieval.rerank.memory import (
    MemoryReranker,
    encode_memory_with,
    max_sim,
    pool_memory,
)
from llm2comp_apps.retrieval.rerank.own import OwnReranker, is_own
from llm2comp_apps.retrieval.rerank.protocol import Passage, Reranker

__all__ = [
    "MEMORY",
    "CrossEncoderReranker",
    "MemoryReranker",
    "OwnReranker",
    "Passage",
    "Reranker",
    "encode_memory_with",
    "load_joint_reranker",
    "load_reranker",
    "max_sim",
    "pool_memory",
]

MEMORY = "memory"
"""The name of :class:`MemoryReranker`; any other name is one of :func:`load_joint_reranker`."""


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
        name: ``memory``, the folder of a reranker of ours, or a cross-encoder's name or directory.
        encoder: makes the memory vectors; ``None`` for the default.
        device: where it runs; ``None`` for the best there is.

    Raises:
        EncoderError: it cannot be found or loaded.
    """
    if name != MEMORY:
        return load_joint_reranker(name, device)
    from llm2comp_apps.encoder import load_encoder

    return MemoryReranker(load_encoder(encoder or "default", device=device))
