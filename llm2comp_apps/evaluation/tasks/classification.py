"""Classification: how much of a label can a linear classifier read off the embedding from a few examples?"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation.datasets import LabelledData
from llm2comp_apps.evaluation.metrics import mean_of
from llm2comp_apps.evaluation.results import TaskScores
from llm2comp_apps.evaluation.tasks.base import Embed, Role, Task

__all__ = ["ClassificationTask", "few_shot_samples"]

SEED = 42
MAX_ITERATIONS = 100


@dataclass(frozen=True)
class ClassificationTask(Task[LabelledData]):
    """Accuracy of logistic regression on a few examples per label, averaged over draws (MTEB's classification).

    Attributes:
        samples_per_label: training texts drawn per label: 8 in MTEB, 16 for Emotion, 32 for AmazonCounterfactual.
        experiments: number of draws.
    """

    samples_per_label: int = 8
    experiments: int = 10
    category: ClassVar[str] = "Classification"
    main_metric: ClassVar[str] = "accuracy"

    @property
    def settings(self) -> dict[str, Any]:
        """Draws, examples and classifier."""
        return {
            **self.origin,
            "samples_per_label": self.samples_per_label,
            "experiments": self.experiments,
            "seed": SEED,
            "classifier": f"LogisticRegression(max_iter={MAX_ITERATIONS})",
        }

    def texts(self) -> list[tuple[Role, list[str]]]:
        """The drawn training texts, and the test texts."""
        data = self.load()
        used = _used(few_shot_samples(data.train_labels, self.samples_per_label, self.experiments))
        return [("query", [data.train_texts[index] for index in used]), ("query", list(data.test_texts))]

    def evaluate(self, embed: Embed) -> TaskScores:
        """Embed the drawn training texts and all test texts once, fit one classifier per draw.

        Raises:
            EvaluationError: the training texts have fewer than two labels.
        """
        from sklearn.metrics import f1_score

        data = self.load()
        if len(set(data.train_labels)) < 2:
            raise EvaluationError(
                f"{self.name}: needs training texts of at least two labels, found only {data.train_labels[0]!r:.60}"
            )
        draws = few_shot_samples(data.train_labels, self.samples_per_label, self.experiments)
        used = _used(draws)
        row_of = {index: row for row, index in enumerate(used)}
        train = embed([data.train_texts[index] for index in used])
        test = embed(data.test_texts)
        labels, truth = np.asarray(data.train_labels), np.asarray(data.test_labels)
        rows, correct = [], np.zeros(len(truth))
        for draw in draws:
            predicted = _fit_predict(train[[row_of[index] for index in draw]], labels[draw], test)
            hits = predicted == truth
            correct += hits
            rows.append({"accuracy": float(hits.mean()), "f1": float(f1_score(truth, predicted, average="macro"))})
        scores = mean_of(rows)
        scores["accuracy_std"] = float(np.std([row["accuracy"] for row in rows]))
        counts = {"train": len(used), "test": len(truth), "labels": len(set(data.train_labels))}
        return TaskScores(scores, units=(correct / len(draws)).tolist(), counts=counts)


def few_shot_samples(labels: Sequence[str], per_label: int, experiments: int) -> list[list[int]]:
    """Draw training indices as the MTEB 1 that the published scores come from does.

    One generator shuffles the index list again before each draw, and the first ``per_label`` indices of each label are
    taken in that order. MTEB 2 seeds the generator at each draw, so that all its draws are powers of one
    permutation; the two agree in expectation, but on few labels (Emotion) they differ by points.

    Args:
        labels: label of each training text.
        per_label: examples per label; labels with fewer give all they have.
        experiments: number of draws.

    Returns:
        One index list per draw.
    """
    # MTEB's draws come from numpy's legacy generator; a new-style one would give other samples.
    generator = np.random.RandomState(SEED)
    indices = list(range(len(labels)))
    draws = []
    for _ in range(experiments):
        generator.shuffle(indices)
        taken: Counter[str] = Counter()
        draw = []
        for index in indices:
            if taken[labels[index]] < per_label:
                draw.append(index)
                taken[labels[index]] += 1
        draws.append(draw)
    return draws


def _used(draws: Sequence[Sequence[int]]) -> list[int]:
    return sorted(set().union(*draws))


def _fit_predict(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=MAX_ITERATIONS, random_state=SEED)
    with warnings.catch_warnings():
        # MTEB's definition stops at 100 iterations, converged or not.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, labels)
    return model.predict(test)
