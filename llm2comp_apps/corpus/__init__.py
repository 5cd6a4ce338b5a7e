"""Documents from the files people have: reading, checking, chunking.

``for document in read_corpus(["corpus.jsonl"])`` is most of it; :mod:`~llm2comp_apps.corpus.reader` says which files
can be read and what happens to those that are broken. Names are loaded on first use, since the command line needs
the options' names to print its help, and nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm2comp_apps.corpus.chunking import Chunk, chunk_document
    from llm2comp_apps.corpus.document import Document
    from llm2comp_apps.corpus.options import FORMATS, CorpusOptions
    from llm2comp_apps.corpus.reader import read_corpus, read_records
    from llm2comp_apps.corpus.records import Record
    from llm2comp_apps.corpus.report import ReadReport, SkippedRow
    from llm2comp_apps.corpus.slices import CorpusFile, CorpusSlice, cut_corpus, read_slices

__all__ = [
    "FORMATS",
    "Chunk",
    "CorpusFile",
    "CorpusOptions",
    "CorpusSlice",
    "Document",
    "ReadReport",
    "Record",
    "SkippedRow",
    "chunk_document",
    "cut_corpus",
    "read_corpus",
    "read_records",
    "read_slices",
]

_HOME = {
    "Chunk": "chunking",
    "chunk_document": "chunking",
    "Document": "document",
    "FORMATS": "options",
    "CorpusOptions": "options",
    "read_corpus": "reader",
    "read_records": "reader",
    "Record": "records",
    "ReadReport": "report",
    "SkippedRow": "report",
    "CorpusFile": "slices",
    "CorpusSlice": "slices",
    "cut_corpus": "slices",
    "read_slices": "slices",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
