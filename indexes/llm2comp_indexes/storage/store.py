"""``store.db``: the documents, and the manifest that makes a set of files one generation of an index.

SQLite in WAL mode with ``synchronous=FULL``; its transaction is the one commit point of the whole directory. Every
page carries a checksum, written and checked on each read by SQLite's own ``cksumvfs`` (that is why this room uses
apsw and not the standard library's ``sqlite3``), so a changed byte is an error and never an answer.

Two files stay beside it, ``store.db-wal`` (empty while nobody has the index open) and ``store.db-shm`` (locks, no
data), so that a reader that may not write there can take SQLite's locks and is safe beside a writer. Where they are
missing, as on a medium that was written without them, such a reader trusts that nothing changes, and looks each time
whether something did (`check_unchanged`).

The database is opened by SQLite only, never by `open`: to close any descriptor of a file drops all POSIX locks that the
process has on it, and a writer would no longer see its readers.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import apsw
import apsw.sqlite_extra
import numpy as np

from llm2comp_indexes.errors import (
    DependencyError,
    IndexDamagedError,
    IndexExistsError,
    IndexFormatError,
    IndexLockedError,
    IndexMissingError,
    IndexStoreError,
    IndexWriteError,
    OlderFormatError,
)
from llm2comp_indexes.storage import schema
from llm2comp_indexes.storage.checked import REPAIR
from llm2comp_indexes.storage.dates import date_key
from llm2comp_indexes.storage.fs import FileRecord

__all__ = [
    "DIRECTORIES",
    "STORE_NAME",
    "Commit",
    "Manifest",
    "SegmentRecord",
    "StoreConnection",
    "check_free",
    "check_unchanged",
    "connect_reader",
    "connect_writer",
    "create_store",
    "damaged_pages",
    "has_pages_beyond",
    "migrate",
    "newest_commit",
    "read_manifest",
    "size_on_disk",
    "translated",
    "write_manifest",
]

_CACHE_KIB = 32_000  # pages of store.db that a connection keeps in memory, at most
_LEAST_CACHE_KIB = 1_000

STORE_NAME = "store.db"
DIRECTORIES = {"vectors": "segments", "lexical": "lexical", "ann": "ann"}
"""Where each role of `SegmentRecord` lives."""

_SAFE_NAME = re.compile(r"\.?\w[\w.-]*", re.ASCII)
_VFS = "cksmvfs"
_RESERVED_BYTES = 8  # per page, for cksumvfs
_HEADER_BYTES = 100
_PAGES = 4096  # checked at a time
_LOCK_BYTE = 1 << 30  # SQLite never writes the page that holds this byte
_RESERVED_OFFSET = 20  # in the header of a SQLite file


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """One immutable directory of a generation.

    Attributes:
        name: directory name.
        role: ``vectors`` (under ``segments/``), ``lexical`` (under ``lexical/``) or ``ann`` (under ``ann/``).
        rows: vectors, or documents of a lexical snapshot.
        files: every file in it; none = there is no such directory.
        detail: what else its role needs (of a FAISS index: its segment, factory string, setting, measured recall).
    """

    name: str
    role: str
    rows: int
    files: tuple[FileRecord, ...]
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def directory(self) -> str:
        """Path relative to the index."""
        return f"{DIRECTORIES[self.role]}/{self.name}"

    def file(self, name: str) -> FileRecord | None:
        """The record of one of its files, if it has that file."""
        return next((file for file in self.files if file.name == name), None)


Commit: TypeAlias = tuple[int, frozenset[str]]
"""The number of a generation and the names of its directories, which no index made later at the same path has again."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything about a generation except its documents."""

    generation: int
    dimension: int
    memory_tokens: int
    encoder: dict[str, str]
    settings: dict[str, Any]
    documents: int = 0
    next_num: int = 1
    segments: tuple[SegmentRecord, ...] = ()
    lexical: SegmentRecord | None = None
    anns: tuple[SegmentRecord, ...] = ()
    memory_form: str = schema.OLDEST_MEMORY_FORM
    format: int = schema.OLDEST

    @property
    def commit(self) -> Commit:
        """Tells this generation from all others."""
        return self.generation, frozenset(record.name for record in self.records)

    @property
    def records(self) -> tuple[SegmentRecord, ...]:
        """Every directory of the generation."""
        return (*self.segments, *self.anns, *((self.lexical,) if self.lexical else ()))

    def ann(self, segment: str) -> SegmentRecord | None:
        """The FAISS index of a segment, or the decision to have none; None while that is open."""
        return next((record for record in self.anns if record.detail["segment"] == segment), None)


