"""Clustering: do k-means clusters of the embeddings agree with the classes?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation.datasets import ClusteringData
from llm2comp_apps.evaluation.results import TaskScores
from llm2comp_apps.evaluation.tasks.base import Embed, Role, Task

__all__ = ["ClusteringTask", "cluster_labels"]

SEED = 42
BATCH_SIZE = 500


@dataclass(frozen=True)
class ClusteringTask(Task[ClusteringData]):
    """V-measure of mini-batch k-means with as many clusters as classes (MTEB's clustering).

    MTEB averages over the ten sets of a dataset, seed 42 each. A dataset of the simple form is one set, so the mean
    is taken over ``seeds`` k-means seeds from 42 on: one run's V-measure moves by a point or two with its seed.
    """

    seeds: int = 10
    category: ClassVar[str] = "Clustering"
    main_metric: ClassVar[str] = "v_measure"

    @property
    def settings(self) -> dict[str, Any]:
        """The clusterer and its seeds."""
        return {
            **self.origin,
            "clusterer": f"MiniBatchKMeans(batch_size={BATCH_SIZE})",
            "first_seed": SEED,
            "seeds": self.seeds,
        }

    def texts(self) -> list[tuple[Role, list[str]]]:
        """All texts."""
        return [("query", list(self.load().texts))]

    def evaluate(self, embed: Embed) -> TaskScores:
        """Cluster once per seed.

        Raises:
            EvaluationError: there are fewer than two classes to tell apart.
        """
        from sklearn.metrics import adjusted_rand_score, v_measure_score

        data = self.load()
        classes = len(set(data.labels))
        if classes < 2:
            raise EvaluationError(
                f"{self.name}: needs texts of at least two classes, found only {data.labels[0]!r:.60}"
            )
        vectors = embed(data.texts)
        v_measures, rand = [], []
        for seed in range(SEED, SEED + self.seeds):
            found = cluster_labels(vectors, classes, seed)
            v_measures.append(float(v_measure_score(data.labels, found)))
            rand.append(float(adjusted_rand_score(data.labels, found)))
        scores = {
            "v_measure": float(np.mean(v_measures)),
            "v_measure_std": float(np.std(v_measures)),
            "v_measure_seed42": v_measures[0],
            "adjusted_rand": float(np.mean(rand)),
        }
        return TaskScores(scores, counts={"texts": len(data.texts), "classes": classes})


def cluster_labels(vectors: FloatArray, clusters: int, seed: int) -> np.ndarray:
    """Cluster number of each row, by MTEB's clusterer."""
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(n_clusters=clusters, batch_size=BATCH_SIZE, n_init="auto", random_state=seed)
    return model.fit(vectors).labels_
