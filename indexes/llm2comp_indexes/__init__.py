"""A local index that does not lose documents: vectors, text and metadata in one directory, committed in one step.

Knows vectors and documents only; what made the vectors is the caller's business.

    with Index.create("corpus.index", dimension=576, encoder={"name": "default", "fingerprint": "..."}) as index:
        with index.writer() as writer:
            writer.add([IndexedDocument("1", "some text")], vectors)
            writer.commit()
        index.search(queries, k=10)

The directory is described in `llm2comp_indexes.writer` (how it changes) and `llm2comp_indexes.schema`,
`llm2comp_indexes.segment` and `llm2comp_indexes.lexical` (what is in it).
"""

from __future__ import annotations

from llm2comp_indexes.errors import (
    DamageWarning,
    DependencyError,
    FilterError,
    IndexDamagedError,
    IndexExistsError,
    IndexFormatError,
    IndexLockedError,
    IndexMissingError,
    IndexStoreError,
    IndexWriteError,
    InputError,
    KindError,
)
from llm2comp_indexes.exchange import export_index, import_vectors, read_parquet, read_vectors
from llm2comp_indexes.index import Index
from llm2comp_indexes.kinds import KINDS, Policy
from llm2comp_indexes.lexical import matching_spans
from llm2comp_indexes.types import Damage, Hit, IndexedDocument, IndexInfo
from llm2comp_indexes.verify import verify_index
from llm2comp_indexes.writer import Writer

__all__ = [
    "KINDS",
    "Damage",
    "DamageWarning",
    "DependencyError",
    "FilterError",
    "Hit",
    "Index",
    "IndexDamagedError",
    "IndexExistsError",
    "IndexFormatError",
    "IndexInfo",
    "IndexLockedError",
    "IndexMissingError",
    "IndexStoreError",
    "IndexWriteError",
    "IndexedDocument",
    "InputError",
    "KindError",
    "Policy",
    "Writer",
    "export_index",
    "import_vectors",
    "matching_spans",
    "read_parquet",
    "read_vectors",
    "verify_index",
]
