"""Embeddings -> clusters -> topics -> a map, a table and a model that assigns new documents.

``TopicModel`` is the front door. Behind it, ``TopicClusterer`` is a scikit-learn estimator over vectors; ``cluster``
adds words; ``write_clustering`` and ``load_model`` put the result into a folder and take it back. Names are loaded on
first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm2comp_apps.clustering.estimator import TopicClusterer
    from llm2comp_apps.clustering.fitted import FittedModel
    from llm2comp_apps.clustering.output.model_files import load_model
    from llm2comp_apps.clustering.output.store import write_clustering
    from llm2comp_apps.clustering.pipeline import Clustering, ClusterSettings, cluster
    from llm2comp_apps.clustering.sources import Source, read_index
    from llm2comp_apps.clustering.topic_model import TopicModel
    from llm2comp_apps.clustering.update import TopicUpdate

__all__ = [
    "ClusterSettings",
    "Clustering",
    "FittedModel",
    "Source",
    "TopicClusterer",
    "TopicModel",
    "TopicUpdate",
    "cluster",
    "load_model",
    "read_index",
    "write_clustering",
]

_HOME = {
    "TopicClusterer": "estimator",
    "Clustering": "pipeline",
    "ClusterSettings": "pipeline",
    "cluster": "pipeline",
    "Source": "sources",
    "read_index": "sources",
    "FittedModel": "fitted",
    "load_model": "output.model_files",
    "TopicModel": "topic_model",
    "TopicUpdate": "update",
    "write_clustering": "output.store",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
