"""Token embeddings as 8-bit integers with a scale for every 32 values, read from the file row by row.

That is the layout of GGUF's ``Q8_0``, in which the default backbone's embeddings come: they are kept without loss. A
look-up touches only the rows of the tokens that occur, so opening an encoder does not read the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["TokenTable", "packed_tokens"]

_BLOCK = 32
_LARGEST = 127

Floats = npt.NDArray[np.float32]


def packed_tokens(tokens: Floats, *, exactly: bool) -> dict[str, npt.NDArray[Any]]:
    """The arrays that a :class:`TokenTable` reads.

    Args:
        tokens: ``(V, d)``.
        exactly: keep float32 where rounding would change a value.
    """
    count, d = tokens.shape
    blocks = tokens.reshape(count, -1, _BLOCK if d % _BLOCK == 0 else d)
    scales = (np.abs(blocks).max(axis=2) / _LARGEST).astype(np.float16)
    steps = scales.astype(np.float32)[..., None]
    rounded = np.divide(blocks, steps, out=np.zeros_like(blocks), where=steps > 0)
    integers = np.clip(np.rint(rounded), -_LARGEST, _LARGEST).astype(np.int8)
    if exactly and not np.array_equal(integers * steps, blocks):
        return {"tokens": tokens}
    return {"tokens": integers.reshape(count, d), "token_scales": scales}


class TokenTable:
    """Looks token embeddings up."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Read from what :func:`packed_tokens` made."""
        self._tokens = arrays["tokens"]
        self._scales = arrays.get("token_scales")

    def __len__(self) -> int:
        return len(self._tokens)

    def look_up(self, ids: npt.NDArray[np.int64]) -> Floats:
        """Embeddings ``(..., d)`` of token ids ``(...)``."""
        found = self._tokens[ids].astype(np.float32)
        if self._scales is None:
            return found
        scales = self._scales[ids].astype(np.float32)
        blocks = found.reshape(*scales.shape, self._tokens.shape[1] // self._scales.shape[1])
        blocks *= scales[..., None]
        return found
