"""Dense search over the segments of a generation: who proposes candidates, who is scanned, what a filter changes.

Every score that is returned is the inner product with the stored float16 row, the best one that its document has.
Approximation can only lose a document, never misplace one, and never shorten a list: a query that ends up with too few
documents is answered by a scan.
"""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from llm2comp_indexes.dense.ann import AnnIndex
from llm2comp_indexes.dense.exact import all_rows, rescore, scan, some_rows
from llm2comp_indexes.dense.faiss_module import has_faiss
from llm2comp_indexes.dense.gpu import GpuScanner
from llm2comp_indexes.dense.kinds import Policy
from llm2comp_indexes.dense.refine import Refiner
from llm2comp_indexes.dense.topk import Ranking, TopDocuments
from llm2comp_indexes.errors import DamageWarning
from llm2comp_indexes.storage.segment import Segment
from llm2comp_indexes.storage.store import Manifest
from llm2comp_indexes.threads import loaded_once
from llm2comp_indexes.types import Float32Array, Int64Array

__all__ = ["DenseSearch", "Mask"]

Mask = npt.NDArray[np.bool_]
_Key: TypeAlias = tuple[str, str | None]  # names of a segment and of its FAISS index

_FEW_ROWS = 50_000  # rows kept by a filter up to which they are scanned ...
_FEW_SHARE = 0.2  # ... or share of all rows
_BATCH = 256  # queries whose candidates are scored together
_GPU_MARGIN = 16  # candidates beyond k: float16 sums on the GPU may swap neighbours at the cut
_GPU_MOST = 2048  # results that FAISS gives of one search on a GPU
_FEW_QUERIES = 4  # up to which FAISS scans faster than widening every row for one matrix product
_RESIDENT_ROWS = 16_384  # from which that matters
_RESIDENT_BYTES = 1 << 28  # that one reader may hold in memory for it, unless ``max_ram`` says otherwise


class Part:
    """One segment, and whatever speeds up comparing its rows."""

    def __init__(self, segment: Segment, base: int, load: Callable[[], AnnIndex | None], resident_bytes: int) -> None:
        self.loading = threading.RLock()
        self.vectors = segment.vectors
        self.base = base
        self._load = load
        self._may_reside = self._can_reside(resident_bytes)
        self._scans = 0

    def __len__(self) -> int:
        return len(self.vectors)

    def moved(self, base: int, resident_bytes: int) -> Part:
        """The same segment in another generation, with all that is loaded already."""
        moved = copy.copy(self)
        moved.base = base
        moved._may_reside = self._can_reside(resident_bytes)
        return moved

    def _can_reside(self, resident_bytes: int) -> bool:
        return len(self.vectors) >= _RESIDENT_ROWS and self.vectors.array.nbytes <= resident_bytes

    @loaded_once
    def ann(self) -> AnnIndex | None:
        """The FAISS index of the segment, loaded at first use; None where there is none that can be trusted."""
        return self._load()

    @loaded_once
    def _refiner(self) -> Refiner:
        return Refiner(self.vectors.array.shape[1])

    @loaded_once
    def _resident(self) -> AnnIndex:
        return AnnIndex.resident(self.vectors)

    def scan(self, queries: Float32Array, count: int, mask: Any, top: TopDocuments) -> None:
        """Offer every row that ``mask`` allows.

        A process that keeps asking single queries of a large segment gets its rows copied into memory, where FAISS
        compares them directly; a process that asks once would wait longer for the copy than for its answer.
        """
        self._scans += 1
        few = len(queries) <= _FEW_QUERIES and count * 4 <= len(self)
        if few and self._may_reside and self._scans > 1 and has_faiss():
            rows = self._resident.candidates(queries, count, 0, mask)
            self.offer(rows, rescore(self.vectors, queries, rows), 0, top)
            return
        thinned = mask is not None and not mask.all()
        blocks = some_rows(self.vectors, np.flatnonzero(mask)) if thinned else all_rows(self.vectors)
        scan(queries, blocks, top, self.base)

    def candidates(
        self, ann: AnnIndex, queries: Float32Array, count: int, widening: float, mask: Mask | None
    ) -> Iterator[tuple[slice, Int64Array]]:
        """What the FAISS index proposes for each batch of queries.

        Args:
            ann: the FAISS index.
            queries: (q, d).
            count: rows wanted for each.
            widening: all rows divided by those that may be returned.
            mask: which those are; None = all.

        Yields:
            Which queries the batch is of, and its candidates (b, c) with -1 for none.
        """
        fetched, value = ann.reach(count, widening)
        for start in range(0, len(queries), _BATCH):
            batch = slice(start, start + _BATCH)
            rows = ann.candidates(queries[batch], fetched, value, mask)
            yield batch, rows if mask is None else np.where((rows >= 0) & mask[rows], rows, -1)

    def nearest(
        self, ann: AnnIndex, queries: Float32Array, k: int, widening: float, mask: Mask | None
    ) -> list[Ranking]:
        """The k best candidates of each query, where every document has one row; arguments as above."""
        if len(queries) > 1:
            batches = self.candidates(ann, queries, k, widening, mask)
            return [
                ranking
                for batch, rows in batches
                for ranking in self._refiner.best_of_each(queries[batch], self.vectors, rows, k)
            ]
        # One query waits for every microsecond: a tenth of a millisecond is half of what FAISS takes to propose.
        fetched, value = ann.reach(k, widening)
        rows = ann.candidates(queries, fetched, value, mask)[0]
        if mask is not None:
            rows = rows[(rows >= 0) & mask[rows]]
        elif rows[-1] < 0:  # FAISS puts its numbers for none last
            rows = rows[rows >= 0]
        return [self._refiner.best(queries, self.vectors, rows, k) if len(rows) else Ranking([], [])]

    def offer(self, rows: Int64Array, scores: Float32Array, start: int, top: TopDocuments) -> None:
        """Offer candidates (q, c), -1 for none, with their scores, for the queries from ``start`` on."""
        query, column = np.nonzero(rows >= 0)
        top.add_candidates(start + query, self.base + rows[query, column], scores[query, column])