@cache
def _load_checksum_vfs() -> None:
    connection = apsw.Connection(":memory:")
    try:
        apsw.sqlite_extra.load(connection, "cksumvfs")
    except (apsw.sqlite_extra.NotAvailable, apsw.ExtensionLoadingError) as error:
        raise DependencyError(
            "this build of apsw has no cksumvfs; install the wheel from PyPI: pip install --force-reinstall apsw"
        ) from error
    finally:
        connection.close()


@contextlib.contextmanager
def translated(index: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, naming ``store.db`` of ``index``."""
    try:
        yield
    except apsw.Error as error:
        raise _ours(index / STORE_NAME, error) from error


_NO_ROOM = {
    apsw.SQLITE_IOERR_SHMSIZE: "-shm: no room for its 32 KiB: the disk is full",  # readers need it, too
    apsw.SQLITE_IOERR_WRITE: ": cannot be written; the index stays at its last commit: the disk fails",
}


def _ours(path: Path, error: apsw.Error) -> IndexStoreError:
    """The error that says of ``path`` what SQLite's says."""
    if isinstance(error, apsw.FullError):
        return IndexWriteError(f"{path}: no space left; the index stays at its last commit")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | apsw.FormatError):
        return IndexDamagedError(f"{path}: damaged ({error}); {REPAIR}")
    if isinstance(error, apsw.IOError):
        result = getattr(error, "extendedresult", 0)
        if result == apsw.SQLITE_IOERR_DATA:
            return IndexDamagedError(f"{path}: a page does not match its checksum; {REPAIR}")
        if cause := _NO_ROOM.get(result):
            return IndexWriteError(f"{path}{cause}, or files may not be so large (ulimit -f)")
        return IndexWriteError(f"{path}: input/output error ({error}); the index stays at its last commit")
    if isinstance(error, apsw.BusyError):
        return IndexLockedError(f"{path}: another program holds a lock on this database")
    if isinstance(error, apsw.ReadOnlyError | apsw.CantOpenError | apsw.PermissionsError):
        return IndexWriteError(f"{path}: cannot be opened for writing ({error})")
    return IndexStoreError(f"{path}: {error}")


def _check_header(index: Path) -> None:
    """Refuse what SQLite would take for an empty database or read without checksums."""
    path = index / STORE_NAME
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        if index.is_dir():
            raise IndexFormatError(f"{index}: not an index (it has no {STORE_NAME})") from None
        raise IndexMissingError(f"{index}: there is no index here; make one with `llm2comp index build`") from None
    with translated(index), _raw(path) as file:
        header = file.xRead(min(size, _HEADER_BYTES), 0)
    if (
        len(header) < _HEADER_BYTES
        or header[:16] != b"SQLite format 3\0"
        or header[_RESERVED_OFFSET] != _RESERVED_BYTES
    ):
        raise IndexDamagedError(f"{path}: its first bytes are not those of an index; restore it from a copy")
    # SQLite reads the rest of a page that was cut off as zeros, past every checksum.
    if size % _page_size(header) and _is_settled(path):
        raise IndexDamagedError(f"{path}: ends in the middle of a page; {REPAIR}")


