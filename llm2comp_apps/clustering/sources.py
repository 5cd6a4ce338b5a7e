"""Where documents and their vectors come from: a corpus and an encoder, or an index that has both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llm2comp_apps.clustering.algorithms.assign import unit_rows
from llm2comp_apps.clustering.algorithms.neighbors import FloatArray
from llm2comp_apps.corpus import Document
from llm2comp_apps.errors import ClusteringError

__all__ = ["Source", "check_vectors", "is_index", "read_index"]

_BLOCK = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Documents with their vectors.

    Attributes:
        documents: n.
        vectors: ``(n, d)`` float32.
        encoder: what made the vectors: ``name``, ``fingerprint``, ``source`` (what loads it; may be empty).
    """

    documents: Sequence[Document]
    vectors: FloatArray
    encoder: dict[str, str]


def is_index(path: str | Path) -> bool:
    """Whether a path is an index directory."""
    return (Path(path) / "store.db").is_file()


def read_index(path: str | Path, check: Callable[[Sequence[Document]], None] | None = None) -> Source:
    """Take documents and vectors from an index; nothing is encoded.

    A document of several chunks gets the mean of their vectors, at unit length.

    Args:
        path: the index.
        check: shown the documents before their vectors are read, which are many times as large; may raise.

    Raises:
        IndexStoreError: the index cannot be read.
        ClusteringError: it is empty.
    """
    from llm2comp_indexes import Index

    documents: list[Document] = []
    rows: list[int] = []
    with Index.open(path) as index:
        ids = list(index.ids())
        if not ids:
            raise ClusteringError(f"{path}: the index holds no documents")
        blocks = [slice(start, start + _BLOCK) for start in range(0, len(ids), _BLOCK)]
        for block in blocks:
            part = index.get(ids[block])
            documents += [Document(d.id, d.text, d.title, d.metadata, str(path)) for d in part]
            rows += [d.rows for d in part]
        if check is not None:
            check(documents)
        vectors = [_means(index.vectors(ids[block]), rows[block]) for block in blocks]
        return Source(documents, np.concatenate(vectors), index.encoder)


def _means(vectors: FloatArray, rows: Sequence[int]) -> FloatArray:
    """The mean of each document's rows, at unit length."""
    first = np.cumsum([0, *rows[:-1]])
    return unit_rows(np.add.reduceat(vectors, first, axis=0))


def check_vectors(source: Source) -> None:
    """Refuse vectors that are not numbers, and say whose they are.

    Raises:
        ClusteringError: a NaN or infinite value.
    """
    bad = np.flatnonzero(~np.isfinite(source.vectors).all(axis=1))
    if len(bad):
        document = source.documents[int(bad[0])]
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise ClusteringError(
            f"the vector of document {document.id!r}{more} has NaN or infinite values; encode or import it again"
        )
