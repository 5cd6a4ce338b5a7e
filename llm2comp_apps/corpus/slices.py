"""A corpus cut into runs of records, so that several programs can each read a part of it.

:func:`cut_corpus` looks at every file once and says where to cut; :func:`read_slices` reads what lies between two cuts,
on another machine if need be. All slices together give the documents that :func:`~llm2comp_apps.corpus.read_corpus`
gives, in the same order, except that a reading of a part cannot know which ids the other parts have.

===================  ======================================================================================
format               a slice is
===================  ======================================================================================
JSON lines, lines    bytes from one line to another, found without parsing; compressed files by the bytes that
                     come out
csv, tsv             the same from row to row, line ends in quotes respected; each slice is read under the header
parquet              rows; whole row groups before a slice are not decoded
JSON                 records, counted by parsing
all others           the whole file
===================  ======================================================================================

A slice of bytes carries their SHA-256, every other one that of its file. What has changed since the cut is refused.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import IO

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.corpus.files import FORMAT_BY_SUFFIX, HEAD_BYTES, OpenFile, SourceFile, open_file, readable_once
from llm2comp_apps.corpus.formats import parse
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.corpus.reader import documents_of
from llm2comp_apps.corpus.reading import FileReading, Parser
from llm2comp_apps.corpus.records import FOREIGN, BrokenFileError, Fault, Record
from llm2comp_apps.corpus.report import ReadReport
from llm2comp_apps.corpus.sniff import encoding_of, guess_delimiter, guess_format
from llm2comp_apps.corpus.tables import read_parquet
from llm2comp_apps.corpus.walk import check_sources, find_files
from llm2comp_apps.errors import CorpusError, UsageError

__all__ = ["CorpusFile", "CorpusSlice", "cut_corpus", "read_slices"]

_BLOCK = 2**20
_ROUNDING = 0.1  # of a part: weights are whole numbers
#: Codecs in which the byte 0x0A is a line end and nothing else, so that lines are found without decoding.
_PLAIN_CODECS = ("utf-8", "utf-8-sig", "ascii", "latin-1", "iso8859", "cp125")


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusFile:
    """A file as it was when it was cut.

    Attributes:
        path: absolute.
        relative: its path inside the folder that was named.
        id: of a document that is the whole file.
        found: a folder brought it along.
        format: one of :data:`~llm2comp_apps.corpus.options.FORMATS` but ``auto``, or a reader's own.
        bytes: as stored.
        changed: time of the last change, in nanoseconds; where it is the same, the content is not compared.
        sha256: of the stored bytes.
        header: bytes of a table's header line, which each slice is read under.
        header_lines: how many lines these are.
    """

    path: str
    relative: str
    format: str
    bytes: int
    changed: int
    sha256: str
    header: int = 0
    header_lines: int = 0
    id: str = ""
    found: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusSlice:
    """A run of records of one file.

    Attributes:
        file: which one.
        unit: what ``start`` and ``end`` count: ``bytes``, after decompression, or ``records``.
        start: the first.
        end: the one behind the last; ``None`` for all that are left.
        line: lines before the slice, for messages.
        sha256: of the bytes; empty for records.
        weight: stored bytes that it stands for, roughly.
    """

    file: CorpusFile
    unit: str
    start: int
    end: int | None
    line: int = 0
    sha256: str = ""
    weight: int = 0


def cut_corpus(
    sources: Sequence[str | os.PathLike[str]],
    options: CorpusOptions | None = None,
    *,
    parts: int | None = None,
    part_bytes: int = 64 * 2**20,
    on_progress: Callable[[float], None] | None = None,
) -> list[list[CorpusSlice]]:
    """Cut a corpus into parts of about the same number of bytes; the same corpus is always cut in the same way.

    Args:
        sources: files and folders.
        options: how they are read.
        parts: how many; fewer come back only if there are not enough places to cut at. ``None`` goes by ``part_bytes``.
        part_bytes: of a part, about.
        on_progress: called with the share of the stored bytes that has been looked at.

    Returns:
        The slices of each part, in the order of the corpus; no part is empty.

    Raises:
        UsageError: a source can be read only once, or a number is below 1.
        CorpusError: a source is missing, or one that a reading would not pass over is broken.
    """
    options, report = options or CorpusOptions(), ReadReport()
    for name, value in (("parts", parts), ("part_bytes", part_bytes)):
        if value is not None and value < 1:
            raise UsageError(f"must be at least 1, not {value}", field=name)
    sources = check_sources(sources, options, report)
    for source in sources:
        if readable_once(source):
            raise UsageError(f"{os.fspath(source)} can be read only once, and parts are read by several programs")
    total = max(report.bytes_total or 0, 1)
    size = total / parts if parts is not None else part_bytes
    cut: list[list[CorpusSlice]] = []
    place = 0.0
    for file in find_files(sources, options):
        try:
            slices = _cut_file(file, options, size, size - place % size)
        except (BrokenFileError, EOFError, OSError, zlib.error) as error:
            if options.on_error != "skip" and not (file.found and options.on_error == "auto"):
                raise CorpusError(f"{file.name}: cannot be cut into parts: {error}") from error
            # Whoever reads it takes what can be read of it, and says what is wrong.
            named = options.format if options.format != "auto" else FORMAT_BY_SUFFIX.get(file.suffix, "txt")
            slices = _whole(file, named)
        for each in slices:
            if not cut or (len(cut) != parts and place / size + _ROUNDING >= len(cut)):  # never more than asked for
                cut.append([])
            cut[-1].append(each)
            place += each.weight
        if on_progress is not None:
            on_progress(min(1.0, place / total))
    return cut


def read_slices(
    slices: Iterable[CorpusSlice], options: CorpusOptions | None = None, report: ReadReport | None = None
) -> Iterator[Document]:
    """Stream the documents of some slices, as :func:`~llm2comp_apps.corpus.read_corpus` would.

    Args:
        slices: of one corpus, in order.
        options: those that it was cut with.
        report: counted in while the documents stream by.

    Raises:
        CorpusError: a file has changed since, or a record is broken. That there is no document is no error here.
    """
    options, report = options or CorpusOptions(), report or ReadReport()
    return documents_of((_reading(each, options, report) for each in slices), options, report)


# --- cutting ---------------------------------------------------------------------------------------------------------


def _cut_file(file: SourceFile, options: CorpusOptions, size: float, first: float) -> list[CorpusSlice]:
    """Slices of about ``size`` stored bytes, the first one of ``first``."""
    assert file.path is not None
    with open_file(file, ReadReport()) as opened:
        kind = guess_format(file, opened.head, options)
        plain = encoding_of(opened.head, options).lower().startswith(_PLAIN_CODECS)
        packed = not opened.seekable
    whole = _whole(file, kind)
    made = whole[0].file
    if made.bytes <= first:
        return whole
    if kind in ("jsonl", "lines") and plain:
        return _cut_bytes(file, made, _line_borders, size, first, packed=packed)
    if kind in ("csv", "tsv") and plain:
        delimiter = "\t" if kind == "tsv" else _delimiter(opened.head, options)
        header, header_lines = _header(opened.head, delimiter)
        made = replace(made, header=header, header_lines=header_lines)
        borders = _row_borders(delimiter, options.max_record_chars)
        if made.header and _newlines_only(file):
            return _cut_bytes(file, made, borders, size, first, packed=packed)
    if kind in ("json", "parquet", "jsonl", "lines", "csv", "tsv"):
        return _cut_records(file, made, options, size, first)
    return whole


def _whole(file: SourceFile, kind: str) -> list[CorpusSlice]:
    """A file as it is now, as one slice."""
    assert file.path is not None
    stat = file.path.stat()
    try:
        digest = _sha256_of(file.path, stat.st_size, stat.st_mtime_ns)
    except PermissionError:  # passed over by every reading that may not read it either
        digest = ""
    made = CorpusFile(
        path=str(file.path.resolve()),
        relative=file.relative,
        id=file.id,
        found=file.found,
        format=kind,
        bytes=stat.st_size,
        changed=stat.st_mtime_ns,
        sha256=digest,
    )
    return [CorpusSlice(file=made, unit="records", start=0, end=None, weight=stat.st_size)]


Borders = Callable[[IO[bytes]], Iterator[tuple[int, int]]]
"""From a stream of bytes to places (byte, lines before it) where a record may begin, ascending."""


def _cut_bytes(
    file: SourceFile, made: CorpusFile, borders: Borders, size: float, first: float, *, packed: bool
) -> list[CorpusSlice]:
    """Cut at the first border behind each multiple of the size, counted in stored bytes."""
    length = made.bytes
    if packed:  # how much comes out is not known before
        with open_file(file, ReadReport()) as opened:
            length = sum(map(len, iter(lambda: opened.stream.read(_BLOCK), b"")))
    scale = made.bytes / max(length, 1)
    cuts, wanted = [(made.header, made.header_lines)], first
    with open_file(file, ReadReport()) as opened:
        for place, line in borders(opened.stream):
            if place * scale >= wanted and made.header < place < length:
                cuts.append((place, line))
                wanted = first + size * (int((place * scale - first) // size) + 1)
    digests = _digests(file, [place for place, _ in cuts[1:]] + [length])
    places = [*cuts, (length, 0)]
    return [
        CorpusSlice(
            file=made,
            unit="bytes",
            start=start,
            end=end,
            line=line,
            sha256=digest,
            weight=max(1, round((end - (start if start > made.header else 0)) * scale)),
        )
        for ((start, line), (end, _)), digest in zip(pairwise(places), digests, strict=True)
    ]


def _digests(file: SourceFile, ends: Sequence[int]) -> list[str]:
    """SHA-256 of the bytes between each two of these places, the first from the beginning of the file."""
    digests, place = [], 0
    with open_file(file, ReadReport()) as opened:
        for end in ends:
            digest = hashlib.sha256()
            while place < end and (block := opened.stream.read(min(_BLOCK, end - place))):
                digest.update(block)
                place += len(block)
            digests.append(digest.hexdigest())
    return digests


def _line_borders(stream: IO[bytes]) -> Iterator[tuple[int, int]]:
    place = 0
    for before, line in enumerate(stream):
        if before and not line.startswith(BOM_UTF8):  # which a slice, as a file, would lose at its beginning
            yield place, before
        place += len(line)


def _row_borders(delimiter: str, limit: int) -> Borders:
    """Where the csv module ends a row; beyond what it cannot read there is no border."""

    def borders(stream: IO[bytes]) -> Iterator[tuple[int, int]]:
        place = lines = 0

        def decoded() -> Iterator[str]:
            nonlocal place, lines
            for line in stream:
                place += len(line)
                lines += 1
                yield line.decode("latin-1")  # only quotes, delimiters and line ends matter

        csv.field_size_limit(limit)
        rows = csv.reader(decoded(), delimiter=delimiter, strict=True)
        with suppress(csv.Error):
            while next(rows, None) is not None:
                yield place, lines

    return borders


def _newlines_only(file: SourceFile) -> bool:
    """Whether no carriage return stands alone, which ends a line for the csv module but not for us."""
    last = b""
    with open_file(file, ReadReport()) as opened:
        for block in iter(lambda: opened.stream.read(_BLOCK), b""):
            if (last + block)[:-1].count(b"\r") != (last + block).count(b"\r\n"):
                return False
            last = block[-1:] if block.endswith(b"\r") else b""
    return not last


def _delimiter(head: bytes, options: CorpusOptions) -> str:
    return guess_delimiter(head.decode(encoding_of(head, options), "replace").split("\n", 1)[0], options)


def _header(head: bytes, delimiter: str) -> tuple[int, int]:
    """Bytes and lines of a table's header; 0 where it does not end within the head."""
    place, lines = next(_row_borders(delimiter, HEAD_BYTES)(io.BytesIO(head)), (0, 0))
    return (place, lines) if place < len(head) else (0, 0)