def _is_settled(path: Path) -> bool:
    """Whether the database has no write-ahead log, in which pages of it may wait."""
    log = path.with_name(path.name + "-wal")
    return not log.exists() or log.stat().st_size == 0


@contextlib.contextmanager
def _raw(path: Path) -> Iterator[apsw.VFSFile]:
    """The bytes of a database, without checksums, and without losing the locks of its connections."""
    file = apsw.VFSFile("unix", str(path), [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0])
    try:
        yield file
    finally:
        file.xClose()


class StoreConnection(apsw.Connection):
    """A connection to ``store.db``.

    Attributes:
        trusted: of a database that is read without locks, how it was when it was opened; None for all others.
    """

    trusted: tuple[int, ...] | None = None


def _open(path: Path, flags: int, *, immutable: bool = False) -> StoreConnection:
    _load_checksum_vfs()
    state = _state(path) if immutable else None
    name = "file:" + urllib.parse.quote(str(path)) + ("?immutable=1" if immutable else "")
    connection = StoreConnection(name, flags=flags | apsw.SQLITE_OPEN_URI, vfs=_VFS)
    connection.trusted = state
    connection.set_busy_timeout(10_000)
    connection.create_scalar_function("date_key", date_key, 2, deterministic=True)
    if flags & apsw.SQLITE_OPEN_READWRITE:
        connection.pragma("journal_size_limit", 0)  # the last to close empties the write-ahead log ...
        yes = ctypes.c_int(1)
        connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(yes))  # ... and leaves it
    return connection


