"""Tables: csv, tsv and parquet, one record a row."""

from __future__ import annotations

import csv
import datetime
import io
import math
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import IO, Any

from llm2comp_apps.corpus.files import OpenFile
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.corpus.records import BrokenFileError, Fault, Record, read_lines
from llm2comp_apps.corpus.report import ReadReport
from llm2comp_apps.corpus.sniff import guess_delimiter

__all__ = ["read_parquet", "read_table"]

_PARQUET_ROWS = 512  # rows decoded at a time
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,15})(?:\.\d{1,15})?")


def read_table(
    text: io.TextIOBase, name: str, delimiter: str | None, options: CorpusOptions, fault: Fault
) -> Iterator[Record]:
    """Read comma- or tab-separated rows under a header line, quoted as Excel and pandas write them.

    A cell outside the id, title and text columns that is written as JSON would write that number becomes the number
    (``12``, ``-0.5``, not ``007`` or ``1.50``), so that filters can compare it; an empty one becomes ``None``.

    Args:
        text: the table, opened with ``newline=""``.
        name: the file's name for the records.
        delimiter: ``None`` to guess it from the header.
        options: the field names, and ``max_record_chars`` as the limit of a cell.
        fault: called for a row of another length than the header, and for broken quoting.

    Raises:
        BrokenFileError: the header is missing or names a column twice.
    """
    number = 0

    def numbered() -> Iterator[str]:
        nonlocal number
        for number, line in read_lines(text, options.max_record_chars, fault):  # noqa: B007 - read by the rows' loop
            yield line

    csv.field_size_limit(options.max_record_chars)
    lines = numbered()
    first = next(lines, "")
    rows = csv.reader(chain([first], lines), delimiter=delimiter or guess_delimiter(first, options), strict=True)
    header = _header(rows)
    raw = {name for name in header if options.known([name])}
    while True:
        start = number + 1
        try:
            cells = next(rows, None)
        except csv.Error as error:
            if number > start:
                reason = f"a quote that opens on this line is not closed where its cell ends ({error})"
                raise BrokenFileError(start, reason) from None
            fault(start, f"not a row of the table: {error}")
            continue
        if cells is None:
            return
        if len(cells) == len(header):
            pairs = zip(header, cells, strict=True)
            yield Record({key: cell if key in raw else _typed(cell) for key, cell in pairs if key}, name, start)
        elif cells:
            fault(start, f"{len(cells)} cells where the header has {len(header)}")


def _header(rows: Iterator[list[str]]) -> list[str]:
    try:
        header = [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise BrokenFileError(1, f"broken quoting in the header: {error}") from None
    twice = {name for name in header if name and header.count(name) > 1}  # columns without a name are passed over
    if not header or twice:
        reason = f"the header names {', '.join(sorted(map(repr, twice)))} twice" if twice else "no header line"
        raise BrokenFileError(1, reason)
    return header


def _typed(cell: str) -> str | int | float | None:
    if not _NUMBER.fullmatch(cell):
        return cell or None
    number = float(cell) if "." in cell else int(cell)
    return number if str(number) == cell else cell


def read_parquet(opened: OpenFile, options: CorpusOptions, report: ReadReport, *, first: int = 0) -> Iterator[Record]:
    """Read parquet a few rows at a time, row groups of any size.

    Binary columns (pictures, sound) are not read unless they are the id, title or text. Dates become ISO 8601, decimals
    strings, NaN ``None``. Rows before ``first`` are passed over, by whole row groups without decoding them.

    Raises:
        BrokenFileError: not parquet, or damaged.
    """
    import pyarrow
    from pyarrow import parquet

    with ExitStack() as stack:
        source: Path | IO[bytes]
        if opened.file.path is not None and opened.seekable:
            source = opened.file.path
        else:  # a pipe or a compressed file cannot be sought in
            source = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(opened.stream, source)
        row, done = 0, report.bytes_done
        try:
            table = stack.enter_context(parquet.ParquetFile(source, pre_buffer=False, buffer_size=2**20))
            columns = _columns(table.schema_arrow, opened.file.name, options, report)
            row, groups = _groups_from(table.metadata, first)
            for batch in table.iter_batches(_PARQUET_ROWS, row_groups=groups, columns=columns, use_threads=False):
                passed = max(0, min(first - row, batch.num_rows))
                row += passed
                for fields in _decoded(batch.slice(passed), row):
                    row += 1
                    yield Record({key: _plain(value) for key, value in fields.items()}, opened.file.name, row)
                if source is opened.file.path:  # what is read as a stream is counted there
                    report.bytes_done = max(done, opened.before + opened.file.size * row // table.metadata.num_rows)
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).split("\n", 1)[0]
            raise BrokenFileError(row + 1 if row else 0, f"not parquet that can be read: {reason}") from None


def _groups_from(metadata: Any, first: int) -> tuple[int, list[int]]:
    """The row groups that hold the row ``first`` and those behind it, and the number of rows before them."""
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    before, group = 0, 0
    while group < len(sizes) and before + sizes[group] <= first:
        before += sizes[group]
        group += 1
    return before, list(range(group, len(sizes)))


def _columns(schema: Any, name: str, options: CorpusOptions, report: ReadReport) -> list[str]:
    twice = {column for column in schema.names if schema.names.count(column) > 1}
    if twice:
        raise BrokenFileError(0, f"the column {min(twice)!r} exists twice")
    binary = [column.name for column in schema if not options.known([column.name]) and _holds_bytes(column.type)]
    if binary:
        report.note(f"{name}: binary columns not read: {', '.join(binary)}")
    return [column for column in schema.names if column not in binary]


def _holds_bytes(kind: Any) -> bool:
    """Whether values of an Arrow type are bytes, or hold some: a picture is often a struct of bytes and a path."""
    from pyarrow import types

    if types.is_nested(kind):
        return any(_holds_bytes(kind.field(place).type) for place in range(kind.num_fields))
    if types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    binary = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(one(kind) for one in binary)


def _decoded(batch: Any, row: int) -> list[dict[str, Any]]:
    """The rows of a batch, nanoseconds cut off, which Python's times do not have.

    Raises:
        BrokenFileError: a time that Python has no number for, such as the year 10000.
    """
    import pyarrow
    from pyarrow import compute, types

    coarser = {pyarrow.duration("ns").id: pyarrow.duration("us"), pyarrow.time64("ns").id: pyarrow.time64("us")}
    for place, column in enumerate(batch.columns):
        kind = column.type
        if getattr(kind, "unit", "") == "ns":
            to = pyarrow.timestamp("us", kind.tz) if types.is_timestamp(kind) else coarser[kind.id]
            batch = batch.set_column(place, batch.schema.names[place], compute.cast(column, to, safe=False))
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except (ValueError, OverflowError) as error:
        if isinstance(error, pyarrow.ArrowException | UnicodeDecodeError):
            raise
        raise BrokenFileError(row + 1, f"a value of the next {len(batch)} rows cannot be read: {error}") from None
    return rows


def _plain(value: Any) -> Any:
    """A value of a parquet cell as JSON has it."""
    if value is None or isinstance(value, str | int):  # bool is an int
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")  # bad bytes are found with those of the other formats
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime.date | datetime.time):  # datetime is a date
        return value.isoformat()
    return str(value)  # Decimal, timedelta, UUID
