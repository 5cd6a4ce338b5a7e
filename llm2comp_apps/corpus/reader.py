"""Documents from the files people have, streamed.

====================  ===================================================================================
``.jsonl`` ``.ndjson``  one JSON object a line
``.json``             an array of objects or texts; an object of id to record or to text; one record; JSON lines
``.csv``              a header line and rows; comma, semicolon, tab or ``|``, whichever shows known field names
``.tsv`` ``.tab``     the same, tabs
``.parquet`` ``.pq``  one row a document
``.txt``              one document a file, the path inside the named folder as id
``.md``               the same, the first heading as title
``format="lines"``    one document a line, whatever the file's name
a folder              its files in the order of their names, subfolders too; hidden files, other kinds of files and
                      ``*.index`` / ``*.clusters`` folders are passed over
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
broken record                  stop with ``file:line: reason``; with ``on_error="skip"`` count and list it, continue
... what is broken             syntax; a missing text field; a value of the wrong type; characters that no text has
                               (see ``encoding_errors``); more than ``max_record_chars`` characters; an id that
                               already stands for another content
the file ends mid-line         a last line without a line end counts if it is whole, else it is a broken record
damaged or cut compression     a broken record at the end of what can be read: the records before it count
broken JSON array, open quote  the same, since the next record cannot be found
neither title nor text         left out and counted (``empty``)
id and content seen before     left out and counted (``duplicates``)
no id                          a hash of title and text: the same text gets the same id in every file and run
byte order mark, CRLF          a UTF-8 mark is dropped, UTF-16 recognised by its own; text files get LF
no document in all sources     an error that tells the counts
=============================  ==============================================================================

Memory does not grow with the corpus: files are read as streams, and the ids seen so far are kept in a temporary SQLite
database on disk (about 100 bytes a document there, at most 8 MB of memory).
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.corpus.files import OpenFile, SourceFile, check_sources, find_files, open_file
from llm2comp_apps.corpus.formats import parse
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.corpus.records import BrokenFileError, Fault, Record, json_type, place_of
from llm2comp_apps.corpus.report import ReadReport
from llm2comp_apps.corpus.seen import SeenIds, content_id
from llm2comp_apps.errors import CorpusError

__all__ = ["UnfitRecordError", "documents_of", "read_corpus", "read_records", "records_from", "to_document"]

Sources = Sequence[str | os.PathLike[str]]
Parser = Callable[[OpenFile, ReadReport, Fault], Iterator[Record]]

_FIELDS_NAMED = 8  # of a record, in messages
# Lone surrogates: those from U+DC80 to U+DCFF are bytes that could not be decoded (PEP 383), the others came escaped.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


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
    records = read_records(sources, options, report)
    return _some_documents(records, [os.fspath(source) for source in sources], options, report)


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
    check_sources(sources, options, report)
    return _records(sources, options, report)


def _records(sources: Sources, options: CorpusOptions, report: ReadReport) -> Iterator[Record]:
    for file in find_files(sources, options):
        report.files += 1
        yield from records_from(file, options, report)


def records_from(
    file: SourceFile, options: CorpusOptions, report: ReadReport, parser: Parser | None = None
) -> Iterator[Record]:
    """The rows of one file, each checked for characters that no text has.

    Args:
        file: which.
        options: as for :func:`read_corpus`.
        report: counted in.
        parser: gives the rows of the open file; ``None`` for the one of its format.
    """

    def fault(line: int, reason: str) -> None:
        report.reject(place_of(file.name, line), reason, options)

    line = 0
    try:
        with open_file(file, report) as opened:
            rows = parse(opened, options, report, fault) if parser is None else parser(opened, report, fault)
            for record in rows:
                line = record.line
                problem, fields = _checked(record.fields, options)
                if problem:
                    fault(line, problem)
                else:
                    yield Record(fields, record.path, line)
    except BrokenFileError as error:
        fault(error.line, error.reason)
    except (EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        fault(line, f"the file cannot be read{' beyond this record' if line else ''}: {reason}")


def _checked(fields: dict[str, Any], options: CorpusOptions) -> tuple[str, dict[str, Any]]:
    """Look for characters that no text has; a complaint or ``""``, and the fields, cleaned if the options say so."""
    found = next((string for string in _strings(fields) if _NO_TEXT.search(string)), None)
    if found is None:
        return "", fields
    if options.encoding_errors == "replace":
        return "", _replaced(fields)
    match = _NO_TEXT.search(found)
    assert match is not None
    return _describe(match.group(), options), fields


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if "\0" in value or not value.isascii():
            yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _replaced(value: Any) -> Any:
    if isinstance(value, str):
        return _NO_TEXT.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {_replaced(key): _replaced(item) for key, item in value.items()}
    return [_replaced(item) for item in value] if isinstance(value, list) else value


def _describe(character: str, options: CorpusOptions) -> str:
    code = ord(character)
    if not code:
        return "a NUL character; is this a text?"
    if 0xDC80 <= code <= 0xDCFF:
        return f"byte 0x{code - 0xDC00:02x} is not valid {options.encoding} (`encoding` names another one)"
    return f"half a surrogate pair (\\u{code:04x})"


def _some_documents(
    records: Iterator[Record], sources: Sequence[str], options: CorpusOptions, report: ReadReport
) -> Iterator[Document]:
    yield from documents_of(records, options, report)
    if not report.documents:
        first = f"; the first broken one: {report.skipped_rows[0]}" if report.skipped_rows else ""
        raise CorpusError(f"{', '.join(sources)}: no document found ({report.summary()}{first})")


def documents_of(records: Iterator[Record], options: CorpusOptions, report: ReadReport) -> Iterator[Document]:
    """Make rows documents, leave out those that were met before, and deal with what is broken."""
    with SeenIds() as seen:
        for record in records:
            try:
                document, derived = to_document(record, options, report)
            except UnfitRecordError as problem:
                report.reject(record.place, str(problem), options)
                continue
            if not document.title.strip() and not document.text.strip():
                report.empty += 1
                continue
            earlier = seen.add(document, derived=derived)
            if earlier is None:
                report.documents += 1
                report.derived_ids += derived
                yield document
            elif earlier:
                reason = f"the id {document.id!r} already stands for another document, the one at {earlier}"
                if record.path.endswith(document.id):  # a file without ids in it
                    reason += " (a file's id is its path in the folder named: name one above both)"
                report.reject(record.place, reason, options)
            else:
                report.duplicates += 1


class UnfitRecordError(Exception):
    """A record that cannot be a document, and why."""


def to_document(record: Record, options: CorpusOptions, report: ReadReport) -> tuple[Document, bool]:
    """Make a record a document, as :func:`read_corpus` does.

    Returns:
        The document, which may have neither title nor text; and whether its id was derived.

    Raises:
        UnfitRecordError: it has no text field, or a value of the wrong type.
    """
    rest = dict(record.fields)
    text_key, title_key, id_key = (
        next((field for field in fields if field in rest), "")
        for fields in (options.text_fields, options.title_fields, options.id_fields)
    )
    have = ", ".join(map(repr, list(rest)[:_FIELDS_NAMED])) or "no field at all"
    if not text_key:
        looked = " or ".join(options.text_fields)
        raise UnfitRecordError(f"no text: looked for {looked}, found {have} (`text_field` names it)")
    if options.id_field and not id_key:
        raise UnfitRecordError(f"no field {options.id_field!r} (`id_field`), but {have}")
    if options.title_field and not title_key:
        report.note(f"{record.path}: there are records without the field {options.title_field!r} (`title_field`)")
    text, title = _string(rest, text_key), _string(rest, title_key)
    given = _id(rest, id_key)
    return Document(given or content_id(title, text), text, title, rest, record.place), not given


def _string(fields: dict[str, Any], key: str) -> str:
    value = fields.pop(key, None)
    if value is not None and not isinstance(value, str):
        raise UnfitRecordError(f"the field {key!r} is {json_type(value)}, not a string")
    return value or ""


def _id(fields: dict[str, Any], key: str) -> str:
    value = fields.pop(key, None)
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise UnfitRecordError(f"the field {key!r} is {json_type(value)}; an id is a string or an integer")
    return "" if value is None or not str(value).strip() else str(value)
