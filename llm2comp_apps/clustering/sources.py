"""Where documents and their vectors come from: a corpus and an encoder, or an index that has both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llm2comp_apps.clustering.assign import unit_rows
from llm2comp_apps.clustering.neighbors import FloatArray
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


def read_index(path: str | Path) -> Source:
    """Take documents and vectors from an index; nothing is encoded.

    A document of several chunks gets the mean of their vectors, at unit length.

    Raises:
        IndexStoreError: the index cannot be read.
        ClusteringError: it is empty.
    """
    from llm2comp_indexes import Index

    documents: list[Document] = []
    blocks: list[FloatArray] = []
    with Index.open(path) as index:
        ids = list(index.ids())
        if not ids:
            raise ClusteringError(f"{path}: the index holds no documents")
        for start in range(0, len(ids), _BLOCK):
            part = index.get(ids[start : start + _BLOCK])
            documents += [Document(d.id, d.text, d.title, d.metadata, str(path)) for d in part]
            first_rows = np.cumsum([0, *(d.rows for d in part[:-1])])
            blocks.append(unit_rows(np.add.reduceat(index.vectors([d.id for d in part]), first_rows, axis=0)))
        return Source(documents, np.concatenate(blocks), index.encoder)


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
