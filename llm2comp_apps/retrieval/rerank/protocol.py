"""What a reranker reads, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from llm2comp_apps.encoder.protocol import FloatArray

__all__ = [
    "ComparesAll",
    "FirstSearch",
    "Passage",
    "ReadsFirst",
    "ReadsStored",
    "Reranker",
    "Shares",
    "StoredMemory",
    "files_of",
    "share_of",
]

StoredMemory: TypeAlias = Callable[[Sequence[str], Sequence[tuple[int, int] | None]], npt.NDArray[np.floating]]
"""Stored memory vectors ``(n, k, d)`` by ids and spans."""


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


@runtime_checkable
class Reranker(Protocol):
    """Scores passages for one query."""

    def score(self, query: str, passages: Sequence[Passage]) -> FloatArray:
        """Score passages.

        Returns:
            ``(n,)``, larger is better, in the order of ``passages``; comparable within one query only.
        """
        ...


@runtime_checkable
class ReadsStored(Reranker, Protocol):
    """A reranker that may read stored memory vectors in place of texts."""

    @property
    def has_stored(self) -> bool:
        """Whether memory vectors of every chunk are stored, so that none has to be encoded."""
        ...

    def reading(self, stored: StoredMemory) -> ReadsStored:
        """The same reranker with memory vectors from elsewhere, if it takes stored ones at all."""
        ...


@dataclass(frozen=True, slots=True)
class FirstSearch:
    """What a hybrid search knows of its n hits, best first.

    Attributes:
        scores: ``(n,)``, those by which they were found.
        cosines: ``(n,)`` of the query to each, or to the nearest of its chunks.
        bm25: ``(n,)``, 0 where words did not find it.
        vectors: ``(n, d)`` of unit length.
    """

    scores: FloatArray
    cosines: FloatArray
    bm25: FloatArray
    vectors: FloatArray


@runtime_checkable
class ReadsFirst(Reranker, Protocol):
    """A reranker of the hits of a hybrid search, which reads what that knows of them."""

    reads_first: bool

    def score(self, query: str, passages: Sequence[Passage], first: FirstSearch | None = None) -> FloatArray:
        """Score hits, all of them at once; see :meth:`Reranker.score`.

        Raises:
            UsageError: there was no such search.
        """
        ...


@runtime_checkable
class Shares(Reranker, Protocol):
    """A reranker that knows less than the first search and more than nothing, so that both count."""

    share: float
    """Weight of its scores beside those of the first search, from 0 to 1."""


@runtime_checkable
class ComparesAll(Reranker, Protocol):
    """A reranker that compares passages with each other, so that it must be given all at once, best first."""

    compares_all: bool


def files_of(reranker: Reranker) -> str:
    """The digest of the files that a reranker was loaded from; empty for one that lies in no folder."""
    found: str = getattr(reranker, "files_sha256", "")
    return found


def share_of(reranker: Reranker) -> float:
    """The weight of a reranker's scores beside those of the first search; 1 for one that orders hits by itself."""
    return reranker.share if isinstance(reranker, Shares) else 1.0
