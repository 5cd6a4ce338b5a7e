"""One generation of an index, open for reading: it does not change while writers work."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, NamedTuple, cast

import apsw
import numpy as np
import numpy.typing as npt

from llm2comp_indexes.dense.build import FLAT
from llm2comp_indexes.dense.kinds import Policy, why_small
from llm2comp_indexes.dense.search import DenseSearch, Mask
from llm2comp_indexes.dense.topk import Ranking
from llm2comp_indexes.errors import IndexDamagedError, IndexStoreError
from llm2comp_indexes.lexical import DEFAULT_LANGUAGE, LexicalReader
from llm2comp_indexes.operators import Clause
from llm2comp_indexes.storage import documents as rows_of
from llm2comp_indexes.storage.checked import REPAIR, CheckedRows
from llm2comp_indexes.storage.filters import compile_filter
from llm2comp_indexes.storage.lock import Pin
from llm2comp_indexes.storage.segment import RowShape, Segment
from llm2comp_indexes.storage.store import (
    STORE_NAME,
    Manifest,
    SegmentRecord,
    StoreConnection,
    check_unchanged,
    connect_reader,
    read_manifest,
    size_on_disk,
    translated,
)
from llm2comp_indexes.threads import Leased, loaded_once
from llm2comp_indexes.types import Float16Array, Float32Array, Hit, IndexInfo, Int64Array

__all__ = ["Snapshot"]

_PATIENCE = 2_000  # documents looked up one by one before the ids of all are read at once ...
_MOST_KEPT_IDS = 1 << 18  # ... unless these are more, since they would take more than 50 MiB
_KEPT_FILTERS = 16  # results of filters: 8 bytes for each matching document and 1 for each row
_IDS_AT_ONCE = 5_000  # read while no other thread may read
_LARGEST_LOG = 4 << 20  # bytes of the write-ahead log; about where SQLite begins to copy it back
_ATTEMPTS = 20  # to open a generation before a busy writer replaces it


_Span = tuple[int, int]


class _Chunks(NamedTuple):
    """What rows are.

    Attributes:
        ids: of their documents; None for one that is missing.
        spans: of their chunks, None for a document in one piece; or no list at all where every document is.
    """

    ids: list[str | None]
    spans: list[_Span | None] | None


class Snapshot(Leased):
    """A generation: a read transaction on ``store.db`` and pins on the directories that its manifest names.

    Any number of threads may read it: they take turns at ``store.db``, and whatever is opened at first use is opened
    once. A thread that reads is one of its holders (`with` lets go), so that it stays open until the thread is done.
    """

    def __init__(self, index: Path, device: str = "cpu", former: Snapshot | None = None, *, share: int = 1) -> None:
        """Open the newest generation.

        Args:
            index: the index directory.
            device: where vectors are compared.
            former: a generation that is open; what it has loaded of segments that are still there is taken over.
            share: how many indexes are read as one, and have the memory of one.

        Raises:
            IndexStoreError: the path has an index of another encoder now than ``former`` is of.
            IndexDamagedError: files that the index needs are missing, or out of order.
        """
        super().__init__()
        self._known = {segment.record.name: segment for segment in former.segments} if former is not None else {}
        self._former_lexical: LexicalReader | None = former.__dict__.get("lexical") if former is not None else None
        self._former_dense: DenseSearch | None = former.__dict__.get("dense") if former is not None else None
        self.loading = threading.RLock()
        self.index = index
        self._device = device
        self._share = share
        self.connection: StoreConnection
        self.manifest: Manifest
        self.segments: list[Segment] = []
        self._pins: list[Pin] = []
        self._filters: dict[tuple[str | None, tuple[Clause, ...]], tuple[Int64Array, Mask]] = {}
        self._looked_up = 0
        self._open()
        self._known = {}
        if former is not None and _made_by(former.manifest) != _made_by(self.manifest):
            self.close()
            raise IndexStoreError(f"{index}: was replaced by an index of another encoder; open it again")
        self.nums: Int64Array = np.concatenate([np.empty(0, dtype=np.int64), *(part.nums for part in self.segments)])
        if (np.diff(self.nums) < 0).any():
            self.close()
            raise IndexDamagedError(f"{index / STORE_NAME}: segments are out of order; {REPAIR}")
        with self.store() as connection:
            dead = np.array(rows_of.tombstones(connection), dtype=np.int64)
        self._alive: Mask | None = ~np.isin(self.nums, dead) if len(dead) else None

    def _open(self) -> None:
        seen = -1
        for _ in range(_ATTEMPTS):
            self.connection = connect_reader(self.index, share=self._share)
            try:
                self.manifest = read_manifest(self.index, self.connection)
                shape = RowShape.of(self.manifest)
                for record in self.manifest.records:
                    if record.files:
                        self._pin(record, again=self.manifest.generation == seen)
                self.segments.extend(
                    self._known.get(record.name) or Segment(self.index, record, shape)
                    for record in self.manifest.segments
                )
            except FileNotFoundError as error:
                # A writer replaced this generation between our reading its manifest and pinning its directories.
                self.close()
                if self.manifest.generation == seen:
                    raise IndexDamagedError(f"{error}, but the index still needs it; {REPAIR}") from error
                seen = self.manifest.generation
            except BaseException:
                self.close()
                raise
            else:
                return
        raise IndexDamagedError(f"{self.index}: no generation could be opened in {_ATTEMPTS} attempts")

    def _pin(self, record: SegmentRecord, *, again: bool) -> None:
        """Keep a directory; one that is still missing at the second look is a loss only if it holds the vectors."""
        try:
            self._pins.append(Pin(self.index / record.directory))
        except FileNotFoundError:
            if record.role == "vectors" or not again:
                raise

    def __enter__(self) -> Snapshot:
        """For a caller that is among the holders already."""
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @contextlib.contextmanager
    def store(self) -> Iterator[apsw.Connection]:
        """``store.db``, for one thread at a time."""
        with self.loading, translated(self.index):
            try:
                yield self.connection
            finally:
                check_unchanged(self.index, self.connection)  # an error may come of it, too

    def settle(self) -> None:
        """Let writers begin the write-ahead log anew where it has grown; what is read here stays the same.

        SQLite writes over the log only when all of it is copied into the database and nobody reads in it. A reader that
        moves on opens the new generation before it lets go of the old one, so it would read in it for ever. Where
        something stands in the way, such as another reader, the next `Index.refresh` tries again.
        """
        with contextlib.suppress(OSError, IndexStoreError):
            if (self.index / f"{STORE_NAME}-wal").stat().st_size > _LARGEST_LOG:
                self._read_past_log()

    def _read_past_log(self) -> None:
        fresh = connect_reader(self.index, share=self._share)
        try:
            with translated(self.index):
                fresh.execute("COMMIT")
                _, frames, copied = fresh.execute("PRAGMA wal_checkpoint(PASSIVE)").get
                fresh.execute("BEGIN")
            if frames == copied and read_manifest(self.index, fresh).commit == self.manifest.commit:
                with self.loading:
                    self.connection, fresh = fresh, self.connection
        finally:
            fresh.close()

    def close(self) -> None:
        """Let go of the generation."""
        for pin in self._pins:
            pin.release()
        self._pins, self.segments = [], []
        if "lexical" in self.__dict__ and self.lexical is not None:
            self.lexical.close()
        with translated(self.index):
            self.connection.close()

    @loaded_once
    def lexical(self) -> LexicalReader | None:
        """The lexical side, opened at first use; None while nothing was ever added."""
        record = self.manifest.lexical
        if record is None:
            return None
        language = self.manifest.settings.get("language", DEFAULT_LANGUAGE)
        former, self._former_lexical = self._former_lexical, None
        return LexicalReader(self.index, record, language, rows_of.iterate(self.connection), former)

    @loaded_once
    def dense(self) -> DenseSearch:
        """The dense side."""
        former, self._former_dense = self._former_dense, None
        return DenseSearch(self.index, self.manifest, self.segments, self.nums, self._alive, self._device, former)

    def load_like(self, other: Snapshot) -> None:
        """Load what another generation has loaded, so that the first search of this one need not wait for it."""
        with contextlib.suppress(IndexStoreError):  # what is damaged is told by the call that needs it
            if "dense" in other.__dict__:
                self.dense.load()
            if "lexical" in other.__dict__:
                _ = self.lexical

    def memory(self, ids: Sequence[str], spans: Sequence[tuple[int, int] | None]) -> Float32Array:
        """(n, k, d) stored memory vectors of the given chunks; None = the first."""
        first, found = self._first_rows(ids)
        chunks = [0 if span is None else _position(found[id_], span) for id_, span in zip(ids, spans, strict=True)]
        shape = RowShape.of(self.manifest)
        rows = first + np.array(chunks, dtype=np.int64)
        return shape.form.unpack(self._gather(rows, lambda segment: segment.memory, shape.memory, shape.form.dtype))

    def vectors(self, ids: Sequence[str]) -> Float16Array:
        """(rows, d) vectors of documents, all rows of each in turn."""
        first, found = self._first_rows(ids)
        counts = np.array([max(1, len(found[id_])) for id_ in ids], dtype=np.int64)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.repeat(first, counts) + within
        return self._gather(rows, lambda segment: segment.vectors, (self.manifest.dimension,), "<f2")

    def _first_rows(self, ids: Sequence[str]) -> tuple[Int64Array, dict[str, tuple[tuple[int, int], ...]]]:
        """First row of each document, and the spans of all."""
        with self.store() as connection:
            numbers = rows_of.numbers(connection, ids)
            found = dict(rows_of.ids_and_spans(connection, list(numbers.values())).values())
        return np.searchsorted(self.nums, np.array([numbers[id_] for id_ in ids], dtype=np.int64)), found

    def _gather(
        self, rows: Int64Array, source: Callable[[Segment], CheckedRows], shape: tuple[int, ...], dtype: str
    ) -> npt.NDArray[Any]:
        """``(len(rows), *shape)``: rows of all segments as they are stored."""
        gathered = np.empty((len(rows), *shape), dtype=dtype)
        base = 0
        for segment in self.segments:
            mine = (rows >= base) & (rows < base + len(segment))
            if mine.any():
                gathered[mine] = source(segment).take(rows[mine] - base)
            base += len(segment)
        return gathered

    @property
    def deleted(self) -> int:
        """Rows that wait to be merged away."""
        return 0 if self._alive is None else int((~self._alive).sum())

    def allowed(self, where: str | None, clauses: tuple[Clause, ...] = ()) -> tuple[Int64Array, Mask]:
        """Numbers of the documents that satisfy ``where`` and clauses, ascending, and the mask of their rows.

        Both are kept for the next search with the same filter.
        """
        if not isinstance(where, str | None):
            compile_filter(where)  # which says what it is; a list cannot even be looked up
        with self.store() as connection:
            found = self._filters.get((where, clauses))
            if found is None:
                nums = self._meeting(connection, where, clauses)
                found = nums, np.isin(self.nums, nums)
                if len(self._filters) >= _KEPT_FILTERS:
                    self._filters.pop(next(iter(self._filters)))
                self._filters[where, clauses] = found
        return found

    def _meeting(self, connection: apsw.Connection, where: str | None, clauses: tuple[Clause, ...]) -> Int64Array:
        none = np.empty(0, dtype=np.int64)
        spoken = None if not clauses else none if self.lexical is None else self.lexical.meeting(clauses)
        if where is None:
            return none if spoken is None else spoken
        nums = np.array(rows_of.matching(connection, compile_filter(where)), dtype=np.int64)
        return nums if spoken is None else np.intersect1d(nums, spoken, assume_unique=True)

    def ids(self, where: str | None) -> Iterator[str]:
        """Every id, or those whose document satisfies ``where``, in the order in which the documents were added."""
        if where is not None:
            matching = self.allowed(where)[0].tolist()
            for start in range(0, len(matching), _IDS_AT_ONCE):
                nums = matching[start : start + _IDS_AT_ONCE]
                with self.store() as connection:
                    found = rows_of.ids_and_spans(connection, nums)
                yield from (found[num][0] for num in nums)
            return
        last = 0
        while True:
            with self.store() as connection:
                batch = rows_of.ids_after(connection, last, _IDS_AT_ONCE)
            if not batch:
                return
            yield from (id_ for _, id_ in batch)
            last = batch[-1][0]

    def metadata(self, most: int) -> Iterator[str]:
        """The metadata of the first ``most`` documents, as JSON; other threads read between a few and the next."""
        last = 0
        for start in range(0, most, _IDS_AT_ONCE):
            with self.store() as connection:
                batch = rows_of.metadata_after(connection, last, min(_IDS_AT_ONCE, most - start))
            if not batch:
                return
            yield from (encoded for _, encoded in batch)
            last = batch[-1][0]

    def hits(self, rankings: Sequence[Ranking]) -> list[list[Hit]]:
        """Rows as hits: the document's id, and which of its chunks the row is."""
        rows = rankings[0].rows if len(rankings) == 1 else list(chain.from_iterable(one.rows for one in rankings))
        ids, spans = self._chunks(rows)
        hits = map(Hit._make, zip(ids, chain.from_iterable(one.scores for one in rankings), spans, strict=True))
        return [list(islice(hits, len(ranking.rows))) for ranking in rankings]

    def lexical_hits(self, nums: Int64Array, scores: Float32Array) -> list[Hit]:
        """Numbers ``(n,)`` as hits.

        Raises:
            IndexDamagedError: a number that no row has.
        """
        rows = np.searchsorted(self.nums, nums)
        if len(nums) and not np.array_equal(self.nums.take(rows, mode="clip"), nums):
            raise IndexDamagedError(f"{self.index}: the lexical index names documents without vectors; {REPAIR}")
        ids, _ = self._chunks(rows.tolist())
        return [Hit(id_, score) for id_, score in zip(ids, scores.tolist(), strict=True)]

    def _chunks(self, rows: list[int]) -> tuple[list[str], Iterable[_Span | None]]:
        """Ids and spans of rows; a reader that keeps asking gets those of all rows into memory."""
        self._looked_up += len(rows)
        if self._looked_up > _PATIENCE and len(self.nums) <= _MOST_KEPT_IDS // self._share:
            every = self._every_chunk
            ids, spans = [every.ids[row] for row in rows], every.spans and [every.spans[row] for row in rows]
        else:
            ids, spans = self._look_up(np.array(rows, dtype=np.int64))
        if None in ids:
            num = self.nums[rows[ids.index(None)]]
            raise IndexDamagedError(f"{self.index / STORE_NAME}: document {num} is missing; {REPAIR}")
        return cast("list[str]", ids), spans or repeat(None, len(ids))

    @loaded_once
    def _every_chunk(self) -> _Chunks:
        with self.store() as connection:
            documents = rows_of.all_ids_and_spans(connection)
        return self._described(np.arange(len(self.nums)), documents)

    def _look_up(self, rows: Int64Array) -> _Chunks:
        with self.store() as connection:
            documents = rows_of.ids_and_spans(connection, sorted(set(self.nums[rows].tolist())))
        return self._described(rows, documents)

    def _described(self, rows: Int64Array, documents: Mapping[int, rows_of.IdAndSpans]) -> _Chunks:
        """What the rows are; ``documents`` may lack some."""
        nums = self.nums[rows]
        found = [documents.get(num, (None, ())) for num in nums.tolist()]
        ids = [id_ for id_, _ in found]
        if not any(spans for _, spans in found):
            return _Chunks(ids, None)
        positions = rows - np.searchsorted(self.nums, nums)
        pairs = zip(found, positions.tolist(), strict=True)
        return _Chunks(ids, [spans[position] if spans else None for (_, spans), position in pairs])

    def info(self) -> IndexInfo:
        """What the index says of itself."""
        with self.store() as connection:
            size = size_on_disk(self.index, connection)
        manifest = self.manifest
        largest = max(manifest.anns, key=lambda record: record.rows).detail if manifest.anns else {}
        sizes = [record.rows for record in manifest.segments]
        return IndexInfo(
            path=str(self.index),
            format=manifest.format,
            generation=manifest.generation,
            documents=manifest.documents,
            vectors=sum(sizes),
            deleted=self.deleted,
            dimension=manifest.dimension,
            memory_tokens=manifest.memory_tokens,
            encoder=dict(manifest.encoder),
            settings=dict(manifest.settings),
            kind=str(largest.get("factory", FLAT)),
            segments=len(manifest.segments),
            reason=largest.get("reason") if largest else why_small(Policy.from_settings(manifest.settings), sizes),
            recall=largest.get("recall"),
            queries_per_second=largest.get("queries_per_second"),
            bytes=size,
        )


def _position(spans: tuple[tuple[int, int], ...], span: tuple[int, int]) -> int:
    try:
        return spans.index(span)
    except ValueError:
        raise KeyError(f"{span} is not a chunk of the document") from None


def _made_by(manifest: Manifest) -> tuple[str | None, int]:
    """What the vectors of two indexes have in common if they can be compared."""
    return manifest.encoder.get("fingerprint"), manifest.dimension
