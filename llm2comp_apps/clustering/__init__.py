"""Embeddings -> clusters -> topics -> a map, a table and a model that assigns new documents.

``TopicClusterer`` is a scikit-learn estimator over vectors; ``cluster`` adds words; ``write_clustering`` and
``load_model`` put the result into a folder and take it back. Names are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm2comp_apps.clustering.algorithms.estimator import TopicClusterer
    from llm2comp_apps.clustering.output.store import FittedModel, load_model, write_clustering
    from llm2comp_apps.clustering.pipeline import Clustering, ClusterSettings, cluster
    from llm2comp_apps.clustering.sources import Source, read_index

__all__ = [
    "ClusterSettings",
    "Clustering",
    "FittedModel",
    "Source",
    "TopicClusterer",
    "cluster",
    "load_model",
    "read_index",
    "write_clustering",
]

_HOME = {
    "TopicClusterer": "algorithms.estimator",
    "Clustering": "pipeline",
    "ClusterSettings": "pipeline",
    "cluster": "pipeline",
    "Source": "sources",
    "read_index": "sources",
    "FittedModel": "output.store",
    "load_model": "output.store",
    "write_clustering": "output.store",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
