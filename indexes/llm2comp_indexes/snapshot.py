"""One generation of an index, open for reading: it does not change while writers go on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import apsw
import numpy as np
import numpy.typing as npt

from llm2comp_indexes import documents as rows_of
from llm2comp_indexes.checked import REPAIR
from llm2comp_indexes.errors import IndexDamagedError
from llm2comp_indexes.filters import compile_filter
from llm2comp_indexes.lexical import DEFAULT_LANGUAGE, LexicalReader
from llm2comp_indexes.segment import Segment
from llm2comp_indexes.store import STORE_NAME, Manifest, connect_reader, read_manifest, translated
from llm2comp_indexes.types import Float32Array, Hit, Int64Array
from llm2comp_indexes.vectors import Ranking, TopDocuments, scan, select

__all__ = ["Snapshot"]

_KEPT_FILTERS = 16  # results of filters, 8 bytes for each matching document
_ATTEMPTS = 20  # to open a generation before a busy writer replaces it


class Snapshot:
    """A generation: a read transaction on ``store.db`` and pins on the directories that its manifest names."""

    def __init__(self, index: Path) -> None:
        self.index = index
        self.connection: apsw.Connection
        self.manifest: Manifest
        self.segments: list[Segment] = []
        self._filters: dict[str, Int64Array] = {}
        self._open()
        self.nums: Int64Array = np.concatenate([np.empty(0, dtype=np.int64), *(part.nums for part in self.segments)])
        if (np.diff(self.nums) < 0).any():
            self.close()
            raise IndexDamagedError(f"{index / STORE_NAME}: segments are out of order; {REPAIR}")
        with translated(index):
            dead = np.array(rows_of.tombstones(self.connection), dtype=np.int64)
        self.alive: npt.NDArray[np.bool_] | None = ~np.isin(self.nums, dead) if len(dead) else None
        counts = np.diff(np.flatnonzero(np.diff(self.nums, prepend=-1, append=-1)))
        self.most_rows = int(counts.max()) if len(counts) else 1

    def _open(self) -> None:
        seen = -1
        for _ in range(_ATTEMPTS):
            self.connection = connect_reader(self.index)
            try:
                self.manifest = read_manifest(self.index, self.connection)
                shape = (self.manifest.dimension, self.manifest.memory_tokens)
                for record in self.manifest.segments:
                    self.segments.append(Segment(self.index, record, *shape))
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
        for segment in self.segments:
            segment.close()
        self.segments = []
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

    def search(self, queries: Float32Array, k: int, allowed: Int64Array | None) -> list[Ranking]:
        """Exact search over the rows whose document is in ``allowed`` (ascending numbers; None = all)."""
        top = TopDocuments(len(queries), k, self.nums, self.most_rows)
        mask = self.alive if allowed is None else np.isin(self.nums, allowed)
        scan(queries, select(self.segments, mask), top)
        return top.rankings()

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
