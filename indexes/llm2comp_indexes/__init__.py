"""A local index that does not lose documents: vectors, text and metadata in one directory, committed in one step.

Knows vectors and documents only; what made the vectors is the caller's business.

    with Index.create("corpus.index", dimension=576, encoder={"name": "default", "fingerprint": "..."}) as index:
        with index.writer() as writer:
            writer.add([IndexedDocument("1", "some text")], vectors)
            writer.commit()
        index.search(queries, k=10)

The rooms, from the disk up; each uses only those before it:

    errors, types   what goes wrong, what goes in and comes out
    threads         what threads of one process share
    storage/        files written durably and read with care; ``store.db`` with the documents; ``where`` conditions
    dense/          comparing vectors: kinds, FAISS, GPUs
    analysis        what counts as a word, and when two are the same
    operators       what quotes, + and - in a query mean
    statistics      what words are worth, also beside the documents of other indexes
    lexical         searching words
    core/           generations: reading one, writing the next, verifying, moving to and from other programs
    index           `Index`, which puts them together
    sharded         several of them as one
"""

from __future__ import annotations

from llm2comp_indexes.analysis import (
    DEFAULT_LANGUAGE,
    Word,
    check_language,
    function_words,
    matching_spans,
    terms,
    words,
)
from llm2comp_indexes.core.import_export import (
    Batch,
    export_index,
    import_vectors,
    pair_in_order,
    read_parquet,
    read_parquet_settings,
    read_vectors,
    unread_columns,
)
from llm2comp_indexes.core.verify import verify_index
from llm2comp_indexes.core.writer import Writer
from llm2comp_indexes.dense.build import check_kind
from llm2comp_indexes.dense.gpu import gpu_count
from llm2comp_indexes.dense.kinds import KINDS, Policy
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
    OutdatedWarning,
)
from llm2comp_indexes.index import Index
from llm2comp_indexes.lexical import query_terms, query_words
from llm2comp_indexes.operators import Clause, ParsedQuery, parse_query
from llm2comp_indexes.sharded import Question, ShardedIndex
from llm2comp_indexes.statistics import LexicalStatistics
from llm2comp_indexes.storage.dates import date_key
from llm2comp_indexes.storage.documents import check_metadata
from llm2comp_indexes.storage.fields import MOST_FIELDS, FieldSummary, PredicateCount
from llm2comp_indexes.storage.filters import compile_filter
from llm2comp_indexes.storage.schema import FORMAT
from llm2comp_indexes.types import Damage, Hit, IndexedDocument, IndexInfo, Listing, QueryWords

__all__ = [
    "DEFAULT_LANGUAGE",
    "FORMAT",
    "KINDS",
    "MOST_FIELDS",
    "Batch",
    "Clause",
    "Damage",
    "DamageWarning",
    "DependencyError",
    "FieldSummary",
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
    "LexicalStatistics",
    "Listing",
    "OutdatedWarning",
    "ParsedQuery",
    "Policy",
    "PredicateCount",
    "QueryWords",
    "Question",
    "ShardedIndex",
    "Word",
    "Writer",
    "check_kind",
    "check_language",
    "check_metadata",
    "compile_filter",
    "date_key",
    "export_index",
    "function_words",
    "gpu_count",
    "import_vectors",
    "matching_spans",
    "pair_in_order",
    "parse_query",
    "query_terms",
    "query_words",
    "read_parquet",
    "read_parquet_settings",
    "read_vectors",
    "terms",
    "unread_columns",
    "verify_index",
    "words",
]