def _state(path: Path) -> tuple[int, ...]:
    """What is different after anybody wrote to a database."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def check_unchanged(index: Path, connection: StoreConnection) -> None:
    """Refuse what was read without locks if somebody wrote meanwhile.

    Raises:
        IndexLockedError: somebody did.
    """
    if connection.trusted is not None and connection.trusted != _state(index / STORE_NAME):
        raise IndexLockedError(
            f"{index / STORE_NAME}: was written to while it was read without the permission to lock it; open it again"
        )


def damaged_pages(index: Path) -> Iterator[int]:
    """Numbers of the pages of ``store.db``, free ones too, that do not match the checksum in their last 8 bytes.

    SQLite checks the pages that it reads; this reads them all. The checksum is that of ``cksumvfs``: two sums over the
    page's little-endian 32-bit words, taken in turns, here for many pages at a time.
    """
    path = index / STORE_NAME
    with _raw(path) as file:
        size = _page_size(file.xRead(_HEADER_BYTES, 0))
        first, pages = 1, path.stat().st_size // size
        while first <= pages:
            chunk = file.xRead(min(_PAGES, pages - first + 1) * size, (first - 1) * size)
            words = np.frombuffer(chunk, dtype="<u4", count=len(chunk) // 4).reshape(-1, size // 4)
            low, high = np.zeros(len(words), dtype=np.uint32), np.zeros(len(words), dtype=np.uint32)
            for even in range(0, size // 4 - 2, 2):
                low += words[:, even] + high
                high += words[:, even + 1] + low
            wrong = (low != words[:, -2]) | (high != words[:, -1])
            numbers = first + np.flatnonzero(wrong)
            yield from numbers[numbers != _LOCK_BYTE // size + 1].tolist()
            first += len(words)


def has_pages_beyond(index: Path, connection: apsw.Connection) -> bool:
    """Whether the file is longer or shorter than its pages; that can be known only without a write-ahead log."""
    path = index / STORE_NAME
    if not _is_settled(path):
        return False
    return path.stat().st_size != int(connection.pragma("page_count")) * int(connection.pragma("page_size"))


def size_on_disk(index: Path, connection: apsw.Connection) -> int:
    """Bytes of an index, ``store.db`` as it is when nobody has it open: its write-ahead log folded in."""
    with translated(index):
        store = int(connection.pragma("page_count")) * int(connection.pragma("page_size"))
    others = 0
    for folder, _, names in os.walk(index):  # unlike rglob it does not mind what a writer removes meanwhile
        for name in names:
            if Path(folder) != index or name not in (STORE_NAME, f"{STORE_NAME}-wal"):
                with contextlib.suppress(FileNotFoundError):
                    others += Path(folder, name).stat().st_size
    return store + others


def _page_size(header: bytes) -> int:
    size = int.from_bytes(header[16:18], "big")
    return 65_536 if size == 1 else size


def check_free(index: Path) -> None:
    """Refuse a path where no index can be made: a new one is renamed into its place.

    Raises:
        IndexExistsError: something is there, or it is the folder that this process is in.
    """
    if index.exists() and not (index.is_dir() and not any(index.iterdir())):
        raise IndexExistsError(f"{index}: already exists; take another path, or remove it first")
    if index.exists() and index.samefile("."):  # relative paths would lead nowhere, once it is replaced
        raise IndexExistsError(f"{index}: is the folder that you are in; take another path")


def create_store(index: Path, manifest: Manifest) -> None:
    """Make ``store.db`` in an empty directory."""
    with translated(index):
        connection = _open(index / STORE_NAME, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
        try:
            reserved = ctypes.c_int(_RESERVED_BYTES)
            connection.file_control("main", apsw.SQLITE_FCNTL_RESERVE_BYTES, ctypes.addressof(reserved))
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", "full")
            connection.pragma("application_id", schema.APPLICATION_ID)
            with connection:
                connection.execute(schema.TABLES)
                write_manifest(connection, manifest)
        finally:
            connection.close()


def _can_lock(path: Path) -> bool:
    """Whether a reader without write permission can take locks: it cannot make the files that this needs."""
    beside = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    return all(os.access(file, os.R_OK) for file in beside)


def connect_writer(index: Path) -> apsw.Connection:
    """A connection that may write; the caller holds the writer lock."""
    _check_header(index)
    with translated(index):
        connection = _open(index / STORE_NAME, apsw.SQLITE_OPEN_READWRITE)
        connection.pragma("synchronous", "full")
        connection.pragma("foreign_keys", True)
        connection.pragma("secure_delete", True)  # a deleted text must not linger in a free page
        connection.pragma("cache_size", -_CACHE_KIB)  # a long transaction spills beyond it, so memory stays flat
        return connection


def connect_reader(index: Path, *, share: int = 1) -> StoreConnection:
    """A connection inside a read transaction: it sees one generation until it is closed.

    Args:
        index: the index directory.
        share: how many indexes are read as one: so many of them have the page cache of one. It is filled as pages are
            read: each is checked once and not again.
    """
    _check_header(index)
    path = index / STORE_NAME
    with translated(index):
        if os.access(index, os.W_OK) and os.access(path, os.W_OK):
            # Read-write, so that the last to close folds the write-ahead log in; query_only keeps our hands off.
            connection = _open(path, apsw.SQLITE_OPEN_READWRITE)
            connection.pragma("query_only", True)
        else:
            unlocked = not _can_lock(path)
            if unlocked and not _is_settled(path):
                raise IndexWriteError(
                    f"{path}: its last changes are still in {STORE_NAME}-wal, and without the permission to write here "
                    "they cannot be read; open the index once with that permission"
                )
            connection = _open(path, apsw.SQLITE_OPEN_READONLY, immutable=unlocked)
        connection.pragma("cache_size", -max(_LEAST_CACHE_KIB, _CACHE_KIB // share))
        connection.execute("BEGIN")
        return connection


def read_manifest(index: Path, connection: apsw.Connection) -> Manifest:
    """The generation that ``connection`` sees; refuses formats newer than this version's."""
    with translated(index):
        meta = dict(connection.execute("SELECT key, value FROM meta"))
        version = int(meta.get("format", "0"))
        if version > schema.FORMAT:
            raise IndexFormatError(
                f"{index}: index format {version} is newer than this version reads ({schema.FORMAT}); "
                "upgrade llm2comp-apps"
            )
        if version < schema.OLDEST:
            raise OlderFormatError(
                f"{index}: index format {version} is older than {schema.OLDEST}; it must be migrated"
            )
        files: dict[str, list[FileRecord]] = {}
        for segment, *rest in connection.execute(
            "SELECT segment, name, size, sha256, checksums FROM files ORDER BY 1, 2"
        ):
            files.setdefault(segment, []).append(FileRecord(*rest))
        records = [
            SegmentRecord(name, role, rows, tuple(files.get(name, ())), json.loads(detail))
            for name, role, rows, detail in connection.execute(
                "SELECT name, role, rows, detail FROM segments ORDER BY ordinal"
            )
        ]
    for name in (name for record in records for name in (record.name, *(file.name for file in record.files))):
        if not _SAFE_NAME.fullmatch(name):  # it becomes part of a path
            raise IndexDamagedError(f"{index / STORE_NAME}: names a file {name!r}; {REPAIR}")
    lexical = [record for record in records if record.role == "lexical"]
    return Manifest(
        generation=int(meta["generation"]),
        dimension=int(meta["dimension"]),
        memory_tokens=int(meta["memory_tokens"]),
        encoder=json.loads(meta["encoder"]),
        settings=json.loads(meta["settings"]),
        documents=int(meta["documents"]),
        next_num=int(meta["next_num"]),
        segments=tuple(record for record in records if record.role == "vectors"),
        lexical=lexical[0] if lexical else None,
        anns=tuple(record for record in records if record.role == "ann"),
        memory_form=meta.get("memory_form", schema.OLDEST_MEMORY_FORM),
        format=version,
    )