def _cut_records(
    file: SourceFile, made: CorpusFile, options: CorpusOptions, size: float, first: float
) -> list[CorpusSlice]:
    """Cut by the number of records, as if all were of one size."""
    count = _count(file, made, options)
    each = made.bytes / max(count, 1)
    cuts, wanted = [0], first
    for record in range(1, count):
        if record * each >= wanted:
            cuts.append(record)
            wanted += size
    ends: list[int | None] = [*cuts[1:], None]  # the last one also tells what is wrong behind the last record
    return [
        CorpusSlice(
            file=made,
            unit="records",
            start=start,
            end=end,
            weight=max(1, round(((count if end is None else end) - start) * each)),
        )
        for start, end in zip(cuts, ends, strict=True)
    ]


def _count(file: SourceFile, made: CorpusFile, options: CorpusOptions) -> int:
    if made.format == "parquet":
        from pyarrow import ArrowException, parquet

        with open_file(file, ReadReport()) as opened:
            if opened.seekable:
                try:
                    return int(parquet.read_metadata(made.path).num_rows)
                except (ArrowException, OSError) as error:
                    raise BrokenFileError(0, f"not parquet that can be read: {error}") from None
    whole = CorpusSlice(file=made, unit="records", start=0, end=None)
    return sum(1 for _ in _reading(whole, replace(options, on_error="skip"), ReadReport()).records())


