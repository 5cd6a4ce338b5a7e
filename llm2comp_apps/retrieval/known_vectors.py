"""Vectors of texts that were made elsewhere: in the parts of a job, or in an exported index."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.parts import read_part
from llm2comp_apps.retrieval.plan import EmbeddingPlan

__all__ = ["KnownVectors", "known_in", "known_vectors", "part_files"]


class KnownVectors(NamedTuple):
    """Texts with their vectors.

    Attributes:
        prompt: in front of each text; may be empty.
        texts: n.
        vectors: (n, d).
    """

    prompt: str
    texts: list[str]
    vectors: FloatArray


def part_files(place: str | Path) -> list[Path]:
    """The files with vectors of a job's folder, of a folder of such files, or one file.

    Raises:
        UsageError: there is none.
    """
    path = Path(place)
    found = [path] if path.is_file() else sorted(path.glob("parts/*.parquet")) or sorted(path.glob("*.parquet"))
    if not found:
        reason = f"must be a job that has parts, or Parquet files with vectors, which {place} is not"
        raise UsageError(reason, field="vectors")
    return found


def known_in(place: str | Path | None) -> Callable[[str], Iterator[KnownVectors]] | None:
    """:func:`known_vectors` of a place that is there, by fingerprint; ``None`` for no place.

    Raises:
        UsageError: nothing is there.
    """
    if place is None:
        return None
    part_files(place)
    return functools.partial(known_vectors, place)


def known_vectors(place: str | Path, fingerprint: str) -> Iterator[KnownVectors]:
    """The vectors that an encoder has made of whole documents, some thousands at a time.

    Documents that were cut into chunks have no vector of their whole text, and those of other encoders are others.

    Args:
        place: see :func:`part_files`.
        fingerprint: of the encoder.

    Raises:
        UsageError: there are no files.
        CorpusError: a file cannot be read.
    """
    from llm2comp_indexes import read_parquet_settings

    for path in part_files(place):
        plan = EmbeddingPlan.from_settings(read_parquet_settings(path))
        for block in read_part(path):
            texts, rows, row = [], [], 0
            for found in block.documents:
                document = Document(found.id, found.text, found.title, found.metadata)
                if len(found.spans) <= 1 and plan.content_hash(document, fingerprint) == found.content_hash:
                    texts.append(document.content)
                    rows.append(row)
                row += found.rows
            if texts:
                yield KnownVectors(plan.prompt, texts, block.vectors[rows])
