"""Which row of a matrix belongs to which document, as a file beside the matrix says.

``llm2comp index export X.npy`` writes ``X.ids.jsonl`` (``{"id": ...}`` a line), ``llm2comp encode -o X.npy`` writes
``X.ids.txt`` (an id a line). Their rows need not be in the order of the corpus: an index exports them in the order in
which it stored them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llm2comp_apps.errors import CorpusError, UsageError
from llm2comp_apps.retrieval.batched import batched

__all__ = ["RowIds", "find_ids_file"]

_SUFFIXES = (".ids.jsonl", ".ids.txt")
_BATCH = 500  # ids looked up at a time


def find_ids_file(matrix: Path) -> Path | None:
    """The file of ids beside a matrix, if there is one.

    Raises:
        UsageError: there are two, of which one must be left over from another matrix.
    """
    found = [path for suffix in _SUFFIXES if (path := matrix.with_suffix(suffix)).is_file()]
    if len(found) > 1:
        raise UsageError(f"{found[0]} and {found[1]} both lie beside {matrix}; remove the one that is not its own")
    return found[0] if found else None


class RowIds:
    """The row of each id, on disk: SQLite keeps a database without a name in a temporary file until it is closed.

    Args:
        path: the file of ids.

    Raises:
        CorpusError: it cannot be read, or an id has several rows.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode=OFF")
        self._database.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, number INTEGER)")
        self._database.execute("BEGIN")
        self._count = 0
        try:
            for id_ in self._read():
                self._insert(id_)
        except (OSError, UnicodeDecodeError) as error:
            self.close()
            raise CorpusError(f"{path}: cannot be read: {error}") from error
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        """Remove the temporary file."""
        self._database.close()

    def _read(self) -> Iterator[str]:
        # Only \n ends a line: ids may hold what str.splitlines takes for a line end.
        with self._path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                text = line.rstrip("\r\n")
                yield text if self._path.suffix == ".txt" else _id_of(text, f"{self._path}:{number}")

    def _insert(self, id_: str) -> None:
        done = self._database.execute("INSERT OR IGNORE INTO rows VALUES (?, ?)", (id_, self._count))
        if not done.rowcount:
            hint = "; chunks of documents go by .parquet" if self._path.suffix == ".jsonl" else ""
            raise CorpusError(f"{self._path}: the id {id_!r} has more than one row{hint}")
        self._count += 1

    def take(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """The rows of documents, each of which can be taken once.

        Raises:
            CorpusError: an id has no row.
        """
        found: dict[str, int] = {}
        for batch in batched(ids, _BATCH):
            these = f"FROM rows WHERE id IN ({','.join('?' * len(batch))})"
            found.update(self._database.execute(f"SELECT id, number {these}", batch))
            self._database.execute(f"DELETE {these}", batch)
        missing = next((id_ for id_ in ids if id_ not in found), None)
        if missing is not None:
            raise CorpusError(f"{self._path}: has no row of the document {missing!r}")
        return np.array([found[id_] for id_ in ids], dtype=np.int64)

    def check_all_taken(self) -> None:
        """Refuse a matrix that has rows of documents that the corpus lacks.

        Raises:
            CorpusError: which.
        """
        row = self._database.execute("SELECT id FROM rows ORDER BY number LIMIT 1").fetchone()
        if row is not None:
            raise CorpusError(f"{self._path}: no document of the corpus has the id {row[0]!r}")


def _id_of(line: str, place: str) -> str:
    try:
        record: Any = json.loads(line)
    except ValueError as error:
        raise CorpusError(f"{place}: is no JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        raise CorpusError(f'{place}: is no record such as {{"id": "4983"}}')
    return str(record["id"])
