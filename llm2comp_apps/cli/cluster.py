"""``llm2comp cluster``: what is in a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, JsonOption, examples
from llm2comp_apps.cli.options.reading import READING_OPTIONS, with_reading
from llm2comp_apps.cli.options.unused import refuse_given
from llm2comp_apps.corpus.options import CorpusOptions

__all__ = ["register"]

# What has no effect with --with, and what has none on an index.
_FITTING = ("method", "k", "min_cluster_size", "reduce", "outliers", "outlier_threshold", "merge", "seed", "levels",
            "name_with_llm", "language", "label_field")  # fmt: skip
_HOW = "How to cluster"
_WHAT = "What to write"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "cluster",
        epilog=examples(
            "llm2comp cluster papers.jsonl",
            "llm2comp cluster papers.index --levels 3 --name-with-llm",
            "llm2comp cluster reviews.csv --text-field review --method kmeans --k 20",
            "llm2comp cluster new.jsonl --with papers.clusters",
        ),
    )(cluster)


@with_reading
def cluster(
    ctx: typer.Context,
    docs: Annotated[
        list[str],
        typer.Argument(
            metavar="DOCS...", help="An index; or files (jsonl json csv tsv parquet txt md), folders, or -."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="The folder [default: DOCS.clusters]; with --with the file, .jsonl or .parquet.",
        ),
    ] = None,
    with_: Annotated[
        Path | None,
        typer.Option("--with", metavar="DIR", help="Assign DOCS to the topics of this folder; writes a file."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(metavar="NAME", help="hdbscan, kmeans, agglomerative or spectral.", rich_help_panel=_HOW),
    ] = "hdbscan",
    k: Annotated[
        int | None,
        typer.Option(
            "--k",
            metavar="N",
            help="Number of topics, not for hdbscan. [default: best silhouette]",
            rich_help_panel=_HOW,
        ),
    ] = None,
    min_cluster_size: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Smallest topic of hdbscan. [default: 0.8 sqrt(documents)]", rich_help_panel=_HOW
        ),
    ] = None,
    reduce: Annotated[
        str, typer.Option(metavar="NAME", help="Dimensions: neighbor, umap, pca or none.", rich_help_panel=_HOW)
    ] = "neighbor",
    outliers: Annotated[
        str,
        typer.Option(
            metavar="POLICY",
            help="keep, nearest (all join their nearest topic), or threshold (only above it).",
            rich_help_panel=_HOW,
        ),
    ] = "threshold",
    outlier_threshold: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Membership needed for threshold. [default: 0.2; with C < 10 topics 2/C]",
            rich_help_panel=_HOW,
        ),
    ] = None,
    merge: Annotated[
        float, typer.Option(metavar="COS", help="Join topics with keywords this much alike.", rich_help_panel=_HOW)
    ] = 0.7,
    seed: Annotated[int, typer.Option(metavar="N", help="Of everything that draws.", rich_help_panel=_HOW)] = 0,
    levels: Annotated[
        int, typer.Option(metavar="N", help="Levels of topics: 1 for no parents.", rich_help_panel=_WHAT)
    ] = 2,
    name_with_llm: Annotated[
        bool, typer.Option("--name-with-llm", help="The language model names the topics.", rich_help_panel=_WHAT)
    ] = False,
    language: Annotated[
        str, typer.Option(metavar="NAME", help="Of the stop words: english or none.", rich_help_panel=_WHAT)
    ] = "english",
    label_field: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Compare with the labels in this field.", rich_help_panel=_WHAT),
    ] = None,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="The table of documents as .parquet too.", rich_help_panel=_WHAT)
    ] = False,
    encoder: EncoderOption = None,
    device: DeviceOption = None,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep embeddings for the next time.")] = True,
    as_json: JsonOption = False,
    *,
    reading: CorpusOptions,
) -> None:
    """Find the topics of a corpus, and draw a map of it.

    Writes a folder: documents.jsonl (topic of each document, probability, next best topic), topics.json, map.html to
    open in a browser, map.png, report.md, and the model that --with takes.
    """
    if with_ is not None:
        refuse_given(ctx, _FITTING, f"--with assigns to the topics of {with_} as they were made")
    if k is not None:
        refuse_given(ctx, ["merge"], "with --k, no topics are joined")
    from llm2comp_apps.cli._clustering import Request, assign_documents, find_topics
    from llm2comp_apps.clustering import ClusterSettings

    settings = ClusterSettings(
        method=method,
        k=k,
        min_cluster_size=min_cluster_size,
        reduce=reduce,
        outliers=outliers,
        outlier_threshold=outlier_threshold,
        levels=levels,
        merge=merge,
        language=language,
        label_field=label_field,
        seed=seed,
    )
    request = Request(docs, reading, encoder, device, cache, output, parquet, as_json)
    if request.index is not None:
        refuse_given(ctx, READING_OPTIONS, f"{request.index} is an index, its documents are read already")
        needless = ["cache"] if name_with_llm else ["cache", "device"]
        refuse_given(ctx, needless, f"{request.index} is an index, nothing is encoded")
    if with_ is None:
        find_topics(request, settings, name_with_llm)
    else:
        assign_documents(request, with_)
