"""Texts in groups of alike ones, so that the texts of a batch are hard to tell apart.

A batch of random texts asks for coarse differences only. Topic aware sampling (TAS-B, arXiv 2104.06967) takes each
batch from one group; the groups are those of k-means on the teacher's vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from llm2comp_apps.files import replaced_file

__all__ = ["topics_of"]

_AT_ONCE = 8192
_FIT = 20_000
"""Texts on which the groups are found."""


def topics_of(
    path: Path,
    rows: npt.NDArray[np.int64],
    count: int,
    groups: int,
    seed: int,
    vectors: Callable[[Sequence[int]], Tensor],
) -> npt.NDArray[np.int32]:
    """Group of each row, ``(count,)`` int32; 0 for rows that are not asked for.

    Args:
        path: the run's file; if it is there already, it is taken as it is.
        rows: to group, ascending.
        count: rows of the store.
        groups: how many; fewer where there are fewer rows.
        seed: of the draw and of k-means.
        vectors: ``(n, t)`` of rows.
    """
    if not path.is_file():
        from sklearn.cluster import MiniBatchKMeans

        chosen = np.sort(np.random.default_rng(seed).permutation(rows)[:_FIT])
        means = MiniBatchKMeans(min(groups, len(chosen)), random_state=seed, n_init=1, batch_size=2048)
        means.fit(vectors(chosen.tolist()).cpu().numpy())
        found = np.zeros(count, dtype=np.int32)
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            found[part] = means.predict(vectors(part.tolist()).cpu().numpy())
        with replaced_file(path) as fresh, fresh.open("wb") as file:
            np.save(file, found)
    return np.load(path)
