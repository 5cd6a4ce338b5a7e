"""Embeddings by content: a text that an encoder has seen is not encoded again, whichever file it comes in.

One SQLite file per encoder fingerprint and prompt, in ``embeddings/`` of the cache directory. Vectors are kept, and
always returned, in half precision, as an index keeps them: a first run, a second run and an index see the same ones.
"""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from llm2comp_apps.clustering.neighbors import FloatArray
from llm2comp_apps.encoder.cache import cache_dir
from llm2comp_apps.encoder.protocol import TextEncoder

__all__ = ["embed", "embeddings_file"]

_SCHEMA = "CREATE TABLE IF NOT EXISTS embeddings (text BLOB PRIMARY KEY, vector BLOB NOT NULL) STRICT, WITHOUT ROWID"
_AT_ONCE = 900  # SQLite's oldest limit on parameters is 999
_PATIENCE = 30.0  # seconds to wait for another process that writes


def embeddings_file(encoder: TextEncoder, prompt: str) -> Path:
    """Where the embeddings of an encoder under a prompt are kept."""
    key = hashlib.sha256(f"{encoder.fingerprint}\n{prompt}".encode()).hexdigest()[:32]
    return cache_dir() / "embeddings" / f"{key}.sqlite"


def embed(
    texts: Sequence[str],
    encoder: TextEncoder,
    *,
    prompt: str = "",
    cache: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> FloatArray:
    """Embed texts, each distinct one once, taking from the cache what is there.

    What was encoded is stored as it comes, so that an interrupted run goes on where it stopped. A cache that cannot be
    read or written costs a warning and time, nothing else.

    Args:
        texts: n texts.
        encoder: any.
        prompt: put before each text.
        cache: read and write the cache.
        progress: told how many of how many texts that were not in the cache are encoded.

    Returns:
        ``(n, d)`` float32, rounded to half precision.
    """
    keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    vectors = np.zeros((len(texts), encoder.dimension), dtype=np.float16)
    places: dict[bytes, list[int]] = {}
    for position, key in enumerate(keys):
        places.setdefault(key, []).append(position)
    with _Store(embeddings_file(encoder, prompt) if cache else None) as store:
        missing = dict(places)
        for key, vector in store.read(list(places), encoder.dimension):
            vectors[missing.pop(key)] = vector
        waiting = iter(missing.items())
        done, total = 0, len(missing)
        blocks = encoder.encode_stream((texts[where[0]] for where in missing.values()), prompt=prompt or None)
        for block in blocks:
            rows = block.astype(np.float16)
            named = list(zip(itertools.islice(waiting, len(rows)), rows, strict=True))
            for (_, where), row in named:
                vectors[where] = row
            store.write([(key, row.tobytes()) for (key, _), row in named])
            done += len(rows)
            if progress is not None:
                progress(done, total)
    return vectors.astype(np.float32)


class _Store:
    """The file, or nothing at all: every failure turns into a warning and an empty, silent store."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> _Store:
        if self._path is not None:
            with self._tolerant():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None)
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = NORMAL")  # a lost tail is only encoded again
                self._connection.execute(_SCHEMA)
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read(self, keys: Sequence[bytes], dimension: int) -> Iterator[tuple[bytes, FloatArray]]:
        """The vectors of those keys that are there."""
        found: list[tuple[bytes, bytes]] = []
        if self._connection is not None:
            with self._tolerant():
                for start in range(0, len(keys), _AT_ONCE):
                    part = keys[start : start + _AT_ONCE]
                    marks = ",".join("?" * len(part))
                    query = f"SELECT text, vector FROM embeddings WHERE text IN ({marks})"  # noqa: S608 - only marks
                    found += self._connection.execute(query, part).fetchall()
        for key, blob in found:
            if len(blob) == 2 * dimension:
                yield key, np.frombuffer(blob, dtype="<f2")

    def write(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Add vectors, in one transaction."""
        if self._connection is not None:
            with self._tolerant():
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany("INSERT OR IGNORE INTO embeddings VALUES (?, ?)", rows)
                self._connection.execute("COMMIT")

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            warnings.warn(f"{self._path}: embeddings are not cached: {error}", stacklevel=5)
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            with closing(self._connection):
                self._connection = None
