"""Reading committed files without trusting them."""

from __future__ import annotations

import hashlib
import mmap
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llm2comp_indexes.errors import IndexDamagedError
from llm2comp_indexes.storage.fs import BLOCK_BYTES, FileRecord, record_file
from llm2comp_indexes.types import Int64Array

__all__ = ["REPAIR", "CheckedRows", "difference", "read_checked"]

REPAIR = "restore it from a copy, or remove the index and build it again"


def difference(path: Path, record: FileRecord) -> str | None:
    """How the file differs from what was committed, in words; None if it does not."""
    try:
        size = path.stat().st_size
        if size != record.size:
            return f"has {size} bytes where {record.size} were committed"
        found = record_file(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if found.sha256 == record.sha256 else "its bytes differ from what was committed"


def read_checked(path: Path, record: FileRecord) -> bytes:
    """The whole of a small file, if it is what was committed.

    Raises:
        IndexDamagedError: it is missing, shorter, longer or different.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise IndexDamagedError(f"{path}: cannot be read ({error.strerror}); {REPAIR}") from error
    if len(data) != record.size or hashlib.sha256(data).hexdigest() != record.sha256:
        raise IndexDamagedError(f"{path}: differs from what was committed; {REPAIR}")
    return data


class CheckedRows:
    """Rows of a memory-mapped file, each block checked before its first use.

    Args:
        path: the file.
        record: its size and checksums.
        row_shape: shape of one row.
        dtype: of the file.

    Raises:
        IndexDamagedError: the file is missing or has another size.
    """

    def __init__(self, path: Path, record: FileRecord, row_shape: tuple[int, ...], dtype: str = "<f2") -> None:
        self._path = path
        try:
            size = path.stat().st_size
        except OSError as error:
            raise IndexDamagedError(f"{path}: cannot be read ({error.strerror}); {REPAIR}") from error
        if size != record.size:
            raise IndexDamagedError(f"{path}: has {size} bytes where {record.size} were committed; {REPAIR}")
        with path.open("rb") as file:
            self._bytes = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        # A plain array and not np.memmap, whose every slice costs microseconds of Python.
        self.array: npt.NDArray[Any] = np.frombuffer(self._bytes, dtype=dtype).reshape(-1, *row_shape)
        self._row_bytes = self.array.itemsize * int(np.prod(row_shape))
        self._steps = np.arange(2 + (self._row_bytes - 2) // BLOCK_BYTES)  # blocks that a row may touch
        self._expected = np.frombuffer(record.checksums, dtype="<u4")
        self._unchecked = np.ones(len(self._expected), dtype=bool)
        self._doubtful = np.ones(len(self.array), dtype=bool)  # rows that may touch an unchecked block
        self._all_checked = False

    def __len__(self) -> int:
        return len(self.array)

    def _check(self, blocks: Int64Array) -> None:
        for block in blocks[self._unchecked[blocks]].tolist():
            start = block * BLOCK_BYTES
            if zlib.crc32(self._bytes[start : start + BLOCK_BYTES]) != self._expected[block]:
                raise IndexDamagedError(f"{self._path}: bytes {start} and on differ from what was committed; {REPAIR}")
            self._unchecked[block] = False
            stop = start + BLOCK_BYTES
            self._doubtful[-(-start // self._row_bytes) : stop // self._row_bytes] = False  # the rows within
        self._all_checked = not self._unchecked.any()

    def slice(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows ``start`` to ``stop``, as a view."""
        if not self._all_checked and stop > start:
            first, last = start * self._row_bytes // BLOCK_BYTES, (stop * self._row_bytes - 1) // BLOCK_BYTES
            self._check(np.arange(first, last + 1))
        return self.array[start:stop]

    def take(self, rows: Int64Array) -> npt.NDArray[Any]:
        """A copy of some rows."""
        return self.checked(rows).take(rows, axis=0)

    def checked(self, rows: Int64Array) -> npt.NDArray[Any]:
        """The whole array, of which the given rows (any shape) may be read."""
        if not self._all_checked and np.count_nonzero(self._doubtful[rows]):
            wanted = np.unique(rows)
            start = wanted[:, None] * self._row_bytes
            blocks = np.minimum(start // BLOCK_BYTES + self._steps, (start + self._row_bytes - 1) // BLOCK_BYTES)
            self._check(np.unique(blocks))
            self._doubtful[wanted] = False
        return self.array
