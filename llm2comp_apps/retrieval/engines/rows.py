"""What an engine gets of an index, and what every engine can do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llm2comp_indexes import IndexWriteError

from llm2comp_apps.files import locked_file

if TYPE_CHECKING:
    from llm2comp_indexes import Index, IndexedDocument

    from llm2comp_apps.encoder.protocol import FloatArray

__all__ = ["Engine", "Row", "alone_in", "batches_of", "vectors_of"]

_LIKE_A_CHUNK = re.compile(r"(.+)#[0-9]*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A vector with what it stands for: a document, or a chunk of one.

    Attributes:
        key: the document's id; with ``#`` and its number for a chunk. With ``#`` alone where the id would be read as
            a chunk of another document.
        id: the document's.
        title: of the document.
        text: of the document, or of the chunk.
        start: of the chunk in the document's text, ``None`` for a whole document.
        end: see ``start``.
        metadata: of the document.
        content_hash: changes with what the vector was made of.
        vector: ``(d,)`` float32 of unit length.
    """

    key: str
    id: str
    title: str
    text: str
    start: int | None
    end: int | None
    metadata: dict[str, Any]
    content_hash: str
    vector: FloatArray


class Engine(Protocol):
    """A collection, table or folder of another engine."""

    def known(self, rows: Sequence[Row]) -> dict[str, str]:
        """The content hash of each of these rows that is there, by its key."""
        ...

    def write(self, rows: Sequence[Row]) -> None:
        """Add rows, or replace those whose keys are there; when this returns, they stay."""
        ...

    def finish(self) -> None:
        """Do what is better done once, such as building an index for searches."""
        ...

    def count(self) -> int:
        """How many rows there are."""
        ...

    def nearest(self, vectors: FloatArray, k: int) -> list[list[tuple[str, float]]]:
        """Keys and cosines of the ``k`` nearest rows of each vector ``(q, d)``."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def alone_in(folder: Path, name: str) -> AbstractContextManager[None]:
    """Be the only one who exports to this name in a folder: two at once would double rows, or mix theirs.

    Raises:
        IndexWriteError: another export is there already.
    """
    reason = f"{folder}: another export is writing {name}; try again when it is done"
    return locked_file(folder / f".{name}.lock", IndexWriteError(reason), remove=True)


def batches_of(index: Index, size: int) -> Iterator[list[Row]]:
    """All rows of an index, those of ``size`` documents at a time."""
    chunked, ids = _is_chunked(index), index.ids()
    while held := list(islice(ids, size)):
        yield _rows_of(index, held, chunked=chunked)


def vectors_of(index: Index, keys: Iterable[str]) -> dict[str, FloatArray]:
    """The vectors ``(d,)`` of rows by their keys, and of further rows of their documents."""
    likely = {id_ for key in keys for id_ in (key, key.removesuffix("#"), key.rpartition("#")[0])}
    held = list(index.hashes(sorted(likely)))
    return {row.key: row.vector for row in _rows_of(index, held, chunked=_is_chunked(index))}


def _is_chunked(index: Index) -> bool:
    facts = index.info()
    return facts.vectors - facts.deleted > len(index)


def _rows_of(index: Index, ids: Sequence[str], *, chunked: bool) -> list[Row]:
    documents, vectors = index.get(ids), index.vectors(ids)
    ambiguous = _ambiguous(index, documents) if chunked else set()
    made: list[Row] = []
    for document in documents:
        key = f"{document.id}#" if document.id in ambiguous else document.id
        made += _rows(document, key, vectors[len(made) : len(made) + document.rows])
    return made


def _ambiguous(index: Index, documents: Sequence[IndexedDocument]) -> set[str]:
    """Ids of whole documents that may be a chunk's key, too: ``a#0`` beside a document ``a``; then also ``a#0#``."""
    like = {one.id: found[1] for one in documents if not one.spans and (found := _LIKE_A_CHUNK.fullmatch(one.id))}
    others = index.hashes(sorted(set(like.values())))
    return {id_ for id_, other in like.items() if other in others}


def _rows(document: IndexedDocument, key: str, vectors: FloatArray) -> list[Row]:
    spans: Sequence[tuple[int, int] | None] = document.spans or (None,)
    return [
        Row(
            key=key if span is None else f"{document.id}#{number}",
            id=document.id,
            title=document.title,
            text=document.text if span is None else document.text[slice(*span)],
            start=None if span is None else span[0],
            end=None if span is None else span[1],
            metadata=document.metadata,
            content_hash=document.content_hash,
            vector=vector,
        )
        for number, (span, vector) in enumerate(zip(spans, vectors, strict=True))
    ]
