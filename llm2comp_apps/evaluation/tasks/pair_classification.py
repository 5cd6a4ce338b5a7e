"""Pair classification: can one threshold on the similarity tell paraphrases from other pairs?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation.datasets import PairData
from llm2comp_apps.evaluation.metrics import paired_similarities
from llm2comp_apps.evaluation.results import TaskScores
from llm2comp_apps.evaluation.tasks.base import Embed, Role, Task

__all__ = ["PairClassificationTask"]


@dataclass(frozen=True)
class PairClassificationTask(Task[PairData]):
    """Average precision of the similarity as a paraphrase score, best of MTEB's similarities (``max_ap``)."""

    category: ClassVar[str] = "PairClassification"
    main_metric: ClassVar[str] = "max_ap"

    def texts(self) -> list[tuple[Role, list[str]]]:
        """Both sides of the pairs."""
        data = self.load()
        return [("query", [*data.first, *data.second])]

    def evaluate(self, embed: Embed) -> TaskScores:
        """Score the pairs by each similarity."""
        from sklearn.metrics import average_precision_score

        data = self.load()
        if set(data.gold) != {0, 1}:
            raise EvaluationError(
                f"{self.name}: pair labels must be 0 and 1, both present, found {sorted(set(data.gold))}"
            )
        labels = np.asarray(data.gold, dtype=int)
        both = embed([*data.first, *data.second])
        similarities = paired_similarities(both[: len(labels)], both[len(labels) :])
        scores = {
            f"{name}_ap": float(average_precision_score(labels, similarity))
            for name, similarity in similarities.items()
        }
        best = max(similarities, key=lambda name: scores[f"{name}_ap"])
        scores["max_ap"] = scores[f"{best}_ap"]
        return TaskScores(
            scores,
            counts={"pairs": len(labels), "positive": int(labels.sum())},
            pairs={"gold": [float(label) for label in labels], "score": similarities[best].tolist()},
        )