# --- reading ---------------------------------------------------------------------------------------------------------


def _reading(part: CorpusSlice, options: CorpusOptions, report: ReadReport) -> FileReading:
    """Of a slice, with the lines that its records have in their file."""
    file = part.file
    source = SourceFile(Path(file.path), file.path, file.relative, file.id, file.found)
    _check_file(part)
    options = replace(options, format=file.format) if file.format in _SLICED else options
    parser = _of_bytes(part, options) if part.unit == "bytes" else _of_records(part, options)
    return FileReading(source, options, report, parser)


_SLICED = ("jsonl", "lines", "csv", "tsv", "json", "parquet")


def _of_records(part: CorpusSlice, options: CorpusOptions) -> Parser:
    """A parser that passes over the records before the slice, and over what is broken among them."""

    def parsed(opened: OpenFile, report: ReadReport, fault: Fault) -> Iterator[Record]:
        place = 0

        def complain(line: int, reason: str, why: str = FOREIGN) -> None:
            if place >= part.start:  # else another slice has told
                fault(line, reason, why)

        if part.file.format == "parquet":
            records = read_parquet(opened, options, report, first=part.start)
            place = part.start
        else:
            _, records = parse(opened, options, report, complain)
        for record in records:
            if part.end is not None and place >= part.end:
                return
            if place >= part.start:
                yield record
            place += 1

    return parsed


