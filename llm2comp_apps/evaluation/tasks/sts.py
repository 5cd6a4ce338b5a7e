"""Semantic textual similarity: does the cosine of two sentences follow people's judgement of their similarity?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation.datasets import PairData
from llm2comp_apps.evaluation.metrics import paired_similarities, spearman
from llm2comp_apps.evaluation.results import TaskScores
from llm2comp_apps.evaluation.tasks.base import Embed, Role, Task

__all__ = ["StsTask"]


@dataclass(frozen=True)
class StsTask(Task[PairData]):
    """Spearman's correlation of cosine similarity with the gold scores (MTEB ``cosine_spearman``)."""

    category: ClassVar[str] = "STS"
    main_metric: ClassVar[str] = "cosine_spearman"

    def texts(self) -> list[tuple[Role, list[str]]]:
        """Both sides of the pairs."""
        data = self.load()
        return [("query", [*data.first, *data.second])]

    def evaluate(self, embed: Embed) -> TaskScores:
        """Score the pairs; a collapsed encoder (all cosines equal) scores 0 rather than NaN.

        Raises:
            EvaluationError: there is no order to follow: fewer than two pairs, or all of one gold score.
        """
        data = self.load()
        if len(set(data.gold)) < 2:
            raise EvaluationError(
                f"{self.name}: needs at least two pairs with different scores, found {len(data.gold)} with "
                f"{len(set(data.gold))} score"
            )
        both = embed([*data.first, *data.second])
        pairs = len(data.gold)
        cosine = paired_similarities(both[:pairs], both[pairs:])["cosine"]
        gold = np.asarray(data.gold)
        rho = 0.0 if np.ptp(cosine) == 0 else spearman(cosine, gold)
        pearson = 0.0 if np.ptp(cosine) == 0 else float(np.corrcoef(cosine, gold)[0, 1])
        scores = {"cosine_spearman": rho, "cosine_pearson": pearson, "mean_cosine": float(cosine.mean())}
        return TaskScores(scores, counts={"pairs": pairs}, pairs={"gold": list(data.gold), "score": cosine.tolist()})
