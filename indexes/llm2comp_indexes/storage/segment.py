"""The immutable files of a vector segment: written front to back, then memory-mapped.

| file | content |
|---|---|
| ``vectors.f16`` | (rows, d) little-endian float16, row-major, nothing else |
| ``memory.i8`` | (rows, k, d + 4), only in an index that keeps memory vectors; see `memory_forms` |
| ``ids.i64`` | (rows,) int64: the document number of each row, ascending; rows of one document are neighbours |

A reader trusts no byte that it has not checked: each 64 KiB block is compared with its checksum from the manifest the
first time that a row in it is needed.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llm2comp_indexes.errors import IndexDamagedError
from llm2comp_indexes.storage import fs
from llm2comp_indexes.storage.checked import REPAIR, CheckedRows, read_checked
from llm2comp_indexes.storage.fs import FileRecord
from llm2comp_indexes.storage.memory_forms import MEMORY_FORMS, MemoryForm, Stored
from llm2comp_indexes.storage.store import Manifest, SegmentRecord
from llm2comp_indexes.threads import loaded_once
from llm2comp_indexes.types import Float16Array, Int64Array

__all__ = ["IDS", "VECTORS", "RowShape", "Segment", "SegmentWriter"]

VECTORS = "vectors.f16"
IDS = "ids.i64"


@dataclass(frozen=True, slots=True)
class RowShape:
    """What a row of an index's segments holds.

    Attributes:
        dimension: of its vector.
        memory_tokens: k, its memory vectors; 0 for none.
        form: how these are stored.
    """

    dimension: int
    memory_tokens: int
    form: MemoryForm

    @classmethod
    def of(cls, manifest: Manifest) -> RowShape:
        """The shape of the rows of an index."""
        return cls(manifest.dimension, manifest.memory_tokens, MEMORY_FORMS[manifest.memory_form])

    @property
    def memory(self) -> tuple[int, int]:
        """Shape of the memory vectors of a row as they are stored."""
        return self.memory_tokens, self.dimension + self.form.extra


class Segment:
    """A committed segment, open for reading.

    The caller holds a `Pin` on its directory, or the writer lock, so that nobody removes it meanwhile.
    """

    def __init__(self, index: Path, record: SegmentRecord, shape: RowShape) -> None:
        self.loading = threading.RLock()
        self.record = record
        self.directory = index / record.directory
        self.nums: Int64Array = np.frombuffer(read_checked(self.directory / IDS, self._file(IDS)), dtype="<i8")
        self._shape = shape
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
        vectors = CheckedRows(self.directory / VECTORS, self._file(VECTORS), (self._shape.dimension,))
        self._check_rows(len(vectors))
        return vectors

    @loaded_once
    def memory(self) -> CheckedRows:
        """The memory vectors as they are stored, (rows, k, d + extra); opened at first use."""
        form = self._shape.form
        return CheckedRows(self.directory / form.file, self._file(form.file), self._shape.memory, form.dtype)


class SegmentWriter:
    """Streams rows into a new segment in a temporary directory; `seal` makes it durable and puts it in place."""

    def __init__(self, temporary: Path, shape: RowShape) -> None:
        self.name = uuid.uuid4().hex
        self.directory = temporary / self.name
        fs.make_directory(self.directory)
        self._memory = shape.form.file
        self._rows: dict[str, tuple[str, tuple[int, ...]]] = {VECTORS: ("<f2", (shape.dimension,)), IDS: ("<i8", ())}
        if shape.memory_tokens:
            self._rows[self._memory] = (shape.form.dtype, shape.memory)
        self._files: dict[str, fs.FileWriter] = {}
        try:
            for name in self._rows:
                self._files[name] = fs.FileWriter(self.directory / name)
        except OSError:
            self.abandon()
            raise
        self.rows = 0

    def append(self, nums: Int64Array, vectors: Float16Array, memory: Stored | None = None) -> None:
        """Append rows, memory vectors as they are stored; ``nums`` ascend, within a call and from call to call."""
        parts: dict[str, Stored] = {IDS: nums.astype("<i8"), VECTORS: vectors.astype("<f2")}
        if memory is not None:
            parts[self._memory] = memory
        if parts.keys() != self._files.keys():
            raise ValueError("memory vectors must be given exactly when the index keeps them")
        for name, part in parts.items():
            if part.size:
                self._files[name].write(np.ascontiguousarray(part).data)
        self.rows += len(nums)

    def blocks(self, size: int) -> Iterator[tuple[Int64Array, Float16Array, Stored | None]]:
        """What was appended so far, ``size`` rows at a time."""
        views = {
            name: np.memmap(self.directory / name, dtype=dtype, mode="r").reshape(-1, *shape)
            for name, (dtype, shape) in self._rows.items()
            if self.rows
        }
        for start in range(0, self.rows, size):
            part = slice(start, start + size)
            yield views[IDS][part], views[VECTORS][part], views[self._memory][part] if self._memory in views else None

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
