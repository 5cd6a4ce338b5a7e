"""Indexes of vectors that were made elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.recipe import Recipe

if TYPE_CHECKING:
    from llm2comp_indexes import Index

    from llm2comp_apps.corpus import Document

__all__ = ["import_matrix", "import_parquet"]

#: What an index says of vectors whose encoder nobody named: no encoder has this fingerprint, so no search takes them
#: for its own.
UNKNOWN_ENCODER = {"name": "unknown", "fingerprint": "unknown"}


def import_matrix(
    path: Path,
    vectors_path: Path,
    documents: Iterable[Document],
    *,
    encoder: TextEncoder | None = None,
    encoder_record: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> int:
    """Make an index of a ``.npy`` matrix and the documents of its rows, in the same order.

    Args:
        path: where the index goes; nothing is left there if the import fails.
        vectors_path: ``(rows, d)``.
        documents: one for each row.
        encoder: what made the vectors, if it can be loaded: the index can then be searched by meaning, and documents
            that have not changed are skipped when a corpus is added later.
        encoder_record: what the index remembers of it.
        settings: for ``Index.create``.

    Returns:
        The number of documents.

    Raises:
        InputError: the matrix cannot be read, or has more or fewer rows than there are documents.
        UsageError: its width is not the encoder's.
    """
    from llm2comp_indexes import IndexedDocument
    from llm2comp_indexes.exchange import import_vectors, read_vectors

    vectors = read_vectors(vectors_path)
    recipe = Recipe(prompt=encoder.prompts.get("document", "") if encoder is not None else "")

    def indexed() -> Iterator[IndexedDocument]:
        for document in documents:
            content_hash = recipe.content_hash(document, encoder.fingerprint) if encoder is not None else ""
            yield IndexedDocument(
                document.id, document.text, document.title, document.metadata, content_hash=content_hash
            )

    dimension = vectors.shape[1]
    with _made(path, dimension, encoder, encoder_record, {**recipe.to_settings(), **(settings or {})}) as index:
        return import_vectors(index, indexed(), vectors)


def import_parquet(
    path: Path,
    parquet_path: Path,
    *,
    encoder: TextEncoder | None = None,
    encoder_record: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> int:
    """Make an index of a Parquet file with the columns ``id`` and ``vector``, such as ``index export`` writes.

    Args:
        path: where the index goes; nothing is left there if the import fails.
        parquet_path: the file; ``title``, ``text``, ``metadata``, ``start`` and ``end`` are read if they are there.
        encoder: see :func:`import_matrix`.
        encoder_record: see :func:`import_matrix`.
        settings: for ``Index.create``.

    Returns:
        The number of documents.

    Raises:
        InputError: the file cannot be read, lacks a column, or is empty.
        UsageError: the width of its vectors is not the encoder's.
    """
    from llm2comp_indexes import InputError
    from llm2comp_indexes.exchange import read_parquet

    batches = read_parquet(parquet_path)
    first = next(batches, None)
    if first is None:
        raise InputError(f"{parquet_path}: has no rows")
    count = 0
    with (
        _made(path, first[1].shape[1], encoder, encoder_record, settings or {}) as index,
        index.writer() as writer,
    ):
        for documents, vectors in chain([first], batches):
            writer.add(documents, vectors)
            count += len(documents)
        writer.commit()
    return count


@contextmanager
def _made(
    path: Path,
    dimension: int,
    encoder: TextEncoder | None,
    record: Mapping[str, str] | None,
    settings: Mapping[str, Any],
) -> Iterator[Index]:
    """A new index, removed again if what follows fails."""
    from llm2comp_indexes import Index

    if encoder is not None and encoder.dimension != dimension:
        raise UsageError(
            f"the vectors have {dimension} dimensions, those of the encoder {encoder.name} {encoder.dimension}"
        )
    index = Index.create(path, dimension=dimension, encoder=record or UNKNOWN_ENCODER, settings=settings)
    try:
        yield index
    except BaseException:
        index.close()
        shutil.rmtree(path)
        raise
