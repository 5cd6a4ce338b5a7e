"""From what the user names to byte streams: folders, BEIR folders, standard input, gzip and zstd."""

from __future__ import annotations

import gzip
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from llm2comp_apps.corpus.ignoring import IgnoreRules
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.corpus.report import ReadReport
from llm2comp_apps.errors import CorpusError, UsageError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "COMPRESSION_SUFFIXES",
    "FORMAT_BY_SUFFIX",
    "HEAD_BYTES",
    "OpenFile",
    "SourceFile",
    "check_sources",
    "find_files",
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
}
COMPRESSION_SUFFIXES = (".gz", ".zst", ".zstd")
# What this program writes beside a corpus is not part of the corpus.
_OUR_FOLDERS = (".index", ".clusters")
_OUR_FILES = (".clusters.jsonl", ".clusters.parquet")
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOCK = 2**17
HEAD_BYTES = 2**16
STDIN = "<stdin>"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a corpus.

    Attributes:
        path: where it is; ``None`` for standard input.
        name: as messages call it.
        relative: its path inside the folder that was named, with ``/``; the file name if it was named itself.
    """

    path: Path | None
    name: str
    relative: str

    @property
    def suffix(self) -> str:
        """The extension that tells the format, in lower case: ``.jsonl`` of ``corpus.jsonl.gz``."""
        return _format_suffix(self.relative)

    @property
    def size(self) -> int:
        """Bytes as stored; 0 when it cannot be told."""
        try:
            return self.path.stat().st_size if self.path else 0
        except OSError:
            return 0


def check_sources(sources: Sequence[str | os.PathLike[str]], options: CorpusOptions, report: ReadReport) -> None:
    """Find out before the first document whether every source is there, and how many bytes there are.

    Raises:
        UsageError: no source, or standard input twice.
        CorpusError: a source does not exist, or a folder holds nothing to read.
    """
    names = [os.fspath(source) for source in sources]
    if not names:
        raise UsageError("no corpus given: name a file, a folder or - for standard input")
    if names.count("-") > 1:
        raise UsageError("standard input (-) can be read only once")
    report.bytes_total = None if any(map(readable_once, names)) else 0
    for name in names:
        if name != "-" and not Path(name).exists():
            raise CorpusError(f"{name}: no such file or folder")
        count = 0
        for file in find_files([name], options, report):
            count += 1
            if report.bytes_total is not None:
                report.bytes_total += file.size
        if not count:
            kinds = " ".join(FORMAT_BY_SUFFIX)
            raise CorpusError(f"{name}: the folder holds no file to read (looked for {kinds}, also .gz and .zst)")


def readable_once(source: str | os.PathLike[str]) -> bool:
    """Whether a second reading would find nothing, or wait for ever: standard input, pipes, process substitution."""
    path = Path(source)
    return os.fspath(source) == "-" or (path.exists() and not path.is_file() and not path.is_dir())


def find_files(
    sources: Sequence[str | os.PathLike[str]],
    options: CorpusOptions,
    report: ReadReport | None = None,
    *,
    gitignore: bool = False,
) -> Iterator[SourceFile]:
    """Walk the sources in order, folders sorted by name, without holding the list.

    Of a BEIR folder (``corpus.jsonl`` beside ``queries.jsonl`` or ``qrels``) only the corpus is read.

    Args:
        sources: files, folders, ``-``.
        options: ``format`` decides which files of a folder are wanted.
        report: its ``ignored_files`` counts the others.
        gitignore: leave out of folders what their ``.gitignore`` files leave out.
    """
    for source in sources:
        name = os.fspath(source)
        if name == "-":
            yield SourceFile(None, STDIN, STDIN)
        elif Path(name).is_dir():
            yield from _walk(
                Path(name), options, report, IgnoreRules(Path(name)).ignores if gitignore else _ignores_none
            )
        else:
            yield SourceFile(Path(name), _printable(Path(name)), _printable(Path(Path(name).name)))


class _Ignores(Protocol):
    """Whether a path is left out."""

    def __call__(self, path: Path, *, folder: bool) -> bool: ...


def _ignores_none(path: Path, *, folder: bool) -> bool:  # noqa: ARG001 - the signature of a rule
    return False


def _walk(root: Path, options: CorpusOptions, report: ReadReport | None, ignores: _Ignores) -> Iterator[SourceFile]:
    visited = set()
    for folder, subfolders, names in os.walk(root, onerror=_raise, followlinks=True):
        here = Path(folder)
        identity = (here.stat().st_dev, here.stat().st_ino)
        if identity in visited:  # a link that leads back up would never end
            subfolders.clear()
            continue
        visited.add(identity)
        corpus = _beir_corpus(subfolders, names)
        if corpus:
            subfolders.clear()
            names = [corpus]
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and not name.endswith(_OUR_FOLDERS) and not ignores(here / name, folder=True)
        )
        for name in sorted(names):
            path = here / name
            if name.startswith(".") or name.endswith(_OUR_FILES) or not path.is_file() or ignores(path, folder=False):
                continue
            if options.format != "auto" or _format_suffix(name) in FORMAT_BY_SUFFIX:
                yield SourceFile(path, _printable(path), _printable(path.relative_to(root)))
            elif report is not None:
                report.ignored_files += 1


def _raise(error: OSError) -> None:
    raise CorpusError(f"{error.filename}: the folder cannot be read: {error.strerror}")


def _printable(path: Path) -> str:
    """A path for messages and ids: with ``/``, and U+FFFD for what is not UTF-8 in a file's name."""
    return path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _beir_corpus(subfolders: Sequence[str], names: Sequence[str]) -> str | None:
    """The corpus file's name if a folder with these entries is a BEIR folder."""
    stems = {name.split(".")[0]: name for name in sorted(names) if _format_suffix(name) == ".jsonl"}
    judged = "queries" in stems or "qrels" in subfolders or "qrels.tsv" in names
    return stems.get("corpus") if judged else None


