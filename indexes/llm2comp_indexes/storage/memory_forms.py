"""How memory vectors are stored: what an index was made with stays its form.

| form | file | a vector takes | indexes |
|---|---|---|---|
| ``int8`` | ``memory.i8`` | d codes and a float32 scale: ``d + 4`` bytes | all that are made now |
| ``float16`` | ``memory.f16`` | ``2 d`` bytes | of format 1 |

A vector v becomes ``codes = round(v / scale)`` with ``scale = max |v| / 127``. On memory vectors of ``quality`` the
cosine of a vector and its stored form is .9998 and more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llm2comp_indexes.errors import InputError
from llm2comp_indexes.types import Float32Array

__all__ = ["FLOAT16", "INT8", "MEMORY_FORMS", "MemoryForm", "Stored"]

Stored = npt.NDArray[Any]

_LARGEST = 127
_SCALE_BYTES = 4


@dataclass(frozen=True, slots=True)
class MemoryForm:
    """A row of the table above.

    Attributes:
        name: as an index records it.
        file: in a segment.
        dtype: of the file.
        extra: items that a vector takes beyond its width.
        pack: (n, k, d) float32 to (n, k, d + extra) as stored; raises `InputError` for what cannot be stored.
        unpack: back to (n, k, d) float32.
    """

    name: str
    file: str
    dtype: str
    extra: int
    pack: Callable[[Float32Array], Stored]
    unpack: Callable[[Stored], Float32Array]


def _pack_int8(vectors: Float32Array) -> Stored:
    if not np.isfinite(vectors).all():
        raise InputError("memory: holds values that are not finite")
    scales = np.abs(vectors).max(axis=-1, keepdims=True, initial=0).astype("<f4") / np.float32(_LARGEST)
    codes = np.rint(vectors / np.where(scales > 0, scales, np.float32(1))).astype(np.int8)
    return np.concatenate([codes, scales.astype("<f4").view(np.int8)], axis=-1)


def _unpack_int8(stored: Stored) -> Float32Array:
    scales = np.ascontiguousarray(stored[..., -_SCALE_BYTES:]).view("<f4")
    vectors: Float32Array = stored[..., :-_SCALE_BYTES] * scales
    return vectors


def _pack_float16(vectors: Float32Array) -> Stored:
    with np.errstate(over="ignore"):
        narrow = vectors.astype("<f2")
    if not np.isfinite(narrow).all():
        raise InputError("memory: a value is beyond what float16 holds (65504)")
    return narrow


INT8 = MemoryForm("int8", "memory.i8", "i1", _SCALE_BYTES, _pack_int8, _unpack_int8)
FLOAT16 = MemoryForm("float16", "memory.f16", "<f2", 0, _pack_float16, lambda stored: stored.astype(np.float32))
MEMORY_FORMS = {form.name: form for form in (INT8, FLOAT16)}
