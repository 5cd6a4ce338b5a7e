"""What an index holds of the files of a folder: ``watched.db`` inside the index, a small SQLite database.

An index knows documents and not where they came from. To delete what a file that is gone had brought, somebody has to
remember it. Here stands, for each file, what it looked like when it was read last, and the ids of its documents.

An id is written down here before its document is committed to the index, and crossed out after the document has been
deleted there. So a crash in between leaves an id too many, which does no harm, and never one too few.

Several programs may look at once, and one at a time takes files in: it holds the lock of ``watched.lock`` meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from llm2comp_apps.files import locked_file

__all__ = ["FileState", "WatchedFiles"]

_NAME = "watched.db"
_LOCK = "watched.lock"
_TABLES = """
CREATE TABLE IF NOT EXISTS files (
  folder TEXT, path TEXT, size INTEGER, modified INTEGER, digest TEXT, PRIMARY KEY (folder, path)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (
  folder TEXT, path TEXT, id TEXT, look INTEGER, PRIMARY KEY (folder, path, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS claims_by_id ON claims (id, look);
"""


@dataclass(frozen=True, slots=True)
class FileState:
    """What a file looked like: bytes, time of the last change (ns), and a digest of its content.

    The digest is empty for a file that was not read to its end, and so has to be read again.
    """

    size: int
    modified: int
    digest: str = ""

    def looks_like(self, other: FileState) -> bool:
        """Whether size and time are the same, so that the content need not be read to know that it is."""
        return (self.size, self.modified) == (other.size, other.modified)


class WatchedFiles:
    """The files of one folder that an index holds documents of; close it when done.

    Args:
        index: the index directory.
        folder: that is watched; an index may watch several.
    """

    def __init__(self, index: Path, folder: Path) -> None:
        self._index, self._folder = index, str(folder.resolve())
        self._database = sqlite3.connect(index / _NAME, isolation_level=None, check_same_thread=False)
        # A commit costs no sync: what a power cut takes away here is read once more from the files.
        for setting in ("journal_mode=WAL", "synchronous=OFF"):
            self._database.execute(f"PRAGMA {setting}")
        self._database.executescript(_TABLES)
        self._opened = self._identity()
        self._look = 0

    def _identity(self) -> tuple[int, int] | None:
        with suppress(OSError):
            found = (self._index / _NAME).stat()
            return found.st_dev, found.st_ino
        return None

    @property
    def replaced(self) -> bool:
        """Whether the index was removed since, so that what stands here is about one that is no more."""
        return self._identity() != self._opened

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other program take files in while the block runs: it would count looks as this one does.

        Raises:
            IndexLockedError: another one does so now.
            IndexMissingError: the index was removed.
        """
        from llm2comp_indexes import IndexLockedError, IndexMissingError

        reason = f"{self._index}: another program takes files of a folder in; try again when it is done"
        held = ExitStack()
        try:
            held.enter_context(locked_file(self._index / _LOCK, IndexLockedError(reason)))
        except FileNotFoundError:
            raise IndexMissingError(f"{self._index}: the index was removed") from None
        with held:
            yield

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def states(self) -> dict[str, FileState]:
        """Every file that is known, by its path inside the folder."""
        rows = self._database.execute(
            "SELECT path, size, modified, digest FROM files WHERE folder = ?", (self._folder,)
        )
        return {path: FileState(*state) for path, *state in rows}

    def begin_look(self) -> None:
        """Tell the claims from now on from those of earlier looks, also of other programs."""
        (last,) = self._database.execute("SELECT coalesce(max(look), 0) FROM claims").fetchone()
        self._look = max(self._look, last) + 1

    def claim(self, path: str, id_: str) -> bool:
        """Write down that a file holds a document; whether it is the first claim to that id in this look."""
        query = "SELECT 1 FROM claims WHERE id = ? AND look = ? LIMIT 1"
        taken = self._database.execute(query, (id_, self._look)).fetchone()
        self._database.execute(
            "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?)", (self._folder, path, id_, self._look)
        )
        return taken is None

    def set_state(self, path: str, state: FileState) -> None:
        """Write down what a file looked like when it was read."""
        row = (self._folder, path, state.size, state.modified, state.digest)
        self._database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", row)

    def claims(self, path: str, *, older: bool) -> list[str]:
        """The ids that a file holds, or those of them that it did not hold in this look."""
        bound = self._look if older else self._look + 1
        query = "SELECT id FROM claims WHERE folder = ? AND path = ? AND look < ?"
        return [id_ for (id_,) in self._database.execute(query, (self._folder, path, bound))]

    @contextmanager
    def releasing(self, held: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
        """Cross out documents of files, once the block has deleted from the index those that no other file holds.

        Another file that holds one, and was not read in this look, has to be read again: the index may hold the
        document as it was in the file that lets go of it.

        Args:
            held: ids by the path of their file.

        Yields:
            The ids to delete.
        """
        others = "SELECT folder, path, look FROM claims WHERE id = ? AND (folder, path) != (?, ?)"
        cross_out = "DELETE FROM claims WHERE folder = ? AND path = ? AND id = ?"
        read_again = "UPDATE files SET digest = '' WHERE folder = ? AND path = ?"
        free = []
        self._database.execute("BEGIN")
        try:
            for path, id_ in ((path, id_) for path, ids in held.items() for id_ in ids):
                found = self._database.execute(others, (id_, self._folder, path)).fetchall()
                if found and all(look < self._look for *_, look in found):
                    self._database.execute(read_again, found[0][:2])
                if not found:
                    free.append(id_)
                self._database.execute(cross_out, (self._folder, path, id_))
            yield free
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def forget(self, path: str) -> None:
        """Cross out a file; its claims have gone before."""
        self._database.execute("DELETE FROM files WHERE folder = ? AND path = ?", (self._folder, path))