def _format_suffix(name: str) -> str:
    name = name.lower()
    for suffix in COMPRESSION_SUFFIXES:
        name = name.removesuffix(suffix)
    return PurePosixPath(name).suffix


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
    stream: io.BufferedReader[_Readable]
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

        stored = io.BufferedReader(_Readable(read), _BLOCK)
        packing = _packing(stored, file)
        plain = io.BufferedReader(_Readable(_decompressed(stored, packing)), _BLOCK)
        head = plain.read(HEAD_BYTES)
        stream = io.BufferedReader(_Readable(_chained(head, plain)), _BLOCK)
        seekable = not packing and file.path is not None and file.path.is_file()
        yield OpenFile(file, head, stream, seekable, before)


def _packing(stored: io.BufferedReader[_Readable], file: SourceFile) -> str:
    """``gzip``, ``zstd`` or ``""``."""
    magic = stored.peek(4)[:4]
    if not magic and file.relative.lower().endswith(COMPRESSION_SUFFIXES):
        raise EOFError("the file is empty, which no compressed file is")
    return "gzip" if magic.startswith(_GZIP_MAGIC) else "zstd" if magic == _ZSTD_MAGIC else ""


def _decompressed(stored: io.BufferedReader[_Readable], packing: str) -> Callable[[int], bytes]:
    """A function that reads the content of ``stored``."""
    if packing == "gzip":
        return gzip.GzipFile(fileobj=stored, mode="rb").read1
    if packing == "zstd":
        # Not zstandard.stream_reader, which takes a file that was cut off for a file that ends.
        import pyarrow

        read: Callable[[int], bytes] = pyarrow.CompressedInputStream(pyarrow.PythonFile(stored, mode="r"), "zstd").read
        return read
    return stored.read1


def _chained(head: bytes, rest: io.BufferedReader[_Readable]) -> Callable[[int], bytes]:
    start = io.BytesIO(head)
    return lambda size: start.read(size) or rest.read1(size)


class _Readable(io.RawIOBase):
    """A read function as a raw stream, for BufferedReader to stand on.

    Closing it closes nothing: standard input is not ours to close, and :func:`open_file` closes the file.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)
