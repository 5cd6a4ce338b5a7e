"""Reranking within a time: as many of the best candidates are read as fit into it.

The first few are read and timed. What is left of the time says how many more, read in growing portions, so that a guess
that was wrong is mended. Candidates are read in the order of the first search, best first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.retrieval.rerank.protocol import Passage

__all__ = ["RERANK_MS", "score_in_time"]

RERANK_MS = 500.0
"""Milliseconds for the candidates of a query where somebody waits for the hits and a model reads texts."""

_FIRST = 2  # candidates: fewer cannot change places
_GROWTH = 3  # the next portion is at most so many times what was read
_MOST = 128  # candidates at once, however much time there is: what is read of them lies in memory together


def score_in_time(
    score: Callable[[Sequence[Passage]], FloatArray],
    candidates: Sequence[Sequence[Passage]],
    milliseconds: float | None,
    *,
    at_once: bool = False,
) -> list[FloatArray]:
    """Scores of the passages of the first candidates.

    Args:
        score: of a reranker, for one query.
        candidates: best first, each as the passages that stand for it.
        milliseconds: to read them in; ``None`` and 0 for no limit. At least two candidates are read, and one portion
            may end late.
        at_once: read all together, however long it takes.

    Returns:
        For each candidate that was read, the scores of its passages: ``(p,)``.
    """
    limit = milliseconds / 1000 if milliseconds else math.inf
    begun, read = time.perf_counter(), 0
    scores: list[FloatArray] = []
    while read < len(candidates):
        portion = len(candidates) if at_once else _MOST if math.isinf(limit) else _FIRST
        if read and not math.isinf(limit):
            spent = time.perf_counter() - begun
            portion = min(int((limit - spent) * read / max(spent, 1e-9)), _GROWTH * read, _MOST)
            if portion < 1:
                break
        chosen = candidates[read : read + portion]
        found = score([passage for passages in chosen for passage in passages])
        scores += np.split(found, np.cumsum([len(passages) for passages in chosen])[:-1])
        read += len(chosen)
    return scores
