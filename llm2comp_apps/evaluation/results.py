"""What an evaluation leaves behind: one :class:`TaskResult` per encoder and task."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["CATEGORIES", "TaskResult", "TaskScores"]

CATEGORIES = ("Retrieval", "Reranking", "Clustering", "PairClassification", "Classification", "STS")
"""The task categories, in the order in which tables print them."""


@dataclass(frozen=True, slots=True)
class TaskScores:
    """What a task computes.

    Attributes:
        scores: every metric by name, in [0, 1] (Spearman in [-1, 1]).
        units: the main metric of each independent unit (a query, a test text), in a fixed order, whose mean is the
            main score; empty where the main metric is not such a mean (Spearman, V-measure). Significance tests use it.
        counts: sizes of what was scored.
        pairs: what a main metric over all pairs at once was computed from: the ``gold`` value and the ``score`` of each
            pair, in a fixed order; empty for other tasks. Significance tests use it where there are no units.
    """

    scores: dict[str, float]
    units: list[float] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    pairs: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One encoder's result on one task.

    Attributes:
        encoder: the encoder's name for people.
        fingerprint: the encoder's fingerprint.
        task: the task's name.
        category: one of :data:`CATEGORIES`.
        main_metric: the key of ``scores`` that tables show.
        scores: every metric by name.
        units: see :class:`TaskScores`.
        counts: see :class:`TaskScores`.
        prompts: the prompt put in front of queries and of documents (symmetric tasks have only ``query``).
        settings: what else decides the score (split, sample, seeds, classifier).
        seconds: wall time, encoding included.
        pairs: see :class:`TaskScores`.
    """

    encoder: str
    fingerprint: str
    task: str
    category: str
    main_metric: str
    scores: dict[str, float]
    units: list[float]
    counts: dict[str, int]
    prompts: dict[str, str]
    settings: dict[str, Any]
    seconds: float
    pairs: dict[str, list[float]] = field(default_factory=dict)

    @property
    def main_score(self) -> float:
        """The score that tables show, times 100 there."""
        return self.scores[self.main_metric]

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON-shaped values, units and pairs rounded to seven places to keep files small."""
        pairs = {name: _rounded(values) for name, values in self.pairs.items()}
        return {**asdict(self), "units": _rounded(self.units), "pairs": pairs}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TaskResult:
        """The inverse of :meth:`to_json`."""
        return cls(**value)


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 7) for value in values]
