"""Reranking: are a query's relevant candidates nearer to it than the irrelevant ones?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import numpy as np

from llm2comp_apps.evaluation.datasets import RerankingData
from llm2comp_apps.evaluation.metrics import average_precision, mean_of, rank_order, reciprocal_rank
from llm2comp_apps.evaluation.results import TaskScores
from llm2comp_apps.evaluation.tasks.base import Embed, Role, Task

__all__ = ["RerankingTask"]


@dataclass(frozen=True)
class RerankingTask(Task[RerankingData]):
    """Mean average precision of each query's own candidates, sorted by cosine (MTEB ``map``; also MRR@10)."""

    category: ClassVar[str] = "Reranking"
    main_metric: ClassVar[str] = "map"

    def texts(self) -> list[tuple[Role, list[str]]]:
        """Queries and all candidates."""
        data = self.load()
        return [("query", list(data.queries)), ("document", list(chain.from_iterable(_candidates(data))))]

    def evaluate(self, embed: Embed) -> TaskScores:
        """Score every query; of equal cosines the irrelevant come first, so that a collapsed encoder gains nothing."""
        data = self.load()
        queries = embed(data.queries, "query")
        candidates = _candidates(data)
        vectors = embed(list(chain.from_iterable(candidates)), "document")
        ends = np.cumsum([len(texts) for texts in candidates])
        rows = []
        for query, texts, end, positive in zip(queries, candidates, ends, data.positives, strict=True):
            cosine = vectors[end - len(texts) : end] @ query
            relevance = np.zeros(len(texts))
            relevance[: len(positive)] = 1.0
            gains = relevance[rank_order(cosine, np.arange(len(texts)))]
            rows.append({"map": average_precision(gains, relevance), "mrr@10": reciprocal_rank(gains, 10)})
        counts = {"queries": len(rows), "candidates": int(ends[-1])}
        return TaskScores(mean_of(rows), units=[row["map"] for row in rows], counts=counts)


def _candidates(data: RerankingData) -> list[list[str]]:
    """The texts of each query, the relevant ones first."""
    return [[*positive, *negative] for positive, negative in zip(data.positives, data.negatives, strict=True)]