class DenseSearch:
    """Searches all segments of one generation.

    Args:
        index: the index directory.
        manifest: of the generation.
        segments: its segments, open.
        nums: (rows,) document number of each row over all segments, ascending.
        alive: (rows,) which rows are not deleted; None = all.
        device: ``cpu`` or ``cuda``.
        former: the same side of another generation; what it has loaded of unchanged segments is taken over.
    """

    def __init__(
        self,
        index: Path,
        manifest: Manifest,
        segments: Sequence[Segment],
        nums: Int64Array,
        alive: Mask | None,
        device: str,
        former: DenseSearch | None = None,
    ) -> None:
        self.loading = threading.RLock()
        self._nums = nums
        self._alive = alive
        self._documents = manifest.documents
        self._dimension = manifest.dimension
        self._on_gpu = device == "cuda" and len(nums) > 0
        budget = Policy.from_settings(manifest.settings).max_ram or _RESIDENT_BYTES
        self._parts: list[Part] = []
        self._named: dict[_Key, Part] = {}
        base = 0
        for segment in segments:
            ann = manifest.ann(segment.record.name)
            key = (segment.record.name, ann.name if ann is not None else None)
            known = former._named.get(key) if former is not None else None
            if known is None:
                part = Part(segment, base, partial(_load, index, manifest, segment.record.name), budget)
            else:
                part = known.moved(base, budget)
            self._parts.append(part)
            self._named[key] = part
            budget -= segment.vectors.array.nbytes
            base += len(segment)
        counts = np.diff(np.flatnonzero(np.diff(nums, prepend=-1, append=-1)))
        self._most_rows = int(counts.max()) if len(counts) else 1

    def load(self) -> None:
        """Load every FAISS index now, and not when it is needed first."""
        for part in self._parts:
            _ = part.ann

    def search(
        self, queries: Float32Array, k: int, allowed: tuple[Mask, int] | None = None, *, exact: bool = False
    ) -> list[Ranking]:
        """The k best documents of each query, fewer only if fewer match.

        Args:
            queries: (q, d).
            k: documents wanted.
            allowed: what a filter lets through: a mask over the rows, and the number of documents.
            exact: scan, whatever indexes there are.
        """
        if allowed is None:
            if k * self._most_rows + _GPU_MARGIN <= _GPU_MOST and self._gpu is not None:
                return self._search_gpu(self._gpu, queries, k)
            mask, kept, matching = self._alive, len(self._nums), self._documents
        else:
            mask, matching = allowed
            kept = int(mask.sum())
            exact = exact or kept <= max(_FEW_ROWS, _FEW_SHARE * len(self._nums))
        if exact:
            return self._scan(queries, k, mask)
        rankings, approximate = self._propose(queries, k, mask, len(self._nums) / kept)
        short = [query for query, found in enumerate(rankings) if approximate and len(found.rows) < min(k, matching)]
        for query, ranking in zip(short, self._scan(queries[short], k, mask) if short else (), strict=True):
            rankings[query] = ranking
        return rankings

    def _propose(self, queries: Float32Array, k: int, mask: Mask | None, widening: float) -> tuple[list[Ranking], bool]:
        """Rankings by FAISS indexes where there are some, by scans elsewhere; and whether there was one."""
        only = self._parts[0].ann if len(self._parts) == 1 and self._most_rows == 1 else None
        if only is not None:
            return self._parts[0].nearest(only, queries, k, widening, mask), True
        top, count, approximate = self._top(len(queries), k), k * self._most_rows, False
        for part, alive in self._masked(mask):
            if 4 * count >= len(part) or part.ann is None:  # a document of many chunks may ask for most rows
                part.scan(queries, count, alive, top)
                continue
            approximate = True
            for batch, rows in part.candidates(part.ann, queries, count, widening, alive):
                part.offer(rows, rescore(part.vectors, queries[batch], rows), batch.start, top)
        found = top.rankings()
        return (self._by_best_rows(queries, k, found) if approximate else found), approximate

    def _by_best_rows(self, queries: Float32Array, k: int, rankings: Sequence[Ranking]) -> list[Ranking]:
        """The same documents by the best of all their rows, of which a FAISS index may have proposed lesser ones."""
        if self._most_rows == 1:
            return list(rankings)
        top = self._top(len(queries), k)
        for query, ranking in enumerate(rankings):
            nums = self._nums[ranking.rows]
            bounds = zip(np.searchsorted(self._nums, nums), np.searchsorted(self._nums, nums, "right"), strict=True)
            rows = np.concatenate([np.empty(0, dtype=np.int64), *(np.arange(*each) for each in bounds)])
            for part in self._parts:
                local = rows[(rows >= part.base) & (rows < part.base + len(part))][None] - part.base
                if local.size:
                    part.offer(local, rescore(part.vectors, queries[query : query + 1], local), query, top)
        return top.rankings()

    def _top(self, queries: int, k: int) -> TopDocuments:
        return TopDocuments(queries, k, self._nums, self._most_rows)

    def _masked(self, mask: Mask | None) -> list[tuple[Part, Any]]:
        """Each part with its piece of the mask, None if there is no mask."""
        return [(part, None if mask is None else mask[part.base : part.base + len(part)]) for part in self._parts]

    def _scan(self, queries: Float32Array, k: int, mask: Mask | None) -> list[Ranking]:
        top = self._top(len(queries), k)
        for part, rows in self._masked(mask):
            part.scan(queries, k * self._most_rows, rows, top)
        return top.rankings()

    @loaded_once
    def _gpu(self) -> GpuScanner | None:
        """Every live row on the GPUs, if that was asked for and fits."""
        if not self._on_gpu:
            return None
        alive = np.ones(len(self._nums), dtype=bool) if self._alive is None else self._alive
        pieces = [(part.vectors, np.flatnonzero(rows)) for part, rows in self._masked(alive)]
        return GpuScanner.open(pieces, self._dimension)

    def _search_gpu(self, scanner: GpuScanner, queries: Float32Array, k: int) -> list[Ranking]:
        top = self._top(len(queries), k)
        for start in range(0, len(queries), _BATCH):
            rows = scanner.candidates(queries[start : start + _BATCH], k * self._most_rows + _GPU_MARGIN)
            for part in self._parts:
                mine = (rows >= part.base) & (rows < part.base + len(part))
                local = np.where(mine, rows - part.base, -1)
                part.offer(local, rescore(part.vectors, queries[start : start + _BATCH], local), start, top)
        return top.rankings()


def _load(index: Path, manifest: Manifest, segment: str) -> AnnIndex | None:
    record = manifest.ann(segment)
    if record is None or not record.files:
        return None
    ann, reason = AnnIndex.load(index / record.directory, record)
    if ann is None:
        path = index / record.directory / record.files[0].name
        warnings.warn(f"{path}: {reason}; searching exactly (the next commit repairs it)", DamageWarning, stacklevel=6)
    return ann
