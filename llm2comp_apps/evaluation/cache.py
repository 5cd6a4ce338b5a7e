"""Embeddings kept on disk, by content: a second metric, an interrupted table or a repeated run costs nothing.

One SQLite file per encoder fingerprint holds ``sha256(prompt, text) -> float32 row``. Each block of texts is committed
as soon as it is embedded, so an evaluation that is stopped goes on inside the corpus where it was.
"""

from __future__ import annotations

import hashlib
import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray, TextEncoder

__all__ = ["CachedEncoder", "EmbeddingCache"]

_BLOCK = 1024
_LOOKUP = 500  # below SQLite's old limit of 999 parameters


class EmbeddingCache:
    """Rows by key for one encoder, in ``directory/FINGERPRINT.sqlite``.

    A file that cannot be opened, read or written costs one warning and time: from then on the cache is empty.
    """

    def __init__(self, directory: Path, fingerprint: str) -> None:
        self.path = directory / f"{fingerprint[:32]}.sqlite"
        self._db: sqlite3.Connection | None = None
        with self._tolerant():
            directory.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=60)
            self._db.execute("PRAGMA journal_mode = WAL")
            # A lost row is embedded again: no reason to wait for the disk at each commit.
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID")

    def get(self, keys: Sequence[bytes], dimension: int) -> dict[bytes, FloatArray]:
        """The rows of those ``keys`` that are there; of another length than ``dimension`` they are damaged."""
        found: list[tuple[bytes, bytes]] = []
        with self._tolerant():
            for start in range(0, len(keys) if self._db else 0, _LOOKUP):
                part = keys[start : start + _LOOKUP]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, row FROM rows WHERE key IN ({marks})"  # noqa: S608 - only question marks go in
                assert self._db is not None
                found += self._db.execute(query, part).fetchall()
        return {key: np.frombuffer(row, dtype=np.float32) for key, row in found if len(row) == 4 * dimension}

    def put(self, keys: Sequence[bytes], rows: FloatArray) -> None:
        """Keep ``rows`` under ``keys``; one transaction."""
        if self._db is None:
            return
        named = [(key, row.astype(np.float32).tobytes()) for key, row in zip(keys, rows, strict=True)]
        with self._tolerant(), self._db:
            self._db.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?)", named)

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM rows").fetchone()[0]) if self._db else 0

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            with closing(self._db):
                self._db = None

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            warnings.warn(
                f"{self.path}: embeddings are computed anew and not kept ({error}); if the file is damaged, delete it",
                stacklevel=4,
            )
            self.close()


class CachedEncoder:
    """A :class:`TextEncoder` that asks ``cache`` first and embeds each distinct text once."""

    def __init__(self, encoder: TextEncoder, cache: EmbeddingCache) -> None:
        self.inner = encoder
        self.cache = cache

    @property
    def name(self) -> str:
        """The wrapped encoder's name."""
        return self.inner.name

    @property
    def fingerprint(self) -> str:
        """The wrapped encoder's fingerprint."""
        return self.inner.fingerprint

    @property
    def dimension(self) -> int:
        """The wrapped encoder's dimension."""
        return self.inner.dimension

    @property
    def prompts(self) -> dict[str, str]:
        """The wrapped encoder's prompts."""
        return self.inner.prompts

    def encode(self, texts: Sequence[str], *, prompt: str | None = None, show_progress: bool = False) -> FloatArray:
        """Embed ``texts``; see :meth:`TextEncoder.encode`."""
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        keys = [_key(prompt, text) for text in texts]
        rows = self.cache.get(list(dict.fromkeys(keys)), self.dimension)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in rows}
        # Similar lengths together: the encoder pads less, and the longest (slowest) come first.
        todo = sorted(missing.items(), key=lambda item: -len(item[1]))
        for start in range(0, len(todo), _BLOCK):
            block = todo[start : start + _BLOCK]
            vectors = self.inner.encode([text for _, text in block], prompt=prompt, show_progress=show_progress)
            block_keys = [key for key, _ in block]
            self.cache.put(block_keys, vectors)
            rows.update(zip(block_keys, vectors, strict=True))
        return np.stack([rows[key] for key in keys])

    def encode_stream(self, texts: Iterable[str], *, prompt: str | None = None) -> Iterator[FloatArray]:
        """Embed a stream block by block; see :meth:`TextEncoder.encode_stream`."""
        block: list[str] = []
        for text in texts:
            block.append(text)
            if len(block) == _BLOCK:
                yield self.encode(block, prompt=prompt)
                block = []
        if block:
            yield self.encode(block, prompt=prompt)


def _key(prompt: str | None, text: str) -> bytes:
    # A length prefix keeps (prompt, text) pairs apart that concatenate to the same string.
    head = (prompt or "").encode()
    return hashlib.sha256(b"%d:" % len(head) + head + text.encode("utf-8", "surrogatepass")).digest()
