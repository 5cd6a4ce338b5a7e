"""The options that say how documents are clustered, with which encoder, and what is written."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, cache_option, output_option
from llm2comp_apps.cli.options.expand import Group, option, spelled

__all__ = ["CLUSTERING", "ENCODING", "WRITING"]

_HOW = "How to cluster"
_WHAT = "What to write"


_how = partial(option, panel=_HOW)
_OPTIONS = (
    option("method", str, "hdbscan", "NAME", "Algorithm: hdbscan, kmeans, agglomerative or spectral."),
    option("k", int | None, None, "N", "Number of topics, not for hdbscan. [default: best silhouette]"),
    option(
        "min_cluster_size",
        int | None,
        None,
        "N",
        "Smallest topic of hdbscan. [default: 8 of 600 documents, 25 of 2000, 113 of 20000]",
    ),
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
    option("merge", float, 0.7, "COS", "Likeness of keywords from which topics are joined; above 1, none are."),
    option("seed", int, 0, "N", "Random seed."),
    option("levels", int, 2, "N", "Levels of topics; 1 for no parents.", panel=_WHAT),
    option("language", str, "english", "NAME", "Language of the stop words: english or none.", panel=_WHAT),
    option("label_field", str | None, None, "FIELD", "Field with labels to compare with.", panel=_WHAT),
    option("time_field", str | None, None, "FIELD", "Field with dates, for topics over time.", panel=_WHAT),
)
CLUSTERING = Group(dict, _OPTIONS)
"""Settings of :class:`~llm2comp_apps.clustering.pipeline.ClusterSettings` as a dict, since that imports numpy and more;
a test compares the defaults."""

_KEEP = spelled("cache", Annotated[bool, cache_option("Keep embeddings for the next time.")], True)
ENCODING = Group(dict, (spelled("encoder", EncoderOption), spelled("device", DeviceOption), _KEEP))
"""How documents are encoded, as :class:`~llm2comp_apps.TopicModel` takes it."""

_OUTPUT = "Output folder [default: DOCS.clusters]; with --with the file, .jsonl or .parquet."
_WITH = "Assign DOCS to the topics of this folder; writes a file."
_UPDATE = "Add DOCS to this folder; topics grow and new ones appear."
WRITING = (
    spelled("output", Annotated[Path | None, output_option("PATH", _OUTPUT)]),
    option("with_", Path | None, None, "DIR", _WITH, flag="--with"),
    option("update", Path | None, None, "DIR", _UPDATE),
    option("name_with_llm", bool, False, None, "Let the language model name the topics.", panel=_WHAT),
    option("parquet", bool, False, None, "Write the table of documents as .parquet too.", panel=_WHAT),
    option(
        "atlas",
        bool,
        False,
        None,
        "Write two tables for Embedding Atlas too, and print the command that opens them.",
        panel=_WHAT,
    ),
)
