"""One generation of an index, open for reading: it does not change while writers go on."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import apsw
import numpy as np
import numpy.typing as npt

from llm2comp_indexes import documents as rows_of
from llm2comp_indexes.ann import AnnIndex
from llm2comp_indexes.checked import REPAIR
from llm2comp_indexes.errors import DamageWarning, IndexDamagedError
from llm2comp_indexes.exact import all_rows, rescore, scan, some_rows
from llm2comp_indexes.filters import compile_filter
from llm2comp_indexes.gpu import GpuScanner
from llm2comp_indexes.lexical import DEFAULT_LANGUAGE, LexicalReader
from llm2comp_indexes.lock import Pin
from llm2comp_indexes.segment import Segment
from llm2comp_indexes.store import STORE_NAME, Manifest, connect_reader, read_manifest, translated
from llm2comp_indexes.topk import Ranking, TopDocuments
from llm2comp_indexes.types import Float16Array, Float32Array, Hit, Int64Array

__all__ = ["Snapshot"]

_FEW_ROWS = 50_000  # rows kept by a filter up to which they are scanned ...
_FEW_SHARE = 0.2  # ... or share of all rows
_BATCH = 256  # queries whose candidates are scored together
_GPU_MARGIN = 16  # candidates beyond k: float16 sums on the GPU may swap neighbours at the cut
_KEPT_FILTERS = 16  # results of filters, 8 bytes for each matching document
_ATTEMPTS = 20  # to open a generation before a busy writer replaces it


class Snapshot:
    """A generation: a read transaction on ``store.db`` and pins on the directories that its manifest names."""

    def __init__(self, index: Path, device: str = "cpu") -> None:
        self.index = index
        self._device = device
        self.connection: apsw.Connection
        self.manifest: Manifest
        self.segments: list[Segment] = []
        self._pins: list[Pin] = []
        self._anns: dict[int, AnnIndex | None] = {}
        self._filters: dict[str, Int64Array] = {}
        self._open()
        self.nums: Int64Array = np.concatenate([np.empty(0, dtype=np.int64), *(part.nums for part in self.segments)])
        if (np.diff(self.nums) < 0).any():
            self.close()
            raise IndexDamagedError(f"{index / STORE_NAME}: segments are out of order; {REPAIR}")
        with translated(index):
            dead = np.array(rows_of.tombstones(self.connection), dtype=np.int64)
        self.alive: npt.NDArray[np.bool_] | None = ~np.isin(self.nums, dead) if len(dead) else None
        sizes = [len(segment.nums) for segment in self.segments]
        self._bases = [0, *itertools.accumulate(sizes)][: len(sizes)]
        counts = np.diff(np.flatnonzero(np.diff(self.nums, prepend=-1, append=-1)))
        self.most_rows = int(counts.max()) if len(counts) else 1

    def _open(self) -> None:
        seen = -1
        for _ in range(_ATTEMPTS):
            self.connection = connect_reader(self.index)
            try:
                self.manifest = read_manifest(self.index, self.connection)
                shape = (self.manifest.dimension, self.manifest.memory_tokens)
                for record in self.manifest.records:
                    if record.files:
                        self._pins.append(Pin(self.index / record.directory))
                self.segments.extend(Segment(self.index, record, *shape) for record in self.manifest.segments)
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

    def close(self) -> None:
        """Let go of the generation."""
        for pin in self._pins:
            pin.release()
        self._pins, self.segments = [], []
        if "lexical" in self.__dict__ and self.lexical is not None:
            self.lexical.close()
        with translated(self.index):
            self.connection.close()

    @cached_property
    def lexical(self) -> LexicalReader | None:
        """The lexical side, opened at first use; None while nothing was ever added."""
        record = self.manifest.lexical
        if record is None:
            return None
        language = self.manifest.settings.get("language", DEFAULT_LANGUAGE)
        return LexicalReader(self.index, record, language, rows_of.iterate(self.connection))

    def search(self, queries: Float32Array, k: int, where: str | None = None, *, exact: bool = False) -> list[Ranking]:
        """The k best documents of each query (fewer only if fewer match), scored exactly.

        Segments with a FAISS index propose candidates; the others are scanned. A filter that keeps few rows makes
        scanning those both faster and exact. Queries that end up short are answered by a scan.
        """
        mask, matching = self._mask(where)
        kept = len(self.nums) if mask is None else int(mask.sum())
        if where is None and self._gpu is not None:
            return self._scan_gpu(self._gpu, queries, k)
        if exact or (where is not None and kept <= max(_FEW_ROWS, _FEW_SHARE * len(self.nums))):
            return self._scan(queries, k, mask)
        top = self._top(len(queries), k)
        widening = len(self.nums) / max(1, kept)
        approximate = False
        for position, base in enumerate(self._bases):
            ann = self._ann(position)
            part = None if mask is None else mask[base : base + len(self.segments[position].nums)]
            if ann is None:
                self._scan_segment(queries, position, part, top)
            else:
                approximate = True
                self._propose(ann, position, queries, k, widening, part, top)
        rankings = top.rankings()
        short = [query for query, found in enumerate(rankings) if approximate and len(found.rows) < min(k, matching)]
        for query, ranking in zip(short, self._scan(queries[short], k, mask) if short else (), strict=True):
            rankings[query] = ranking
        return rankings

    def _mask(self, where: str | None) -> tuple[npt.NDArray[np.bool_] | None, int]:
        """Which rows may be returned (None = all), and how many documents that are."""
        if where is None:
            return self.alive, self.manifest.documents
        allowed = self.allowed(where)
        return np.isin(self.nums, allowed), len(allowed)

    def _top(self, queries: int, k: int) -> TopDocuments:
        return TopDocuments(queries, k, self.nums, self.most_rows)

    def _scan(self, queries: Float32Array, k: int, mask: npt.NDArray[np.bool_] | None) -> list[Ranking]:
        top = self._top(len(queries), k)
        for position, base in enumerate(self._bases):
            part = None if mask is None else mask[base : base + len(self.segments[position].nums)]
            self._scan_segment(queries, position, part, top)
        return top.rankings()

    @cached_property
    def _gpu(self) -> GpuScanner | None:
        """Every live row on the GPUs, if that was asked for and fits."""
        if self._device == "cpu" or not len(self.nums):
            return None
        alive = np.ones(len(self.nums), dtype=bool) if self.alive is None else self.alive
        parts = [
            (segment.vectors, np.flatnonzero(alive[base : base + len(segment.nums)]))
            for segment, base in zip(self.segments, self._bases, strict=True)
        ]
        return GpuScanner.open(parts, self.manifest.dimension)

    def _scan_gpu(self, scanner: GpuScanner, queries: Float32Array, k: int) -> list[Ranking]:
        top = self._top(len(queries), k)
        count = k * self.most_rows + _GPU_MARGIN
        for start in range(0, len(queries), _BATCH):
            rows = scanner.candidates(queries[start : start + _BATCH], count)
            for position, base in enumerate(self._bases):
                mine = (rows >= base) & (rows < base + len(self.segments[position].nums))
                self._offer(position, np.where(mine, rows - base, -1), queries, start, top)
        return top.rankings()

    def _offer(self, position: int, rows: Int64Array, queries: Float32Array, start: int, top: TopDocuments) -> None:
        """Score candidates (q, c) of one segment, -1 for none, for the queries from ``start`` on."""
        scores = rescore(self.segments[position].vectors, queries[start : start + len(rows)], rows)
        query, column = np.nonzero(rows >= 0)
        top.add_candidates(start + query, self._bases[position] + rows[query, column], scores[query, column])

    def _scan_segment(
        self, queries: Float32Array, position: int, mask: npt.NDArray[np.bool_] | None, top: TopDocuments
    ) -> None:
        vectors = self.segments[position].vectors
        blocks = all_rows(vectors) if mask is None or mask.all() else some_rows(vectors, np.flatnonzero(mask))
        scan(queries, blocks, top, self._bases[position])

    def _propose(
        self,
        ann: AnnIndex,
        position: int,
        queries: Float32Array,
        k: int,
        widening: float,
        mask: npt.NDArray[np.bool_] | None,
        top: TopDocuments,
    ) -> None:
        """Offer the candidates of a segment's FAISS index; a filter that keeps a share widens the search to match."""
        count, value = ann.reach(k * self.most_rows, widening)
        for start in range(0, len(queries), _BATCH):
            rows = ann.candidates(queries[start : start + _BATCH], count, value, mask)
            if mask is not None:
                rows = np.where((rows >= 0) & mask[rows], rows, -1)
            self._offer(position, rows, queries, start, top)

    def _ann(self, position: int) -> AnnIndex | None:
        """The FAISS index of a segment, loaded at first use; None where there is none that can be trusted."""
        if position not in self._anns:
            record = self.manifest.ann(self.segments[position].record.name)
            ann = None
            if record is not None and record.files:
                ann, reason = AnnIndex.load(self.index / record.directory, record)
                if ann is None:
                    path = self.index / record.directory / record.files[0].name
                    message = f"{path}: {reason}; searching exactly (the next commit repairs it)"
                    warnings.warn(message, DamageWarning, stacklevel=5)
            self._anns[position] = ann
        return self._anns[position]

    def memory(self, ids: Sequence[str], spans: Sequence[tuple[int, int] | None]) -> Float16Array:
        """(n, k, d) stored memory vectors of the given chunks; None = the first."""
        first, found = self._first_rows(ids)
        chunks = [0 if span is None else _position(found[id_], span) for id_, span in zip(ids, spans, strict=True)]
        return self._gather(first + np.array(chunks, dtype=np.int64), memory=True)

    def vectors(self, ids: Sequence[str]) -> Float16Array:
        """(rows, d) vectors of documents, all rows of each in turn."""
        first, found = self._first_rows(ids)
        counts = np.array([max(1, len(found[id_])) for id_ in ids], dtype=np.int64)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return self._gather(np.repeat(first, counts) + within, memory=False)

    def _first_rows(self, ids: Sequence[str]) -> tuple[Int64Array, dict[str, tuple[tuple[int, int], ...]]]:
        """First row of each document, and the spans of all."""
        with translated(self.index):
            numbers = rows_of.numbers(self.connection, ids)
            found = dict(rows_of.ids_and_spans(self.connection, list(numbers.values())).values())
        return np.searchsorted(self.nums, np.array([numbers[id_] for id_ in ids], dtype=np.int64)), found

    def _gather(self, rows: Int64Array, *, memory: bool) -> Float16Array:
        width = (self.manifest.memory_tokens, self.manifest.dimension) if memory else (self.manifest.dimension,)
        gathered = np.empty((len(rows), *width), dtype=np.float16)
        owner = np.searchsorted(self._bases, rows, side="right") - 1
        for position in np.unique(owner).tolist():
            segment, mine = self.segments[position], owner == position
            source = segment.memory if memory else segment.vectors
            gathered[mine] = source.take(rows[mine] - self._bases[position])
        return gathered

    def allowed(self, where: str) -> Int64Array:
        """Numbers of the documents that satisfy ``where``, ascending; kept for the next search with the same filter."""
        if where not in self._filters:
            condition = compile_filter(where)
            with translated(self.index):
                nums = np.array(rows_of.matching(self.connection, condition), dtype=np.int64)
            if len(self._filters) >= _KEPT_FILTERS:
                self._filters.pop(next(iter(self._filters)))
            self._filters[where] = nums
        return self._filters[where]

    def hits(self, rankings: Sequence[Ranking]) -> list[list[Hit]]:
        """Rows as hits: the document's id, and which of its chunks the row is."""
        rows = np.concatenate([np.empty(0, dtype=np.int64), *(ranking.rows for ranking in rankings)])
        nums = self.nums[rows]
        chunks = rows - np.searchsorted(self.nums, nums)
        with translated(self.index):
            found = rows_of.ids_and_spans(self.connection, np.unique(nums).tolist())
        hits, position = [], 0
        for ranking in rankings:
            of_query = []
            for score in ranking.scores.tolist():
                id_, spans = self._document(found, int(nums[position]))
                of_query.append(Hit(id_, score, spans[chunks[position]] if spans else None))
                position += 1
            hits.append(of_query)
        return hits

    def lexical_hits(self, nums: Int64Array, scores: Float32Array) -> list[Hit]:
        """Numbers as hits."""
        with translated(self.index):
            found = rows_of.ids_and_spans(self.connection, nums.tolist())
        return [
            Hit(self._document(found, num)[0], score) for num, score in zip(nums.tolist(), scores.tolist(), strict=True)
        ]

    def _document(
        self, found: dict[int, tuple[str, tuple[tuple[int, int], ...]]], num: int
    ) -> tuple[str, tuple[tuple[int, int], ...]]:
        try:
            return found[num]
        except KeyError:
            raise IndexDamagedError(f"{self.index / STORE_NAME}: document {num} is missing; {REPAIR}") from None


def _position(spans: tuple[tuple[int, int], ...], span: tuple[int, int]) -> int:
    try:
        return spans.index(span)
    except ValueError:
        raise KeyError(f"{span} is not a chunk of the document") from None
