"""From an index to another engine: streaming, again from where it stopped, and checked.

Rows go over in batches, and each batch stays when it is written. A later run asks the engine which rows it has, and
sends those that are missing or have changed. In the end rows are counted, and 100 of the index's own vectors are
searched for: each must be found, and the neighbours that the engine gives are compared with the index's own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from llm2comp_indexes import IndexStoreError, IndexWriteError

from llm2comp_apps.errors import LLM2CompError, UsageError
from llm2comp_apps.retrieval.engines.rows import Engine, Row, batches_of, vectors_of

if TYPE_CHECKING:
    from llm2comp_indexes import Hit, Index

    from llm2comp_apps.encoder.protocol import FloatArray

__all__ = ["ENGINES", "EngineExport", "export_to"]

ENGINES = {"qdrant": "qdrant-client", "lancedb": "lancedb", "pgvector": "psycopg", "parquet": "pyarrow"}
"""Engines by name, and the library that each needs."""

BATCH = 1000
SEARCHES = 100
NEIGHBOURS = 10
_SAME = 0.999  # cosine of a vector to itself, where an engine rounds
_LONGEST = 400  # characters of what a library says
_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s]*(?=@)|\b(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]*)")
LEAST_FOUND = 0.95
"""Of the rows that are searched for by their own vectors; engines that search approximately may miss some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineExport:
    """What was done.

    Attributes:
        engine: one of :data:`ENGINES`.
        target: where; ``***`` stands for a password.
        name: of the collection, table or folder.
        rows: there now.
        written: sent by this run; the others were there.
        searches: rows that were searched for by their own vectors.
        found: those that came back, or a copy of which did.
        overlap: of the engine's ten nearest rows with the index's own, in the mean; 1.0 means the same ones, or others
            that are as near.
        seconds: wall time.
    """

    engine: str
    target: str
    name: str
    rows: int
    written: int
    searches: int
    found: int
    overlap: float
    seconds: float


def export_to(
    index: Index,
    to: str,
    target: str,
    *,
    name: str | None = None,
    on_progress: Callable[[int], None] | None = None,
    batch: int = BATCH,
) -> EngineExport:
    """Fill another engine with vectors, ids, texts and metadata of an index.

    Args:
        index: an open one; what others add meanwhile is not exported.
        to: one of :data:`ENGINES`.
        target: a folder or URL (``qdrant``, ``lancedb``), a connection string (``pgvector``), a folder (``parquet``).
        name: of the collection or table; by default the index's own.
        on_progress: called with the rows that are over.
        batch: documents that go over at a time.

    Raises:
        UsageError: an unknown engine, or a name or a target that it does not take.
        IndexWriteError: its library is missing, it refuses, or what it holds in the end is not what the index holds.
        IndexDamagedError: the index cannot be read.
    """
    if to not in ENGINES:
        raise UsageError(f"must be one of {', '.join(ENGINES)}, not {to!r}", field="to")
    if not target.strip():  # as of a variable that is not set; it would be the working folder
        raise UsageError("is empty", field="target")
    nameless = index.path.stem in ("", "..")  # where it is the working folder
    chosen = name or (index.path.resolve() if nameless else index.path).stem
    started, over, written = time.perf_counter(), 0, 0
    shown = _PASSWORD.sub(lambda found: f"{found[2] or found[1] + ':'}***", target)
    with _in_one_line(lambda: f"{shown}: {to} cannot be opened"):
        opened = _open(to, target, chosen, index.dimension)
    try:
        with _in_one_line(lambda: f"{shown}: {to} refused after {over} rows"), index.pinned() as generation:
            sample = _Sample(_rows_of(generation))
            for rows in batches_of(generation, batch):
                written += _send(opened, rows)
                sample.look_at(rows)
                over += len(rows)
                if on_progress is not None:
                    on_progress(over)
            opened.finish()
            count = opened.count()
            if count != over:
                raise IndexWriteError(
                    f"{shown}: {chosen} holds {count} rows, and the index {over}; remove what is there, or "
                    "name another one, and export again"
                )
            found, overlap = sample.search(generation, opened)
    finally:
        opened.close()
    searches = len(sample.rows)
    if found < LEAST_FOUND * searches:
        raise IndexWriteError(f"{shown}: of {searches} rows that were searched for, {chosen} found {found}")
    return EngineExport(
        engine=to,
        target=shown,
        name=chosen,
        rows=count,
        written=written,
        searches=searches,
        found=found,
        overlap=round(overlap, 4),
        seconds=round(time.perf_counter() - started, 3),
    )