def newest_commit(index: Path) -> Commit:
    """The last commit, without opening the files that it names."""
    connection = connect_reader(index)
    try:
        with translated(index):
            generation = int(connection.execute("SELECT value FROM meta WHERE key = 'generation'").get)
            return generation, frozenset(name for (name,) in connection.execute("SELECT name FROM segments"))
    finally:
        connection.close()


def migrate(index: Path, connection: apsw.Connection) -> None:
    """Bring what is too old to the oldest format that is read, one step and one transaction a version."""
    with translated(index):
        while (version := int(connection.execute("SELECT value FROM meta WHERE key = 'format'").get)) < schema.OLDEST:
            connection.execute("BEGIN IMMEDIATE")
            schema.MIGRATIONS[version](connection)
            connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", (str(version + 1),))
            connection.execute("COMMIT")


def write_manifest(connection: apsw.Connection, manifest: Manifest) -> None:
    """Replace the manifest inside the caller's transaction."""
    meta = {
        "format": str(manifest.format),
        "generation": str(manifest.generation),
        "dimension": str(manifest.dimension),
        "memory_tokens": str(manifest.memory_tokens),
        "memory_form": manifest.memory_form,
        "encoder": json.dumps(manifest.encoder),
        "settings": json.dumps(manifest.settings),
        "documents": str(manifest.documents),
        "next_num": str(manifest.next_num),
    }
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())
    kept = manifest.records
    known = {name for (name,) in connection.execute("SELECT name FROM segments")}
    gone = known - {record.name for record in kept}
    connection.executemany("DELETE FROM segments WHERE name = ?", [(name,) for name in gone])
    for ordinal, record in enumerate(kept):
        # Negative first: an ordinal may still be taken by a neighbour that moves later in this loop.
        connection.execute(
            "INSERT INTO segments VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET ordinal = excluded.ordinal",
            (-1 - ordinal, record.name, record.role, record.rows, json.dumps(record.detail)),
        )
        if record.name not in known:
            connection.executemany(
                "INSERT INTO files VALUES (?, ?, ?, ?, ?)",
                [(record.name, file.name, file.size, file.sha256, file.checksums) for file in record.files],
            )
    connection.execute("UPDATE segments SET ordinal = -1 - ordinal")
