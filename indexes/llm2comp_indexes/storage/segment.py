"""The immutable files of a vector segment: written front to back, then memory-mapped.

| file | content |
|---|---|
| ``vectors.f16`` | (rows, d) little-endian float16, row-major, nothing else |
| ``memory.f16`` | (rows, k, d) float16, only in an index that keeps memory vectors |
| ``ids.i64`` | (rows,) int64: the document number of each row, ascending; rows of one document are neighbours |

A reader trusts no byte that it has not checked: each 64 KiB block is compared with its checksum from the manifest the
first time that a row in it is needed.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from llm2comp_indexes.errors import IndexDamagedError
from llm2comp_indexes.storage import fs
from llm2comp_indexes.storage.checked import REPAIR, CheckedRows, read_checked
from llm2comp_indexes.storage.fs import FileRecord
from llm2comp_indexes.storage.store import SegmentRecord
from llm2comp_indexes.threads import loaded_once
from llm2comp_indexes.types import Float16Array, Int64Array

__all__ = ["IDS", "MEMORY", "VECTORS", "Segment", "SegmentWriter"]

VECTORS = "vectors.f16"
MEMORY = "memory.f16"
IDS = "ids.i64"


class Segment:
    """A committed segment, open for reading.

    The caller holds a `Pin` on its directory, or the writer lock, so that nobody removes it meanwhile.
    """

    def __init__(self, index: Path, record: SegmentRecord, dimension: int, memory_tokens: int) -> None:
        self.loading = threading.RLock()
        self.record = record
        self.directory = index / record.directory
        self.nums: Int64Array = np.frombuffer(read_checked(self.directory / IDS, self._file(IDS)), dtype="<i8")
        self._dimension = dimension
        self._memory_tokens = memory_tokens
        self._check_rows(len(self.nums))

    def __len__(self) -> int:
        return len(self.nums)

    def _file(self, name: str) -> FileRecord:
        record = self.record.file(name)
        if record is None:
            raise IndexDamagedError(f"{self.directory / name}: is not in the manifest; {REPAIR}")
        return record

    def _check_rows(self, rows: int) -> None:
        if rows != self.record.rows:
            raise IndexDamagedError(f"{self.directory}: holds another number of rows than was committed; {REPAIR}")

    @loaded_once
    def vectors(self) -> CheckedRows:
        """The vectors, (rows, d); opened at first use, since a search for words needs none."""
        vectors = CheckedRows(self.directory / VECTORS, self._file(VECTORS), (self._dimension,))
        self._check_rows(len(vectors))
        return vectors

    @loaded_once
    def memory(self) -> CheckedRows:
        """The memory vectors, (rows, k, d); opened at first use."""
        return CheckedRows(self.directory / MEMORY, self._file(MEMORY), (self._memory_tokens, self._dimension))


class SegmentWriter:
    """Streams rows into a new segment in a temporary directory; `seal` makes it durable and puts it in place."""

    def __init__(self, temporary: Path, dimension: int, memory_tokens: int) -> None:
        self.name = uuid.uuid4().hex
        self.directory = temporary / self.name
        fs.make_directory(self.directory)
        self._row_shapes = {VECTORS: (dimension,), IDS: ()}
        if memory_tokens:
            self._row_shapes[MEMORY] = (memory_tokens, dimension)
        self._files: dict[str, fs.FileWriter] = {}
        try:
            for name in self._row_shapes:
                self._files[name] = fs.FileWriter(self.directory / name)
        except OSError:
            self.abandon()
            raise
        self.rows = 0

    def append(self, nums: Int64Array, vectors: Float16Array, memory: Float16Array | None = None) -> None:
        """Append rows; ``nums`` ascend, within a call and from call to call."""
        parts = {IDS: nums.astype("<i8"), VECTORS: vectors.astype("<f2")}
        if memory is not None:
            parts[MEMORY] = memory.astype("<f2")
        if parts.keys() != self._files.keys():
            raise ValueError("memory vectors must be given exactly when the index keeps them")
        for name, part in parts.items():
            if part.size:
                self._files[name].write(np.ascontiguousarray(part).data)
        self.rows += len(nums)

    def blocks(self, size: int) -> Iterator[tuple[Int64Array, Float16Array, Float16Array | None]]:
        """What was appended so far, ``size`` rows at a time."""
        views = {
            name: np.memmap(self.directory / name, dtype="<i8" if name == IDS else "<f2", mode="r").reshape(-1, *shape)
            for name, shape in self._row_shapes.items()
            if self.rows
        }
        for start in range(0, self.rows, size):
            part = slice(start, start + size)
            yield views[IDS][part], views[VECTORS][part], views[MEMORY][part] if MEMORY in views else None

    def seal(self, segments: Path) -> SegmentRecord:
        """Fsync the files, move the directory under ``segments``, and describe it for the manifest."""
        records = tuple(writer.close() for writer in self._files.values())
        fs.point("segment-written")
        fs.rename(self.directory, segments / self.name)
        fs.point("segment-renamed")
        return SegmentRecord(self.name, "vectors", self.rows, records)

    def abandon(self) -> None:
        """Close the files; the directory is left to the next cleaning of temporary files."""
        for writer in self._files.values():
            writer.abandon()