def _open(engine: str, target: str, name: str, dimension: int) -> Engine:
    try:
        module: Any = import_module(f"llm2comp_apps.retrieval.engines.{engine}_engine")
        opened: Engine = module.open_engine(target, name, dimension)
    except ModuleNotFoundError as error:
        needed = f"{engine} needs {ENGINES[engine]}; pip install 'llm2comp-apps[{engine}]'"
        raise IndexWriteError(needed) from error
    return opened


@contextmanager
def _in_one_line(what: Callable[[], str]) -> Iterator[None]:
    """Every library has errors of its own: let them say in a line of ours what went wrong.

    Args:
        what: asked then for where and when it was.

    Raises:
        IndexWriteError: in place of theirs. Errors of ours pass as they are: the index may be what is damaged.
    """
    try:
        yield
    except (LLM2CompError, IndexStoreError):
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__  # a server's reason follows in further lines
        raise IndexWriteError(f"{what()}: {said[:_LONGEST]}") from error


def _send(engine: Engine, rows: list[Row]) -> int:
    """Write those of the rows that the engine lacks or has with another content; returns how many."""
    known = engine.known(rows)
    fresh = [row for row in rows if not row.content_hash or known.get(row.key) != row.content_hash]
    if fresh:
        engine.write(fresh)
    return len(fresh)


def _rows_of(index: Index) -> int:
    """Rows that an export sends."""
    facts = index.info()
    return facts.vectors - facts.deleted


class _Sample:
    """Rows evenly spread over an index, to be searched for."""

    def __init__(self, total: int) -> None:
        self.rows: list[Row] = []
        self._wanted = np.unique(np.linspace(0, max(total - 1, 0), min(SEARCHES, total)).astype(int)).tolist()
        self._seen = 0

    def look_at(self, rows: list[Row]) -> None:
        """Keep what is wanted of the next rows."""
        end = self._seen + len(rows)
        while self._wanted and self._wanted[0] < end:
            self.rows.append(rows[self._wanted.pop(0) - self._seen])
        self._seen = end

    def search(self, index: Index, engine: Engine) -> tuple[int, float]:
        """How many rows are found by their own vectors, and how far the engine's neighbours are the index's."""
        if not self.rows:
            return 0, 1.0
        vectors = np.stack([row.vector for row in self.rows])
        theirs = engine.nearest(vectors, NEIGHBOURS)
        ours = index.search(vectors, k=NEIGHBOURS)
        best = [{key for key, cosine in near if cosine > _SAME} for near in theirs]
        pairs = list(zip(self.rows, best, strict=True))
        held = vectors_of(index, set().union(*(keys for row, keys in pairs if row.key not in keys)))
        found = sum(row.key in keys or _has_copy(row, keys, held) for row, keys in pairs)
        shares = [_share(near, hits) for near, hits in zip(theirs, ours, strict=True)]
        return found, float(np.mean(shares))


def _has_copy(row: Row, keys: set[str], held: dict[str, FloatArray]) -> bool:
    """Whether any of these rows has the same vector; engines give few of many copies, or each time others."""
    return any(key in held and float(held[key] @ row.vector) > _SAME for key in keys)


def _share(near: list[tuple[str, float]], hits: list[Hit]) -> float:
    """How many of an engine's neighbours are as near as those that the index finds; of copies, any will do."""
    least = min(hit.score for hit in hits) - (1 - _SAME)
    return min(1.0, sum(cosine >= least for _, cosine in near) / max(1, min(len(hits), len(near))))