def _of_bytes(part: CorpusSlice, options: CorpusOptions) -> Parser:
    """A parser of the bytes of the slice, under the header of its table."""

    def parsed(opened: OpenFile, report: ReadReport, fault: Fault) -> Iterator[Record]:
        before = part.line - part.file.header_lines if part.start > part.file.header else 0

        def complain(line: int, reason: str, why: str = FOREIGN) -> None:
            fault(line + before, reason, why)

        with _bytes_of(part, opened) as stream:
            sliced = replace(opened, stream=stream, seekable=False)  # type: ignore[arg-type]
            try:
                for record in parse(sliced, options, report, complain)[1]:
                    yield replace(record, line=record.line + before) if record.line else record
            except BrokenFileError as error:
                raise BrokenFileError(error.line + before, error.reason) from error

    return parsed


@contextmanager
def _bytes_of(part: CorpusSlice, opened: OpenFile) -> Iterator[io.BufferedReader]:
    """The slice as a stream, behind the header; at its end it has proved to be what was cut, or raises."""
    assert opened.file.path is not None
    assert part.end is not None
    with ExitStack() as stack:
        stream: IO[bytes] = opened.stream
        if opened.seekable:
            stream = stack.enter_context(opened.file.path.open("rb"))
        header = stream.read(part.file.header)
        start = max(part.start, part.file.header)
        if opened.seekable:
            stream.seek(start)
        else:
            left = start - len(header)
            while left > 0 and (block := stream.read(min(_BLOCK, left))):
                left -= len(block)
        first = part.start == part.file.header  # the digest of the first slice is from the beginning of the file
        checked = _Checked(stream, part, header, hashlib.sha256(header if first else b""))
        yield io.BufferedReader(checked, 2**17)


class _Checked(io.RawIOBase):
    """The header and the bytes of a slice; raises at the end if they are not those that were cut."""

    def __init__(self, stream: IO[bytes], part: CorpusSlice, header: bytes, digest: hashlib._Hash) -> None:
        assert part.end is not None
        self._stream, self._part, self._header, self._digest = stream, part, header, digest
        self._left = part.end - max(part.start, part.file.header)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data, self._header = self._header[: len(buffer)], self._header[len(buffer) :]
        if not data:
            data = self._stream.read(min(len(buffer), self._left))
            self._left -= len(data)
            self._digest.update(data)
            if not data and self._digest.hexdigest() != self._part.sha256:
                raise CorpusError(_changed(self._part.file))
        buffer[: len(data)] = data
        return len(data)


def _check_file(part: CorpusSlice) -> None:
    """Refuse a file that is gone or has changed since it was cut.

    Bytes are compared while they are read; here the whole file is, unless its size and time say that it is the same.
    """
    path = Path(part.file.path)
    try:
        stat = path.stat()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read any more: {error.strerror or error}") from error
    same = stat.st_size == part.file.bytes
    if same and stat.st_mtime_ns != part.file.changed:
        same = _sha256_of(path, stat.st_size, stat.st_mtime_ns) == part.file.sha256
    if not same:
        raise CorpusError(_changed(part.file))


def _changed(file: CorpusFile) -> str:
    return f"{file.path}: has changed since the corpus was cut into parts; cut it again"


@lru_cache(maxsize=1024)
def _sha256_of(path: Path, size: int, changed: int) -> str:  # noqa: ARG001 - what the kept answer depends on
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
