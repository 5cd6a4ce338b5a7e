"""Checking and converting vectors: what comes in is float32 of the right width, what is kept is float16."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from llm2comp_indexes.errors import InputError
from llm2comp_indexes.types import Float16Array, Float32Array

__all__ = ["RowError", "as_matrix", "as_queries", "narrow", "normalised", "widen"]

_SIGN_AND_BITS: Final = np.uint32(0x8FFFE000).view(np.int32)
_REBIAS: Final = np.float32(2.0 ** (127 - 15))
_SHORT, _LONG = 1e-12, 1e30  # squared lengths between which float32 sums lose nothing


class RowError(InputError):
    """A row that cannot be stored.

    Attributes:
        row: its number in what was given.
    """

    def __init__(self, what: str, row: int, reason: str) -> None:
        """Say which, and what is wrong with it."""
        super().__init__(f"{what}: row {row} {reason}")
        self.row = row


def as_matrix(vectors: npt.ArrayLike, dimension: int, what: str) -> Float32Array:
    """Check that ``vectors`` is a finite (n, d) matrix of the index's width.

    Raises:
        InputError: it is not.
    """
    matrix = np.ascontiguousarray(vectors, dtype=np.float32)
    if matrix.ndim != 2 or matrix.shape[1] != dimension:
        raise InputError(f"{what}: shape {matrix.shape} where (n, {dimension}) is needed; another encoder made them?")
    if not math.isfinite(np.vdot(matrix, matrix)):  # the shortest test, but squares of finite values may overflow
        finite = np.isfinite(matrix).all(axis=1)
        if not finite.all():
            raise RowError(what, int(np.flatnonzero(~finite)[0]), "holds NaN or infinity")
    return matrix


def as_queries(vectors: npt.ArrayLike, dimension: int, *, cosine: bool) -> Float32Array:
    """Check queries, (q, d) or (d,) for one, and scale them to length 1 where that is the metric's way.

    Returns:
        (q, d).

    Raises:
        InputError: they do not fit the index, or have no direction.
    """
    matrix = np.ascontiguousarray(vectors, dtype=np.float32)
    if matrix.ndim == 1:
        matrix = matrix[None]
    if matrix.shape == (1, dimension):  # a single query waits for every microsecond: one sum serves all checks
        square = np.vdot(matrix, matrix)
        if _SHORT < square < _LONG:
            return matrix / np.sqrt(square) if cosine else matrix
    matrix = as_matrix(matrix, dimension, "query")
    return normalised(matrix, "query") if cosine and len(matrix) else matrix


def normalised(matrix: Float32Array, what: str) -> Float32Array:
    """Rows scaled to length 1.

    Raises:
        InputError: a row is all zeros, so that it has no direction.
    """
    squares = np.einsum("ij,ij->i", matrix, matrix)
    lengths = squares.tolist()
    if min(lengths, default=1) > _SHORT and max(lengths, default=1) < _LONG:
        return matrix / np.sqrt(squares)[:, None]
    largest = np.abs(matrix).max(axis=1, initial=0, keepdims=True)
    if not largest.all():
        raise RowError(what, int(np.flatnonzero(largest == 0)[0]), "is all zeros and has no cosine")
    scaled = matrix / largest  # else the squares of very long or very short rows overflow or vanish
    return (scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(np.float32)


def narrow(matrix: Float32Array, what: str) -> Float16Array:
    """``matrix`` in float16.

    Raises:
        InputError: a value is too large for it.
    """
    with np.errstate(over="ignore"):
        narrow = matrix.astype(np.float16)
    if not np.isfinite(narrow).all():
        raise InputError(f"{what}: a value is beyond what float16 holds (65504)")
    return narrow


def widen(narrow: Float16Array, out: Float32Array) -> Float32Array:
    """Finite float16 values as float32, in ``out`` (same shape, contiguous).

    The same result as ``out[...] = narrow`` in half the time, since NumPy converts element by element: here the 15 low
    bits move to where float32 has them, which leaves the exponent off by the difference of the biases, and one
    multiplication sets that right.
    """
    bits = out.view(np.int32)
    np.copyto(bits, narrow.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, _SIGN_AND_BITS, out=bits)
    return np.multiply(out, _REBIAS, out=out)
