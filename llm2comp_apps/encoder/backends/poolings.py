"""The poolings of :mod:`llm2comp_apps.encoder.pooling`, without torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from llm2comp_apps.encoder.settings import MERGE_SIMILARITY, check_pooling

__all__ = ["pool"]

Floats = npt.NDArray[np.float32]


def pool(memory: Floats, pooling: str) -> Floats:
    """Pool memory vectors ``(n, k, d)`` into ``(n, d)``, or ``(n, k, d)`` for ``all``; not normalised.

    Raises:
        UsageError: an unknown pooling.
    """
    check_pooling(pooling, several=True)
    if pooling == "mean":
        return memory.mean(axis=1)
    if pooling == "first":
        return memory[:, 0]
    if pooling == "all":
        return memory
    weights = 1 / _groups(memory).sum(axis=2)
    weights /= weights.sum(axis=1, keepdims=True)
    return (memory * weights[..., None].astype(np.float32)).sum(axis=1)


def _groups(memory: Floats) -> npt.NDArray[np.bool_]:
    """Which memory vectors ``(n, k, k)`` of a text are linked by near-copies."""
    unit = memory / np.maximum(np.linalg.norm(memory, axis=-1, keepdims=True), 1e-12)
    reach = unit @ unit.transpose(0, 2, 1) >= MERGE_SIMILARITY
    reach |= np.eye(memory.shape[1], dtype=bool)
    for _ in range(max(1, (memory.shape[1] - 1).bit_length())):  # paths double in length
        reach = reach @ reach
    return reach
