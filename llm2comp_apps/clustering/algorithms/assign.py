"""Assigning vectors to fitted topics, by what was fitted and nothing that would have to be fitted again.

A vector that was fitted gets the label and the membership it got then, looked up by a hash of its bytes: equality is
exact before and after a reload. Any other vector asks its nearest fitted documents and mixes their memberships. Nothing
depends on the low-dimensional layout, which has no exact counterpart for a new point.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray, local_weights, nearest_neighbors

__all__ = ["Assigner", "KeyArray", "hash_rows", "hash_texts", "unit_rows"]

KeyArray = npt.NDArray[np.uint64]

_ARRAYS = ("vectors", "keys", "labels", "membership")


@dataclass(frozen=True, slots=True, eq=False)
class Assigner:
    """A fitted clustering, as far as new documents need it.

    Attributes:
        vectors: ``(n, d)``, the fitted vectors: unit rows in float16 under cosine, else float32. Half precision moves a
            cosine by about 1e-5 at most and halves the file.
        keys: ``(n,)`` uint64, :func:`hash_rows` of the fitted vectors as they came.
        labels: ``(n,)`` int32.
        membership: ``(n, C)`` float32.
        neighbors: fitted documents asked about a new one.
        reach: a new document farther than this from every fitted one is an outlier (unless ``outliers`` is
            ``nearest``): 99 of 100 fitted documents have a neighbour within this distance that is no copy. 0 sets no
            limit: all that was fitted were copies.
        outliers: policy, see :mod:`~llm2comp_apps.clustering.algorithms.membership`.
        threshold: membership that the policy ``threshold`` asked for when the topics were made; joining topics later
            does not change it.
        cosine: whether rows are scaled to unit length first.
    """

    vectors: npt.NDArray[np.float16] | FloatArray
    keys: KeyArray
    labels: IntArray
    membership: FloatArray
    neighbors: int
    reach: float
    outliers: str
    threshold: float
    cosine: bool

    def assign(self, vectors: FloatArray) -> tuple[IntArray, FloatArray]:
        """Find the topics of ``(m, d)`` vectors: labels ``(m,)``, -1 for outliers, and membership ``(m, C)``."""
        order = np.argsort(self.keys, kind="stable")
        keys = hash_rows(vectors)
        place = np.minimum(np.searchsorted(self.keys[order], keys), len(order) - 1)
        fitted = order[place]
        known = self.keys[fitted] == keys
        labels, membership = self.labels[fitted], self.membership[fitted]
        if not known.all():
            labels[~known], membership[~known] = self._ask_neighbors(vectors[~known])
        return labels, membership

    def _ask_neighbors(self, vectors: FloatArray) -> tuple[IntArray, FloatArray]:
        rows = unit_rows(vectors) if self.cosine else vectors
        fitted = self.vectors.astype(np.float32)
        distances, indices = nearest_neighbors(fitted, rows, min(self.neighbors, len(fitted)))
        weights = local_weights(distances.astype(np.float64)).astype(np.float32)
        weights /= weights.sum(axis=1, keepdims=True)
        membership = np.zeros((len(rows), self.membership.shape[1]), dtype=np.float32)
        outlying = np.zeros(len(rows), dtype=np.float32)
        for rank in range(indices.shape[1]):  # one neighbour at a time: all at once would be (m, k, C)
            share, neighbor = weights[:, rank], indices[:, rank]
            membership += share[:, None] * self.membership[neighbor]
            outlying += share * (self.labels[neighbor] < 0)
        if not membership.shape[1]:
            return np.full(len(rows), -1, dtype=np.int32), membership
        labels = membership.argmax(axis=1).astype(np.int32)
        if self.outliers != "nearest":
            alone = (distances[:, 0] > self.reach) & (self.reach > 0)
            weak = outlying > 0.5
            if self.outliers == "threshold":  # as in fitting: it is asked only of what would be an outlier
                weak &= membership.max(axis=1) < self.threshold
            labels[alone | weak] = -1
        return labels, membership

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays to store."""
        return {name: getattr(self, name) for name in _ARRAYS}

    def settings(self) -> dict[str, Any]:
        """The scalars to store, JSON-shaped."""
        names = ("neighbors", "reach", "outliers", "threshold", "cosine")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def restore(cls, arrays: Mapping[str, npt.NDArray[Any]], settings: Mapping[str, Any]) -> Assigner:
        """Undo :meth:`arrays` and :meth:`settings`."""
        stored: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
        return cls(**stored, **settings)


def unit_rows(vectors: FloatArray) -> FloatArray:
    """Scale rows to unit length; a row of zeros stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def hash_rows(vectors: FloatArray) -> KeyArray:
    """One 64-bit key for each row's float32 bytes; rows that are equal as numbers have equal keys."""
    rows = np.ascontiguousarray(vectors, dtype=np.float32) + np.float32(0.0)  # -0.0 becomes 0.0
    return _keys(row.tobytes() for row in rows)


def hash_texts(texts: Sequence[str]) -> KeyArray:
    """One 64-bit key for each text."""
    return _keys(text.encode("utf-8", "surrogatepass") for text in texts)


def _keys(parts: Iterable[bytes]) -> KeyArray:
    digests = b"".join(hashlib.blake2b(part, digest_size=8).digest() for part in parts)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
