"""From a file to a byte stream: standard input, pipes, gzip and zstd; and what a file's name says about its format."""

from __future__ import annotations

import gzip
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from llm2comp_apps.corpus.readers import CODE_SUFFIXES, READERS
from llm2comp_apps.corpus.records import TOO_LARGE, BrokenFileError
from llm2comp_apps.corpus.report import ReadReport

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "COMPRESSION_SUFFIXES",
    "FORMAT_BY_SUFFIX",
    "HEAD_BYTES",
    "OpenFile",
    "Readable",
    "SourceFile",
    "format_suffix",
    "open_file",
    "readable_once",
]

FORMAT_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "txt",
    ".text": "txt",
    ".md": "md",
    ".markdown": "md",
    ".rst": "rst",
    **{suffix: kind for kind, form in READERS.items() for suffix in form.suffixes},
    **dict.fromkeys(CODE_SUFFIXES, "code"),
}
COMPRESSION_SUFFIXES = (".gz", ".zst", ".zstd")
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOCK = 2**17
HEAD_BYTES = 2**16
#: Texts pack to a tenth of their size, tables to a hundredth; a thousandth is what a bomb is made of.
_SUSPICIOUS_RATIO, _SUSPICIOUS_BYTES = 500, 64 * 2**20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a corpus.

    Attributes:
        path: where it is; ``None`` for standard input.
        name: as messages call it.
        relative: its path inside the folder that was named, with ``/``; the file name if it was named itself.
        id: what a document that is the whole file is called; ``relative`` if nothing else is said.
        found: a folder or a pattern brought it along; nobody named it.
    """

    path: Path | None
    name: str
    relative: str
    id: str = ""
    found: bool = False

    @property
    def suffix(self) -> str:
        """The extension that tells the format, in lower case: ``.jsonl`` of ``corpus.jsonl.gz``."""
        return format_suffix(self.relative)

    @property
    def size(self) -> int:
        """Bytes as stored; 0 when it cannot be told."""
        try:
            return self.path.stat().st_size if self.path else 0
        except OSError:
            return 0


def format_suffix(name: str) -> str:
    """The extension that tells the format, in lower case, without that of a compression."""
    name = name.lower()
    for suffix in COMPRESSION_SUFFIXES:
        name = name.removesuffix(suffix)
    return PurePosixPath(name).suffix


def readable_once(source: str | os.PathLike[str]) -> bool:
    """Whether a second reading would find nothing, or wait for ever: standard input, pipes, process substitution."""
    path = Path(source)
    return os.fspath(source) == "-" or (path.exists() and not path.is_file() and not path.is_dir())


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An open file.

    Attributes:
        file: which one.
        head: its first :data:`HEAD_BYTES` bytes, decompressed, to look at.
        stream: all of it from the start, decompressed.
        seekable: whether ``file.path`` itself can be opened instead: neither compressed nor a pipe.
        before: bytes that were read of the files before it.
    """

    file: SourceFile
    head: bytes
    stream: io.BufferedReader[Readable]
    seekable: bool
    before: int


@contextmanager
def open_file(file: SourceFile, report: ReadReport) -> Iterator[OpenFile]:
    """Open a file for reading, decompressed if its first bytes (not its name) say gzip or zstd.

    Yields:
        The open file. Reading its stream raises ``EOFError``, ``OSError`` or ``zlib.error`` for compressed data that
        ends early or is damaged.
    """
    before = report.bytes_done
    with ExitStack() as stack:
        source = sys.stdin.buffer if file.path is None else stack.enter_context(file.path.open("rb", buffering=0))

        def read(size: int) -> bytes:
            data = source.read(size) or b""
            report.bytes_done += len(data)
            return data

        stored = io.BufferedReader(Readable(read), _BLOCK)
        packing = _packing(stored, file)
        unpack = _decompressed(stored, packing)
        plain = io.BufferedReader(Readable(_within_reason(unpack, report, before) if packing else unpack), _BLOCK)
        head = plain.read(HEAD_BYTES)
        stream = io.BufferedReader(Readable(_chained(head, plain)), _BLOCK)
        seekable = not packing and file.path is not None and file.path.is_file()
        yield OpenFile(file, head, stream, seekable, before)


def _packing(stored: io.BufferedReader[Readable], file: SourceFile) -> str:
    """``gzip``, ``zstd`` or ``""``."""
    magic = stored.peek(4)[:4]
    if not magic and file.relative.lower().endswith(COMPRESSION_SUFFIXES):
        raise EOFError("the file is empty, which no compressed file is")
    return "gzip" if magic.startswith(_GZIP_MAGIC) else "zstd" if magic == _ZSTD_MAGIC else ""


def _decompressed(stored: io.BufferedReader[Readable], packing: str) -> Callable[[int], bytes]:
    """A function that reads the content of ``stored``."""
    if packing == "gzip":
        return gzip.GzipFile(fileobj=stored, mode="rb").read1
    if packing == "zstd":
        # Not zstandard.stream_reader, which takes a file that was cut off for a file that ends.
        import pyarrow

        read: Callable[[int], bytes] = pyarrow.CompressedInputStream(pyarrow.PythonFile(stored, mode="r"), "zstd").read
        return read
    return stored.read1


def _within_reason(unpack: Callable[[int], bytes], report: ReadReport, before: int) -> Callable[[int], bytes]:
    """The same function, ended by an error where a few bytes unpack to so many that it cannot be a text."""
    unpacked = 0

    def read(size: int) -> bytes:
        nonlocal unpacked
        data = unpack(size)
        unpacked += len(data)
        stored = max(report.bytes_done - before, 1)
        if unpacked > _SUSPICIOUS_BYTES and unpacked > _SUSPICIOUS_RATIO * stored:
            raise BrokenFileError(0, f"it unpacks to more than {_SUSPICIOUS_RATIO} times its size: a bomb?", TOO_LARGE)
        return data

    return read


def _chained(head: bytes, rest: io.BufferedReader[Readable]) -> Callable[[int], bytes]:
    start = io.BytesIO(head)
    return lambda size: start.read(size) or rest.read1(size)


class Readable(io.RawIOBase):
    """A read function as a raw stream, for BufferedReader to stand on.

    Closing it closes nothing: standard input is not ours to close, and :func:`open_file` closes the file.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Fill a buffer as far as one call goes; the number of bytes."""
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)
