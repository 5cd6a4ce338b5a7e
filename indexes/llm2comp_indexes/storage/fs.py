"""All writing of index files goes through here.

Two reasons for one module. First, what makes a write durable is said once: files are written under a temporary
directory, fsynced, renamed into place, and the parent directory is fsynced. Second, tests can fail, cut short or
kill at any operation: every operation asks the installed `Observer` first, and the steps of a commit announce
themselves by name through `point`.

SQLite (``store.db``) and tantivy do their own writing; the tests reach the first through a SQLite VFS and the second
through full file systems, and neither is trusted until the commit in `llm2comp_indexes.core.writer` names its bytes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = [
    "BLOCK_BYTES",
    "FileRecord",
    "FileWriter",
    "Observer",
    "fsync_directory",
    "link",
    "make_directory",
    "observed",
    "point",
    "record_file",
    "remove_tree",
    "rename",
    "replace",
    "write_text",
]

BLOCK_BYTES = 64 * 1024  # bytes per checksum: what a reader must read to trust one row of a file


class Observer(Protocol):
    """Called before each operation; may raise `OSError`, kill the process, or shorten a write.

    ``operation`` is ``open``, ``write``, ``fsync``, ``fsync_directory``, ``rename``, ``mkdir``, ``remove``, ``link`` or
    ``point:NAME``; ``size`` is the number of bytes about to be written, 0 for the others. The return value of a
    ``write`` is how many of them to write.
    """

    def __call__(self, operation: str, path: Path, size: int) -> int:
        """Allow ``operation``, wholly or in part."""


_observer: Observer | None = None


@contextlib.contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Install ``observer`` for the time of a ``with`` block (fault injection in tests)."""
    global _observer
    previous, _observer = _observer, observer
    try:
        yield
    finally:
        _observer = previous


def _ask(operation: str, path: Path, size: int = 0) -> int:
    return size if _observer is None else _observer(operation, path, size)


def point(name: str) -> None:
    """Announce a named step of a commit, where tests may kill the process."""
    if _observer is not None:
        _observer(f"point:{name}", Path(), 0)


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a commit knows of one immutable file.

    Attributes:
        name: file name in its directory.
        size: in bytes.
        sha256: hexadecimal, of the whole file.
        checksums: CRC-32 of each `BLOCK_BYTES` block as little-endian uint32, so that a reader can trust a part
            without reading the whole.
    """

    name: str
    size: int
    sha256: str
    checksums: bytes


class _Digest:
    """SHA-256 of a stream and CRC-32 of each of its blocks."""

    def __init__(self) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._crc = 0
        self._checksums = bytearray()

    def update(self, data: memoryview) -> None:
        self._sha256.update(data)
        while data:
            piece = data[: BLOCK_BYTES - self.size % BLOCK_BYTES]
            self._crc = zlib.crc32(piece, self._crc)
            self.size += len(piece)
            if self.size % BLOCK_BYTES == 0:
                self._push()
            data = data[len(piece) :]

    def _push(self) -> None:
        self._checksums += self._crc.to_bytes(4, "little")
        self._crc = 0

    def record(self, name: str) -> FileRecord:
        if self.size % BLOCK_BYTES:
            self._push()
        return FileRecord(name, self.size, self._sha256.hexdigest(), bytes(self._checksums))


class FileWriter:
    """Writes a new file front to back, hashing as it goes; `close` returns only when the bytes are on disk."""

    def __init__(self, path: Path) -> None:
        _ask("open", path)
        self.path = path
        self._digest = _Digest()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._digest.size

    def write(self, data: memoryview | bytes) -> None:
        """Append all of ``data`` (a contiguous buffer)."""
        rest = memoryview(data).cast("B")
        while rest:
            allowed = _ask("write", self.path, len(rest))
            written = os.write(self._descriptor, rest[:allowed])
            if written == 0:
                raise OSError(errno.EIO, "the operating system wrote nothing", str(self.path))
            self._digest.update(rest[:written])
            rest = rest[written:]

    def close(self) -> FileRecord:
        """Fsync and close; returns what was written."""
        try:
            _ask("fsync", self.path)
            os.fsync(self._descriptor)
        finally:
            self.abandon()
        return self._digest.record(self.path.name)

    def abandon(self) -> None:
        """Close without promising anything."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a small new file, durably."""
    writer = FileWriter(path)
    try:
        writer.write(text.encode())
        writer.close()
    finally:
        writer.abandon()


def record_file(path: Path) -> FileRecord:
    """Hash a finished file."""
    digest = _Digest()
    with path.open("rb") as file:
        while chunk := file.read(16 * BLOCK_BYTES):
            digest.update(memoryview(chunk))
    return digest.record(path.name)


def make_directory(path: Path) -> None:
    """Create a directory and its missing parents."""
    _ask("mkdir", path)
    path.mkdir(parents=True, exist_ok=True)


def link(source: Path, target: Path) -> None:
    """Hard-link an immutable file, or copy it where the file system has no hard links."""
    _ask("link", target)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK):
            raise
        shutil.copyfile(source, target)


def rename(source: Path, target: Path) -> None:
    """Move a finished directory into place and make the names in it and the move itself durable."""
    fsync_directory(source)
    _ask("rename", target)
    source.rename(target)
    fsync_directory(target.parent)


def replace(source: Path, target: Path) -> None:
    """Put a finished file in place of another, durably."""
    _ask("rename", target)
    source.replace(target)
    fsync_directory(target.parent)


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    _ask("fsync_directory", path)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> bool:
    """Remove a directory unless a reader has pinned it (see `Pin`); returns whether it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _ask("remove", path)
        shutil.rmtree(path)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
