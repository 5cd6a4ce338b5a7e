"""The options of :class:`~llm2comp_apps.clustering.pipeline.ClusterSettings`: how documents are clustered."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

__all__ = ["CLUSTERING_OPTIONS", "with_clustering"]

_HOW = "How to cluster"
_WHAT = "What to write"


def _option(name: str, kind: Any, default: Any, metavar: str, text: str, panel: str = _HOW) -> inspect.Parameter:
    # The class with the defaults imports numpy and more, which --help must not pay for: a test compares the two.
    flag = f"--{name.replace('_', '-')}"
    option = typer.Option(flag, metavar=metavar, help=text, rich_help_panel=panel)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


_OPTIONS = (
    _option("method", str, "hdbscan", "NAME", "Algorithm: hdbscan, kmeans, agglomerative or spectral."),
    _option("k", int | None, None, "N", "Number of topics, not for hdbscan. [default: best silhouette]"),
    _option("min_cluster_size", int | None, None, "N", "Smallest topic of hdbscan. [default: 0.8 sqrt(documents)]"),
    _option("reduce", str, "neighbor", "NAME", "Method of reduction: neighbor, umap, pca or none."),
    _option(
        "outliers",
        str,
        "threshold",
        "POLICY",
        "Outliers: keep them, nearest (all join their nearest topic), or threshold (those that belong to it enough).",
    ),
    _option(
        "outlier_threshold",
        float | None,
        None,
        "P",
        "Membership that an outlier needs to join. [default: 0.2; with C < 10 topics 2/C]",
    ),
    _option("merge", float, 0.7, "COS", "Likeness of keywords from which topics are joined."),
    _option("seed", int, 0, "N", "Random seed."),
    _option("levels", int, 2, "N", "Levels of topics; 1 for no parents.", _WHAT),
    _option("language", str, "english", "NAME", "Language of the stop words: english or none.", _WHAT),
    _option("label_field", str | None, None, "FIELD", "Field with labels to compare with.", _WHAT),
)
CLUSTERING_OPTIONS = tuple(option.name for option in _OPTIONS)
"""The parameters that :func:`with_clustering` adds."""


def with_clustering(command: Any) -> Any:
    """Give ``command`` the clustering options in place of its parameter ``settings``, a dict of them."""
    own = inspect.signature(command, eval_str=True).parameters
    parameters = [*(item for name, item in own.items() if name != "settings"), *_OPTIONS]
    parameters.sort(key=lambda item: item.kind)  # parameters by position come first

    def wrapped(**values: Any) -> None:
        command(settings={name: values.pop(name) for name in CLUSTERING_OPTIONS}, **values)

    wrapped.__doc__ = command.__doc__
    wrapped.__annotations__ = {item.name: item.annotation for item in parameters}
    vars(wrapped)["__signature__"] = inspect.Signature(parameters)
    return wrapped
