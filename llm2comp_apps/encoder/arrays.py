"""Safetensors files as memory-mapped arrays: opening costs nothing, and only what is looked at is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["open_arrays", "places"]

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "i1", "U8": "u1", "BOOL": "?"}


def open_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a file, read-only.

    Raises:
        OSError: there is no such file.
        ValueError: it is no safetensors file, is cut short, or holds a dtype that numpy lacks.
    """
    found = {}
    for name, (dtype, shape, start, length) in places(path).items():
        if dtype not in _DTYPES:
            raise ValueError(f"{name} is of dtype {dtype}")
        if length == 0:
            found[name] = np.zeros(shape, _DTYPES[dtype])
            continue
        found[name] = np.memmap(path, _DTYPES[dtype], "r", offset=start, shape=tuple(shape) or (1,)).reshape(shape)
    return found


def places(path: Path) -> dict[str, tuple[str, list[int], int, int]]:
    """Where each array of a file lies: its dtype as the file spells it, its shape, and its first byte and length.

    Raises:
        OSError: there is no such file.
        ValueError: it is no safetensors file, or is cut short.
    """
    total = path.stat().st_size
    with path.open("rb") as handle:
        size = int.from_bytes(handle.read(8), "little")
        if not 2 <= size <= total - 8:
            raise ValueError("not a safetensors file")
        header = json.loads(handle.read(size))
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        if 8 + size + end > total:
            raise ValueError("the file is cut short")
        found[name] = (entry["dtype"], entry["shape"], 8 + size + start, end - start)
    return found
