"""Scoring a short list of candidates again, more slowly and better than the first search could; one file a reranker."""

from __future__ import annotations

from llm2comp_apps.retrieval.rerank.cross_encoder import CrossEncoderReranker
from llm2comp_apps.retrieval.rerank.memory import (
    MemoryReranker,
    encode_memory_with,
    max_sim,
    pool_memory,
)
from llm2comp_apps.retrieval.rerank.protocol import Passage, Reranker

__all__ = [
    "MEMORY",
    "CrossEncoderReranker",
    "MemoryReranker",
    "Passage",
    "Reranker",
    "encode_memory_with",
    "max_sim",
    "pool_memory",
]

MEMORY = "memory"
"""The name of :class:`MemoryReranker`; any other name is a cross-encoder's."""
