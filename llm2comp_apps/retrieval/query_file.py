"""Files of queries: an id and a text each, in any corpus format.

Read by other rules than a corpus: nothing is left out without a word, since a run over fewer queries than were asked
looks like a complete one. An empty query and an id that comes twice are errors; a ``.txt`` file holds a query a line,
whose number is its id, and so does what comes through a pipe and is no other format; of a BEIR folder ``queries.jsonl``
is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.corpus.fields import UnfitRecordError, to_document
from llm2comp_apps.corpus.files import FORMAT_BY_SUFFIX, SourceFile
from llm2comp_apps.corpus.options import ID_FIELDS, TEXT_FIELDS, CorpusOptions
from llm2comp_apps.corpus.reader import read_records
from llm2comp_apps.corpus.records import Record, place_of
from llm2comp_apps.corpus.report import ReadReport
from llm2comp_apps.errors import CorpusError

__all__ = ["read_queries"]

_BEIR_FILES = ("queries.jsonl", "queries.jsonl.gz", "queries.jsonl.zst")


@dataclass(frozen=True, slots=True, kw_only=True)
class _QueryOptions(CorpusOptions):
    """The names that query files use, before those of documents."""

    @property
    def id_fields(self) -> tuple[str, ...]:
        return ("_id", "qid", "query_id", *ID_FIELDS[1:])

    @property
    def text_fields(self) -> tuple[str, ...]:
        # First, since a record with both a query and a text is a query beside a passage.
        return ("query", *TEXT_FIELDS)

    @property
    def plain_format(self) -> str:
        return "lines"


def read_queries(path: Path) -> list[Document]:
    """Read a file of queries, all of it, so that what is broken is reported before anything is searched.

    Args:
        path: a file, a BEIR folder, or ``-`` for standard input.

    Returns:
        At least one query, none of them empty, with ids of their own.

    Raises:
        CorpusError: the file is missing or empty, or a query is; with file and line.
    """
    file = _file_of(path)
    by_line = FORMAT_BY_SUFFIX.get(SourceFile(file, str(file), file.name).suffix) == "txt"
    options = _QueryOptions(format="lines" if by_line else "auto")
    queries: list[Document] = []
    places: dict[str, str] = {}
    for query in _queries(file, options, by_line=by_line):
        if query.id in places:
            raise CorpusError(f"{query.source}: the query {query.id!r} is there already, at {places[query.id]}")
        places[query.id] = query.source
        queries.append(query)
    if not queries:
        raise CorpusError(f"{file}: no query in it")
    return queries


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in _BEIR_FILES:
        if (path / name).is_file():
            return path / name
    raise CorpusError(f"{path}: a folder without {' or '.join(_BEIR_FILES[:2])}; name the file of queries itself")


def _queries(file: Path, options: CorpusOptions, *, by_line: bool) -> Iterator[Document]:
    report = ReadReport()
    last = 0
    for record in read_records([str(file)], options, report):
        by_line = by_line or "lines" in report.kinds
        if by_line and record.line > last + 1:  # blank lines make no record; those at the end are no queries
            raise CorpusError(f"{place_of(record.path, last + 1)}: the query is empty")
        last = record.line
        yield _query(record, options, report, by_line=by_line)


def _query(record: Record, options: CorpusOptions, report: ReadReport, *, by_line: bool) -> Document:
    try:
        query, _ = to_document(record, options, report)
    except UnfitRecordError as problem:
        raise CorpusError(f"{record.place}: {problem}") from problem
    if not query.content.strip():
        raise CorpusError(f"{record.place}: the query is empty")
    return Document(str(record.line), query.text, source=record.place) if by_line else query
