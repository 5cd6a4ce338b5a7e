"""Documents from the files people have, streamed.

====================  ===================================================================================
``.jsonl`` ``.ndjson``  one JSON object a line
``.json``             an array of objects or texts, also under a key such as ``data``; an object of id to record or to
                      text; one record; JSON lines
``.csv``              a header line and rows; comma, semicolon, tab or ``|``, whichever shows known field names
``.tsv`` ``.tab``     the same, tabs
``.parquet`` ``.pq``  one row a document
``.txt``              one document a file, the path from the named folder on as id
``.md``               the same, the first heading as title
``format="lines"``    one document a line, whatever the file's name
a folder              its files in the order of their names, subfolders too; hidden files, other kinds of files, what a
                      ``.gitignore`` leaves out and ``*.index`` / ``*.clusters`` folders are passed over
a pattern             (``notes/**/*.md``) the files that match
a BEIR folder         (``corpus.jsonl`` beside ``queries.jsonl`` or ``qrels``) its corpus
``-``                 standard input
a pipe                (named, or the shell's ``<(...)``) what comes out of it; it can be read only once
====================  ===================================================================================

Each may be packed in gzip or zstd; that is recognised by content, like the format of a file without a telling name.

**Fields.** ``_id``, ``title``, ``text`` or their usual other names (see :class:`CorpusOptions`); all other fields
become metadata. An id may be a string or an integer; title and text are strings. A record that has no text field at
all is broken; one whose text is null or empty counts by its title alone.

**What is not as it should be.**

=============================  ==============================================================================
broken record                  stop with ``file:line: reason``; with ``on_error="skip"``, and in files that a folder
                               brought along, count and list it and continue
a file of a folder without     it is no corpus: passed over as a whole and listed in ``ReadReport.passed_over``
any document
... what is broken             syntax; a missing text field; a value of the wrong type; characters that no text has
                               (see ``encoding_errors``); more than ``max_record_chars`` characters; an id that
                               already stands for another content
the file ends mid-line         a last line without a line end counts if it is whole, else it is a broken record
damaged or cut compression     a broken record at the end of what can be read: the records before it count
broken JSON array, open quote  the same, since the next record cannot be found
neither title nor text         left out and counted (``empty``); a file of nothing else is listed (``bare``)
id and content seen before     left out and counted (``duplicates``); a file of nothing else is listed (``repeated``)
no id                          a hash of title and text: the same text gets the same id in every file and run
byte order mark, CRLF          a UTF-8 mark is dropped, UTF-16 recognised by its own; text files get LF
no document in all sources     an error that tells the counts
=============================  ==============================================================================

Memory does not grow with the corpus: files are read as streams, and the ids seen so far are kept in a temporary SQLite
database on disk (about 100 bytes a document there, at most 8 MB of memory).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.corpus.fields import UnfitRecordError, to_document
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.corpus.reading import FileReading
from llm2comp_apps.corpus.records import Record
from llm2comp_apps.corpus.report import ReadReport
from llm2comp_apps.corpus.seen import SeenIds
from llm2comp_apps.corpus.walk import check_sources, find_files
from llm2comp_apps.errors import CorpusError

__all__ = ["documents_of", "read_corpus", "read_records"]

Sources = Sequence[str | os.PathLike[str]]


def read_corpus(
    sources: Sources, options: CorpusOptions | None = None, report: ReadReport | None = None
) -> Iterator[Document]:
    """Stream the documents of a corpus; the module's docstring says from what, and what happens to what is broken.

    Args:
        sources: files, folders, or ``-`` for standard input.
        options: how to read them; ``None`` for the defaults.
        report: counted in while the documents stream by.

    Returns:
        The documents in the order of the sources. Ids are unique.

    Raises:
        UsageError: the options or sources make no sense. Raised at the call, like the next one.
        CorpusError: a source does not exist, or a folder holds nothing to read.
        CorpusError: while iterating: a broken record (``on_error="stop"``), or no document in all sources.
    """
    options, report = options or CorpusOptions(), report or ReadReport()
    sources = check_sources(sources, options, report)
    return _some_documents(sources, options, report)


def read_records(
    sources: Sources, options: CorpusOptions | None = None, report: ReadReport | None = None
) -> Iterator[Record]:
    """Stream the rows of files of any format with whatever fields they have.

    The layer under :func:`read_corpus`, for rows that are no documents, such as training pairs. To complain of a row in
    the same way, call ``report.reject(record.place, reason, options)``.

    Args:
        sources: as for :func:`read_corpus`.
        options: as for :func:`read_corpus`; the field names only serve to recognise formats here.
        report: counted in while the rows stream by.

    Returns:
        The rows in order. Strings hold no NUL and no lone surrogate.

    Raises:
        UsageError: as for :func:`read_corpus`.
        CorpusError: as for :func:`read_corpus`; no row at all is no error.
    """
    options, report = options or CorpusOptions(), report or ReadReport()
    sources = check_sources(sources, options, report)
    return _records(sources, options, report)


def _records(sources: Sources, options: CorpusOptions, report: ReadReport) -> Iterator[Record]:
    for file in find_files(sources, options, report):
        reading = FileReading(file, options, report)
        for record in reading.records():
            reading.accept()
            yield record


def _some_documents(sources: Sources, options: CorpusOptions, report: ReadReport) -> Iterator[Document]:
    readings = (FileReading(file, options, report) for file in find_files(sources, options, report))
    yield from documents_of(readings, options, report)
    if not report.documents:
        broken = [*report.skipped_rows, *report.passed_over]
        first = f"; the first broken one: {broken[0]}" if broken else ""
        names = ", ".join(os.fspath(source) for source in sources)
        raise CorpusError(f"{names}: no document found ({report.summary()}{first})")


def documents_of(readings: Iterable[FileReading], options: CorpusOptions, report: ReadReport) -> Iterator[Document]:
    """Make the records of files documents, leave out those that were met before, and deal with what is broken."""
    with SeenIds() as seen:
        for reading in readings:
            for record in reading.records():
                document = _document(record, reading, options, report, seen)
                if document is not None:
                    yield document


def _document(
    record: Record, reading: FileReading, options: CorpusOptions, report: ReadReport, seen: SeenIds
) -> Document | None:
    """The document of a record; ``None`` if there is none in it, or the same was there before."""
    try:
        document, derived = to_document(record, options, report)
    except UnfitRecordError as problem:
        reading.fault(record.line, str(problem))
        return None
    if not document.title.strip() and not document.text.strip():
        report.empty += 1
        return None
    earlier = seen.add(document, derived=derived)
    if earlier:
        reason = f"the id {document.id!r} already stands for another document, the one at {earlier}"
        reading.fault(record.line, reason)
        return None
    reading.accept(documents=earlier is None)
    if earlier is not None:
        report.duplicates += 1
        return None
    report.documents += 1
    report.derived_ids += derived
    return document
