"""The tasks, one module per category, each by MTEB's definition."""

from __future__ import annotations

from llm2comp_apps.evaluation.tasks.base import Embed, Ranker, Search, Task
from llm2comp_apps.evaluation.tasks.classification import ClassificationTask
from llm2comp_apps.evaluation.tasks.clustering import ClusteringTask
from llm2comp_apps.evaluation.tasks.pair_classification import PairClassificationTask
from llm2comp_apps.evaluation.tasks.reranking import RerankingTask
from llm2comp_apps.evaluation.tasks.retrieval import RetrievalTask
from llm2comp_apps.evaluation.tasks.sts import StsTask

__all__ = [
    "ClassificationTask",
    "ClusteringTask",
    "Embed",
    "PairClassificationTask",
    "Ranker",
    "RerankingTask",
    "RetrievalTask",
    "Search",
    "StsTask",
    "Task",
]
