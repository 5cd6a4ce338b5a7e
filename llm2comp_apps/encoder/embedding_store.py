"""Embeddings on disk, by key: the SQLite file behind the caches of evaluation and clustering.

It is a convenience and never a reason to fail: a file that cannot be opened, read or written costs one warning and
time; from then on the store is empty and silent.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["EmbeddingStore", "Vector"]

Vector = npt.NDArray[np.floating]

_SCHEMA = "CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, vector BLOB NOT NULL) STRICT, WITHOUT ROWID"
_AT_ONCE = 900  # SQLite's oldest limit on parameters is 999
_PATIENCE = 60.0  # seconds to wait for another process that writes


class EmbeddingStore:
    """Vectors of one encoder by key.

    Args:
        path: the file; folders above it are made. ``None`` keeps nothing.
        dtype: of the stored numbers, ``<f4`` or ``<f2``.
    """

    def __init__(self, path: Path | None, dtype: str) -> None:
        self.path = path
        self._dtype = np.dtype(dtype)
        self._connection: sqlite3.Connection | None = None
        if path is not None:
            with self._tolerant():
                path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
                self._connection.execute("PRAGMA journal_mode = WAL")
                # A lost tail is encoded again: no reason to wait for the disk at each commit.
                self._connection.execute("PRAGMA synchronous = NORMAL")
                self._connection.execute(_SCHEMA)

    def get(self, keys: Sequence[bytes], dimension: int) -> dict[bytes, Vector]:
        """The vectors of those ``keys`` that are there and sound: ``dimension`` finite numbers.

        An encoder that went wrong once, such as one that overflowed on one device, is asked again.
        """
        found: list[tuple[bytes, bytes]] = []
        if self._connection is not None:
            with self._tolerant():
                for start in range(0, len(keys), _AT_ONCE):
                    part = keys[start : start + _AT_ONCE]
                    marks = ",".join("?" * len(part))
                    query = f"SELECT key, vector FROM embeddings WHERE key IN ({marks})"  # noqa: S608 - only marks
                    found += self._connection.execute(query, part).fetchall()
        size = self._dtype.itemsize * dimension
        whole = {key: np.frombuffer(blob, dtype=self._dtype) for key, blob in found if len(blob) == size}
        return {key: vector for key, vector in whole.items() if np.isfinite(vector).all()}

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of ``keys`` that are there."""
        found: set[bytes] = set()
        if self._connection is not None:
            with self._tolerant():
                for start in range(0, len(keys), _AT_ONCE):
                    part = keys[start : start + _AT_ONCE]
                    query = f"SELECT key FROM embeddings WHERE key IN ({','.join('?' * len(part))})"  # noqa: S608 - marks
                    found.update(key for (key,) in self._connection.execute(query, part))
        return found

    def put(self, keys: Sequence[bytes], vectors: npt.NDArray[np.floating]) -> None:
        """Keep the rows of ``vectors`` (n, d) under ``keys``, in one transaction."""
        if self._connection is not None:
            rows = [(key, row.tobytes()) for key, row in zip(keys, vectors.astype(self._dtype), strict=True)]
            with self._tolerant():
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?)", rows)
                self._connection.execute("COMMIT")

    def __len__(self) -> int:
        if self._connection is None:
            return 0
        return int(self._connection.execute("SELECT count(*) FROM embeddings").fetchone()[0])

    def close(self) -> None:
        """Close the file; what is asked for afterwards is not there."""
        if self._connection is not None:
            with closing(self._connection):
                self._connection = None

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            warnings.warn(
                f"{self.path}: embeddings are computed again and not kept ({error}); if the file is damaged, delete it",
                stacklevel=4,
            )
            self.close()
