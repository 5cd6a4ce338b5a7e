"""Documents from the files people have: reading, checking, chunking.

    for document in read_corpus(["corpus.jsonl"]):
        ...

:mod:`~llm2comp_apps.corpus.reader` says which files can be read and what happens to those that are broken.
"""

from __future__ import annotations

from llm2comp_apps.corpus.chunking import Chunk, chunk_document
from llm2comp_apps.corpus.document import Document
from llm2comp_apps.corpus.options import FORMATS, CorpusOptions
from llm2comp_apps.corpus.reader import read_corpus, read_records
from llm2comp_apps.corpus.records import Record
from llm2comp_apps.corpus.report import ReadReport, SkippedRow

__all__ = [
    "FORMATS",
    "Chunk",
    "CorpusOptions",
    "Document",
    "ReadReport",
    "Record",
    "SkippedRow",
    "chunk_document",
    "read_corpus",
    "read_records",
]
