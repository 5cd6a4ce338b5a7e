"""Where documents and their vectors come from: an index that has both, texts and an encoder, or both given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from llm2comp_apps.clustering.algorithms.assign import unit_rows
from llm2comp_apps.clustering.algorithms.neighbors import FloatArray
from llm2comp_apps.corpus import Document
from llm2comp_apps.errors import ClusteringError, UsageError

if TYPE_CHECKING:
    from llm2comp_apps.clustering.embedding import DocumentEncoder

__all__ = [
    "DocumentSource",
    "Indexed",
    "Offer",
    "Source",
    "VectorsOf",
    "check_vectors",
    "is_index",
    "named_index",
    "offered",
    "read_index",
]

_BLOCK = 4096
_ROUNDING = 1e-4
"""What the length of a unit vector in half precision may be off by."""
Check = Callable[[Sequence[Document]], None]
VectorsOf = Callable[[list[int]], FloatArray]
"""Asked for the vectors ``(q, d)`` of the documents at the given positions."""


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


class Indexed(Protocol):
    """Has an index of documents and vectors: :class:`llm2comp_apps.Collection` does."""

    @property
    def index(self) -> Any:
        """An :class:`llm2comp_indexes.Index`."""
        ...


DocumentSource = Indexed | Source | str | Path | Iterable[str | Document]
"""A collection, the path of an index, documents with vectors, or texts and documents without."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Offer:
    """Documents whose vectors can be had.

    Attributes:
        documents: n.
        vectors_of: gives the vectors of some.
        encoder: what made the vectors; asked after them, since a model may have to be loaded for it.
    """

    documents: Sequence[Document]
    vectors_of: VectorsOf
    encoder: Callable[[], dict[str, str]]

    def whole(self) -> Source:
        """All of them with their vectors."""
        vectors = self.vectors_of(list(range(len(self.documents))))
        return Source(self.documents, vectors, self.encoder())


def offered(
    source: DocumentSource, vectors: FloatArray | None, encoder: DocumentEncoder, check: Check | None = None
) -> Offer:
    """Take any source of documents.

    Args:
        source: the documents.
        vectors: theirs, if they are texts or documents that were encoded elsewhere.
        encoder: encodes those that have no vectors, and refuses vectors of another one.
        check: shown the documents before any vector is read or made, which may take long; may raise.

    Raises:
        UsageError: it is none of what the type says, or vectors are given twice or for another number of documents.
        ClusteringError: an index is empty, or its vectors were made by another encoder.
    """
    if isinstance(source, str | Path):
        if not is_index(source):
            raise UsageError(f"{source} is no index; give texts as a list, and files through read_corpus")
        source = read_index(source, check)
        encoder.progress.step(f"{len(source.documents)} documents of the index with their vectors")
    elif hasattr(index := getattr(source, "index", None), "vectors"):  # lists, too, have something called index
        source = take_index(index, check)
    if isinstance(source, Source):
        if vectors is not None:
            raise UsageError("has no place beside documents that have vectors", field="vectors")
        encoder.check(source.encoder, "those were encoded by")
        documents, rows, record = source.documents, source.vectors, source.encoder
    else:
        documents = as_documents(cast("Iterable[str | Document]", source))
        if vectors is None:
            if check is not None:
                check(documents)
            texts = [document.content for document in documents]
            return Offer(
                documents=documents,
                vectors_of=lambda positions: encoder.encode([texts[position] for position in positions]),
                encoder=lambda: encoder.record,
            )
        rows, record = np.asarray(vectors, dtype=np.float32), {}
        if rows.ndim != 2 or len(rows) != len(documents):
            raise UsageError(f"must be a row for each of {len(documents)} documents, not {rows.shape}", field="vectors")
        rows = _of_unit_length(rows)
    if check is not None:
        check(documents)
    return Offer(documents=documents, vectors_of=lambda positions: rows[positions], encoder=lambda: record)


def _of_unit_length(rows: FloatArray) -> FloatArray:
    """Rows as an encoder of ours gives them: centres, names and maps compare them by their directions alone."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    other = (np.abs(lengths - 1) > _ROUNDING) & (lengths > 0) & np.isfinite(lengths)  # the rest is refused later
    return (rows / np.where(other, lengths, 1)).astype(np.float32, copy=False)


def as_documents(texts: Iterable[str | Document]) -> list[Document]:
    """Documents as they are, and texts as documents, whose ids come from their content.

    Raises:
        UsageError: a table, a mapping or a set, of which only the names would be read, or something else among them.
    """
    from llm2comp_apps.corpus.seen import content_id

    kind = type(texts).__name__
    if isinstance(texts, Mapping | Set) or not hasattr(texts, "__iter__"):
        raise UsageError(f"must be a list of texts or documents, not one {kind}", field="source")
    if getattr(texts, "ndim", 1) != 1:
        raise UsageError(f"must be texts or documents, not a table ({kind}); choose one of its columns", field="source")
    documents = []
    for position, text in enumerate(texts):
        if isinstance(text, str):
            text = Document(content_id("", text), text)
        elif not isinstance(text, Document):
            raise UsageError(f"must be texts or documents, not {type(text).__name__} (at {position})", field="source")
        documents.append(text)
    return documents


def is_index(path: str | Path) -> bool:
    """Whether a path is an index directory."""
    return (Path(path) / "store.db").is_file()


def named_index(sources: Sequence[str], encoder: object = None) -> Path | None:
    """The index, if one is what was named, or ``None`` for documents that are to be read.

    Raises:
        UsageError: an index among several things, or with an encoder.
    """
    indexes = [source for source in sources if is_index(source)]
    if not indexes:
        return None
    if len(sources) > 1:
        raise UsageError(f"{indexes[0]} is an index: cluster it alone")
    if encoder is not None:
        raise UsageError("has no place beside an index, which has its vectors; leave it out", field="encoder")
    return Path(indexes[0])


def read_index(path: str | Path, check: Check | None = None) -> Source:
    """Take documents and vectors from an index on disk, see :func:`take_index`.

    Raises:
        IndexStoreError: the index cannot be read.
        ClusteringError: it is empty.
    """
    from llm2comp_indexes import Index

    with Index.open(path) as index:
        return take_index(index, check)


def take_index(index: Any, check: Check | None = None) -> Source:
    """Take documents and vectors from an open index; nothing is encoded.

    A document of several chunks gets the mean of their vectors, at unit length.

    Args:
        index: an :class:`llm2comp_indexes.Index`.
        check: shown the documents before their vectors are read, which are many times as large; may raise.

    Raises:
        ClusteringError: it is empty.
    """
    documents: list[Document] = []
    rows: list[int] = []
    ids = list(index.ids())
    if not ids:
        raise ClusteringError(f"{index.path}: the index holds no documents")
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(ids), _BLOCK)]
    for block in blocks:
        part = index.get(ids[block])
        documents += [Document(d.id, d.text, d.title, d.metadata, str(index.path)) for d in part]
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
