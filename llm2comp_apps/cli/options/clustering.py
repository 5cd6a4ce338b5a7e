"""The options of :class:`~llm2comp_apps.clustering.pipeline.ClusterSettings`: how documents are clustered."""

from __future__ import annotations

from functools import partial

from llm2comp_apps.cli.options.expand import Group, option

__all__ = ["CLUSTERING"]

_HOW = "How to cluster"
_WHAT = "What to write"


_how = partial(option, panel=_HOW)
_OPTIONS = (
    option("method", str, "hdbscan", "NAME", "Algorithm: hdbscan, kmeans, agglomerative or spectral."),
    option("k", int | None, None, "N", "Number of topics, not for hdbscan. [default: best silhouette]"),
    option("min_cluster_size", int | None, None, "N", "Smallest topic of hdbscan. [default: 0.8 sqrt(documents)]"),
    option("reduce", str, "neighbor", "NAME", "Method of reduction: neighbor, umap, pca or none."),
    option(
        "outliers",
        str,
        "threshold",
        "POLICY",
        "Outliers: keep them, nearest (all join their nearest topic), or threshold (those that belong to it enough).",
    ),
    option(
        "outlier_threshold",
        float | None,
        None,
        "P",
        "Membership that an outlier needs to join. [default: 0.2; with C < 10 topics 2/C]",
    ),
    option("merge", float, 0.7, "COS", "Likeness of keywords from which topics are joined."),
    option("seed", int, 0, "N", "Random seed."),
    option("levels", int, 2, "N", "Levels of topics; 1 for no parents.", panel=_WHAT),
    option("language", str, "english", "NAME", "Language of the stop words: english or none.", panel=_WHAT),
    option("label_field", str | None, None, "FIELD", "Field with labels to compare with.", panel=_WHAT),
)
CLUSTERING = Group(dict, _OPTIONS)
"""What was chosen, as a dict: the class with the defaults imports numpy and more; a test compares the two."""
