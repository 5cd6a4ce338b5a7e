"""The parsers: from an open file of a known format to records."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from llm2comp_apps.corpus.deadline import Deadline
from llm2comp_apps.corpus.files import OpenFile, SourceFile
from llm2comp_apps.corpus.json_stream import JSON, read_json_values, syntax_problem
from llm2comp_apps.corpus.options import CorpusOptions, find_field
from llm2comp_apps.corpus.readers import READERS
from llm2comp_apps.corpus.readers.code import cut_code
from llm2comp_apps.corpus.readers.isolation import read_isolated
from llm2comp_apps.corpus.readers.markdown import read_front_matter, title_of
from llm2comp_apps.corpus.readers.parts import Part
from llm2comp_apps.corpus.records import (
    DAMAGED,
    FOREIGN,
    TOO_LARGE,
    BrokenFileError,
    Fault,
    Record,
    json_type,
    read_lines,
)
from llm2comp_apps.corpus.report import ReadReport
from llm2comp_apps.corpus.sniff import encoding_of, guess_format
from llm2comp_apps.corpus.tables import read_parquet, read_table

__all__ = ["parse"]


def parse(opened: OpenFile, options: CorpusOptions, report: ReadReport, fault: Fault) -> tuple[str, Iterator[Record]]:
    """Parse a file in the format that the options, its name or its content tell.

    Args:
        opened: the file.
        options: format, encoding, limits, field names.
        report: takes progress and notes.
        fault: called for a broken record that can be read past.

    Returns:
        The format, and the records.

    Raises:
        BrokenFileError: nothing more can be read from the file.
    """
    kind = guess_format(opened.file, opened.head, options)
    if kind == "parquet":
        return kind, read_parquet(opened, options, report)
    if kind in READERS:
        return kind, (_record(part, opened.file, options) for part in read_isolated(opened, kind, options, report))
    path = opened.file.path
    deadline = Deadline(options.max_seconds if path is not None and path.is_file() else math.inf)  # a pipe may wait

    def broken(line: int, reason: str, why: str = FOREIGN) -> None:
        fault(line, reason, why)
        deadline.restart()

    text = io.TextIOWrapper(
        deadline.watched(opened.stream),
        encoding=encoding_of(opened.head, options),
        errors="surrogateescape",  # a bad byte must spoil its record only; the reader looks for what it leaves
        newline="\n" if kind in ("json", "jsonl", "lines") else "" if kind in ("csv", "tsv") else None,
    )
    return kind, deadline.each(_records(kind, text, opened.file, options, report, broken))


def _records(
    kind: str, text: io.TextIOBase, file: SourceFile, options: CorpusOptions, report: ReadReport, fault: Fault
) -> Iterator[Record]:
    if kind in ("csv", "tsv"):
        return read_table(text, file.name, "\t" if kind == "tsv" else None, options, fault)
    if kind == "json":
        return _json(text, file, options, fault)
    if kind == "jsonl":
        return _json_lines(text, file.name, options, fault)
    if kind == "lines":
        return _lines(text, file.name, options, fault)
    return _whole_text(text, file, kind, options, report)


def _json_lines(text: io.TextIOBase, name: str, options: CorpusOptions, fault: Fault) -> Iterator[Record]:
    for number, line in read_lines(text, options.max_record_chars, fault):
        if not line.strip():
            continue
        try:
            value = JSON.decode(line)
        except json.JSONDecodeError as error:
            ends = "" if line.endswith("\n") else " (the file ends in the middle of this line)"
            fault(number, f"not JSON: {syntax_problem(error)} at column {error.colno}{ends}", DAMAGED)
        except (ValueError, RecursionError) as error:
            fault(number, f"JSON that cannot be read: {error}", DAMAGED)
        else:
            yield from _json_record(value, None, name, number, options, fault)


def _json(text: io.TextIOBase, file: SourceFile, options: CorpusOptions, fault: Fault) -> Iterator[Record]:
    for number, key, value in read_json_values(text, options, named=not file.found or options.format == "json"):
        yield from _json_record(value, key, file.name, number, options, fault)


def _json_record(
    value: Any, key: str | None, name: str, line: int, options: CorpusOptions, fault: Fault
) -> Iterator[Record]:
    """A JSON value as a record: an object, or a string that is all text; ``key`` is its id if it has none itself."""
    if isinstance(value, str):
        value = {options.text_fields[0]: value}
    if not isinstance(value, dict):
        fault(line, f"not a JSON object but {json_type(value)}")
        return
    if key is not None and not find_field(value, options.id_fields):
        value = {options.id_fields[0]: key, **value}
    yield Record(value, name, line)


def _lines(text: io.TextIOBase, name: str, options: CorpusOptions, fault: Fault) -> Iterator[Record]:
    for number, line in read_lines(text, options.max_record_chars, fault):
        if line.strip():
            yield Record({options.text_fields[0]: line.rstrip("\r\n")}, name, number)


def _whole_text(
    text: io.TextIOBase, file: SourceFile, kind: str, options: CorpusOptions, report: ReadReport
) -> Iterator[Record]:
    content = text.read(options.max_record_chars + 1)
    if len(content) > options.max_record_chars:
        raise BrokenFileError(0, f"the text is longer than {options.max_record_chars} characters", TOO_LARGE)
    if kind == "code":
        name = PurePosixPath(file.relative).name
        yield from (_record(part, file, options) for part in cut_code(content, file.suffix, name))
        return
    fields: dict[str, Any] = {}
    if kind == "md":
        fields, content, problem = read_front_matter(content)
        if problem:
            report.note(f"{file.name}: what stands between the lines of --- is no metadata that can be read: {problem}")
    said = fields.pop("title", None)
    if isinstance(said, int | float) and not isinstance(said, bool):
        said = str(said)  # title: 1984
    title = said if isinstance(said, str) else title_of(content, kind) if kind in ("md", "rst") else ""
    yield _record(Part(text=content, title=title, fields=fields), file, options)


def _record(part: Part, file: SourceFile, options: CorpusOptions) -> Record:
    """A part of a file as a record: its id is the file's, and the part's name behind it."""
    whole = file.id or file.relative
    text_fields = options.text_fields[:1]  # by which it is found before all others that a text may be called
    fields = {
        **{key: value for key, value in part.fields.items() if not find_field((key,), text_fields)},
        options.id_fields[0]: f"{whole}#{part.name}" if part.name else whole,
        options.title_fields[0]: part.title,
        options.text_fields[0]: part.text,
    }
    return Record(fields, file.name, 0)
